/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc ingress and egress of a container's veth (the host's side) and of the VXLAN device: the path
 * of all that is not between swapped TCP sockets. No bridge, no flooding: the endpoints map is the
 * forwarding table.
 *
 *   from a container   its own source address, or drop; to an endpoint here: see below; to one
 *                      elsewhere: to the VXLAN device; to any other address: up to the host's
 *                      stack, which routes and masquerades, and answers "unreachable" for overlay
 *                      addresses that nobody in the container's network has
 *   to a container     by way of the host's stack: not from an overlay address, which nobody
 *                      outside has, unless the host itself sends it
 *   from VXLAN         sent by the host where the source endpoint lives, to an endpoint here, or
 *                      drop
 *   to VXLAN           of a container, of a swapped socket, or of the host's own: from an endpoint
 *                      that is here, to one that is not; the tunnel key says to which host
 *
 * "To an endpoint here" is its network namespace, but for two: the host's own endpoint is the
 * host's stack, and so is a Slim container as far as one of its swapped sockets wants the packet,
 * which makes plain and Slim containers reach each other by TCP.
 *
 * IPv4 only; every other protocol is dropped and counted.
 */
#include "addr.h"

#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

#define IP_FRAGMENT 0x3fff /* more of them, or an offset */

static __always_inline int drop(enum slim_reason reason)
{
        count(reason);
        return TC_ACT_SHOT;
}

static __always_inline bool load_ip(struct __sk_buff *skb, struct iphdr *ip)
{
        return skb->protocol == bpf_htons(ETH_P_IP) &&
               bpf_skb_load_bytes_relative(skb, 0, ip, sizeof(*ip), BPF_HDR_START_NET) == 0 &&
               ip->version == 4;
}

static __always_inline struct slim_endpoint *find(__u32 network, __be32 v4)
{
        struct slim_endpoint_key key = {.network = network, .addr = addr_v4(v4)};

        return bpf_map_lookup_elem(&endpoints, &key);
}

/*
 * To the host's stack, which has a route to every container here, whatever its network. So what
 * goes to an overlay arrives there with its last hop behind it: the stack can answer it
 * (EHOSTUNREACH to the sender, by the unreachable route or by "time exceeded") and cannot forward
 * it.
 */
static __always_inline int to_stack(struct __sk_buff *skb, const struct iphdr *ip)
{
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = addr_v4(ip->daddr)};
        /* The checksum counts in words of two bytes. */
        __be16 was = bpf_htons(ip->ttl << 8 | ip->protocol);
        __be16 last_hop = bpf_htons(1 << 8 | ip->protocol);

        if (!bpf_map_lookup_elem(&prefixes, &prefix))
                return TC_ACT_OK;
        count(SLIM_REASON_ENCAP_NO_ENDPOINT);
        if (bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, ttl), &last_hop,
                                sizeof(last_hop), 0) < 0 ||
            bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check), was,
                                last_hop, sizeof(last_hop)) < 0)
                return TC_ACT_SHOT;
        return TC_ACT_OK;
}

/*
 * Does a swapped socket want this TCP packet? The lookup is the one that the stack would do, with
 * steer.bpf.c in it: a connection, or a listener of the packet's own destination.
 */
static __always_inline bool is_for_swapped(struct __sk_buff *skb, const struct iphdr *ip)
{
        struct bpf_sock_tuple tuple = {};
        struct {
                __be16 source, dest;
        } ports;
        struct bpf_sock *sk;

        if (ip->protocol != IPPROTO_TCP || (ip->frag_off & bpf_htons(IP_FRAGMENT)) ||
            bpf_skb_load_bytes_relative(skb, ip->ihl * 4, &ports, sizeof(ports),
                                        BPF_HDR_START_NET) < 0)
                return false;
        tuple.ipv4.saddr = ip->saddr;
        tuple.ipv4.daddr = ip->daddr;
        tuple.ipv4.sport = ports.source;
        tuple.ipv4.dport = ports.dest;
        sk = bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
        if (!sk)
                return false;
        bpf_sk_release(sk);
        return true;
}

/* Up to the host's stack, whose routing takes what is marked for its own. */
static __always_inline int up(struct __sk_buff *skb)
{
        skb->mark = SLIM_MARK;
        bpf_skb_change_type(skb, PACKET_HOST);
        return TC_ACT_OK;
}

/* To an endpoint that is here, from a device's ingress. */
static __always_inline int deliver(struct __sk_buff *skb, const struct slim_endpoint *to,
                                   const struct iphdr *ip)
{
        if ((to->flags & SLIM_ENDPOINT_HOST) ||
            ((to->flags & SLIM_ENDPOINT_SLIM) && is_for_swapped(skb, ip)))
                return up(skb);
        /* The MAC address is nobody's; the kernel makes it PACKET_HOST (skb_scrub_packet()). */
        return bpf_redirect_peer(to->ifindex, 0);
}

SEC("tc")
int slim_from_container(struct __sk_buff *skb)
{
        __u32 ifindex = skb->ifindex;
        struct slim_device *from = bpf_map_lookup_elem(&devices, &ifindex);
        struct slim_endpoint *to;
        struct iphdr ip;

        if (!from)
                return drop(SLIM_REASON_ENCAP_NO_ENDPOINT);
        if (!load_ip(skb, &ip))
                return drop(SLIM_REASON_ENCAP_BAD_PACKET);
        if (!addr_is_v4(&from->addr) || ip.saddr != from->addr.w[3])
                return drop(SLIM_REASON_ENCAP_SPOOFED);
        to = find(from->network, ip.daddr);
        if (!to)
                return to_stack(skb, &ip);
        if (to->flags & SLIM_ENDPOINT_LOCAL)
                return deliver(skb, to, &ip);
        return bpf_redirect(config.vxlan_ifindex, 0);
}

SEC("tc")
int slim_to_container(struct __sk_buff *skb)
{
        struct slim_prefix_key prefix = {.prefixlen = 128};
        struct iphdr ip;

        /* The host's own: its processes', or swapped sockets'. Nothing but IP is forwarded. */
        if (!skb->ingress_ifindex || !load_ip(skb, &ip))
                return TC_ACT_OK;
        prefix.addr = addr_v4(ip.saddr);
        return bpf_map_lookup_elem(&prefixes, &prefix) ? drop(SLIM_REASON_ENCAP_SPOOFED)
                                                       : TC_ACT_OK;
}

SEC("tc")
int slim_from_vxlan(struct __sk_buff *skb)
{
        struct bpf_tunnel_key tunnel = {};
        struct slim_endpoint *from, *to;
        union slim_addr host;
        struct iphdr ip;

        if (bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0) < 0 || !load_ip(skb, &ip))
                return drop(SLIM_REASON_ENCAP_BAD_PACKET);
        host = addr_v4(bpf_htonl(tunnel.remote_ipv4));
        if (!bpf_map_lookup_elem(&hosts, &host))
                return drop(SLIM_REASON_ENCAP_UNKNOWN_HOST);
        from = find(tunnel.tunnel_id, ip.saddr);
        if (!from || !addr_equal(&from->host, &host))
                return drop(SLIM_REASON_ENCAP_SPOOFED);
        to = find(tunnel.tunnel_id, ip.daddr);
        if (!to || !(to->flags & SLIM_ENDPOINT_LOCAL))
                return drop(SLIM_REASON_ENCAP_NO_ENDPOINT);
        return deliver(skb, to, &ip);
}

/* A source address says whose packet it is: no two networks overlap, and slim_from_container() and
 * connect.bpf.c let nobody have another's. */
SEC("tc")
int slim_to_vxlan(struct __sk_buff *skb)
{
        struct slim_prefix_key prefix = {.prefixlen = 128};
        struct bpf_tunnel_key tunnel = {.tunnel_ttl = 64};
        struct slim_endpoint *from, *to;
        __u32 *network;
        struct iphdr ip;

        if (!load_ip(skb, &ip))
                return drop(SLIM_REASON_ENCAP_BAD_PACKET);
        prefix.addr = addr_v4(ip.saddr);
        network = bpf_map_lookup_elem(&prefixes, &prefix);
        from = network ? find(*network, ip.saddr) : 0;
        if (!from || !(from->flags & SLIM_ENDPOINT_LOCAL))
                return drop(SLIM_REASON_ENCAP_SPOOFED);
        to = find(*network, ip.daddr);
        if (!to || (to->flags & SLIM_ENDPOINT_LOCAL) || !addr_is_v4(&to->host))
                return drop(SLIM_REASON_ENCAP_NO_ENDPOINT);
        tunnel.tunnel_id = *network;
        tunnel.remote_ipv4 = bpf_ntohl(to->host.w[3]);
        if (bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_ZERO_CSUM_TX) < 0)
                return drop(SLIM_REASON_ENCAP_BAD_PACKET);
        return TC_ACT_OK;
}
