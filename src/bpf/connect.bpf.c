/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/connect4 and connect6: where does a container's connect() go?
 *
 * Runs in inet_stream_connect() before the kernel picks a route and a source. Sockets without a
 * slim_socket are not a container's and pass untouched. For the others:
 *
 *   127.0.0.0/8, ::1, 0.0.0.0, ::   this container: the address stays (so both ends see real
 *                                   loopback addresses), the port becomes a Slim port, and the
 *                                   SYN option says which endpoint is meant
 *   an endpoint's overlay address   its host, at a Slim port
 *   another overlay address         EHOSTUNREACH
 *   anything else                   untouched: the host's own stack reaches it
 *
 * Not covered: connect() with AF_UNSPEC does not come here, and needs nothing from here.
 */
#include "prepare.h"

#include <asm-generic/errno.h>

struct destination {
        union slim_addr addr;
        __u16 port;
};

/* 1: connect to *d, as rewritten; 0: refused, with the errno set. */
static __always_inline int find_way(struct slim_socket *s, struct destination *d)
{
        struct slim_endpoint_key key = {.network = s->network, .addr = d->addr};
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = d->addr};
        struct slim_endpoint *peer;
        __u16 port = d->port;

        if (addr_is_loopback(&d->addr)) {
                s->peer_kind = SLIM_PEER_LOOPBACK;
                s->peer_endpoint = s->endpoint;
                s->peer_port = port;
                d->port = slim_port_of(s->endpoint, port);
                return 1;
        }
        peer = bpf_map_lookup_elem(&endpoints, &key);
        if (peer) {
                if (!(peer->flags & SLIM_ENDPOINT_SLIM))
                        return refuse(EHOSTUNREACH, SLIM_REASON_CONNECT_PLAIN_ENDPOINT);
                s->peer_kind = SLIM_PEER_OVERLAY;
                s->peer_endpoint = peer->id;
                s->peer_addr = d->addr;
                s->peer_port = port;
                d->addr = peer->host;
                d->port = slim_port_of(peer->id, port);
                return 1;
        }
        if (bpf_map_lookup_elem(&prefixes, &prefix))
                return refuse(EHOSTUNREACH, SLIM_REASON_CONNECT_NO_ENDPOINT);
        s->peer_kind = SLIM_PEER_OUTSIDE;
        return 1;
}

static __always_inline int connect_to(struct bpf_sock_addr *ctx, struct slim_socket *s,
                                      struct destination *d, bool v6)
{
        struct sock___net *sk = (void *)bpf_skc_to_tcp_sock(ctx->sk);
        int r = prepare_connect(ctx, s, sk, &d->addr, v6);

        if (r)
                return refuse(r, SLIM_REASON_CONNECT_OPTION);
        if (!find_way(s, d))
                return 0;
        if (s->peer_kind != SLIM_PEER_OUTSIDE && is_fast_open(sk))
                return refuse(EOPNOTSUPP, SLIM_REASON_CONNECT_OPTION);
        return 1;
}

SEC("cgroup/connect4")
int slim_connect4(struct bpf_sock_addr *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        __be32 v4 = ctx->user_ip4 ?: bpf_htonl(0x7f000001); /* 0.0.0.0 is this host */
        struct destination d = {.addr = addr_v4(v4), .port = bpf_ntohs(ctx->user_port)};

        if (!s)
                return 1;
        if (!connect_to(ctx, s, &d, false))
                return 0;
        if (!addr_is_v4(&d.addr))
                return refuse(EHOSTUNREACH, SLIM_REASON_CONNECT_NO_ENDPOINT);
        ctx->user_ip4 = d.addr.w[3];
        ctx->user_port = bpf_htons(d.port);
        return 1;
}

SEC("cgroup/connect6")
int slim_connect6(struct bpf_sock_addr *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        struct destination d = {
            .addr = addr_v6(ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]),
            .port = bpf_ntohs(ctx->user_port),
        };

        if (!s)
                return 1;
        if (addr_is_any6(&d.addr))
                d.addr.w[3] = bpf_htonl(1);
        else if (addr_is_any4(&d.addr))
                d.addr.w[3] = bpf_htonl(0x7f000001);
        if (!connect_to(ctx, s, &d, true))
                return 0;
        ctx->user_ip6[0] = d.addr.w[0];
        ctx->user_ip6[1] = d.addr.w[1];
        ctx->user_ip6[2] = d.addr.w[2];
        ctx->user_ip6[3] = d.addr.w[3];
        ctx->user_port = bpf_htons(d.port);
        return 1;
}
