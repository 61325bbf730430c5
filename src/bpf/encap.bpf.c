/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc ingress and egress of a container's veth (the host's side), and ingress of the VXLAN device:
 * the path of all that is not a swapped TCP socket. No bridge, no flooding: the endpoints map is
 * the forwarding table.
 *
 *   from a container   its own source address, or drop; to an endpoint here: into its namespace;
 *                      to one elsewhere: into VXLAN, with the network's id, to its host; to any
 *                      other address: up to the host's stack, which routes and masquerades, and
 *                      answers "unreachable" for overlay addresses that nobody in the container's
 *                      network has
 *   to a container     by way of the host's stack (what comes by the two others passes it by): not
 *                      from an overlay address, which nobody outside has
 *   from VXLAN         sent by the host where the source endpoint lives, to an endpoint here, or
 *                      drop
 *
 * IPv4 only; every other protocol is dropped and counted.
 */
#include "addr.h"

#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/pkt_cls.h>

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

SEC("tc")
int slim_from_container(struct __sk_buff *skb)
{
        __u32 ifindex = skb->ifindex;
        struct slim_device *from = bpf_map_lookup_elem(&devices, &ifindex);
        struct bpf_tunnel_key tunnel = {};
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
                return bpf_redirect_peer(to->ifindex, 0);
        if (!addr_is_v4(&to->host))
                return drop(SLIM_REASON_ENCAP_NO_ENDPOINT);
        tunnel.tunnel_id = from->network;
        tunnel.remote_ipv4 = bpf_ntohl(to->host.w[3]);
        tunnel.tunnel_ttl = 64;
        if (bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_ZERO_CSUM_TX) < 0)
                return drop(SLIM_REASON_ENCAP_BAD_PACKET);
        return bpf_redirect(config.vxlan_ifindex, 0);
}

SEC("tc")
int slim_to_container(struct __sk_buff *skb)
{
        struct slim_prefix_key prefix = {.prefixlen = 128};
        struct iphdr ip;

        if (!load_ip(skb, &ip))
                return TC_ACT_OK; /* the host's own: nothing else is forwarded to the device */
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
        /* The inner MAC address is nobody's; the kernel makes it PACKET_HOST (skb_scrub_packet()).
         */
        return bpf_redirect_peer(to->ifindex, 0);
}
