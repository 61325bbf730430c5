/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * What the options and the sysctls of a container's socket mean for its connect():
 *
 *   prepare_connect()   IPV6_V6ONLY and SO_BINDTODEVICE may refuse it; the container's sysctls are
 *                       applied; a port of the container's own range is taken, where that is not
 *                       the host's
 *   is_fast_open()      sendto(MSG_FASTOPEN), for which a SYN to a Slim port has no room
 *
 * This is on the way of every connect(): a few loads and comparisons, and no helper unless the
 * container has something of its own.
 */
#include "ports.h"
#include "sysctl.h"

#include <asm-generic/errno.h>

struct tcp_sock___slim {
        void *fastopen_req;
} __attribute__((preserve_access_index));

/* A virtual port as for bind() with port 0: bound at close, as every other. */
static __always_inline int take_port(struct bpf_sock_addr *ctx, struct slim_socket *s,
                                     const union slim_addr *local, __u32 range)
{
        struct bind_request q = {
            .endpoint = s->endpoint,
            .addr = *local,
            .range = range,
            .flags = {.uid = uid_of(ctx->sk), .device = device_claims(s->device)},
        };

        port_bind(&q);
        if (q.binding < 0)
                return EADDRNOTAVAIL;
        port_hold(s, &q, bpf_get_socket_cookie(ctx));
        return 0;
}

/* to: the address that the program gave, with loopback in place of a wildcard. 0 or an errno. */
static __always_inline int prepare_connect(struct bpf_sock_addr *ctx, struct slim_socket *s,
                                           const struct sock___slim *sk, const union slim_addr *to,
                                           bool v6)
{
        const struct net___slim *net = caller_net(), *host;
        __u32 range;

        if (v6 && addr_is_v4(to) && socket_v6only(s))
                return ENETUNREACH;
        if (s->device) {
                /* Natively a SYN leaves that nobody answers; the program hears of it sooner. */
                if ((s->device == LOOPBACK_IFINDEX) != addr_is_loopback(to))
                        return ETIMEDOUT;
        }
        if (!sk)
                return 0;
        host = sk->__sk_common.skc_net.net;
        if (net == host)
                return 0;
        apply_sysctls(ctx, sk, s);
        if (s->owner)
                return 0;
        range = narrow_range(net_range(net), s->port_range);
        if (range == net_range(host))
                return 0;
        return take_port(ctx, s, addr_is_loopback(to) ? to : addr_of(s->addr, addr_family(to)),
                         range);
}

static __always_inline bool is_fast_open(const struct sock___slim *sk)
{
        return sk && ((const struct tcp_sock___slim *)sk)->fastopen_req;
}
