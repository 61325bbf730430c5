/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc ingress and egress of a container's veth (the host's side) and of the VXLAN device: the path
 * of all that is not between swapped TCP sockets. No bridge, no flooding: the endpoints map is the
 * forwarding table.
 *
 *   from a container   its own source address, or drop; to an endpoint here: see below; to one
 *                      elsewhere: to the VXLAN device; to any other address: up to the host's
 *                      stack, which routes and masquerades, and answers "unreachable" for overlay
 *                      addresses that nobody in the container's network has; not VXLAN, which the
 *                      other hosts would take for this one's; to a link-local or
 *                      multicast address of IPv6: up, where it ends, as no router forwards it
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
 * Policies (flow.h) are asked where the endpoint is that has them: for what leaves a container, for
 * what is delivered to one, and for what the host itself sends. What one rejects becomes its own
 * answer (reject.h) and goes back the way that it came; but of what the host itself sends by VXLAN,
 * which connect.bpf.c has been asked about.
 *
 * IPv4, and IPv6 as far as packet.h understands it; what is not, is dropped and counted.
 */
#include "flow.h"
#include "limit.h"
#include "packet-event.h"
#include "reject.h"

#include <asm-generic/errno.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <linux/udp.h>

static __always_inline void tell(struct __sk_buff *skb, const struct packet *p, enum slim_hook hook,
                                 enum slim_reason reason, int error)
{
        count(reason);
        if (event_wanted(reason))
                slim_tell_packet(skb, p, hook, reason, error);
}

static __always_inline int drop(struct __sk_buff *skb, const struct packet *p, enum slim_hook hook,
                                enum slim_reason reason)
{
        tell(skb, p, hook, reason, 0);
        return TC_ACT_SHOT;
}

/* What Linux makes of the answer for the sender's socket. */
static __always_inline int error_of(const struct packet *p)
{
        if (p->protocol == IPPROTO_TCP)
                return ECONNREFUSED;
        return addr_is_v4(&p->from) ? EHOSTUNREACH : EACCES;
}

/* A policy's verdict on a packet is not that it may pass. */
static __always_inline int deny(struct __sk_buff *skb, const struct packet *p, enum slim_hook hook,
                                enum slim_reason reason, int verdict)
{
        bool rejects = verdict == SLIM_POLICY_REJECT && hook != SLIM_HOOK_TO_VXLAN;
        __u32 ifindex = skb->ifindex;

        tell(skb, p, hook, reason, rejects ? error_of(p) : 0);
        if (!rejects || !slim_reject(skb, p))
                return TC_ACT_SHOT;
        if (hook == SLIM_HOOK_TO_CONTAINER) {
                skb->mark = SLIM_MARK_REJECTED; /* as if the container had said it */
                return bpf_redirect(ifindex, BPF_F_INGRESS);
        }
        return ifindex == config.vxlan_ifindex ? bpf_redirect(ifindex, 0)
                                               : bpf_redirect_peer(ifindex, 0);
}

static __always_inline struct slim_endpoint *find(__u32 network, const union slim_addr *addr)
{
        struct slim_endpoint_key key = {.network = network, .addr = *addr};

        return bpf_map_lookup_elem(&endpoints, &key);
}

/* In which network is an address an overlay one? NULL: in none. */
static __always_inline __u32 *network_of(const union slim_addr *addr)
{
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = *addr};

        return bpf_map_lookup_elem(&prefixes, &prefix);
}

/* Is it for a host's VXLAN device? Masqueraded, it would come from this host. A fragment without
 * ports comes to nothing without the first one. */
static __always_inline bool is_vxlan(struct __sk_buff *skb, const struct packet *p)
{
        __be16 port;

        if (p->protocol != IPPROTO_UDP || !p->transport)
                return false;
        return packet_load(skb, p->transport + __builtin_offsetof(struct udphdr, dest), &port,
                           sizeof(port)) < 0 ||
               port == bpf_htons(SLIM_VXLAN_PORT);
}

/*
 * To the host's stack, which has a route to every container here, whatever its network. So what
 * goes to an overlay arrives there with its last hop behind it: the stack can answer it
 * (EHOSTUNREACH to the sender, by the unreachable route or by "time exceeded") and cannot forward
 * it.
 */
static __always_inline int to_stack(struct __sk_buff *skb, const struct packet *p)
{
        __u8 hops = 1, was;

        if (!network_of(&p->to))
                return is_vxlan(skb, p)
                           ? drop(skb, p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_FORGED)
                           : TC_ACT_OK;
        tell(skb, p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_NO_ENDPOINT, 0);
        if (addr_is_v4(&p->to)) {
                /* The checksum counts in words of two bytes: the hops, and the protocol. */
                if (packet_load(skb, __builtin_offsetof(struct iphdr, ttl), &was, 1) < 0 ||
                    bpf_l3_csum_replace(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, check),
                                        bpf_htons(was << 8 | p->protocol),
                                        bpf_htons(hops << 8 | p->protocol), 2) < 0 ||
                    bpf_skb_store_bytes(skb, ETH_HLEN + __builtin_offsetof(struct iphdr, ttl),
                                        &hops, 1, 0) < 0)
                        return TC_ACT_SHOT;
        } else if (bpf_skb_store_bytes(skb,
                                       ETH_HLEN + __builtin_offsetof(struct ipv6hdr, hop_limit),
                                       &hops, 1, 0) < 0) {
                return TC_ACT_SHOT;
        }
        return TC_ACT_OK;
}

/*
 * Does a swapped socket want this TCP packet? The lookup is the one that the stack would do, with
 * steer.bpf.c in it: a connection, or a listener of the packet's own destination.
 */
static __always_inline bool is_for_swapped(struct __sk_buff *skb, const struct packet *p)
{
        struct {
                __be16 source, dest;
        } ports;
        struct bpf_sock *sk;

        if (p->protocol != IPPROTO_TCP || !p->whole ||
            packet_load(skb, p->transport, &ports, sizeof(ports)) < 0)
                return false;
        sk = packet_socket(skb, p, ports.source, ports.dest);
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

static __always_inline int hand_over(struct __sk_buff *skb, const struct slim_endpoint *to,
                                     const struct packet *p)
{
        if ((to->flags & SLIM_ENDPOINT_HOST) ||
            ((to->flags & SLIM_ENDPOINT_SLIM) && is_for_swapped(skb, p)))
                return up(skb);
        /* The MAC address is nobody's; the kernel makes it PACKET_HOST (skb_scrub_packet()). */
        return bpf_redirect_peer(to->ifindex, 0);
}

/* To an endpoint that is here, from a device's ingress. */
static __always_inline int deliver(struct __sk_buff *skb, const struct slim_endpoint *to,
                                   const struct packet *p)
{
        int verdict = packet_verdict(skb, p, to, SLIM_POLICY_INGRESS);
        const struct slim_limit *l;

        if (verdict != SLIM_POLICY_ALLOWED)
                return deny(skb, p, SLIM_HOOK_DELIVER, SLIM_REASON_POLICY_INGRESS, verdict);
        l = limit_of(to->id);
        if (is_limited(l, SLIM_POLICY_INGRESS))
                return limit(skb, l, SLIM_POLICY_INGRESS, SLIM_LIMIT_TO);
        return hand_over(skb, to, p);
}

/*
 * What a container says on its link: to its gateway, which is this host, or to all on it. Its
 * source may be none that would give this host a neighbour for each packet.
 */
static __always_inline int on_link(struct __sk_buff *skb, const struct slim_device *from,
                                   const struct packet *p)
{
        static const union slim_addr own = {.b = SLIM_CONTAINER_LINK_LOCAL};
        union slim_addr link_local = addr_v6(own.w[0], own.w[1], own.w[2], own.w[3]);

        if (addr_is_none(addr_of(from->addr, SLIM_V6)) ||
            (!addr_equal(&p->from, addr_of(from->addr, SLIM_V6)) &&
             !addr_equal(&p->from, &link_local) && !addr_is_any6(&p->from)))
                return drop(skb, p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_SPOOFED);
        return TC_ACT_OK;
}

SEC("tc")
int slim_from_container(struct __sk_buff *skb)
{
        enum slim_limit_stage stage = limit_stage(skb);
        __u32 ifindex = skb->ifindex;
        struct slim_device *from = bpf_map_lookup_elem(&devices, &ifindex);
        bool rejected = skb->mark == SLIM_MARK_REJECTED;
        struct slim_endpoint *to, *own;
        const struct slim_limit *l;
        enum slim_reason reason;
        struct packet p = {};
        int verdict;

        if (!from)
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_NO_ENDPOINT);
        reason = packet_read(skb, &p);
        if (reason != SLIM_REASON_NONE)
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, reason);
        if (addr_is_scoped(&p.to))
                return on_link(skb, from, &p);
        /* A neighbour of another container it is not, whatever it says of its gateway. */
        if (is_discovery(skb, &p))
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_SPOOFED);
        if (addr_is_any6(&p.from) ||
            !addr_equal(&p.from, addr_of(from->addr, addr_family(&p.from))))
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_SPOOFED);
        own = find(from->network, &p.from);
        if (!own)
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_NO_ENDPOINT);
        to = find(from->network, &p.to);
        if (rejected || stage != SLIM_LIMIT_NONE)
                skb->mark = 0;
        if (rejected)
                return to && (to->flags & SLIM_ENDPOINT_LOCAL) ? hand_over(skb, to, &p)
                                                               : to_stack(skb, &p);
        l = limit_of(from->endpoint);
        if (l && !set_class(skb, l))
                return drop(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_BAD_PACKET);
        if (stage == SLIM_LIMIT_NONE && is_limited(l, SLIM_POLICY_EGRESS))
                return limit(skb, l, SLIM_POLICY_EGRESS, SLIM_LIMIT_FROM);
        verdict = packet_verdict(skb, &p, own, SLIM_POLICY_EGRESS);
        if (verdict != SLIM_POLICY_ALLOWED)
                return deny(skb, &p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_POLICY_EGRESS, verdict);
        if (!to)
                return to_stack(skb, &p);
        if (to->flags & SLIM_ENDPOINT_LOCAL)
                return deliver(skb, to, &p);
        return bpf_redirect(config.vxlan_ifindex, 0);
}

SEC("tc")
int slim_to_container(struct __sk_buff *skb)
{
        __u32 ifindex = skb->ifindex;
        struct slim_device *device = bpf_map_lookup_elem(&devices, &ifindex);
        struct slim_endpoint *from, *to;
        const struct slim_limit *l;
        enum slim_reason reason;
        struct packet p = {};
        int verdict;

        /* ARP is the host's own: nothing but IP is forwarded. */
        if (skb->protocol != bpf_htons(ETH_P_IP) && skb->protocol != bpf_htons(ETH_P_IPV6))
                return TC_ACT_OK;
        reason = packet_read(skb, &p);
        if (reason != SLIM_REASON_NONE)
                return skb->ingress_ifindex ? drop(skb, &p, SLIM_HOOK_TO_CONTAINER, reason)
                                            : TC_ACT_OK;
        if (skb->ingress_ifindex && network_of(&p.from))
                return drop(skb, &p, SLIM_HOOK_TO_CONTAINER, SLIM_REASON_ENCAP_SPOOFED);
        to = device ? find(device->network, &p.to) : 0;
        if (!to || (!skb->ingress_ifindex && is_discovery(skb, &p)))
                return TC_ACT_OK;
        from = skb->ingress_ifindex ? 0 : find(device->network, &p.from);
        verdict = from ? packet_verdict(skb, &p, from, SLIM_POLICY_EGRESS) : SLIM_POLICY_ALLOWED;
        if (verdict != SLIM_POLICY_ALLOWED)
                return deny(skb, &p, SLIM_HOOK_TO_CONTAINER, SLIM_REASON_POLICY_EGRESS, verdict);
        verdict = packet_verdict(skb, &p, to, SLIM_POLICY_INGRESS);
        if (verdict != SLIM_POLICY_ALLOWED)
                return deny(skb, &p, SLIM_HOOK_TO_CONTAINER, SLIM_REASON_POLICY_INGRESS, verdict);
        l = limit_of(to->id);
        return is_limited(l, SLIM_POLICY_INGRESS)
                   ? limit(skb, l, SLIM_POLICY_INGRESS, SLIM_LIMIT_TO_VETH)
                   : TC_ACT_OK;
}

/* The host that a packet came from by VXLAN. False: by no tunnel. */
static __always_inline bool tunnel_from(struct __sk_buff *skb, union slim_addr *host,
                                        __u32 *network)
{
        struct bpf_tunnel_key tunnel = {};

        if (bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), 0) == 0)
                *host = addr_v4(bpf_htonl(tunnel.remote_ipv4));
        else if (bpf_skb_get_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_TUNINFO_IPV6) == 0)
                *host = addr_v6(tunnel.remote_ipv6[0], tunnel.remote_ipv6[1], tunnel.remote_ipv6[2],
                                tunnel.remote_ipv6[3]);
        else
                return false;
        *network = tunnel.tunnel_id;
        return true;
}

/* What the limiter lets go: deliver() has been here before. */
static __always_inline int deliver_limited(struct __sk_buff *skb)
{
        const struct slim_endpoint *to = limit_endpoint(skb);
        enum slim_reason reason;
        struct packet p = {};

        skb->mark = 0;
        if (!to)
                return drop(skb, &p, SLIM_HOOK_TO_CONTAINER, SLIM_REASON_ENCAP_NO_ENDPOINT);
        reason = packet_read(skb, &p);
        return reason == SLIM_REASON_NONE ? hand_over(skb, to, &p)
                                          : drop(skb, &p, SLIM_HOOK_TO_CONTAINER, reason);
}

SEC("tc")
int slim_from_vxlan(struct __sk_buff *skb)
{
        struct slim_endpoint *from, *to;
        enum slim_reason reason;
        struct packet p = {};
        union slim_addr host;
        __u32 network;

        if (limit_stage(skb) == SLIM_LIMIT_TO)
                return deliver_limited(skb);
        if (!tunnel_from(skb, &host, &network))
                return drop(skb, &p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_BAD_PACKET);
        reason = packet_read(skb, &p);
        if (reason != SLIM_REASON_NONE)
                return drop(skb, &p, SLIM_HOOK_FROM_VXLAN, reason);
        if (!bpf_map_lookup_elem(&hosts, &host))
                return drop(skb, &p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_UNKNOWN_HOST);
        from = find(network, &p.from);
        if (!from || !addr_is_one_of(&host, from->host))
                return drop(skb, &p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_SPOOFED);
        to = find(network, &p.to);
        if (!to || !(to->flags & SLIM_ENDPOINT_LOCAL))
                return drop(skb, &p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_NO_ENDPOINT);
        return deliver(skb, to, &p);
}

/*
 * Sets where VXLAN takes the packet, and from which of this host's addresses, since that is what
 * the other host knows it by. By IPv4 if both have it, which takes 20 bytes less.
 */
static __always_inline bool tunnel_to(struct __sk_buff *skb, __u32 network,
                                      const struct slim_endpoint *from,
                                      const struct slim_endpoint *to)
{
        struct bpf_tunnel_key tunnel = {.tunnel_id = network, .tunnel_ttl = 64};
        const struct slim_limit *l = limit_of(from->id);

        /* Outside too; whatever a container chooses itself stays inside. */
        if (l && l->dscp != SLIM_NO_DSCP)
                tunnel.tunnel_tos = l->dscp << 2;

        if (!addr_is_none(&from->host[SLIM_V4]) && !addr_is_none(&to->host[SLIM_V4])) {
                tunnel.local_ipv4 = bpf_ntohl(from->host[SLIM_V4].w[3]);
                tunnel.remote_ipv4 = bpf_ntohl(to->host[SLIM_V4].w[3]);
                return bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_ZERO_CSUM_TX) ==
                       0;
        }
        if (addr_is_none(&from->host[SLIM_V6]) || addr_is_none(&to->host[SLIM_V6]))
                return false;
        __builtin_memcpy(tunnel.local_ipv6, &from->host[SLIM_V6], sizeof(tunnel.local_ipv6));
        __builtin_memcpy(tunnel.remote_ipv6, &to->host[SLIM_V6], sizeof(tunnel.remote_ipv6));
        /* With a checksum: without one the kernel takes no UDP over IPv6. */
        return bpf_skb_set_tunnel_key(skb, &tunnel, sizeof(tunnel), BPF_F_TUNINFO_IPV6) == 0;
}

/* A source address says whose packet it is: no two networks overlap, and slim_from_container() and
 * connect.bpf.c let nobody have another's. */
SEC("tc")
int slim_to_vxlan(struct __sk_buff *skb)
{
        struct slim_endpoint *from, *to;
        enum slim_reason reason;
        struct packet p = {};
        __u32 *network;
        int verdict;

        reason = packet_read(skb, &p);
        if (reason != SLIM_REASON_NONE)
                return drop(skb, &p, SLIM_HOOK_TO_VXLAN, reason);
        if (addr_is_scoped(&p.to))
                return TC_ACT_SHOT; /* the device's own: it is no link with neighbours */
        network = network_of(&p.from);
        from = network ? find(*network, &p.from) : 0;
        if (!from || !(from->flags & SLIM_ENDPOINT_LOCAL))
                return drop(skb, &p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_ENCAP_SPOOFED);
        to = find(*network, &p.to);
        if (!to || (to->flags & SLIM_ENDPOINT_LOCAL))
                return drop(skb, &p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_ENCAP_NO_ENDPOINT);
        /* What came out of a veth has been asked there. */
        verdict = skb->ingress_ifindex ? SLIM_POLICY_ALLOWED
                                       : packet_verdict(skb, &p, from, SLIM_POLICY_EGRESS);
        if (verdict != SLIM_POLICY_ALLOWED)
                return deny(skb, &p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_POLICY_EGRESS, verdict);
        return tunnel_to(skb, *network, from, to)
                   ? TC_ACT_OK
                   : drop(skb, &p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_ENCAP_NO_WAY);
}
