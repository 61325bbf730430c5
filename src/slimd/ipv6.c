/* SPDX-License-Identifier: Apache-2.0 */
#include "ipv6.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../basic/macro.h"

#define CONF "/proc/sys/net/ipv6/conf"

static int write_setting(const char *device, const char *name, const char *value)
{
        char path[256];

        if (snprintf(path, sizeof(path), CONF "/%s/%s", device, name) >= (int)sizeof(path))
                return -ENAMETOOLONG;
        return write_file_at(AT_FDCWD, path, value);
}

/* Does a device's setting, one digit, have this value? */
static bool setting_is(const char *device, const char *name, char value)
{
        _cleanup_free_ char *text = NULL;
        char path[256];

        snprintf(path, sizeof(path), CONF "/%s/%s", device, name);
        return read_file_at(AT_FDCWD, path, 16, &text, NULL) == 0 && text[0] == value &&
               text[1] == '\n';
}

/* --- an overlay's device ---------------------------------------------------------------------- */

static int set_device(const char *device, enum ipv6_device kind)
{
        static const struct {
                const char *name, *value;
        } quiet[] = {
            {"accept_ra", "0"},     {"router_solicitations", "0"}, {"accept_dad", "0"},
            {"dad_transmits", "0"}, {"accept_redirects", "0"},
        };
        int r = 0;

        if (kind == IPV6_OFF)
                return write_setting(device, "disable_ipv6", "1");
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(quiet); i++)
                r = write_setting(device, quiet[i].name, quiet[i].value);
        /* 0: a link-local address is made of the MAC address; 1: none is made. */
        if (r == 0)
                r = write_setting(device, "addr_gen_mode", kind == IPV6_INSIDE ? "0" : "1");
        return r < 0 ? r : write_setting(device, "disable_ipv6", "0");
}

int ipv6_set_device(int netns_fd, const char *device, enum ipv6_device kind)
{
        _cleanup_close_ int own = -1;
        int r;

        if (netns_fd >= 0) {
                own = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
                if (own < 0 || setns(netns_fd, CLONE_NEWNET) < 0)
                        return -errno;
        }
        r = set_device(device, kind);
        if (own >= 0 && setns(own, CLONE_NEWNET) < 0)
                abort(); /* in a container's namespace slimd must not go on */
        return r == -ENOENT ? 0 : r;
}

/* --- the host --------------------------------------------------------------------------------- */

static int keep_routers(void)
{
        struct dirent *entry;
        DIR *dir = opendir(CONF);
        int r = 0;

        if (!dir)
                return -errno;
        while (r == 0 && (entry = readdir(dir))) {
                const char *device = entry->d_name;

                if (device[0] == '.' || strcmp(device, "all") == 0)
                        continue;
                if (setting_is(device, "forwarding", '0') && setting_is(device, "accept_ra", '1'))
                        r = write_setting(device, "accept_ra", "2");
                if (r == -ENOENT)
                        r = 0; /* it has just gone */
        }
        closedir(dir);
        return r;
}

int ipv6_forward(void)
{
        int r;

        if (access(CONF, F_OK) < 0 || setting_is("all", "forwarding", '1'))
                return 0;
        r = keep_routers();
        return r < 0 ? r : write_setting("all", "forwarding", "1");
}
