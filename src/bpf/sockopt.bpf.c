/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/setsockopt and getsockopt: which options of a container's socket are the kernel's to set
 * and to show?
 *
 * setsockopt's runs before the kernel's own code. It passes what is on the white list (sockopt.h)
 * unchanged, keeps some options in slim_socket, and refuses the rest. Where the value decides, the
 * kernel is given the copy that was looked at, since the program's memory can change meanwhile.
 *
 * getsockopt's runs after the kernel's code, which has written to the program's memory already. So
 * it cannot hide anything from another thread: that no option shows the host's addresses is up to
 * setsockopt's (nothing that records them is ever switched on in the kernel) and to the container's
 * seccomp filter (netfilter's numbers, SO_ORIGINAL_DST among them).
 *
 * Not covered: TCP_ZEROCOPY_RECEIVE, which the kernel keeps from programs like these, and which
 * shows no addresses.
 */
#include "sockopt.h"
#include "event.h"
#include "sysctl.h"

#define AF_UNIX 1
#define AF_INET 2

/* Of SO_TIMESTAMPING: addresses and devices in what the error queue says. */
#define TIMESTAMPING_OPT_CMSG    (1 << 10)
#define TIMESTAMPING_OPT_TSONLY  (1 << 11)
#define TIMESTAMPING_OPT_PKTINFO (1 << 13)
#define TIMESTAMPING_BIND_PHC    (1 << 15)

#define TIMESTAMPING_KNOWN ((1 << 19) - 1)

#define PRIORITY_MAX     6    /* the highest that needs no privilege */
#define FASTOPEN_MAX     4096 /* the default net.core.somaxconn */
#define DEVICE_NAME_SIZE 16

/* --- outcomes --------------------------------------------------------------------------------- */

/* As the program called, or as the kernel answered: 0 says that nothing was changed. */
static __always_inline int pass(struct bpf_sockopt *ctx)
{
        ctx->optlen = 0;
        return 1;
}

/* The first n bytes as they are in this program's copy. */
static __always_inline int pass_copy(struct bpf_sockopt *ctx, int n)
{
        ctx->optlen = n;
        return 1;
}

/* Success, and the kernel does not hear of it. */
static __always_inline int done(struct bpf_sockopt *ctx)
{
        ctx->optlen = -1;
        return 1;
}

static __always_inline int no(int error)
{
        return refuse(error, SLIM_REASON_OPTION_REFUSED);
}

/* --- values ----------------------------------------------------------------------------------- */

/* SOL_IP takes a single byte for an int as well. The copy's end is not the value's: it is longer
 * than a short value. */
static __always_inline bool read_int(struct bpf_sockopt *ctx, int *ret)
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;
        int n = ctx->optlen;

        if (n >= (int)sizeof(int) && p + sizeof(int) <= end) {
                *ret = *(int *)p;
                return true;
        }
        if (ctx->level != SOL_IP || n < 1 || p + 1 > end)
                return false;
        *ret = *p;
        return true;
}

/* In place of what the kernel has written, as long as that is. */
static __always_inline int show_int(struct bpf_sockopt *ctx, int value)
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;
        int n = ctx->optlen;

#pragma clang loop unroll(full)
        for (int i = 0; i < 4; i++)
                if (i < n && p + i + 1 <= end)
                        p[i] = (__u32)value >> (8 * i);
        return 1;
}

static __always_inline int show_text(struct bpf_sockopt *ctx, const char text[DEVICE_NAME_SIZE])
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;
        int n = ctx->optlen;

#pragma clang loop unroll(full)
        for (int i = 0; i < DEVICE_NAME_SIZE; i++)
                if (i < n && p + i + 1 <= end)
                        p[i] = text[i];
        return 1;
}

/* Overwrites what is there. */
static __always_inline int hide(struct bpf_sockopt *ctx)
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;

#pragma clang loop unroll(full)
        for (int i = 0; i < 64; i++)
                if (p + i + 1 <= end)
                        p[i] = 0;
        return 1;
}

static __always_inline bool is_bound(struct bpf_sockopt *ctx, const struct slim_socket *s)
{
        return s->owner || (s->bind_flags & SLIM_BIND_NO_PORT) || ctx->sk->src_port ||
               ctx->sk->state != BPF_TCP_CLOSE;
}

/* --- setsockopt ------------------------------------------------------------------------------- */

/* By name, or by index where that is not negative. A bound socket's place in the table of ports
 * depends on its device. */
static __always_inline int set_device(struct bpf_sockopt *ctx, struct slim_socket *s, int ifindex)
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;
        struct device_search d = {.ifindex = ifindex > 0 ? ifindex : 0};
        bool over = false;

        if (ifindex < 0) {
#pragma clang loop unroll(full)
                for (int i = 0; i < DEVICE_NAME_SIZE - 1; i++) {
                        over = over || i >= ctx->optlen || p + i + 1 > end || !p[i];
                        if (!over)
                                d.name[i] = p[i];
                }
        }
        if (s->device && !caller_may(caller_net(), CAP_NET_RAW))
                return no(EPERM);
        if (ifindex > 0 || d.name[0]) {
                device_find(&d, bpf_get_netns_cookie(ctx));
                if (!d.found)
                        return no(ENODEV);
        }
        if (s->device == (__u32)d.found)
                return done(ctx);
        if (is_bound(ctx, s))
                return no(EINVAL);
        s->device = d.found;
        return done(ctx);
}

/* OPT_TSONLY stays set, as the broker has set it: without it the error queue returns the packet,
 * headers and all. */
static __always_inline int set_timestamping(struct bpf_sockopt *ctx, struct slim_socket *s)
{
        int *p = ctx->optval, *end = ctx->optval_end;
        int n = ctx->optlen;

        if ((void *)(p + 1) > (void *)end || (*p & ~TIMESTAMPING_KNOWN))
                return no(EINVAL);
        if (*p & TIMESTAMPING_BIND_PHC)
                return no(EOPNOTSUPP); /* as for a socket without a device */
        if (*p & TIMESTAMPING_OPT_TSONLY)
                s->sockopts |= SLIM_SOCKOPT_TSONLY;
        else
                s->sockopts &= ~SLIM_SOCKOPT_TSONLY;
        *p &= ~(TIMESTAMPING_OPT_CMSG | TIMESTAMPING_OPT_PKTINFO);
        *p |= TIMESTAMPING_OPT_TSONLY;
        return pass_copy(ctx, n == 8 ? 8 : 4);
}

static __always_inline int set_unicast_if(struct bpf_sockopt *ctx, int value)
{
        struct device_search d = {.ifindex = bpf_ntohl(value)};

        if (ctx->optlen != sizeof(value))
                return no(EINVAL);
        if (!value)
                return done(ctx);
        if (d.ifindex > 0)
                device_find(&d, bpf_get_netns_cookie(ctx));
        return d.found ? done(ctx) : no(EADDRNOTAVAIL);
}

static __always_inline int set_ulp(struct bpf_sockopt *ctx)
{
        char *p = ctx->optval, *end = ctx->optval_end;
        int n = ctx->optlen;

        if (n < 1)
                return no(EINVAL);
        if (n < 3 || p + 4 > end || p[0] != 't' || p[1] != 'l' || p[2] != 's')
                return no(ENOENT);
        return n > 3 && p[3] ? no(ENOENT) : pass_copy(ctx, 3);
}

static __always_inline int set_fastopen(struct bpf_sockopt *ctx, struct slim_socket *s, int value)
{
        __u32 state = ctx->sk->state;

        if (value < 0 || (state != BPF_TCP_CLOSE && state != BPF_TCP_LISTEN))
                return no(EINVAL);
        s->fastopen = value < FASTOPEN_MAX ? value : FASTOPEN_MAX;
        return done(ctx);
}

static __always_inline int set_port_range(struct bpf_sockopt *ctx, struct slim_socket *s,
                                          __u32 value)
{
        __u16 low = value, high = value >> 16;

        if (!bpf_core_field_exists(((struct inet_sock___slim *)0)->local_port_range))
                return pass(ctx); /* a kernel before 6.3 does not know it */
        if (ctx->optlen != sizeof(value) || (low && high && low > high))
                return no(EINVAL);
        s->port_range = value;
        return done(ctx);
}

static __always_inline int set_closely(struct bpf_sockopt *ctx, struct slim_socket *s)
{
        __u32 option = OPTION(ctx->level, ctx->optname);
        int value = 0, n = ctx->optlen;

        switch (option) {
        case OPTION(SOL_SOCKET, SO_BINDTODEVICE):
                return set_device(ctx, s, -1);
        case OPTION(SOL_SOCKET, SO_TIMESTAMPING_OLD):
        case OPTION(SOL_SOCKET, SO_TIMESTAMPING_NEW):
                return set_timestamping(ctx, s);
        case OPTION(SOL_SOCKET, SO_INCOMING_NAPI_ID):
        case OPTION(SOL_SOCKET, SO_NETNS_COOKIE):
                return pass(ctx); /* the kernel refuses them */
        case OPTION(SOL_TCP, TCP_ULP):
                return set_ulp(ctx);
        case OPTION(SOL_TCP, TCP_KEEPIDLE):
                apply_one(ctx->sk, s, TCP_KEEPIDLE, SLIM_SOCKOPT_KEEPIDLE);
                return pass(ctx);
        case OPTION(SOL_TCP, TCP_KEEPINTVL):
                apply_one(ctx->sk, s, TCP_KEEPINTVL, SLIM_SOCKOPT_KEEPINTVL);
                return pass(ctx);
        case OPTION(SOL_TCP, TCP_KEEPCNT):
                apply_one(ctx->sk, s, TCP_KEEPCNT, SLIM_SOCKOPT_KEEPCNT);
                return pass(ctx);
        case OPTION(SOL_TCP, TCP_CONGESTION):
                apply_one(ctx->sk, s, TCP_CONGESTION, SLIM_SOCKOPT_CONGESTION);
                return pass(ctx);
        case OPTION(SOL_IP, IP_OPTIONS):
        case OPTION(SOL_IPV6, IPV6_2292PKTOPTIONS):
        case OPTION(SOL_IPV6, IPV6_HOPOPTS):
        case OPTION(SOL_IPV6, IPV6_RTHDRDSTOPTS):
        case OPTION(SOL_IPV6, IPV6_RTHDR):
        case OPTION(SOL_IPV6, IPV6_DSTOPTS):
                return n ? no(EPERM) : pass(ctx); /* none may always be asked for */
        }
        if (!read_int(ctx, &value))
                return no(EINVAL);
        switch (option) {
        case OPTION(SOL_SOCKET, SO_BINDTOIFINDEX):
                return value < 0 ? no(EINVAL) : set_device(ctx, s, value);
        case OPTION(SOL_SOCKET, SO_PRIORITY):
                return value < 0 || value > PRIORITY_MAX ? no(EPERM) : pass_copy(ctx, sizeof(int));
        case OPTION(SOL_SOCKET, SO_PREFER_BUSY_POLL):
        case OPTION(SOL_SOCKET, SO_BUSY_POLL_BUDGET):
                return value > 0 ? no(EPERM) : pass_copy(ctx, sizeof(int));
        case OPTION(SOL_SOCKET, SO_CNX_ADVICE):
                return done(ctx); /* the host keeps its routes */
        case OPTION(SOL_TCP, TCP_FASTOPEN):
                return set_fastopen(ctx, s, value);
        case OPTION(SOL_TCP, TCP_SAVE_SYN):
        case OPTION(SOL_TCP, TCP_FASTOPEN_CONNECT):
                return value == 1 || (value == 2 && ctx->optname == TCP_SAVE_SYN)
                           ? no(EOPNOTSUPP)
                           : pass_copy(ctx, sizeof(int)); /* 0, or what the kernel says EINVAL to */
        case OPTION(SOL_IP, IP_TRANSPARENT):
        case OPTION(SOL_IPV6, IPV6_TRANSPARENT):
                return value ? no(EPERM) : done(ctx);
        case OPTION(SOL_IP, IP_UNICAST_IF):
        case OPTION(SOL_IPV6, IPV6_UNICAST_IF):
                return set_unicast_if(ctx, value);
        case OPTION(SOL_IP, IP_LOCAL_PORT_RANGE):
                return set_port_range(ctx, s, value);
        case OPTION(SOL_IPV6, IPV6_V6ONLY):
                if (is_bound(ctx, s))
                        return no(EINVAL);
                s->sockopts = (s->sockopts & ~SLIM_SOCKOPT_V6ONLY) | SLIM_SOCKOPT_V6ONLY_SET |
                              (value ? SLIM_SOCKOPT_V6ONLY : 0);
                return done(ctx);
        }
        return no(ENOPROTOOPT);
}

/* These two levels look at the length first, but for texts. */
static __always_inline bool takes_int(int level, int name)
{
        if (level == SOL_SOCKET)
                return name != SO_BINDTODEVICE;
        return level == SOL_TCP && name != TCP_CONGESTION && name != TCP_ULP;
}

static __always_inline int set_flag(struct bpf_sockopt *ctx, struct slim_socket *s, __u32 flag)
{
        int value = 0;

        /* SOL_IP takes nothing at all for a 0, but for this one. */
        if (!read_int(ctx, &value) && (ctx->level != SOL_IP || flag == SLIM_SOCKOPT_FREEBIND))
                return no(EINVAL);
        if ((flag & (SLIM_SOCKOPT_RECVERR_RFC4884 | SLIM_SOCKOPT_RECVERR6_RFC4884)) &&
            (value < 0 || value > 1))
                return no(EINVAL);
        if (value)
                s->sockopts |= flag;
        else
                s->sockopts &= ~flag;
        return done(ctx);
}

static __always_inline int set_option(struct bpf_sockopt *ctx)
{
        struct bpf_sock *sk = ctx->sk;
        struct slim_socket *s;
        int verdict;

        if (!sk)
                return pass(ctx);
        s = bpf_sk_storage_get(&sockets, sk, 0, 0);
        if (!s || (ctx->level == SOL_IPV6 && sk->family == AF_INET))
                return pass(ctx);
        if (sk->family == AF_UNIX)
                return no(EPERM); /* a queue of the broker's: src/broker/queue.c */
        verdict = verdict_of(ctx->level, ctx->optname);
        if (verdict == PASS)
                return pass(ctx);
        if (takes_int(ctx->level, ctx->optname) && ctx->optlen < (int)sizeof(int))
                return no(EINVAL); /* before the kernel looks at which it is */
        if (verdict < 0)
                return no(-verdict);
        return verdict == CLOSER ? set_closely(ctx, s) : set_flag(ctx, s, verdict);
}

/* After no(): the answer is the kernel's to give from then on. */
static __noinline int tell(struct bpf_sockopt *ctx, enum slim_hook hook)
{
        struct slim_socket *s = ctx->sk ? bpf_sk_storage_get(&sockets, ctx->sk, 0, 0) : 0;
        struct slim_event e = {
            .reason = SLIM_REASON_OPTION_REFUSED,
            .hook = hook,
            .protocol = IPPROTO_TCP,
            .error = -bpf_get_retval(),
            .level = ctx->level,
            .option = ctx->optname,
        };

        if (s) {
                e.endpoint = s->endpoint;
                e.network = s->network;
                e.from = s->bound_addr;
                e.from_port = s->bound_port;
        }
        event_send(&e);
        return 0;
}

static __always_inline int refused(struct bpf_sockopt *ctx, enum slim_hook hook)
{
        if (event_wanted(SLIM_REASON_OPTION_REFUSED))
                tell(ctx, hook);
        return 0;
}

SEC("cgroup/setsockopt")
int slim_setsockopt(struct bpf_sockopt *ctx)
{
        return set_option(ctx) ? 1 : refused(ctx, SLIM_HOOK_SETSOCKOPT);
}

/* --- getsockopt ------------------------------------------------------------------------------- */

static __always_inline int show_device(struct bpf_sockopt *ctx, const struct slim_socket *s)
{
        __u8 *p = ctx->optval, *end = ctx->optval_end;
        struct device_search d = {.ifindex = s->device};
        int n = 1;

        if (!s->device)
                return pass(ctx);
        if (p + DEVICE_NAME_SIZE > end)
                return no(EINVAL);
        device_find(&d, bpf_get_netns_cookie(ctx));
        if (!d.found)
                return no(ENODEV);
#pragma clang loop unroll(full)
        for (int i = 0; i < DEVICE_NAME_SIZE; i++) {
                p[i] = d.name[i];
                n += d.name[i] != 0;
        }
        ctx->optlen = n;
        return 1;
}

static __always_inline int show_congestion(struct bpf_sockopt *ctx, const struct slim_socket *s)
{
        char name[DEVICE_NAME_SIZE] = {};

        if (s->sockopts & SLIM_SOCKOPT_CONGESTION)
                return pass(ctx);
        bpf_core_read(name, sizeof(name), &caller_net()->ipv4.tcp_congestion_control->name);
        return show_text(ctx, name);
}

static __always_inline int show_keepalive(struct bpf_sockopt *ctx, const struct slim_socket *s,
                                          int name, __u32 flag)
{
        return s->sockopts & flag ? pass(ctx) : show_int(ctx, net_keepalive(caller_net(), name));
}

static __always_inline int show_closely(struct bpf_sockopt *ctx, const struct slim_socket *s)
{
        __u64 *cookie = ctx->optval;
        __u32 *flags = ctx->optval;

        switch (OPTION(ctx->level, ctx->optname)) {
        case OPTION(SOL_SOCKET, SO_BINDTODEVICE):
                return show_device(ctx, s);
        case OPTION(SOL_SOCKET, SO_BINDTOIFINDEX):
                return show_int(ctx, s->device);
        case OPTION(SOL_SOCKET, SO_INCOMING_NAPI_ID):
                return show_int(ctx, 0);
        case OPTION(SOL_SOCKET, SO_TIMESTAMPING_OLD):
        case OPTION(SOL_SOCKET, SO_TIMESTAMPING_NEW):
                if ((void *)(flags + 1) > ctx->optval_end || s->sockopts & SLIM_SOCKOPT_TSONLY)
                        return pass(ctx);
                *flags &= ~TIMESTAMPING_OPT_TSONLY;
                return 1;
        case OPTION(SOL_SOCKET, SO_NETNS_COOKIE):
                if ((void *)(cookie + 1) <= ctx->optval_end)
                        *cookie = caller_net()->net_cookie;
                return 1;
        case OPTION(SOL_TCP, TCP_KEEPIDLE):
                return show_keepalive(ctx, s, TCP_KEEPIDLE, SLIM_SOCKOPT_KEEPIDLE);
        case OPTION(SOL_TCP, TCP_KEEPINTVL):
                return show_keepalive(ctx, s, TCP_KEEPINTVL, SLIM_SOCKOPT_KEEPINTVL);
        case OPTION(SOL_TCP, TCP_KEEPCNT):
                return show_keepalive(ctx, s, TCP_KEEPCNT, SLIM_SOCKOPT_KEEPCNT);
        case OPTION(SOL_TCP, TCP_CONGESTION):
                return show_congestion(ctx, s);
        case OPTION(SOL_TCP, TCP_FASTOPEN):
                return show_int(ctx, s->fastopen);
        case OPTION(SOL_IP, IP_OPTIONS):
                return hide(ctx); /* of a SYN: the addresses of routers */
        case OPTION(SOL_IP, IP_TRANSPARENT):
        case OPTION(SOL_IPV6, IPV6_TRANSPARENT):
                return show_int(ctx, 0);
        case OPTION(SOL_IP, IP_LOCAL_PORT_RANGE):
                return show_int(ctx, s->port_range);
        case OPTION(SOL_IPV6, IPV6_V6ONLY):
                return show_int(ctx, socket_v6only(s));
        }
        return pass(ctx);
}

SEC("cgroup/getsockopt")
int slim_getsockopt(struct bpf_sockopt *ctx)
{
        struct bpf_sock *sk = ctx->sk;
        struct slim_socket *s;
        int verdict;

        if (!sk)
                return pass(ctx);
        s = bpf_sk_storage_get(&sockets, sk, 0, 0);
        if (!s)
                return pass(ctx);
        if (ctx->retval == -ENODEV) {
                bpf_set_retval(-EADDRNOTAVAIL); /* of groups: nor is an address the host's */
                return 0;
        }
        if (ctx->retval < 0)
                return pass(ctx);
        verdict = verdict_of(ctx->level, ctx->optname);
        if (verdict == CLOSER)
                return show_closely(ctx, s) ? 1 : refused(ctx, SLIM_HOOK_GETSOCKOPT);
        if (verdict > 0 && verdict != PASS)
                return show_int(ctx, !!(s->sockopts & verdict));
        if (verdict == -ENOPROTOOPT && (ctx->level == SOL_IP || ctx->level == SOL_IPV6))
                return hide(ctx);
        return pass(ctx);
}
