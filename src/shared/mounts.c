/* SPDX-License-Identifier: Apache-2.0 */
#include "mounts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"

#define MOUNTINFO_MAX (16U << 20)

/* Space, tab, newline and backslash stand as \ooo in the table. In place. */
static void unescape(char *s)
{
        char *to = s;

        for (const char *from = s; *from; to++) {
                if (from[0] == '\\' && from[1] && from[2] && from[3]) {
                        *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
                        from += 4;
                } else {
                        *to = *from++;
                }
        }
        *to = '\0';
}

int mounts_find(const char *type, char *ret, size_t size)
{
        _cleanup_free_ char *table = NULL;
        char *save = NULL;
        int r;

        r = read_file_at(AT_FDCWD, "/proc/self/mountinfo", MOUNTINFO_MAX, &table, NULL);
        if (r < 0)
                return r;
        for (char *line = strtok_r(table, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                /* id parent major:minor root mountpoint options … - type source options */
                char *field[5], *fields = NULL, *rest = strstr(line, " - "), *found;
                size_t n = 0;

                if (!rest)
                        continue;
                *rest = '\0';
                found = strtok_r(rest + 3, " ", &fields);
                if (!found || strcmp(found, type) != 0)
                        continue;
                for (char *f = strtok_r(line, " ", &fields); f && n < ARRAY_SIZE(field);
                     f = strtok_r(NULL, " ", &fields))
                        field[n++] = f;
                if (n < ARRAY_SIZE(field) || strcmp(field[3], "/") != 0)
                        continue;
                unescape(field[4]);
                if (strlen(field[4]) >= size)
                        return -ENAMETOOLONG;
                strcpy(ret, field[4]);
                return 0;
        }
        return -ENOENT;
}
