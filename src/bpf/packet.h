/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * An IP packet as the tc programs see it: whose it is, for whom, and where its transport header
 * is.
 *
 *   packet_load()   reads bytes, from the network header on
 *   packet_read()   IPv4 or IPv6, or the reason why it cannot be told what the packet is
 *   packet_socket() the socket of this namespace that a TCP packet is for
 *
 * IPv6 may have extension headers in front of the transport header (RFC 8200, section 4). They are
 * walked: hop-by-hop options (first only), destination options, a routing header that has no
 * address left to visit, a fragment header, and authentication. At most PACKET_HEADERS of them. A
 * packet whose chain has any other, is longer, or does not end in a header of the list in
 * transport_size() is not understood.
 *
 * Fragments: the first one must have the whole chain and the transport header (RFC 7112), and is
 * judged by them. Later ones have nothing but addresses to be judged by; without the first they
 * come to nothing.
 */
#include "addr.h"

#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/in6.h>
#include <linux/ip.h>
#include <linux/ipv6.h>

#define PACKET_HEADERS 8

#define IP_MORE    0x2000 /* more fragments, */
#define IP_OFFSET  0x1fff /* and where this one belongs; of IPv4 */
#define IP6_MORE   0x0001 /* of the fragment header of IPv6 */
#define IP6_OFFSET 0xfff8

struct packet {
        union slim_addr from, to;
        __u32 transport; /* its header, from the network header; 0: a later fragment, has none */
        __u8 protocol;   /* what that is */
        bool whole;      /* no fragment */
};

static __always_inline int packet_load(struct __sk_buff *skb, __u32 offset, void *to, __u32 len)
{
        return bpf_skb_load_bytes_relative(skb, offset, to, len, BPF_HDR_START_NET);
}

/* The least that a transport header has, or -1: this ends no chain that is understood. */
static __always_inline int transport_size(__u8 protocol)
{
        switch (protocol) {
        case IPPROTO_TCP:
                return 20;
        case IPPROTO_UDP:
        case IPPROTO_UDPLITE:
                return 8;
        case IPPROTO_SCTP:
        case IPPROTO_DCCP:
                return 12;
        case IPPROTO_ICMPV6:
        case IPPROTO_GRE:
                return 4;
        case IPPROTO_ESP:
                return 8;
        case IPPROTO_IPIP:
                return 20;
        case IPPROTO_IPV6:
                return 40;
        case IPPROTO_NONE:
                return 0;
        default:
                return -1;
        }
}

/* The eight bytes that all extension headers have, and what some of them are to some. */
struct extension {
        __u8 next;
        __u8 len;
        union {
                __be16 fragment;
                struct {
                        __u8 type, left;
                } routing;
        };
        __u8 rest[4];
};

/* SLIM_REASON_NONE, and protocol, transport and whole are set; or why it is dropped. */
static __always_inline enum slim_reason packet_walk6(struct __sk_buff *skb,
                                                     const struct ipv6hdr *ip, struct packet *p)
{
        /* Nothing behind the payload counts: it is padding. */
        __u32 at = sizeof(*ip), end = sizeof(*ip) + bpf_ntohs(ip->payload_len);
        __u8 next = ip->nexthdr;

        p->whole = true;
        for (int i = 0; i <= PACKET_HEADERS; i++) {
                struct extension h;
                int size = transport_size(next);
                __u8 last;

                if (size >= 0) {
                        if (at + size > end)
                                return SLIM_REASON_ENCAP_BAD_PACKET;
                        /* All of it is there? */
                        if (size && packet_load(skb, at + size - 1, &last, 1) < 0)
                                return SLIM_REASON_ENCAP_BAD_PACKET;
                        p->protocol = next;
                        p->transport = at;
                        return SLIM_REASON_NONE;
                }
                if (at + sizeof(h) > end || packet_load(skb, at, &h, sizeof(h)) < 0)
                        return SLIM_REASON_ENCAP_BAD_HEADER;
                switch (next) {
                case IPPROTO_HOPOPTS:
                        if (i)
                                return SLIM_REASON_ENCAP_BAD_HEADER;
                        size = (h.len + 1) * 8;
                        break;
                case IPPROTO_DSTOPTS:
                        size = (h.len + 1) * 8;
                        break;
                case IPPROTO_ROUTING:
                        /* With an address left, the destination that is checked is not the last
                         * one. Type 0 is for nobody (RFC 5095). */
                        if (h.routing.left || !h.routing.type)
                                return SLIM_REASON_ENCAP_BAD_HEADER;
                        size = (h.len + 1) * 8;
                        break;
                case IPPROTO_FRAGMENT:
                        if (!p->whole)
                                return SLIM_REASON_ENCAP_BAD_HEADER;
                        if (h.fragment & bpf_htons(IP6_OFFSET)) {
                                p->whole = false;
                                p->protocol = h.next;
                                p->transport = 0;
                                return SLIM_REASON_NONE;
                        }
                        p->whole = !(h.fragment & bpf_htons(IP6_MORE));
                        size = 8;
                        break;
                case IPPROTO_AH:
                        size = (h.len + 2) * 4;
                        break;
                default:
                        return SLIM_REASON_ENCAP_BAD_HEADER;
                }
                at += size;
                next = h.next;
        }
        return SLIM_REASON_ENCAP_BAD_HEADER;
}

/*
 * SLIM_REASON_NONE, and all of *p is set; or why it is dropped.
 *
 * A global function: the verifier goes through it once, and not again in each of the states that a
 * walk can end in. (Weak, as each program that calls it brings its own copy to the linker.)
 */
__weak __noinline int packet_read(struct __sk_buff *skb, struct packet *p)
{
        if (!p)
                return SLIM_REASON_ENCAP_BAD_PACKET;
        if (skb->protocol == bpf_htons(ETH_P_IP)) {
                struct iphdr ip;

                if (packet_load(skb, 0, &ip, sizeof(ip)) < 0 || ip.version != 4)
                        return SLIM_REASON_ENCAP_BAD_PACKET;
                p->from = addr_v4(ip.saddr);
                p->to = addr_v4(ip.daddr);
                p->protocol = ip.protocol;
                p->transport = ip.frag_off & bpf_htons(IP_OFFSET) ? 0 : ip.ihl * 4;
                p->whole = !(ip.frag_off & bpf_htons(IP_OFFSET | IP_MORE));
                return SLIM_REASON_NONE;
        }
        if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
                struct ipv6hdr ip;

                if (packet_load(skb, 0, &ip, sizeof(ip)) < 0 || ip.version != 6)
                        return SLIM_REASON_ENCAP_BAD_PACKET;
                __builtin_memcpy(&p->from, &ip.saddr, sizeof(p->from));
                __builtin_memcpy(&p->to, &ip.daddr, sizeof(p->to));
                /* A v4-mapped address belongs into no packet, and is IPv4 to the maps. */
                if (addr_is_v4(&p->from) || addr_is_v4(&p->to))
                        return SLIM_REASON_ENCAP_BAD_PACKET;
                return packet_walk6(skb, &ip, p);
        }
        return SLIM_REASON_ENCAP_BAD_PACKET;
}

/*
 * Of a TCP packet that is no fragment, with the ports of its header: the lookup is the one that the
 * stack would do, with steer.bpf.c in it: a connection, or a listener of the packet's own
 * destination. The caller releases it. NULL: nobody's.
 */
static __always_inline struct bpf_sock *packet_socket(struct __sk_buff *skb, const struct packet *p,
                                                      __be16 source, __be16 dest)
{
        struct bpf_sock_tuple tuple = {};

        if (addr_is_v4(&p->to)) {
                tuple.ipv4.saddr = p->from.w[3];
                tuple.ipv4.daddr = p->to.w[3];
                tuple.ipv4.sport = source;
                tuple.ipv4.dport = dest;
                return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
        }
        __builtin_memcpy(tuple.ipv6.saddr, &p->from, sizeof(p->from));
        __builtin_memcpy(tuple.ipv6.daddr, &p->to, sizeof(p->to));
        tuple.ipv6.sport = source;
        tuple.ipv6.dport = dest;
        return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv6), BPF_F_CURRENT_NETNS, 0);
}
