/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Table of contents: the commands; the caller's memory; one function for each kind of argument;
 * the checks of rights around them.
 *
 * What the kernel knows and this file does not is EOPNOTSUPP, what it does not know ENOTTY. The
 * former are those with memory of many shapes: most of ethtool's, the bridge's old ones, those
 * that are private to a device. Netlink, which all of today's tools use, is not touched.
 */
#include "interface.h"

#include <errno.h>
#include <linux/capability.h>
#include <linux/ethtool.h>
#include <linux/if.h>
#include <linux/if_arp.h>
#include <linux/if_bridge.h>
#include <linux/if_vlan.h>
#include <linux/in6.h>
#include <linux/ipv6.h>
#include <linux/ipv6_route.h>
#include <linux/net_tstamp.h>
#include <linux/route.h>
#include <linux/sockios.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../abi/slim-abi.h"
#include "../basic/alloc.h"
#include "../basic/fd.h"

/* --- the commands ----------------------------------------------------------------------------- */

enum kind {
        GET = 1,   /* struct ifreq, in and out */
        SET,       /* struct ifreq, in */
        SET_ADDR,  /* … and struct in6_ifreq on an AF_INET6 socket */
        NAME,      /* a device's name */
        CONFIG,    /* struct ifconf and its array */
        ARP_GET,   /* struct arpreq, in and out */
        ARP_SET,   /* … in */
        ROUTE,     /* struct rtentry, or struct in6_rtmsg on an AF_INET6 socket */
        ETHTOOL,   /* struct ifreq and what it points at */
        TIMESTAMP, /* struct ifreq and a struct hwtstamp_config */
        NETNS,     /* nothing; the answer is a descriptor */
        VLAN,      /* struct vlan_ioctl_args, in and out */
        BRIDGE,    /* three words, of which the first says what the others are */
        NOTHING,   /* no memory */
        FOREIGN,   /* of a device that must be there, and else not supported */
        WIRELESS,  /* … by a kernel that has such */
};

/* Whom the kernel lets do it: what the broker must have found out before it asks with its own
 * rights. For everybody else it asks without any, and the kernel says what it says then. */
enum right {
        ANYBODY,
        ADMIN,      /* ns_capable(CAP_NET_ADMIN) */
        HOST_ADMIN, /* capable() */
};

struct command {
        uint16_t number;
        uint8_t kind, right;
};

static const struct command commands[] = {
    {SIOCGIFNAME, GET, ANYBODY},
    {SIOCGIFCONF, CONFIG, ANYBODY},
    {SIOCGIFFLAGS, GET, ANYBODY},
    {SIOCSIFFLAGS, SET, ADMIN},
    {SIOCGIFADDR, GET, ANYBODY},
    {SIOCSIFADDR, SET_ADDR, ADMIN},
    {SIOCGIFDSTADDR, GET, ANYBODY},
    {SIOCSIFDSTADDR, SET_ADDR, ADMIN},
    {SIOCGIFBRDADDR, GET, ANYBODY},
    {SIOCSIFBRDADDR, SET, ADMIN},
    {SIOCGIFNETMASK, GET, ANYBODY},
    {SIOCSIFNETMASK, SET, ADMIN},
    {SIOCGIFMETRIC, GET, ANYBODY},
    {SIOCSIFMETRIC, SET, ADMIN},
    {SIOCGIFMTU, GET, ANYBODY},
    {SIOCSIFMTU, SET, ADMIN},
    {SIOCSIFNAME, SET, ADMIN},
    {SIOCSIFHWADDR, SET, ADMIN},
    {SIOCGIFHWADDR, GET, ANYBODY},
    {SIOCGIFSLAVE, GET, ANYBODY},
    {SIOCSIFSLAVE, SET, ADMIN},
    {SIOCADDMULTI, SET, ADMIN},
    {SIOCDELMULTI, SET, ADMIN},
    {SIOCGIFINDEX, GET, ANYBODY},
    {SIOCSIFPFLAGS, SET, ADMIN},
    {SIOCGIFPFLAGS, GET, ANYBODY},
    {SIOCDIFADDR, SET_ADDR, ADMIN},
    {SIOCSIFHWBROADCAST, SET, ADMIN},
    {SIOCGIFTXQLEN, GET, ANYBODY},
    {SIOCSIFTXQLEN, SET, HOST_ADMIN},
    {SIOCGIFMAP, GET, ANYBODY},
    {SIOCSIFMAP, SET, HOST_ADMIN},
    {SIOCGMIIPHY, GET, ADMIN},
    {SIOCGMIIREG, GET, ADMIN},
    {SIOCSMIIREG, SET, ADMIN},
    {SIOCADDRT, ROUTE, ADMIN},
    {SIOCDELRT, ROUTE, ADMIN},
    {SIOCGARP, ARP_GET, ANYBODY},
    {SIOCSARP, ARP_SET, ADMIN},
    {SIOCDARP, ARP_SET, ADMIN},
    {SIOCETHTOOL, ETHTOOL, ANYBODY},
    {SIOCGHWTSTAMP, TIMESTAMP, ANYBODY},
    {SIOCSHWTSTAMP, TIMESTAMP, ADMIN},
    {SIOCGSKNS, NETNS, ADMIN},
    {SIOCBRADDBR, NAME, ADMIN},
    {SIOCBRDELBR, NAME, ADMIN},
    {SIOCBRADDIF, SET, ADMIN},
    {SIOCBRDELIF, SET, ADMIN},
    {SIOCBONDENSLAVE, SET, ADMIN},
    {SIOCBONDRELEASE, SET, ADMIN},
    {SIOCBONDSETHWADDR, SET, ADMIN},
    {SIOCBONDCHANGEACTIVE, SET, ADMIN},
    {SIOCBONDSLAVEINFOQUERY, FOREIGN, ANYBODY},
    {SIOCBONDINFOQUERY, FOREIGN, ANYBODY},
    {SIOCWANDEV, FOREIGN, ANYBODY},
    {SIOCGIFVLAN, VLAN, ADMIN},
    {SIOCSIFVLAN, VLAN, ADMIN},
    {SIOCRTMSG, NOTHING, ANYBODY},
    {SIOCGIFBR, BRIDGE, ANYBODY},
    {SIOCSIFBR, BRIDGE, ANYBODY},
};

/* <linux/wireless.h>, which does not go together with the headers above. */
#define WIRELESS_FIRST 0x8b00
#define WIRELESS_NAME  0x8b01 /* SIOCGIWNAME: no memory but struct ifreq's */
#define WIRELESS_LAST  0x8bff

/* 0, or what the call fails with. */
static int find_command(uint32_t number, struct command *ret)
{
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (commands[i].number == number) {
                        *ret = commands[i];
                        return 0;
                }
        if (number >= SIOCDEVPRIVATE && number <= SIOCDEVPRIVATE + 15)
                *ret = (struct command){(uint16_t)number, FOREIGN, ANYBODY};
        else if (number >= WIRELESS_FIRST && number <= WIRELESS_LAST)
                *ret = (struct command){(uint16_t)number, WIRELESS, ANYBODY};
        else
                return -ENOTTY;
        return 0;
}

/* --- the caller's memory ---------------------------------------------------------------------- */

/* One call while it is worked on. */
struct work {
        const struct interface_call *call;
        int memory; /* of the caller */
        int socket; /* that answers */
        int family;
};

/* A 32-bit struct ifreq has the same members at the same places, and less room behind them. */
#define IFREQ_COMPAT 32

static size_t ifreq_size(const struct work *w)
{
        return w->call->compat ? IFREQ_COMPAT : sizeof(struct ifreq);
}

static int fetch(const struct work *w, uint64_t at, void *buf, size_t len)
{
        return pread(w->memory, buf, len, (off_t)at) == (ssize_t)len ? 0 : -EFAULT;
}

static int store(const struct work *w, uint64_t at, const void *buf, size_t len)
{
        return pwrite(w->memory, buf, len, (off_t)at) == (ssize_t)len ? 0 : -EFAULT;
}

static int ask(const struct work *w, uint32_t command, void *argument)
{
        int r = ioctl(w->socket, command, argument);

        return r < 0 ? -errno : r;
}

/* --- kinds of arguments ----------------------------------------------------------------------- */

static int run_plain(const struct work *w, void *buf, size_t len, bool out)
{
        int r;

        r = fetch(w, w->call->argument, buf, len);
        if (r == 0)
                r = ask(w, w->call->command, buf);
        if (r == 0 && out)
                r = store(w, w->call->argument, buf, len);
        return r;
}

/* Is the device there? Asked without rights, so that the kernel does not load a module for the
 * name (dev_load()), which it does for the host's administrator and not for a container's. */
static int find_device(const struct work *w, const char *name)
{
        struct ifreq ifr = {};

        memcpy(ifr.ifr_name, name, sizeof(ifr.ifr_name));
        ifr.ifr_name[sizeof(ifr.ifr_name) - 1] = '\0';
        return ask(w, SIOCGIFINDEX, &ifr);
}

/* Bytes that are asked for at once: 1,638 addresses. Of a longer list the caller gets as many. */
#define CONFIG_MAX 65536

static int run_config(const struct work *w)
{
        _cleanup_free_ struct ifreq *list = NULL;
        struct ifconf conf = {};
        struct {
                int32_t len;
                uint32_t buf;
        } narrow = {};
        size_t size = ifreq_size(w), n;
        uint64_t buf;
        int32_t len;
        int r;

        if (w->call->compat) {
                r = fetch(w, w->call->argument, &narrow, sizeof(narrow));
                len = narrow.len;
                buf = narrow.buf;
        } else {
                r = fetch(w, w->call->argument, &conf, sizeof(conf));
                len = conf.ifc_len;
                buf = (uint64_t)(uintptr_t)conf.ifc_buf;
        }
        if (r < 0)
                return r;
        conf = (struct ifconf){};
        if (buf) {
                len = len < 0 ? 0 : len > CONFIG_MAX ? CONFIG_MAX : len;
                n = (size_t)len / size;
                list = calloc(n ? n : 1, sizeof(*list));
                if (!list)
                        return -ENOMEM;
                conf.ifc_len = (int)(n * sizeof(*list));
                conf.ifc_req = list;
        }
        r = ask(w, SIOCGIFCONF, &conf);
        if (r < 0)
                return r;
        n = (size_t)conf.ifc_len / sizeof(*list);
        for (size_t i = 0; list && i < n; i++) {
                r = store(w, buf + i * size, &list[i], size);
                if (r < 0)
                        return r;
        }
        len = (int32_t)(n * size);
        /* The length is the first member of both. */
        return store(w, w->call->argument, &len, sizeof(len));
}

static int run_route(const struct work *w)
{
        char device[IFNAMSIZ] = "";
        struct in6_rtmsg six;
        struct rtentry four;
        int r;

        if (w->family == AF_INET6)
                return w->call->compat ? -EOPNOTSUPP : run_plain(w, &six, sizeof(six), false);
        if (w->call->compat)
                return -EOPNOTSUPP;
        r = fetch(w, w->call->argument, &four, sizeof(four));
        if (r == 0 && four.rt_dev) {
                r = fetch(w, (uint64_t)(uintptr_t)four.rt_dev, device, sizeof(device) - 1);
                four.rt_dev = device;
        }
        return r < 0 ? r : ask(w, w->call->command, &four);
}

/* A pointer in a struct ifreq: not the caller's own, but the broker's copy of what is there. */
static int run_pointed(const struct work *w, struct ifreq *ifr, void *data, size_t len, bool in)
{
        uint64_t at = (uint64_t)(uintptr_t)ifr->ifr_data;
        int r;

        /* What cannot be read is the kernel's to find, which looks at other things before. */
        ifr->ifr_data = in && fetch(w, at, data, len) < 0 ? NULL : data;
        r = ask(w, w->call->command, ifr);
        return r < 0 ? r : store(w, at, data, len);
}

/* Link settings come in two steps: the kernel first says how long its masks are. */
static int run_link_settings(const struct work *w, struct ifreq *ifr)
{
        struct {
                struct ethtool_link_settings s;
                uint32_t masks[3 * INT8_MAX];
        } settings = {};
        uint64_t at = (uint64_t)(uintptr_t)ifr->ifr_data;
        size_t len = sizeof(settings.s);
        int r;

        r = fetch(w, at, &settings.s, len);
        if (r < 0)
                return r;
        ifr->ifr_data = (void *)&settings;
        r = ask(w, SIOCETHTOOL, ifr);
        if (r < 0)
                return r;
        if (settings.s.link_mode_masks_nwords > 0)
                len += 3 * sizeof(uint32_t) * (size_t)settings.s.link_mode_masks_nwords;
        return store(w, at, &settings, len);
}

static int run_ethtool(const struct work *w)
{
        static const struct {
                uint32_t command;
                uint32_t size;
        } known[] = {
            {ETHTOOL_GSET, sizeof(struct ethtool_cmd)},
            {ETHTOOL_GDRVINFO, sizeof(struct ethtool_drvinfo)},
            {ETHTOOL_GMSGLVL, sizeof(struct ethtool_value)},
            {ETHTOOL_GLINK, sizeof(struct ethtool_value)},
            {ETHTOOL_GCOALESCE, sizeof(struct ethtool_coalesce)},
            {ETHTOOL_GRINGPARAM, sizeof(struct ethtool_ringparam)},
            {ETHTOOL_GPAUSEPARAM, sizeof(struct ethtool_pauseparam)},
            {ETHTOOL_GRXCSUM, sizeof(struct ethtool_value)},
            {ETHTOOL_GTXCSUM, sizeof(struct ethtool_value)},
            {ETHTOOL_GSG, sizeof(struct ethtool_value)},
            {ETHTOOL_GTSO, sizeof(struct ethtool_value)},
            {ETHTOOL_GUFO, sizeof(struct ethtool_value)},
            {ETHTOOL_GGSO, sizeof(struct ethtool_value)},
            {ETHTOOL_GGRO, sizeof(struct ethtool_value)},
            {ETHTOOL_GFLAGS, sizeof(struct ethtool_value)},
            {ETHTOOL_GPFLAGS, sizeof(struct ethtool_value)},
            {ETHTOOL_GCHANNELS, sizeof(struct ethtool_channels)},
            {ETHTOOL_GET_TS_INFO, sizeof(struct ethtool_ts_info)},
            {ETHTOOL_GEEE, sizeof(struct ethtool_eee)},
        };
        union {
                uint32_t command;
                uint8_t room[256];
        } data = {};
        struct ifreq ifr;
        int r;

        _Static_assert(sizeof(struct ethtool_drvinfo) <= sizeof(data), "the longest of them");
        if (w->call->compat)
                return -EOPNOTSUPP;
        r = fetch(w, w->call->argument, &ifr, sizeof(ifr));
        if (r < 0)
                return r;
        r = fetch(w, (uint64_t)(uintptr_t)ifr.ifr_data, &data.command, sizeof(data.command));
        if (r == 0)
                r = find_device(w, ifr.ifr_name);
        if (r < 0)
                return r;
        if (data.command == ETHTOOL_GLINKSETTINGS)
                return run_link_settings(w, &ifr);
        for (size_t i = 0; i < ARRAY_SIZE(known); i++)
                if (known[i].command == data.command)
                        return run_pointed(w, &ifr, &data, known[i].size, true);
        return -EOPNOTSUPP;
}

static int run_timestamp(const struct work *w)
{
        struct hwtstamp_config config = {};
        struct ifreq ifr;
        int r;

        if (w->call->compat)
                return -EOPNOTSUPP;
        r = fetch(w, w->call->argument, &ifr, sizeof(ifr));
        if (r < 0)
                return r;
        return run_pointed(w, &ifr, &config, sizeof(config), w->call->command == SIOCSHWTSTAMP);
}

static int run_foreign(const struct work *w)
{
        char name[IFNAMSIZ];
        int r;

        r = fetch(w, w->call->argument, name, sizeof(name));
        if (r == 0)
                r = find_device(w, name);
        return r < 0 ? r : -EOPNOTSUPP;
}

/* None is supported; but which errno that is, the kernel says by the plainest of them. */
static int run_wireless(const struct work *w)
{
        struct ifreq ifr = {};
        int fetched, r;

        fetched = fetch(w, w->call->argument, ifr.ifr_name, sizeof(ifr.ifr_name));
        ifr.ifr_name[sizeof(ifr.ifr_name) - 1] = '\0';
        r = ask(w, WIRELESS_NAME, &ifr);
        if (r == -ENOTTY)
                return r;
        return fetched < 0 ? fetched : r < 0 ? r : -EOPNOTSUPP;
}

/* By these a program asks for a bridge's version; all else they can do has better commands. */
static int run_bridge(const struct work *w)
{
        unsigned long arguments[3];
        int r;

        if (w->call->compat)
                return -EOPNOTSUPP;
        r = fetch(w, w->call->argument, arguments, sizeof(arguments));
        if (r < 0)
                return r;
        return arguments[0] == BRCTL_GET_VERSION ? ask(w, w->call->command, arguments)
                                                 : -EOPNOTSUPP;
}

static int run_kind(const struct work *w, enum kind kind)
{
        struct ifreq ifr = {};
        struct in6_ifreq six;
        struct vlan_ioctl_args vlan;
        struct arpreq arp;
        char name[IFNAMSIZ];

        /* The one member of struct ifreq that has words in it. */
        if (w->call->compat && (w->call->command == SIOCGIFMAP || w->call->command == SIOCSIFMAP))
                return -EOPNOTSUPP;
        switch (kind) {
        case GET:
                return run_plain(w, &ifr, ifreq_size(w), true);
        case SET_ADDR:
                if (w->family == AF_INET6)
                        return run_plain(w, &six, sizeof(six), false);
                return run_plain(w, &ifr, ifreq_size(w), false);
        case SET:
                return run_plain(w, &ifr, ifreq_size(w), false);
        case NAME:
                return run_plain(w, name, sizeof(name), false);
        case ARP_GET:
        case ARP_SET:
                return run_plain(w, &arp, sizeof(arp), kind == ARP_GET);
        case CONFIG:
                return run_config(w);
        case ROUTE:
                return run_route(w);
        case ETHTOOL:
                return run_ethtool(w);
        case TIMESTAMP:
                return run_timestamp(w);
        case NETNS:
                return ask(w, SIOCGSKNS, NULL);
        case VLAN:
                return run_plain(w, &vlan, sizeof(vlan), true);
        case NOTHING:
                return ask(w, w->call->command, &ifr);
        case BRIDGE:
                return run_bridge(w);
        case FOREIGN:
                return run_foreign(w);
        case WIRELESS:
                return run_wireless(w);
        }
        return -ENOTTY;
}

/* --- rights ----------------------------------------------------------------------------------- */

/*
 * CAP_SYS_MODULE is given up for good: a name that a container makes up is not to be loaded as a
 * module (dev_load()).
 */
int interface_setup(void)
{
        struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
        struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];

        if (syscall(SYS_capget, &head, data) < 0)
                return -errno;
        data[0].effective &= ~(1U << CAP_SYS_MODULE);
        data[0].permitted &= ~(1U << CAP_SYS_MODULE);
        return syscall(SYS_capset, &head, data) < 0 ? -errno : 0;
}

/*
 * The effective user of a broker that has no rights: nobody's number. Without root's number it
 * has no capability, and is not taken for the owner of a container's user namespace, who may do
 * everything there. With it, it has them all again (capabilities(7)).
 */
#define NO_RIGHTS ((uid_t)-2)

static int have_rights(bool all)
{
        return syscall(SYS_setresuid, -1, all ? 0 : NO_RIGHTS, -1) < 0 ? -errno : 0;
}

/* The device of a command that sets something, before the rights to do so are there. */
static int check_device(const struct work *w, enum kind kind)
{
        char name[IFNAMSIZ];
        int r;

        if (kind != GET && kind != SET && kind != TIMESTAMP &&
            !(kind == SET_ADDR && w->family != AF_INET6))
                return 0;
        r = fetch(w, w->call->argument, name, sizeof(name));
        return r < 0 ? r : find_device(w, name);
}

/* 1: it may; 0: the kernel is to say what those get who may not. */
static int check_caller(const struct caller *c, const struct work *w, enum right right)
{
        _cleanup_close_ int netns_fd = -1;
        int r;

        if (right == ANYBODY)
                return 0;
        netns_fd = ioctl(w->socket, SIOCGSKNS);
        if (netns_fd < 0)
                return -errno;
        r = caller_is_admin(c, netns_fd, right == HOST_ADMIN);
        return r == -EPERM ? 0 : r < 0 ? r : 1;
}

static int run_checked(const struct work *w, enum kind kind, bool admin)
{
        int r, restored;

        r = have_rights(false);
        if (r < 0)
                return r;
        if (!admin)
                r = run_kind(w, kind);
        else
                r = check_device(w, kind);
        restored = have_rights(true);
        if (restored < 0 || !admin || r < 0)
                return restored < 0 ? restored : r;
        return run_kind(w, kind);
}

/* --- the call --------------------------------------------------------------------------------- */

/* A TUN or TAP device answers two of the commands on its own file. */
static bool is_tun(const struct stat *st, uint32_t command)
{
        return S_ISCHR(st->st_mode) && st->st_rdev == makedev(10, 200) &&
               (command == SIOCGIFHWADDR || command == SIOCSIFHWADDR);
}

int interface_run(const struct caller *c, const struct inside *in, int sockets_map,
                  const struct interface_call *call, int *ret_fd)
{
        _cleanup_close_ int copy = -1, memory = -1;
        struct slim_socket s;
        struct command command;
        struct work w = {.call = call};
        socklen_t len = sizeof(w.family);
        struct stat st;
        int r;

        *ret_fd = -1;
        r = caller_fd(c, call->fd, &copy);
        if (r < 0)
                return r;
        if (fstat(copy, &st) < 0)
                return -errno;
        if (!S_ISSOCK(st.st_mode) && !is_tun(&st, call->command))
                return -ENOTTY;
        r = find_command(call->command, &command);
        if (r < 0)
                return r;
        if (is_tun(&st, call->command))
                command.right = ANYBODY; /* who has the file may */
        else if (getsockopt(copy, SOL_SOCKET, SO_DOMAIN, &w.family, &len) < 0)
                return -errno;
        r = caller_memory(c, &memory);
        if (r < 0)
                return r;
        w.memory = memory;
        w.socket = copy;
        if (bpf_map_lookup_elem(sockets_map, &copy, &s) == 0)
                w.socket = inside_socket(in, w.family);
        if (w.socket < 0)
                return w.socket;
        r = check_caller(c, &w, command.right);
        if (r < 0)
                return r;
        if (!caller_waits(c))
                return -ESRCH; /* nobody is left to hear it, and nothing of the above was its */
        r = run_checked(&w, command.kind, r > 0);
        if (r >= 0 && command.kind == NETNS) {
                *ret_fd = r;
                return 0;
        }
        return r;
}
