/* SPDX-License-Identifier: Apache-2.0 */
#include "host.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <net/if.h>
#include <nftables/libnftables.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <linux/magic.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"

/* Locally administered; the same on every host, so that a frame's address always fits. */
static const uint8_t vxlan_mac[6] = {0x02, 0x51, 0x1e, 0x00, 0x00, 0x01};

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

/* Makes the directory and its parents below a file system of this type. */
static int make_dirs_on(const char *path, long magic, const char *option, const char *what)
{
        char part[PATH_MAX];
        int r;

        if (path[0] != '/' || strlen(path) >= sizeof(part) - NAME_MAX) {
                log_error("%s \"%s\" is not an absolute path", option, path);
                return -EINVAL;
        }
        strcpy(part, path);
        for (char *slash = strchr(part + 1, '/');; slash = strchr(slash + 1, '/')) {
                if (slash)
                        *slash = '\0';
                /* Only within the right file system: no stray directories elsewhere. */
                if (access(part, F_OK) < 0 && mkdir(part, 0755) < 0 && errno != EEXIST)
                        return log_error_errno(-errno, "cannot make %s: %m", part);
                if (!slash)
                        break;
                *slash = '/';
        }
        r = check_fs(path, magic);
        if (r < 0) {
                log_error("%s \"%s\" is not on a %s file system: give a directory on one", option,
                          path, what);
                return r;
        }
        return 0;
}

static int prepare_bpffs(const char *bpf_dir)
{
        /* Only the usual place is mounted by slimd; anywhere else is the user's. */
        if (strncmp(bpf_dir, "/sys/fs/bpf", strlen("/sys/fs/bpf")) == 0 &&
            check_fs("/sys/fs/bpf", BPF_FS_MAGIC) == -EMEDIUMTYPE &&
            mount("bpf", "/sys/fs/bpf", "bpf", MS_NOSUID | MS_NODEV | MS_NOEXEC, "mode=0700") < 0)
                return log_error_errno(-errno, "cannot mount bpffs at /sys/fs/bpf: %m");
        return make_dirs_on(bpf_dir, BPF_FS_MAGIC, "--bpf-dir", "bpf");
}

static int prepare_cgroup(const char *cgroup)
{
        char path[PATH_MAX];
        int r;

        r = make_dirs_on(cgroup, CGROUP2_SUPER_MAGIC, "--cgroup", "cgroup2");
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s/" CGROUP_BROKERS, cgroup);
        r = make_dir(path, 0755);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s/" CGROUP_CONTAINERS, cgroup);
        return make_dir(path, 0755);
}

static int prepare_run_dir(const char *run_dir)
{
        char path[PATH_MAX];
        int r;

        r = make_dir(run_dir, 0755);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%s/endpoints", run_dir);
        return make_dir(path, 0700);
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

static int prepare_underlay(struct slimd *d)
{
        char text[INADDR_TEXT_MAX];
        uint8_t bits;
        int r;

        r = netlink_link_get(d->nl, d->opt.underlay, &d->underlay);
        if (r == -ENODEV) {
                log_error("--underlay \"%s\": there is no such device", d->opt.underlay);
                return r;
        }
        if (r < 0)
                return log_error_errno(r, "cannot look at the device %s: %m", d->opt.underlay);
        r = netlink_addr_get(d->nl, d->underlay.ifindex, AF_INET, &d->underlay_addr, &bits);
        if (r < 0) {
                log_error("--underlay \"%s\" has no IPv4 address: give it one first",
                          d->opt.underlay);
                return r;
        }
        d->container_mtu = d->underlay.mtu - VXLAN_OVERHEAD;
        log_debug("underlay %s, address %s, MTU %u", d->underlay.name,
                  inaddr_format(&d->underlay_addr, text), d->underlay.mtu);
        return 0;
}

static int prepare_vxlan(struct slimd *d)
{
        struct netlink_link link;
        int r;

        r = netlink_link_get(d->nl, VXLAN_DEVICE, &link);
        if (r == -ENODEV) {
                r = netlink_vxlan_add(d->nl, VXLAN_DEVICE, VXLAN_UDP_PORT, d->container_mtu,
                                      vxlan_mac);
                if (r == -EEXIST) {
                        log_error("another VXLAN device takes UDP port %d here: remove it",
                                  VXLAN_UDP_PORT);
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
                /* No IPv6 of its own: it would chatter into the overlay. */
                (void)write_file_at(AT_FDCWD,
                                    "/proc/sys/net/ipv6/conf/" VXLAN_DEVICE "/disable_ipv6", "1");
                r = netlink_link_up(d->nl, link.ifindex);
        }
        if (r < 0)
                return log_error_errno(r, "cannot set the VXLAN device up: %m");
        d->vxlan_ifindex = link.ifindex;
        return 0;
}

int host_prepare(struct slimd *d)
{
        int r;

        r = prepare_run_dir(d->opt.run_dir);
        if (r == 0)
                r = prepare_cgroup(d->opt.cgroup);
        if (r == 0)
                r = prepare_bpffs(d->opt.bpf_dir);
        if (r == 0)
                r = prepare_underlay(d);
        if (r == 0)
                r = prepare_vxlan(d);
        if (r == 0)
                r = sysctl_write("/proc/sys/net/ipv4/ip_forward", "1");
        if (r == 0)
                r = reserve_ports();
        return r;
}

int host_attach(struct slimd *d)
{
        struct netlink_link lo;
        int r;

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

static struct netlink_route unreachable(const struct network *n)
{
        return (struct netlink_route){
                .kind = NETLINK_ROUTE_UNREACHABLE,
                .dst = n->prefix.addr,
                .dst_bits = inaddr_is_v4(&n->prefix.addr) ? n->prefix.bits - 96 : n->prefix.bits,
        };
}

int host_network_up(struct slimd *d, const struct network *n)
{
        struct netlink_route route = unreachable(n);

        return netlink_route_add(d->nl, &route);
}

void host_network_down(struct slimd *d, const struct network *n)
{
        struct netlink_route route = unreachable(n);
        int r = netlink_route_del(d->nl, &route);

        if (r < 0 && r != -ESRCH)
                log_warning_errno(r, "cannot remove the route of network %s: %m, ignoring",
                                  n->name);
}

static int run_nft(const char *commands)
{
        struct nft_ctx *nft = nft_ctx_new(NFT_CTX_DEFAULT);
        int r;

        if (!nft)
                return -ENOMEM;
        nft_ctx_buffer_output(nft);
        nft_ctx_buffer_error(nft);
        r = nft_run_cmd_from_buffer(nft, commands);
        if (r != 0)
                log_debug("nft: %s", nft_ctx_get_error_buffer(nft));
        nft_ctx_free(nft);
        return r != 0 ? -EIO : 0;
}

/* One transaction: the table is replaced whole, and packets never see it half-made. */
int host_nat_update(struct slimd *d)
{
        _cleanup_free_ char *text = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&text, &size);
        int r;

        if (!f)
                return -ENOMEM;
        fputs("table ip slim\ndelete table ip slim\n", f);
        fputs("table ip slim {\n"
              " set overlays { type ipv4_addr; flags interval;",
              f);
        for (struct network *n = d->model.networks; n; n = n->hh.next) {
                char prefix[INADDR_TEXT_MAX];

                if (!inaddr_is_v4(&n->prefix.addr))
                        continue;
                fprintf(f, "%s%s", n == d->model.networks ? " elements = { " : ", ",
                        inaddr_prefix_format(&n->prefix, prefix));
        }
        fprintf(f, "%s }\n", d->model.networks ? " };" : "");
        fputs(" chain postrouting {\n"
              "  type nat hook postrouting priority srcnat; policy accept;\n"
              "  ip saddr @overlays ip daddr != @overlays masquerade\n"
              " }\n}\n",
              f);
        if (fclose(f) != 0)
                return -ENOMEM;
        r = run_nft(text);
        if (r < 0)
                log_warning("cannot set up masquerading with nftables: containers' UDP and ICMP do "
                            "not reach outside networks, ignoring");
        return 0;
}

void host_remove(struct slimd *d)
{
        static const char *const underlays[] = {"lo", NULL};
        struct netlink_link link;
        char path[PATH_MAX];
        int r;

        for (size_t i = 0; i < ARRAY_SIZE(underlays); i++) {
                const char *name = underlays[i] ?: d->opt.underlay;

                if (netlink_link_get(d->nl, name, &link) == 0)
                        (void)datapath_detach(link.ifindex);
        }
        r = netlink_link_del(d->nl, VXLAN_DEVICE);
        if (r < 0 && r != -ENODEV)
                log_warning_errno(r, "cannot remove the VXLAN device: %m, ignoring");
        (void)run_nft("table ip slim\ndelete table ip slim\n");
        r = datapath_remove(d->opt.bpf_dir);
        if (r < 0)
                log_warning_errno(r, "cannot remove the pins in %s: %m, ignoring", d->opt.bpf_dir);
        snprintf(path, sizeof(path), "%s/" CGROUP_BROKERS, d->opt.cgroup);
        (void)rmdir(path);
        snprintf(path, sizeof(path), "%s/" CGROUP_CONTAINERS, d->opt.cgroup);
        (void)rmdir(path);
        if (rmdir(d->opt.cgroup) < 0 && errno != ENOENT)
                log_warning_errno(-errno, "cannot remove the cgroup %s: %m, ignoring",
                                  d->opt.cgroup);
}
