/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/bind4 and bind6: may a container's socket have this local address and port?
 *
 * Runs in __inet_bind() before the kernel's own checks. The answer comes from the container's
 * table (ports.h); the kernel notes the wildcard address or, for a loopback address, that one, and
 * takes no host port before connect() or listen() (IP_BIND_ADDRESS_NO_PORT, set by the broker).
 * Port 0 picks a free virtual port here, as inet_csk_find_open_port() does, unless the program has
 * IP_BIND_ADDRESS_NO_PORT for itself: then there is an address alone. Privileged ports and the
 * range of automatic ones are the container's own.
 */
#include "event.h"
#include "ports.h"
#include "sysctl.h"

#include <asm-generic/errno.h>
#include <bpf/bpf_core_read.h>
#include <linux/in.h>

#define AF_UNSPEC 0
#define AF_INET   2
#define AF_INET6  10

static __always_inline struct bind_flags flags_of(const struct sock___slim *sk,
                                                  const struct slim_socket *s)
{
        struct bind_flags f = {
            .v6only = socket_v6only(s),
            .device = device_claims(s->device),
        };

        const struct sock_common___slim *sc = (const void *)sk;

        if (!sk)
                return f;
        f.uid = sk->sk_uid.val;
        f.reuse_addr = BPF_CORE_READ_BITFIELD(sc, skc_reuse);
        f.reuse_port = BPF_CORE_READ_BITFIELD(sc, skc_reuseport);
        return f;
}

/* What the kernel shall bind to: a wildcard of the same form, so that v4-mapped keeps its meaning;
 * a loopback address is that one. */
static __always_inline void to_host(union slim_addr *addr)
{
        if (addr_is_loopback(addr))
                return;
        if (addr_is_v4(addr))
                addr->w[3] = 0;
        else
                *addr = addr_v6(0, 0, 0, 0);
}

/* Did the kernel refuse the bind() before: to a loopback address that the host has not? */
static __always_inline bool was_refused(struct bpf_sock *sk, const struct slim_socket *s)
{
        __be32 v4 = sk->src_ip4;

        barrier_var(v4);
        if (!addr_is_loopback(&s->bound_addr))
                return false;
        return !(v4 | sk->src_ip6[0] | sk->src_ip6[1] | sk->src_ip6[2] | sk->src_ip6[3]);
}

static __noinline int tell(const struct slim_socket *s, const union slim_addr *addr, __u16 port,
                           enum slim_reason reason)
{
        struct slim_event e = {
            .from = *addr,
            .from_port = port,
            .endpoint = s->endpoint,
            .network = s->network,
            .reason = reason,
            .hook = SLIM_HOOK_BIND,
            .protocol = IPPROTO_TCP,
            .error = -bpf_get_retval(),
        };

        event_send(&e);
        return 0;
}

static __always_inline int refused(const struct slim_socket *s, const union slim_addr *addr,
                                   __u16 port, int error, enum slim_reason reason)
{
        refuse(error, reason);
        if (event_wanted(reason))
                tell(s, addr, port, reason);
        return 0;
}

/* 1: *addr is what the kernel shall bind to (port 0); 0: refused, with the errno set. */
static __always_inline int bind_to(struct bpf_sock_addr *ctx, struct slim_socket *s,
                                   union slim_addr *addr, __u16 port)
{
        struct bind_request q = {.endpoint = s->endpoint, .addr = *addr, .port = port};
        const struct net___slim *net = caller_net();
        struct sock___slim *sk = (void *)bpf_skc_to_tcp_sock(ctx->sk);
        bool held = s->owner || (s->bind_flags & SLIM_BIND_NO_PORT);
        bool bound = ctx->sk->src_port || ctx->sk->state != BPF_TCP_CLOSE ||
                     (held && !was_refused(ctx->sk, s));
        bool foreign =
            !addr_is_any(addr) && !addr_is_loopback(addr) && !addr_is_one_of(addr, s->addr);

        /* In the order of __inet_bind() and __inet6_bind(). */
        if (foreign && (!bound || ctx->family == AF_INET))
                return refused(s, addr, port, EADDRNOTAVAIL, SLIM_REASON_BIND_FOREIGN_ADDRESS);
        if (port && port < net->ipv4.sysctl_ip_prot_sock && !caller_may(net, CAP_NET_BIND_SERVICE))
                return refused(s, addr, port, EACCES, SLIM_REASON_BIND_PRIVILEGED);
        if (bound) {
                /* The kernel may not say so: it has no port before connect() or listen(). */
                bpf_set_retval(-EINVAL);
                return 0;
        }
        q.flags = flags_of(sk, s);
        if (ctx->family != AF_INET && addr_is_v4(addr) && q.flags.v6only) {
                bpf_set_retval(-EINVAL); /* as the kernel does, but before a port is taken */
                return 0;
        }
        if (s->owner)
                port_release(s);

        if (sk)
                apply_sysctls(ctx, sk, s);
        s->bind_flags &= ~SLIM_BIND_NO_PORT;
        if (!port && (s->sockopts & SLIM_SOCKOPT_NO_PORT)) {
                s->bind_flags |= SLIM_BIND_NO_PORT;
                s->bound_addr = *addr;
                to_host(addr);
                return 1;
        }
        q.range = narrow_range(net_range(net), s->port_range);
        port_bind(&q);
        if (q.binding < 0) {
                s->bind_flags |= SLIM_BIND_FAILED; /* the kernel forgets the address that was */
                s->bound_addr = addr_v6(0, 0, 0, 0);
                /* The kernel says the same when it has no memory for another port. */
                return refused(s, addr, port, EADDRINUSE,
                               q.no_room ? SLIM_REASON_BIND_LIMIT : SLIM_REASON_BIND_IN_USE);
        }
        port_hold(s, &q, bpf_get_socket_cookie(ctx));
        if (ctx->family == AF_INET6 && !addr_is_v4(addr) && !addr_is_any6(addr))
                s->sockopts |= SLIM_SOCKOPT_V6ONLY | SLIM_SOCKOPT_V6ONLY_SET; /* __inet6_bind() */
        to_host(addr);
        return 1;
}

SEC("cgroup/bind4")
int slim_bind4(struct bpf_sock_addr *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        union slim_addr addr = addr_v4(ctx->user_ip4);

        /* What the kernel refuses (EAFNOSUPPORT) is not to leave a binding. AF_UNSPEC it takes for
         * AF_INET if the address is 0.0.0.0. */
        if (!s || (ctx->user_family != AF_INET && (ctx->user_family != AF_UNSPEC || ctx->user_ip4)))
                return 1;
        if (!bind_to(ctx, s, &addr, bpf_ntohs(ctx->user_port)))
                return 0;
        ctx->user_ip4 = addr.w[3];
        ctx->user_port = 0;
        return 1;
}

SEC("cgroup/bind6")
int slim_bind6(struct bpf_sock_addr *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        union slim_addr addr =
            addr_v6(ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);

        if (!s || ctx->user_family != AF_INET6)
                return 1;
        if (!bind_to(ctx, s, &addr, bpf_ntohs(ctx->user_port)))
                return 0;
        ctx->user_ip6[0] = addr.w[0];
        ctx->user_ip6[1] = addr.w[1];
        ctx->user_ip6[2] = addr.w[2];
        ctx->user_ip6[3] = addr.w[3];
        ctx->user_port = 0;
        return 1;
}
