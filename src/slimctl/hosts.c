/* SPDX-License-Identifier: Apache-2.0 */
#include "hosts.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"

#define HOSTS_PATH "/etc/hosts"
#define HOSTS_MAX  (4U << 20)

static int write_hosts(int fd, const char *machine, const char *name, const json_t *addresses)
{
        const json_t *address;
        size_t i;

        /* First, since the first answer is the one that programs take. */
        json_array_foreach (addresses, i, address) {
                char line[256];
                int r;

                snprintf(line, sizeof(line), "%s\t%s\n", json_string_value(address), name);
                r = write_full(fd, line, strlen(line));
                if (r < 0)
                        return r;
        }
        if (fchmod(fd, 0644) < 0)
                return -errno;
        return write_full(fd, machine, strlen(machine));
}

int hosts_mount(const char *name, const json_t *addresses)
{
        _cleanup_free_ char *machine = NULL;
        _cleanup_close_ int fd = -1;
        char path[] = "/run/slim-hosts-XXXXXX";
        int r;

        if (json_array_size(addresses) == 0)
                return 0;
        r = read_file_at(AT_FDCWD, HOSTS_PATH, HOSTS_MAX, &machine, NULL);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        fd = mkostemp(path, O_CLOEXEC);
        if (fd < 0)
                return -errno;
        r = write_hosts(fd, machine, name, addresses);
        if (r == 0 && mount(path, HOSTS_PATH, NULL, MS_BIND, NULL) < 0)
                r = -errno;
        /* The mount keeps the file. */
        if (unlink(path) < 0 && r == 0)
                r = -errno;
        return r;
}
