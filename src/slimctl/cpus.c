/* SPDX-License-Identifier: Apache-2.0 */
#include "cpus.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"

/* A number at the start of the text; *ret_end: what is behind it. */
static int number(const char *text, unsigned long *ret, const char **ret_end)
{
        unsigned long v;
        char *end;

        if (text[0] < '0' || text[0] > '9')
                return -EINVAL;
        errno = 0;
        v = strtoul(text, &end, 10);
        if (errno || v >= CPU_SETSIZE)
                return -ERANGE;
        *ret = v;
        *ret_end = end;
        return 0;
}

int cpus_parse(const char *text, cpu_set_t *ret)
{
        cpu_set_t cpus;
        int r;

        CPU_ZERO(&cpus);
        for (;; text++) {
                unsigned long first, last;

                r = number(text, &first, &text);
                if (r < 0)
                        return r;
                last = first;
                if (*text == '-') {
                        r = number(text + 1, &last, &text);
                        if (r < 0)
                                return r;
                }
                if (last < first)
                        return -EINVAL;
                for (; first <= last; first++)
                        CPU_SET(first, &cpus);
                if (*text == '\0')
                        break;
                if (*text != ',')
                        return -EINVAL;
        }
        *ret = cpus;
        return 0;
}

int cpus_first_offline(const cpu_set_t *cpus)
{
        _cleanup_free_ char *text = NULL;
        cpu_set_t online;

        if (read_file_at(AT_FDCWD, "/sys/devices/system/cpu/online", 4096, &text, NULL) < 0)
                return -1;
        text[strcspn(text, "\n")] = '\0';
        if (cpus_parse(text, &online) < 0)
                return -1;
        for (int i = 0; i < CPU_SETSIZE; i++)
                if (CPU_ISSET(i, cpus) && !CPU_ISSET(i, &online))
                        return i;
        return -1;
}
