/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * The event of a packet that the encapsulated path drops.
 */
#include "event.h"
#include "flow.h"

/* Is the sender who it says it is? */
static __always_inline bool has_sender(__u32 reason)
{
        return reason != SLIM_REASON_ENCAP_SPOOFED && reason != SLIM_REASON_ENCAP_UNKNOWN_HOST;
}

static __always_inline __u32 id_of(__u32 network, const union slim_addr *addr)
{
        struct slim_endpoint_key key = {.network = network, .addr = *addr};
        struct slim_endpoint *e = bpf_map_lookup_elem(&endpoints, &key);

        return e ? e->id : 0;
}

/* In which network a packet is that came from no container's device: no two of them overlap. */
static __always_inline __u32 network_by_addr(const struct packet *p)
{
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = p->to};
        __u32 *network = bpf_map_lookup_elem(&prefixes, &prefix);

        if (!network) {
                prefix.addr = p->from;
                network = bpf_map_lookup_elem(&prefixes, &prefix);
        }
        return network ? *network : 0;
}

/*
 * p: all zero where it could not be read. hook: enum slim_hook. error: what the sender is told, or
 * 0. It is the sender's business when the sender's policies deny it, or it is dropped on its way
 * out; otherwise the receiver's.
 */
__weak __noinline int slim_tell_packet(struct __sk_buff *skb, const struct packet *p, __u32 hook,
                                       __u32 reason, __u32 error)
{
        bool out = hook == SLIM_HOOK_FROM_CONTAINER || hook == SLIM_HOOK_TO_VXLAN ||
                   reason == SLIM_REASON_POLICY_EGRESS;
        struct slim_event e = {.hook = hook, .reason = reason, .error = error};
        __u32 ifindex = skb->ifindex, from = 0, to;
        struct slim_device *device = bpf_map_lookup_elem(&devices, &ifindex);
        struct ports ports;

        if (!p)
                return 0;
        e.from = p->from;
        e.to = p->to;
        e.protocol = p->protocol;
        if (has_ports(p->protocol) && p->transport &&
            packet_load(skb, p->transport, &ports, sizeof(ports)) == 0) {
                e.from_port = bpf_ntohs(ports.source);
                e.to_port = bpf_ntohs(ports.dest);
        }
        e.network = device ? device->network : network_by_addr(p);
        if (has_sender(reason))
                from = id_of(e.network, &p->from);
        if (device && hook == SLIM_HOOK_FROM_CONTAINER)
                from = device->endpoint; /* whatever it says */
        to = id_of(e.network, &p->to);
        e.endpoint = out ? from : to;
        e.peer = out ? to : from;
        event_send(&e);
        return 0;
}
