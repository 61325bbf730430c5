/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of privileges, mounts and settings.
 */
#include <bpf/bpf.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/capability.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "mounts.h"
#include "probe-parts.h"

/* The destination ports of Slim connections (SLIM_PORT_BASE and SLIM_PORT_COUNT of slimd). */
#define SLIM_PORT_FIRST 61440UL
#define SLIM_PORT_LAST  61695UL

#define NOFILE_WANTED 4096UL

int probe_privileges(char *detail, size_t size)
{
        static const struct {
                int cap;
                const char *name;
        } wanted[] = {
            {CAP_NET_ADMIN, "CAP_NET_ADMIN"},
            {CAP_SYS_ADMIN, "CAP_SYS_ADMIN"},
            {CAP_SYS_PTRACE, "CAP_SYS_PTRACE"},
            {CAP_KILL, "CAP_KILL"},
        };
        struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3] = {};

        if (syscall(SYS_capget, &header, data) < 0)
                return probe_say(detail, size, -errno, "cannot read the capabilities: %m");
        for (size_t i = 0; i < ARRAY_SIZE(wanted); i++)
                if (!(data[CAP_TO_INDEX(wanted[i].cap)].effective & CAP_TO_MASK(wanted[i].cap)))
                        return probe_say(detail, size, -EPERM, "no %s", wanted[i].name);
        return 0;
}

int probe_cgroup2(char *detail, size_t size)
{
        char where[PATH_MAX];
        int r;

        r = mounts_find("cgroup2", where, sizeof(where));
        if (r == -ENOENT)
                return probe_say(detail, size, r, "not mounted");
        if (r < 0)
                return probe_say(detail, size, r, "cannot read the mount table: %m");
        return probe_say(detail, size, 0, "at %s", where);
}

/* Makes a mount that is attached nowhere, and goes with its descriptor. */
int probe_bpffs(char *detail, size_t size)
{
        _cleanup_close_ int fs = -1, mnt = -1;
        char where[PATH_MAX];

        if (mounts_find("bpf", where, sizeof(where)) == 0)
                return probe_say(detail, size, 0, "at %s", where);
        fs = fsopen("bpf", FSOPEN_CLOEXEC);
        if (fs < 0)
                return probe_say(detail, size, -errno, "not mounted, and fsopen: %m");
        if (fsconfig(fs, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0)
                return probe_say(detail, size, -errno, "not mounted, and fsconfig: %m");
        mnt = fsmount(fs, FSMOUNT_CLOEXEC, 0);
        if (mnt < 0)
                return probe_say(detail, size, -errno, "not mounted, and fsmount: %m");
        return probe_say(detail, size, 0, "not mounted, but can be: slimd does it");
}

int probe_btf(char *detail, size_t size)
{
        static const char path[] = "/sys/kernel/btf/vmlinux";

        if (access(path, R_OK) < 0)
                return probe_say(detail, size, -errno, "%s: %m", path);
        return 0;
}

/* --- settings --------------------------------------------------------------------------------- */

static int read_setting(const char *path, char **ret, char *detail, size_t size)
{
        int r;

        r = read_file_at(AT_FDCWD, path, 64U << 10, ret, NULL);
        if (r < 0)
                return probe_say(detail, size, r, "cannot read %s: %m", path);
        (*ret)[strcspn(*ret, "\n")] = '\0';
        return 0;
}

int probe_ip_forward(char *detail, size_t size)
{
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_setting("/proc/sys/net/ipv4/ip_forward", &text, detail, size);
        if (r < 0)
                return r;
        return probe_say(detail, size, strcmp(text, "0") != 0 ? 0 : -EOPNOTSUPP,
                         "net.ipv4.ip_forward = %s", text);
}

/* Whether "A-B,C,…" holds all ports from first to last. The kernel keeps the list sorted. */
static bool ports_reserved(const char *list, unsigned long first, unsigned long last)
{
        while (*list) {
                char *end;
                unsigned long a = strtoul(list, &end, 10), b = a;

                if (end == list)
                        return false;
                if (*end == '-')
                        b = strtoul(end + 1, &end, 10);
                if (a <= first && first <= b)
                        first = b + 1;
                if (first > last)
                        return true;
                list = *end == ',' ? end + 1 : end;
        }
        return false;
}

int probe_slim_ports(char *detail, size_t size)
{
        _cleanup_free_ char *range = NULL, *reserved = NULL;
        unsigned long low, high;
        char *end;
        int r;

        r = read_setting("/proc/sys/net/ipv4/ip_local_port_range", &range, detail, size);
        if (r < 0)
                return r;
        r = read_setting("/proc/sys/net/ipv4/ip_local_reserved_ports", &reserved, detail, size);
        if (r < 0)
                return r;
        if (ports_reserved(reserved, SLIM_PORT_FIRST, SLIM_PORT_LAST))
                return probe_say(detail, size, 0, "%lu-%lu are reserved", SLIM_PORT_FIRST,
                                 SLIM_PORT_LAST);
        low = strtoul(range, &end, 10);
        high = strtoul(end, NULL, 10);
        if (low <= SLIM_PORT_LAST && SLIM_PORT_FIRST <= high)
                return probe_say(detail, size, -EADDRINUSE,
                                 "ip_local_port_range is %lu-%lu, and %lu-%lu in it not reserved",
                                 low, high, SLIM_PORT_FIRST, SLIM_PORT_LAST);
        return probe_say(detail, size, 0, "outside of ip_local_port_range, %lu-%lu", low, high);
}

int probe_unprivileged_bpf(char *detail, size_t size)
{
        _cleanup_free_ char *text = NULL;
        int r;

        r = read_setting("/proc/sys/kernel/unprivileged_bpf_disabled", &text, detail, size);
        if (r < 0)
                return r;
        return probe_say(detail, size, strcmp(text, "0") != 0 ? 0 : -EOPNOTSUPP,
                         "kernel.unprivileged_bpf_disabled = %s", text);
}

/* --- limits ----------------------------------------------------------------------------------- */

/*
 * Kernels that charge maps to the cgroup do not look at the limit: a map that is larger than a
 * small limit tells. libbpf raises the limit by itself where the kernel does look.
 */
int probe_memlock(char *detail, size_t size)
{
        static const rlim_t large = 64UL << 20;
        _cleanup_close_ int fd = -1;
        struct rlimit limit;

        if (getrlimit(RLIMIT_MEMLOCK, &limit) < 0)
                return probe_say(detail, size, -errno, "getrlimit: %m");
        if (limit.rlim_cur >= large)
                return probe_say(detail, size, 0, "the limit is 64 MiB or more");
        fd = bpf_map_create(BPF_MAP_TYPE_ARRAY, "slim_probe", 4, 4096,
                            (__u32)(limit.rlim_cur / 4096) + 256, NULL);
        if (fd < 0)
                return probe_say(detail, size, -errno, "the limit is %lu KiB: %m",
                                 (unsigned long)limit.rlim_cur >> 10);
        return probe_say(detail, size, 0, "the limit of %lu KiB does not count for maps",
                         (unsigned long)limit.rlim_cur >> 10);
}

int probe_nofile(char *detail, size_t size)
{
        struct rlimit limit;

        if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
                return probe_say(detail, size, -errno, "getrlimit: %m");
        return probe_say(detail, size, limit.rlim_cur >= NOFILE_WANTED ? 0 : -EMFILE,
                         "the limit is %lu", (unsigned long)limit.rlim_cur);
}
