/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/getsockname4|6 and getpeername4|6: what does a container's socket call itself and its
 * peer?
 *
 * Run in inet_getname() after the kernel has filled in the host's addresses; accept()'s address
 * comes through getpeername too. Loopback addresses are real ones already, only their ports are
 * virtual. A peer outside every overlay is shown as it is.
 */
#include "addr.h"

#define AF_INET 2

/* A client of a published port came to one of the host's addresses, its loopback's maybe. The
 * container's own is shown, of the client's family if there is one. */
static __always_inline union slim_addr published_name(const struct slim_socket *s,
                                                      const union slim_addr *host)
{
        enum slim_family family = addr_family(host);

        if (!addr_is_none(addr_of(s->addr, family)))
                return *addr_of(s->addr, family);
        if (family == SLIM_V4)
                return addr_v4(0); /* an IPv4 socket has no other */
        return addr_is_none(addr_of(s->addr, SLIM_V4)) ? addr_v6(0, 0, 0, 0)
                                                       : *addr_of(s->addr, SLIM_V4);
}

/*
 * Overwrites what the kernel found; false: the socket is nobody's or has no name yet. Bound is what
 * the table says, since the kernel has no port before connect() or listen(). For the rest the port
 * found tells, as the kernel gives up its own number of it (src_port) when a peer resets a
 * connection.
 */
static __always_inline bool local_name(struct bpf_sock_addr *ctx, union slim_addr *addr,
                                       __u16 *port)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);

        if (!s || (!*port && !s->bound_port && !(s->bind_flags & SLIM_BIND_NO_PORT)))
                return false;
        if (s->is_host && s->peer_kind != SLIM_PEER_OVERLAY)
                return false;
        if (s->peer_kind == SLIM_PEER_PLAIN && ctx->sk->dst_port)
                return false; /* by VXLAN: the names are real */
        if (s->bound_port)
                *port = s->bound_port;
        if (!addr_is_any(&s->bound_addr))
                *addr = s->bound_addr; /* whatever it connects to from there */
        else if (s->bind_flags & SLIM_BIND_FAILED)
                *addr = ctx->family == AF_INET ? addr_v4(0) : addr_v6(0, 0, 0, 0);
        else if (s->accepted && s->peer_kind == SLIM_PEER_OUTSIDE)
                *addr = published_name(s, addr);
        else if (s->peer_kind == SLIM_PEER_OVERLAY && ctx->sk->dst_port)
                /* the wire may be of the other family */
                *addr = *addr_of(s->addr, addr_family(&s->peer_addr));
        else if (!addr_is_any(addr) && !addr_is_loopback(addr))
                *addr = *addr_of(s->addr, addr_family(addr));
        return true;
}

static __always_inline bool peer_name(struct bpf_sock_addr *ctx, union slim_addr *addr, __u16 *port)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);

        if (!s)
                return false;
        if (s->accepted && s->peer_kind == SLIM_PEER_NONE) {
                /* Its SYN was pushed out of the map by a flood: say nothing rather than the host's.
                 */
                *addr = addr_is_v4(addr) ? addr_v4(0) : addr_v6(0, 0, 0, 0);
                *port = 0;
                return true;
        }
        if (s->peer_kind != SLIM_PEER_OVERLAY && s->peer_kind != SLIM_PEER_LOOPBACK)
                return false;
        if (s->peer_kind == SLIM_PEER_OVERLAY)
                *addr = s->peer_addr;
        *port = s->peer_port;
        return true;
}

static __always_inline int name4(struct bpf_sock_addr *ctx, bool peer)
{
        union slim_addr addr = addr_v4(ctx->user_ip4);
        __u16 port = bpf_ntohs(ctx->user_port);

        if (peer ? peer_name(ctx, &addr, &port) : local_name(ctx, &addr, &port)) {
                ctx->user_ip4 = addr.w[3];
                ctx->user_port = bpf_htons(port);
        }
        return 1;
}

static __always_inline int name6(struct bpf_sock_addr *ctx, bool peer)
{
        union slim_addr addr =
            addr_v6(ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]);
        __u16 port = bpf_ntohs(ctx->user_port);

        if (peer ? peer_name(ctx, &addr, &port) : local_name(ctx, &addr, &port)) {
                ctx->user_ip6[0] = addr.w[0];
                ctx->user_ip6[1] = addr.w[1];
                ctx->user_ip6[2] = addr.w[2];
                ctx->user_ip6[3] = addr.w[3];
                ctx->user_port = bpf_htons(port);
        }
        return 1;
}

SEC("cgroup/getsockname4")
int slim_getsockname4(struct bpf_sock_addr *ctx)
{
        return name4(ctx, false);
}

SEC("cgroup/getpeername4")
int slim_getpeername4(struct bpf_sock_addr *ctx)
{
        return name4(ctx, true);
}

SEC("cgroup/getsockname6")
int slim_getsockname6(struct bpf_sock_addr *ctx)
{
        return name6(ctx, false);
}

SEC("cgroup/getpeername6")
int slim_getpeername6(struct bpf_sock_addr *ctx)
{
        return name6(ctx, true);
}
