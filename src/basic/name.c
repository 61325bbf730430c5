/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static bool is_alnum(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

bool name_is_valid(const char *name)
{
        size_t len = strnlen(name, NAME_LEN_MAX + 1);

        if (len == 0 || len > NAME_LEN_MAX || !is_alnum(name[0]) || !is_alnum(name[len - 1]))
                return false;
        for (size_t i = 0; i < len; i++) {
                if (!is_alnum(name[i]) && name[i] != '-' && name[i] != '.')
                        return false;
                if (name[i] == '.' && name[i + 1] == '.')
                        return false;
        }
        return true;
}

int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret)
{
        unsigned long long v;
        char *end;

        if (text[0] < '0' || text[0] > '9')
                return -EINVAL;
        errno = 0;
        v = strtoull(text, &end, 10);
        if (*end)
                return -EINVAL;
        if (errno || v < min || v > max)
                return -ERANGE;
        *ret = v;
        return 0;
}
