/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Bandwidth limits: how a packet is sent through the limiter, and traffic classes.
 *
 * The limiter is a veth pair of the host's own with an HTB qdisc on its near end, in which each
 * limited direction of each endpoint has a class. A program that sees a packet which is limited
 * redirects it there; when its class lets it go, the program at the far end (limit.bpf.c) has it go
 * on where it was. The packet keeps its socket on the way, so that TCP does not send more than
 * waits already (TCP small queues).
 */
#include "packet.h"

#include <linux/pkt_cls.h>

static __always_inline enum slim_limit_stage limit_stage(const struct __sk_buff *skb)
{
        if ((skb->mark & SLIM_LIMIT_MARK_MASK) != SLIM_LIMIT_MARK)
                return SLIM_LIMIT_NONE;
        return (skb->mark & SLIM_LIMIT_MARK_STAGE) >> 16;
}

static __always_inline const struct slim_limit *limit_of(__u32 endpoint)
{
        return bpf_map_lookup_elem(&limits, &endpoint);
}

static __always_inline bool is_limited(const struct slim_limit *l, __u8 direction)
{
        return l && l->class_minor[direction & 1];
}

/* To the limiter. The caller is_limited(). */
static __always_inline int limit(struct __sk_buff *skb, const struct slim_limit *l, __u8 direction,
                                 enum slim_limit_stage stage)
{
        __u32 minor = l->class_minor[direction & 1];

        skb->mark = SLIM_LIMIT_MARK | stage << 16 | minor;
        skb->priority = SLIM_LIMIT_HANDLE | minor;
        return bpf_redirect(l->ifindex, 0);
}

/* Of a packet that comes out of the limiter: whose it is. */
static __always_inline const struct slim_endpoint *limit_endpoint(const struct __sk_buff *skb)
{
        __u32 minor = skb->mark & 0xffff;
        __u32 *id = bpf_map_lookup_elem(&limit_classes, &minor);

        return id ? bpf_map_lookup_elem(&identities, id) : 0;
}

/*
 * The six bits of RFC 2474; those of ECN stay. The frame has an Ethernet header. False: the packet
 * is damaged.
 */
static __always_inline bool set_dscp(struct __sk_buff *skb, __u8 dscp)
{
        __u8 h[2];
        __be16 was, is;

        if (packet_load(skb, 0, h, sizeof(h)) < 0)
                return false;
        was = bpf_htons(h[0] << 8 | h[1]);
        if (skb->protocol == bpf_htons(ETH_P_IP)) {
                h[1] = dscp << 2 | (h[1] & 3);
        } else if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
                h[0] = (h[0] & 0xf0) | dscp >> 2;
                h[1] = (h[1] & 0x3f) | dscp << 6;
        } else {
                return true;
        }
        is = bpf_htons(h[0] << 8 | h[1]);
        if (is == was)
                return true;
        if (skb->protocol == bpf_htons(ETH_P_IP) &&
            bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check), was, is,
                                sizeof(is)) < 0)
                return false;
        return bpf_skb_store_bytes(skb, ETH_HLEN, h, sizeof(h), 0) == 0;
}

/* What an endpoint sends is of its class. False: the packet is damaged. */
static __always_inline bool set_class(struct __sk_buff *skb, const struct slim_limit *l)
{
        if (l->priority != SLIM_NO_PRIORITY)
                skb->priority = l->priority;
        return l->dscp == SLIM_NO_DSCP || set_dscp(skb, l->dscp);
}
