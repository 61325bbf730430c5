/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/bind4 and bind6: may a container's socket have this local address and port?
 *
 * Runs in __inet_bind() before the kernel's own checks. The answer comes from the container's
 * table (ports.h); the kernel notes the wildcard address or, for a loopback address, that one, and
 * takes no host port before connect() or listen() (IP_BIND_ADDRESS_NO_PORT, set by the broker).
 * Port 0 picks a free virtual port here, as inet_csk_find_open_port() does.
 *
 * Not covered: the privileged-port check, which the kernel makes on the port that it sees (0).
 */
#include "ports.h"

#include <asm-generic/errno.h>
#include <bpf/bpf_core_read.h>

#define AF_INET 2

static __always_inline struct bind_flags flags_of(struct bpf_sock *sk)
{
        struct sock_common___slim *sc = (void *)bpf_skc_to_tcp_sock(sk);
        struct bind_flags f = {};

        if (!sc)
                return f;
        f.reuse_addr = BPF_CORE_READ_BITFIELD(sc, skc_reuse);
        f.reuse_port = BPF_CORE_READ_BITFIELD(sc, skc_reuseport);
        f.v6only = BPF_CORE_READ_BITFIELD(sc, skc_ipv6only);
        return f;
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

/* 1: *addr is what the kernel shall bind to (port 0); 0: refused, with the errno set. */
static __always_inline int bind_to(struct bpf_sock_addr *ctx, struct slim_socket *s,
                                   union slim_addr *addr, __u16 port)
{
        struct bind_request q = {.endpoint = s->endpoint, .addr = *addr, .port = port};
        bool bound = ctx->sk->src_port || ctx->sk->state != BPF_TCP_CLOSE ||
                     (s->owner && !was_refused(ctx->sk, s));
        bool foreign = !addr_is_any(addr) && !addr_is_loopback(addr) && !addr_equal(addr, &s->addr);

        /* In the order of __inet_bind() and __inet6_bind(). */
        if (foreign && (!bound || ctx->family == AF_INET))
                return refuse(EADDRNOTAVAIL, SLIM_REASON_BIND_FOREIGN_ADDRESS);
        if (bound) {
                /* The kernel may not say so: it has no port before connect() or listen(). */
                bpf_set_retval(-EINVAL);
                return 0;
        }
        q.flags = flags_of(ctx->sk);
        if (ctx->family != AF_INET && addr_is_v4(addr) && q.flags.v6only) {
                bpf_set_retval(-EINVAL); /* as the kernel does, but before a port is taken */
                return 0;
        }
        if (s->owner)
                port_release(s);

        port_bind(&q);
        if (q.binding < 0) {
                s->bind_flags |= SLIM_BIND_FAILED; /* the kernel forgets the address that was */
                s->bound_addr = addr_v6(0, 0, 0, 0);
                return refuse(EADDRINUSE, SLIM_REASON_BIND_IN_USE);
        }
        port_hold(s, &q, bpf_get_socket_cookie(ctx));
        if (!addr_is_loopback(addr)) {
                /* A wildcard of the same form, so that IPV6_V6ONLY and v4-mapped keep meaning. */
                if (addr_is_v4(addr))
                        addr->w[3] = 0;
                else
                        *addr = addr_v6(0, 0, 0, 0);
        }
        return 1;
}

SEC("cgroup/bind4")
int slim_bind4(struct bpf_sock_addr *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        union slim_addr addr = addr_v4(ctx->user_ip4);

        if (!s)
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

        if (!s)
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
