/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <limits.h>
#include <linux/magic.h>
#include <net/if.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "ipv6.h"
#include "limit.h"
#include "nft.h"
#include "publish.h"
#include "stack.h"

/* Where a bpffs belongs (systemd mounts it there). */
#define BPFFS "/sys/fs/bpf"

/* --- directories ------------------------------------------------------------------------------ */

static int make_dir(const char *path, mode_t mode)
{
        if (mkdir(path, mode) < 0 && errno != EEXIST)
                return log_error_errno(-errno, "cannot make %s: %m", path);
        return 0;
}

static int check_fs(const char *path, long magic)
{
        struct statfs fs;

        if (statfs(path, &fs) < 0)
                return -errno;
        return fs.f_type == magic ? 0 : -EMEDIUMTYPE;
}

/* How much of a path is there: the length of its longest existing beginning. */
static int path_found(const char *path, const char *option, size_t *ret)
{
        char part[PATH_MAX];
        size_t len = strlen(path);

        if (path[0] != '/' || len >= sizeof(part) - 2UL * NAME_MAX) {
                log_error("%s \"%s\" is not an absolute path of up to %zu characters", option, path,
                          sizeof(part) - 2UL * NAME_MAX - 1);
                return -EINVAL;
        }
        strcpy(part, path);
        while (access(part, F_OK) < 0) {
                if (errno != ENOENT)
                        return log_error_errno(-errno, "%s \"%s\": %m", option, path);
                while (len > 1 && part[len - 1] == '/')
                        len--;
                while (len > 1 && part[len - 1] != '/')
                        len--;
                part[len] = '\0';
        }
        *ret = len;
        return 0;
}

/* What is there already has to be a directory on a file system of this type. */
static int check_place(const char *path, long magic, const char *option, const char *what,
                       size_t *ret_found)
{
        char part[PATH_MAX];
        struct stat st;
        int r;

        r = path_found(path, option, ret_found);
        if (r < 0)
                return r;
        snprintf(part, sizeof(part), "%.*s", (int)*ret_found, path);
        if (check_fs(part, magic) < 0 || stat(part, &st) < 0 || !S_ISDIR(st.st_mode)) {
                log_error("%s \"%s\" is not on a %s file system: give a directory on one", option,
                          path, what);
                return -EMEDIUMTYPE;
        }
        return 0;
}

/* Makes the directory and its parents. */
static int make_dirs(const char *path)
{
        char part[PATH_MAX];

        snprintf(part, sizeof(part), "%s", path);
        for (char *slash = strchr(part + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
                int r;

                *slash = '\0';
                r = make_dir(part, 0755);
                if (r < 0)
                        return r;
                *slash = '/';
        }
        return make_dir(path, 0755);
}

/* Removes a directory and its parents again, down to what was there before. */
static void remove_dirs(const char *path, size_t found)
{
        char part[PATH_MAX];
        size_t len = strlen(path);

        snprintf(part, sizeof(part), "%s", path);
        while (len > found && len > 1) {
                if (rmdir(part) < 0 && errno != ENOENT)
                        return;
                while (len > 1 && part[len - 1] == '/')
                        len--;
                while (len > 1 && part[len - 1] != '/')
                        len--;
                part[len] = '\0';
        }
}

/* Only the usual place is mounted by slimd; anywhere else is the user's. */
static bool wants_bpffs(const char *bpf_dir)
{
        size_t len = strlen(BPFFS);

        return strncmp(bpf_dir, BPFFS, len) == 0 && (bpf_dir[len] == '/' || !bpf_dir[len]) &&
               check_fs(BPFFS, BPF_FS_MAGIC) == -EMEDIUMTYPE;
}

static int prepare_bpffs(const char *bpf_dir)
{
        if (wants_bpffs(bpf_dir) &&
            mount("bpf", BPFFS, "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
                return log_error_errno(-errno, "cannot mount bpffs at " BPFFS ": %m");
        return make_dirs(bpf_dir);
}

void host_tune_cgroup(const char *cgroup, const char *setting, const char *value)
{
        char path[PATH_MAX + 32];
        int r;

        snprintf(path, sizeof(path), "%s/%s", cgroup, setting);
        r = write_file_at(AT_FDCWD, path, value);
        if (r < 0)
                log_debug_errno(r, "%s: %m, ignoring", path);
}

static int prepare_cgroup(const char *cgroup)
{
        int r = make_dirs(cgroup);

        /* Where the memory controller is to be had, a container's memory is counted: each has one
         * account. Where it is not (it is on cgroup v1, or not given on from above), nothing else
         * depends on it. */
        if (r == 0)
                host_tune_cgroup(cgroup, "cgroup.subtree_control", "+memory");
        return r;
}

static int check_run_dir(struct slimd *d)
{
        struct sockaddr_un addr;

        if (strlen(d->opt.run_dir) + strlen("/" RPC_SOCKET_NAME) >= sizeof(addr.sun_path)) {
                log_error(
                    "--run-dir \"%s\" is too long for a socket's path: at most %zu characters",
                    d->opt.run_dir, sizeof(addr.sun_path) - strlen("/" RPC_SOCKET_NAME) - 1);
                return -ENAMETOOLONG;
        }
        return path_found(d->opt.run_dir, "--run-dir", &d->run_dir_found);
}

/* The lock goes with this process, however it ends; brokers do not inherit the descriptor. */
int host_claim(struct slimd *d, bool make)
{
        char path[PATH_MAX];
        int r = 0;

        if (make && mkdir(d->opt.run_dir, 0755) < 0 && errno != EEXIST)
                return log_error_errno(-errno, "cannot make --run-dir \"%s\": %m", d->opt.run_dir);
        d->run_dir_fd = open(d->opt.run_dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (d->run_dir_fd < 0 && errno == ENOENT && !make)
                return -ENOENT;
        if (d->run_dir_fd < 0)
                return log_error_errno(-errno, "cannot open --run-dir \"%s\": %m", d->opt.run_dir);
        if (flock(d->run_dir_fd, LOCK_EX | LOCK_NB) < 0) {
                r = -errno;
                if (r == -EWOULDBLOCK)
                        log_error("another slimd has --run-dir \"%s\": stop it, or give another",
                                  d->opt.run_dir);
                else
                        log_error_errno(r, "cannot lock --run-dir \"%s\": %m", d->opt.run_dir);
                return r;
        }
        if (!make)
                return 0;
        snprintf(path, sizeof(path), "%s/endpoints", d->opt.run_dir);
        d->endpoints_made = mkdir(path, 0700) == 0;
        if (!d->endpoints_made && errno != EEXIST)
                return log_error_errno(-errno, "cannot make %s: %m", path);
        return 0;
}

/* --- sysctls ---------------------------------------------------------------------------------- */

static int sysctl_write(const char *path, const char *value)
{
        int r = write_file_at(AT_FDCWD, path, value);

        return r < 0 ? log_error_errno(r, "cannot write \"%s\" to %s: %m", value, path) : 0;
}

/* Keeps the kernel from giving Slim ports to the host's own programs. */
static int reserve_ports(void)
{
        static const char path[] = "/proc/sys/net/ipv4/ip_local_reserved_ports";
        char range[32], value[4096];
        _cleanup_free_ char *old = NULL;
        int r;

        r = read_file_at(AT_FDCWD, path, sizeof(value) - sizeof(range), &old, NULL);
        if (r < 0)
                return log_error_errno(r, "cannot read %s: %m", path);
        old[strcspn(old, "\n")] = '\0';
        snprintf(range, sizeof(range), "%d-%d", SLIM_PORT_BASE,
                 SLIM_PORT_BASE + SLIM_PORT_COUNT - 1);
        /* Writing replaces the list; the kernel merges what overlaps. */
        snprintf(value, sizeof(value), "%s%s%s", old, old[0] ? "," : "", range);
        return sysctl_write(path, value);
}

/* --- devices ---------------------------------------------------------------------------------- */

/* The first global address of each family. -EADDRNOTAVAIL: there is none at all. */
static int underlay_addrs(struct slimd *d)
{
        static const int families[SLIM_FAMILIES] = {[SLIM_V4] = AF_INET, [SLIM_V6] = AF_INET6};
        uint8_t bits;

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                int r = netlink_addr_get(d->nl, d->underlay.ifindex, families[f],
                                         &d->underlay_addr[f], &bits);

                if (r < 0 && r != -EADDRNOTAVAIL)
                        return r;
        }
        return inaddr_is_none(&d->underlay_addr[SLIM_V4]) &&
                       inaddr_is_none(&d->underlay_addr[SLIM_V6])
                   ? -EADDRNOTAVAIL
                   : 0;
}

static int prepare_underlay(struct slimd *d)
{
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *text[SLIM_FAMILIES];
        int r;

        r = netlink_link_get(d->nl, d->opt.underlay, &d->underlay);
        if (r == -ENODEV) {
                log_error("--underlay \"%s\": there is no such device", d->opt.underlay);
                return r;
        }
        if (r < 0)
                return log_error_errno(r, "cannot look at the device %s: %m", d->opt.underlay);
        r = underlay_addrs(d);
        if (r < 0) {
                log_error("--underlay \"%s\" has no global address, neither of IPv4 nor of IPv6: "
                          "give it one first",
                          d->opt.underlay);
                return r;
        }
        /* With an IPv6 address it may have to reach a host that has nothing else. */
        d->container_mtu =
            d->underlay.mtu -
            (inaddr_is_none(&d->underlay_addr[SLIM_V6]) ? VXLAN_OVERHEAD : VXLAN_OVERHEAD6);
        addrs_format(d->underlay_addr, buf, text);
        log_debug("underlay %s, address %s, %s, MTU %u", d->underlay.name,
                  text[SLIM_V4] ?: "no IPv4", text[SLIM_V6] ?: "no IPv6", d->underlay.mtu);
        return 0;
}

static int prepare_vxlan(struct slimd *d)
{
        struct netlink_link link;
        int r;

        r = netlink_link_get(d->nl, VXLAN_DEVICE, &link);
        if (r == -ENODEV) {
                /* Locally administered, and this host's alone: the kernel drops a frame with its
                 * own source address, as one that came back. */
                uint8_t mac[6] = {0x02};

                if (getrandom(mac + 1, sizeof(mac) - 1, 0) != (ssize_t)sizeof(mac) - 1)
                        return log_error_errno(-errno, "cannot make a MAC address: %m");
                r = netlink_vxlan_add(d->nl, VXLAN_DEVICE, SLIM_VXLAN_PORT, d->container_mtu, mac);
                if (r == -EEXIST) {
                        log_error("another VXLAN device takes UDP port %d here: remove it",
                                  SLIM_VXLAN_PORT);
                        return r;
                }
                if (r < 0)
                        return log_error_errno(r, "cannot make the VXLAN device: %m");
                r = netlink_link_get(d->nl, VXLAN_DEVICE, &link);
        }
        if (r == 0 && strcmp(link.kind, "vxlan") != 0) {
                log_error("the device name " VXLAN_DEVICE " is taken by something else: rename it");
                return -EEXIST;
        }
        if (r == 0) {
                r = ipv6_set_device(-1, VXLAN_DEVICE, IPV6_HOST);
                if (r == 0)
                        r = netlink_link_up(d->nl, link.ifindex);
        }
        if (r < 0)
                return log_error_errno(r, "cannot set the VXLAN device up: %m");
        d->vxlan_ifindex = link.ifindex;
        return 0;
}

/* The brokers' sockets are found by the programs at --host-cgroup only if it is above them. */
static int check_host_cgroup(const struct slimd *d)
{
        const char *host = d->opt.host_cgroup, *own = d->opt.cgroup;
        size_t len = strlen(host);
        struct stat st;

        if (check_fs(host, CGROUP2_SUPER_MAGIC) < 0 || stat(host, &st) < 0 ||
            !S_ISDIR(st.st_mode)) {
                log_error("--host-cgroup \"%s\" is not a directory of a cgroup2 file system", host);
                return -EMEDIUMTYPE;
        }
        while (len > 1 && host[len - 1] == '/')
                len--;
        if (strncmp(own, host, len) != 0 || (own[len] != '/' && own[len] != '\0')) {
                log_error("--cgroup \"%s\" is not below --host-cgroup \"%s\"", own, host);
                return -EINVAL;
        }
        return 0;
}

int host_check(struct slimd *d)
{
        int r;

        r = check_run_dir(d);
        if (r == 0)
                r = prepare_underlay(d);
        if (r == 0)
                r = check_place(d->opt.cgroup, CGROUP2_SUPER_MAGIC, "--cgroup", "cgroup2",
                                &d->cgroup_found);
        if (r == 0)
                r = check_host_cgroup(d);
        if (r < 0)
                return r;
        /* A bpffs that is still to be mounted has nothing below it. */
        if (!wants_bpffs(d->opt.bpf_dir))
                return check_place(d->opt.bpf_dir, BPF_FS_MAGIC, "--bpf-dir", "bpf",
                                   &d->bpf_dir_found);
        d->bpf_dir_found = strlen(BPFFS);
        return 0;
}

void host_find(struct slimd *d)
{
        if (d->opt.underlay && netlink_link_get(d->nl, d->opt.underlay, &d->underlay) == 0)
                (void)underlay_addrs(d);
}

/* Nothing here of an earlier slimd, which this one would carry on with? */
static bool is_fresh(struct slimd *d)
{
        struct netlink_link link;
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/links", d->opt.bpf_dir);
        return access(path, F_OK) < 0 && netlink_link_get(d->nl, VXLAN_DEVICE, &link) == -ENODEV;
}

int host_prepare(struct slimd *d)
{
        int r;

        d->fresh = is_fresh(d);
        r = prepare_cgroup(d->opt.cgroup);
        if (r == 0)
                r = prepare_bpffs(d->opt.bpf_dir);
        if (r == 0)
                r = prepare_vxlan(d);
        return r;
}

int host_attach(struct slimd *d)
{
        struct netlink_link lo;
        int r;

        r = sysctl_write("/proc/sys/net/ipv4/ip_forward", "1");
        if (r == 0)
                r = reserve_ports();
        if (r == 0)
                r = stack_up(d);
        if (r < 0)
                return r;
        r = netlink_link_get(d->nl, "lo", &lo);
        if (r == 0 && !lo.up)
                r = netlink_link_up(d->nl, lo.ifindex);
        if (r < 0)
                return log_error_errno(r, "cannot set lo up: %m");

        const struct {
                uint32_t ifindex;
                const char *name;
                enum datapath_device kind;
        } devices[] = {
            {d->underlay.ifindex, d->underlay.name, DATAPATH_UNDERLAY},
            {lo.ifindex, "lo", DATAPATH_UNDERLAY},
            {d->vxlan_ifindex, VXLAN_DEVICE, DATAPATH_VXLAN},
        };

        for (size_t i = 0; i < ARRAY_SIZE(devices); i++) {
                r = datapath_attach(d->dp, devices[i].ifindex, devices[i].kind);
                if (r < 0)
                        return log_error_errno(r, "cannot attach to the device %s: %m",
                                               devices[i].name);
        }
        return 0;
}

/* --- routes and NAT --------------------------------------------------------------------------- */

static struct netlink_route unreachable(const struct inaddr_prefix *p)
{
        return (struct netlink_route){
            .kind = NETLINK_ROUTE_UNREACHABLE,
            .dst = p->addr,
            .dst_bits = (uint8_t)inaddr_prefix_len(p),
        };
}

int host_network_up(struct slimd *d, const struct network *n)
{
        int r = n->prefix[SLIM_V6].bits ? ipv6_forward() : 0;

        if (r < 0)
                log_warning_errno(r,
                                  "cannot make this host forward IPv6: %m; containers of "
                                  "network %s do not reach outside networks by it, ignoring",
                                  n->name);
        network_each_family(n, f)
        {
                struct netlink_route route = unreachable(&n->prefix[f]);

                r = netlink_route_add(d->nl, &route);
                if (r < 0)
                        return r;
        }
        return stack_network_up(d, n);
}

void host_network_down(struct slimd *d, const struct network *n)
{
        network_each_family(n, f)
        {
                struct netlink_route route = unreachable(&n->prefix[f]);
                int r = netlink_route_del(d->nl, &route);

                if (r < 0 && r != -ESRCH)
                        log_warning_errno(r, "cannot remove the route of network %s: %m, ignoring",
                                          n->name);
        }
        stack_network_down(d, n);
}

/*
 * Translation makes the kernel remember each flow that the host sees, but nothing is translated of
 * VXLAN itself: without this, whoever sends to its port, from addresses of his own making, fills
 * the table of flows (nf_conntrack_max), and a container's flows fill it twice.
 */
static void write_untracked_vxlan(const struct slimd *d, FILE *f)
{
        fprintf(f,
                " chain vxlan_in {\n"
                "  type filter hook prerouting priority raw; policy accept;\n"
                "  iif %u udp dport %d notrack\n }\n"
                " chain vxlan_out {\n"
                "  type filter hook output priority raw; policy accept;\n"
                "  oif %u udp dport %d notrack\n }\n",
                d->underlay.ifindex, SLIM_VXLAN_PORT, d->underlay.ifindex, SLIM_VXLAN_PORT);
}

/*
 * The same of TCP between swapped sockets (--notrack): what goes to a Slim port, and what a Slim
 * port of a host of the cluster answers. An answer from elsewhere may be to a masqueraded
 * connection that is tracked.
 */
static void write_untracked_tcp(const struct slimd *d, enum slim_family family, FILE *f)
{
        const char *word = family == SLIM_V4 ? "ip" : "ip6";
        char ports[16];
        unsigned int n = 0;

        snprintf(ports, sizeof(ports), "%d-%d", SLIM_PORT_BASE,
                 SLIM_PORT_BASE + SLIM_PORT_COUNT - 1);
        fprintf(f, " set hosts { type %s;", family == SLIM_V4 ? "ipv4_addr" : "ipv6_addr");
        for (struct host *h = d->model.hosts; h; h = h->hh.next) {
                char addr[INADDR_TEXT_MAX];

                if (!inaddr_is_none(&h->addr[family]))
                        fprintf(f, "%s%s", n++ ? ", " : " elements = { ",
                                inaddr_format(&h->addr[family], addr));
        }
        fprintf(f, "%s }\n", n ? " };" : "");
        fprintf(f,
                " chain slim_in {\n"
                "  type filter hook prerouting priority raw; policy accept;\n"
                "  iif lo tcp dport %s notrack\n"
                "  iif lo tcp sport %s notrack\n"
                "  iif %u tcp dport %s notrack\n"
                "  iif %u tcp sport %s %s saddr @hosts notrack\n }\n",
                ports, ports, d->underlay.ifindex, ports, d->underlay.ifindex, ports, word);
        fprintf(f,
                " chain slim_out {\n"
                "  type filter hook output priority raw; policy accept;\n"
                "  oif lo tcp dport %s notrack\n"
                "  tcp dport %s %s daddr @hosts notrack\n"
                "  tcp sport %s notrack\n }\n",
                ports, ports, word, ports);
}

/*
 * No other machine has a way to an overlay address past VXLAN, where it is known who sends, and
 * published ports. Nor has a container one out whose address is not masqueraded: it would not be
 * answered, and is nothing to show to others.
 */
static void write_forward(const struct slimd *d, const char *word, bool tracks, FILE *f)
{
        fputs(" chain forward {\n"
              "  type filter hook forward priority filter; policy accept;\n",
              f);
        if (d->opt.no_masquerade)
                fprintf(f, "  iifname \"slim*\" oifname != \"slim*\" %s saddr @overlays %sdrop\n",
                        word, tracks ? "ct direction original " : "");
        fprintf(f,
                "  iif != %u accept\n"
                "  %s daddr != @overlays accept\n",
                d->underlay.ifindex, word);
        if (tracks)
                fputs("  ct direction reply accept\n"
                      "  ct status dnat accept\n",
                      f);
        fputs("  counter drop\n }\n", f);
}

static void write_postrouting(const struct slimd *d, enum slim_family family, const char *word,
                              FILE *f)
{
        char underlay[INADDR_TEXT_MAX];

        fputs(" chain postrouting {\n"
              "  type nat hook postrouting priority srcnat; policy accept;\n",
              f);
        /* A container that comes to another one by the host's address sees it answer from there,
         * and the other one sees the host: overlay addresses do not go by way of the host. */
        if (!inaddr_is_none(&d->underlay_addr[family]))
                fprintf(f, "  iifname \"slim*\" ct status dnat %s saddr @overlays snat to %s\n",
                        word, inaddr_format(&d->underlay_addr[family], underlay));
        /* Not from a Slim port: the answer would not be known again. */
        if (d->opt.notrack && !d->opt.no_masquerade)
                fprintf(f,
                        "  meta l4proto tcp %s saddr @overlays %s daddr != @overlays masquerade to "
                        ":1024-%d\n",
                        word, word, SLIM_PORT_BASE - 1);
        if (!d->opt.no_masquerade)
                fprintf(f, "  %s saddr @overlays %s daddr != @overlays masquerade\n", word, word);
        fputs(" }\n", f);
}

/*
 * Of one family. One transaction: the table is replaced whole, and packets never see it half-made.
 * 0, too, where no network has that family and the kernel has no such tables.
 */
static int nat_update(const struct slimd *d, enum slim_family family)
{
        const char *word = family == SLIM_V4 ? "ip" : "ip6";
        _cleanup_free_ char *text = NULL;
        unsigned int n_prefixes = 0;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);
        bool tracks;
        int r;

        if (!f)
                return -ENOMEM;
        fprintf(f, "table %s slim\ndelete table %s slim\n", word, word);
        fprintf(f,
                "table %s slim {\n"
                " set overlays { type %s; flags interval;",
                word, family == SLIM_V4 ? "ipv4_addr" : "ipv6_addr");
        for (struct network *n = d->model.networks; n; n = n->hh.next) {
                char prefix[INADDR_TEXT_MAX];

                if (n->prefix[family].bits)
                        fprintf(f, "%s%s", n_prefixes++ ? ", " : " elements = { ",
                                inaddr_prefix_format(&n->prefix[family], prefix));
        }
        fprintf(f, "%s }\n", n_prefixes ? " };" : "");
        /* What translates has the kernel track every packet of the host: nothing here does that
         * otherwise. */
        tracks = publish_write_chains(d, family == SLIM_V6, f) || !d->opt.no_masquerade;
        if (tracks)
                write_untracked_vxlan(d, f);
        if (tracks && d->opt.notrack)
                write_untracked_tcp(d, family, f);
        write_forward(d, word, tracks, f);
        if (tracks)
                write_postrouting(d, family, word, f);
        fputs("}\n", f);
        if (fclose(f) != 0)
                return -ENOMEM;
        r = nft_run(text);
        return n_prefixes ? r : 0;
}

int host_nat_write(struct slimd *d)
{
        int r = nat_update(d, SLIM_V4);

        return r < 0 ? r : nat_update(d, SLIM_V6);
}

int host_nat_update(struct slimd *d)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                int r = nat_update(d, (enum slim_family)f);

                if (r == -ENOMEM)
                        return r;
                if (r < 0)
                        log_warning_errno(r,
                                          "cannot set up masquerading of %s with nft: %m; "
                                          "containers' UDP and ICMP do not reach outside networks "
                                          "by it, ignoring",
                                          f == SLIM_V4 ? "IPv4" : "IPv6");
        }
        return 0;
}

/* --- the end ---------------------------------------------------------------------------------- */

static void remove_route(const struct inaddr_prefix *prefix, void *userdata)
{
        struct slimd *d = userdata;
        struct netlink_route route = unreachable(prefix);

        (void)netlink_route_del(d->nl, &route);
}

static void remove_devices(struct slimd *d)
{
        const char *const names[] = {"lo", d->opt.underlay};
        struct netlink_link link;
        int r;

        stack_down(d);
        r = datapath_each_prefix(d->opt.bpf_dir, remove_route, d);
        if (r < 0)
                log_warning_errno(r, "cannot tell the overlays' routes: %m, ignoring");
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (names[i] && netlink_link_get(d->nl, names[i], &link) == 0)
                        (void)datapath_detach(link.ifindex);
        limit_remove(d);
        r = netlink_link_del(d->nl, VXLAN_DEVICE);
        if (r < 0 && r != -ENODEV)
                log_warning_errno(r, "cannot remove the VXLAN device: %m, ignoring");
        (void)nft_run("table ip slim\ndelete table ip slim\n");
        (void)nft_run("table ip6 slim\ndelete table ip6 slim\n");
        r = datapath_remove(d->opt.bpf_dir);
        if (r < 0)
                log_warning_errno(r, "cannot remove the pins in %s: %m, ignoring", d->opt.bpf_dir);
}

static int remove_cgroup(const char *path, const struct stat *st, int type, struct FTW *at)
{
        /* EBUSY: until the kernel has let go of the processes. */
        for (int i = 0; type == FTW_DP && i < 500 && rmdir(path) < 0 && errno == EBUSY; i++)
                usleep(2000);
        return 0;
}

void host_remove_cgroup(const char *path)
{
        char kill[PATH_MAX + 16];

        snprintf(kill, sizeof(kill), "%s/cgroup.kill", path);
        (void)write_file_at(AT_FDCWD, kill, "1");
        (void)nftw(path, remove_cgroup, 16, FTW_DEPTH | FTW_PHYS);
        if (access(path, F_OK) == 0)
                log_warning("cannot remove the cgroup %s: processes do not end, ignoring", path);
}

/* A container's has one of these in it, or nothing yet; any other is somebody else's. */
static bool is_containers(const char *path)
{
        char program[PATH_MAX + 16], broker[PATH_MAX + 16];

        snprintf(program, sizeof(program), "%s/" CGROUP_PROGRAM, path);
        snprintf(broker, sizeof(broker), "%s/" CGROUP_BROKER, path);
        return access(program, F_OK) == 0 || access(broker, F_OK) == 0;
}

/* Those of containers that no state file remembers, with what is left in them. */
static void remove_containers(const struct slimd *d)
{
        DIR *dir = opendir(d->opt.cgroup);

        for (struct dirent *e; dir && (e = readdir(dir));) {
                char path[PATH_MAX];

                if (strspn(e->d_name, "0123456789") != strlen(e->d_name) ||
                    snprintf(path, sizeof(path), "%s/%s", d->opt.cgroup, e->d_name) >=
                        (int)sizeof(path))
                        continue;
                if (is_containers(path))
                        host_remove_cgroup(path);
                else
                        (void)rmdir(path);
        }
        if (dir)
                closedir(dir);
}

static void remove_run_dir(struct slimd *d)
{
        char path[PATH_MAX];

        snprintf(path, sizeof(path), "%s/endpoints", d->opt.run_dir);
        (void)rmdir(path);
        snprintf(path, sizeof(path), "%s/" RPC_SOCKET_NAME, d->opt.run_dir);
        (void)unlink(path);
        if (rmdir(d->opt.run_dir) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "cannot remove %s: %m, ignoring", d->opt.run_dir);
}

void host_undo(struct slimd *d)
{
        char path[PATH_MAX];

        if (d->fresh) {
                remove_devices(d);
                remove_containers(d);
                remove_dirs(d->opt.cgroup, d->cgroup_found);
                remove_dirs(d->opt.bpf_dir, d->bpf_dir_found);
        }
        snprintf(path, sizeof(path), "%s/endpoints", d->opt.run_dir);
        if (d->endpoints_made)
                (void)rmdir(path);
        if (d->run_dir_fd >= 0)
                remove_dirs(d->opt.run_dir, d->run_dir_found);
}

void host_remove(struct slimd *d)
{
        remove_devices(d);
        remove_containers(d);
        if (rmdir(d->opt.cgroup) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "cannot remove the cgroup %s: %m, ignoring",
                                  d->opt.cgroup);
        remove_run_dir(d);
}
