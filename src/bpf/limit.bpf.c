/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc programs of bandwidth limits and traffic classes, for swapped sockets. They are attached while
 * an endpoint of this host has one of either, and not otherwise.
 *
 *   slim_limit_out   egress of the underlay device and of lo: what an endpoint's socket sends
 *   slim_limit_in    their ingress, before slim_ingress: what such a socket is to have
 *   slim_limited     ingress of the limiter's far end: back to where it was
 *
 * What goes through the limiter on lo comes in without a route, as from a wire; slimd has lo accept
 * the host's own addresses as sources. A container's connections with itself are not limited, as
 * on its own loopback device. Not covered: SYNs on their way in, which have no socket yet, and
 * SYN-ACKs on their way out.
 */
#include "limit.h"
#include "packet-event.h"

#include <linux/tcp.h>

#define LOOPBACK_IFINDEX 1

/* A packet that cannot go on: a damaged one, or one whose class is nobody's any more. */
static __always_inline int lost(struct __sk_buff *skb)
{
        struct packet p = {};

        count(SLIM_REASON_LIMIT_LOST);
        if (event_wanted(SLIM_REASON_LIMIT_LOST)) {
                if (packet_read(skb, &p) != SLIM_REASON_NONE)
                        p = (struct packet){};
                slim_tell_packet(skb, &p, SLIM_HOOK_LIMIT, SLIM_REASON_LIMIT_LOST, 0);
        }
        return TC_ACT_SHOT;
}

static __always_inline const struct slim_limit *limit_of_socket(struct bpf_sock *sk)
{
        struct slim_socket *s;

        sk = bpf_sk_fullsock(sk);
        s = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : 0;
        if (!s || s->peer_kind == SLIM_PEER_LOOPBACK || s->peer_endpoint == s->endpoint)
                return 0;
        return limit_of(s->endpoint);
}

SEC("tc")
int slim_limit_out(struct __sk_buff *skb)
{
        enum slim_limit_stage stage = limit_stage(skb);
        struct bpf_sock *sk = skb->sk;
        const struct slim_limit *l;

        if (stage != SLIM_LIMIT_NONE)
                skb->mark = 0;
        l = sk ? limit_of_socket(sk) : 0;
        if (!l)
                return TC_ACT_UNSPEC;
        if (!set_class(skb, l))
                return lost(skb);
        if (stage != SLIM_LIMIT_NONE || !is_limited(l, SLIM_POLICY_EGRESS))
                return TC_ACT_UNSPEC;
        return limit(skb, l, SLIM_POLICY_EGRESS,
                     skb->ifindex == LOOPBACK_IFINDEX ? SLIM_LIMIT_OUT_LO : SLIM_LIMIT_OUT);
}

/* Of the socket that a TCP packet is for, if it has a connection. */
static __always_inline const struct slim_limit *limit_of_receiver(struct __sk_buff *skb)
{
        const struct slim_limit *l;
        struct packet p = {};
        struct bpf_sock *sk;
        struct tcphdr th;

        if (packet_read(skb, &p) != SLIM_REASON_NONE || p.protocol != IPPROTO_TCP || !p.whole ||
            packet_load(skb, p.transport, &th, sizeof(th)) < 0 || th.syn)
                return 0;
        sk = packet_socket(skb, &p, th.source, th.dest);
        if (!sk)
                return 0;
        l = limit_of_socket(sk);
        bpf_sk_release(sk);
        return l;
}

SEC("tc")
int slim_limit_in(struct __sk_buff *skb)
{
        enum slim_limit_stage stage = limit_stage(skb);
        const struct slim_limit *l;

        if (stage != SLIM_LIMIT_NONE)
                skb->mark = 0;
        if (stage == SLIM_LIMIT_IN || stage == SLIM_LIMIT_IN_LO)
                return TC_ACT_UNSPEC;
        l = limit_of_receiver(skb);
        if (!is_limited(l, SLIM_POLICY_INGRESS))
                return TC_ACT_UNSPEC;
        return limit(skb, l, SLIM_POLICY_INGRESS,
                     skb->ifindex == LOOPBACK_IFINDEX ? SLIM_LIMIT_IN_LO : SLIM_LIMIT_IN);
}

SEC("tc")
int slim_limited(struct __sk_buff *skb)
{
        const struct slim_endpoint *endpoint;

        switch (limit_stage(skb)) {
        case SLIM_LIMIT_OUT:
                return bpf_redirect(config.underlay_ifindex, 0);
        case SLIM_LIMIT_IN:
                return bpf_redirect(config.underlay_ifindex, BPF_F_INGRESS);
        case SLIM_LIMIT_OUT_LO:
        case SLIM_LIMIT_IN_LO:
                return bpf_redirect(LOOPBACK_IFINDEX, BPF_F_INGRESS);
        case SLIM_LIMIT_FROM:
                endpoint = limit_endpoint(skb);
                return endpoint ? bpf_redirect(endpoint->ifindex, BPF_F_INGRESS) : lost(skb);
        case SLIM_LIMIT_TO_VETH:
                endpoint = limit_endpoint(skb);
                return endpoint ? bpf_redirect_peer(endpoint->ifindex, 0) : lost(skb);
        case SLIM_LIMIT_TO:
                /* As if it had come from another host just now (slim_from_vxlan). */
                return bpf_redirect(config.vxlan_ifindex, BPF_F_INGRESS);
        default:
                return lost(skb);
        }
}
