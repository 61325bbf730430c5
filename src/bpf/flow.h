/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Do policies let a packet of the encapsulated path pass?
 *
 * Policies speak of who begins. A packet is judged as if it did; one that may not is still an
 * answer if the flow that it answers was begun, not long ago, and may be begun now. So a flow is
 * remembered where a policy could deny its answers, and nowhere else: without policies it is one
 * lookup for a packet.
 *
 * An ICMP error is judged as what it complains of, going the other way, if it goes to who sent that
 * and comes from whom that was for; a host, or who is outside, may speak for others, as routers do.
 * Later fragments pass: they come to nothing without the first.
 */
#include "packet.h"
#include "policy.h"

#define NSEC_PER_SEC 1000000000ULL

/* How long the answer may take: what nf_conntrack gives to a UDP stream, and to TCP what middle
 * boxes have to (RFC 5382, REQ-5). */
#define FLOW_IDLE_NS     (180 * NSEC_PER_SEC)
#define FLOW_IDLE_TCP_NS (7440 * NSEC_PER_SEC)
#define FLOW_REFRESH_NS  NSEC_PER_SEC

/* Types of ICMP: of RFC 792, of RFC 4443, and those of RFC 4861. */
#define ICMP_ECHOREPLY     0
#define ICMP_DEST_UNREACH  3
#define ICMP_ECHO          8
#define ICMP_TIME_EXCEEDED 11
#define ICMP_PARAMETERPROB 12
#define ICMP6_UNREACHABLE  1
#define ICMP6_PARAMETER    4
#define ICMP6_ECHO         128
#define ICMP6_ECHO_REPLY   129
#define ICMP6_ND_FIRST     133 /* neighbour discovery */
#define ICMP6_ND_LAST      137

struct question {
        struct packet packet;
        __u32 network;
        __u32 identity; /* of the end that is here, */
        __u8 direction; /* … which has sent it (egress) or is to have it */
        __u8 pad[3];
};

struct ports {
        __be16 source, dest;
};

struct icmp_start {
        __u8 type, code;
        __be16 sum;
        __be16 id, sequence;
};

static __always_inline bool is_icmp(__u8 protocol, const union slim_addr *from)
{
        return protocol == (addr_is_v4(from) ? IPPROTO_ICMP : IPPROTO_ICMPV6);
}

static __always_inline bool is_icmp_error(const struct packet *p, __u8 type)
{
        if (addr_is_v4(&p->from))
                return type == ICMP_DEST_UNREACH || type == ICMP_TIME_EXCEEDED ||
                       type == ICMP_PARAMETERPROB;
        return type >= ICMP6_UNREACHABLE && type <= ICMP6_PARAMETER;
}

static __always_inline bool has_ports(__u8 protocol)
{
        return protocol == IPPROTO_TCP || protocol == IPPROTO_UDP || protocol == IPPROTO_UDPLITE ||
               protocol == IPPROTO_SCTP || protocol == IPPROTO_DCCP;
}

/* May the sender of an ICMP error say something of this flow, which is the other way round? */
static __always_inline bool may_complain(const struct question *q, const struct slim_flow_key *key)
{
        struct slim_endpoint_key at = {.network = q->network, .addr = q->packet.from};
        struct slim_endpoint *sender;

        if (!addr_equal(&key->to, &q->packet.to))
                return false;
        sender = bpf_map_lookup_elem(&endpoints, &at);
        return !sender || (sender->flags & SLIM_ENDPOINT_HOST) ||
               addr_equal(&key->from, &q->packet.from);
}

/* What an ICMP error complains of, turned round: what the one who sent the error could send. */
static __always_inline bool turn_round(struct __sk_buff *skb, const struct question *q,
                                       struct slim_flow_key *key)
{
        const struct packet *p = &q->packet;
        __u32 at = p->transport + 8, size;
        struct ports ports = {};

        if (addr_is_v4(&p->from)) {
                struct iphdr ip;

                if (packet_load(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 4 || ip.ihl < 5)
                        return false;
                key->from = addr_v4(ip.daddr);
                key->to = addr_v4(ip.saddr);
                key->protocol = ip.protocol;
                size = ip.ihl * 4;
        } else {
                struct ipv6hdr ip;

                if (packet_load(skb, at, &ip, sizeof(ip)) < 0 || ip.version != 6)
                        return false;
                __builtin_memcpy(&key->from, &ip.daddr, sizeof(key->from));
                __builtin_memcpy(&key->to, &ip.saddr, sizeof(key->to));
                key->protocol = ip.nexthdr;
                size = sizeof(ip);
        }
        if (!may_complain(q, key))
                return false;
        if (is_icmp(key->protocol, &key->from)) {
                struct icmp_start icmp;

                if (packet_load(skb, at + size, &icmp, sizeof(icmp)) < 0)
                        return false;
                if (icmp.type == ICMP_ECHO || icmp.type == ICMP6_ECHO) {
                        key->from_port = bpf_htons(ICMP_ECHO);
                        key->to_port = icmp.id;
                }
                return true;
        }
        if (!has_ports(key->protocol))
                return true;
        if (packet_load(skb, at + size, &ports, sizeof(ports)) < 0)
                return false;
        key->from_port = ports.dest;
        key->to_port = ports.source;
        return true;
}

/* The flow that a packet would begin. False: it has not even what one goes by. */
static __always_inline bool flow_of(struct __sk_buff *skb, const struct question *q,
                                    struct slim_flow_key *key)
{
        const struct packet *p = &q->packet;
        struct icmp_start icmp;
        struct ports ports;

        key->from = p->from;
        key->to = p->to;
        key->protocol = p->protocol;
        if (is_icmp(p->protocol, &p->from)) {
                if (packet_load(skb, p->transport, &icmp, sizeof(icmp)) < 0)
                        return false;
                if (is_icmp_error(p, icmp.type))
                        return turn_round(skb, q, key);
                if (icmp.type == ICMP_ECHO || icmp.type == ICMP6_ECHO) {
                        key->from_port = icmp.id;
                        key->to_port = bpf_htons(ICMP_ECHO);
                } else if (icmp.type == ICMP_ECHOREPLY || icmp.type == ICMP6_ECHO_REPLY) {
                        key->from_port = bpf_htons(ICMP_ECHO);
                        key->to_port = icmp.id;
                }
                return true;
        }
        if (has_ports(p->protocol)) {
                if (packet_load(skb, p->transport, &ports, sizeof(ports)) < 0)
                        return false;
                key->from_port = ports.source;
                key->to_port = ports.dest;
        }
        return true;
}

static __always_inline int judge_flow(const struct question *q, const struct slim_flow_key *key,
                                      __u8 direction)
{
        /* The peer of the end that is here: who it goes to, or comes from. */
        bool own_first = direction == SLIM_POLICY_EGRESS;
        struct slim_endpoint_key at = {.network = q->network};
        struct slim_policy_check check = {
            .subject = q->identity,
            .port = has_ports(key->protocol) ? bpf_ntohs(key->to_port) : 0,
            .direction = direction,
            .protocol = key->protocol,
        };
        struct slim_endpoint *peer;

        at.addr = own_first ? key->to : key->from;
        check.addr = at.addr;
        peer = bpf_map_lookup_elem(&endpoints, &at);
        if (peer)
                check.peer = peer->identity;
        return slim_policy_verdict(&check);
}

static __always_inline void remember(const struct slim_flow_key *key, const __u64 *seen)
{
        __u64 now = bpf_ktime_get_ns();

        if (!seen || now - *seen > FLOW_REFRESH_NS)
                bpf_map_update_elem(&flows, key, &now, BPF_ANY);
}

/* For a subject of policies: enum slim_policy_verdict. A global function for packet_read()'s
 * reasons. */
__weak __noinline int slim_judge_packet(struct __sk_buff *skb, const struct question *q)
{
        struct slim_flow_key key = {}, back = {};
        struct slim_policy_subject *subject;
        __u32 identity;
        __u64 *seen;
        int verdict;

        if (!q)
                return SLIM_POLICY_DROP;
        if (!q->packet.transport && q->packet.protocol != IPPROTO_NONE)
                return SLIM_POLICY_ALLOWED; /* a later fragment */
        if (!flow_of(skb, q, &key))
                return SLIM_POLICY_DROP;
        key.network = q->network;
        verdict = judge_flow(q, &key, q->direction);
        if (verdict == SLIM_POLICY_ALLOWED) {
                identity = q->identity;
                subject = bpf_map_lookup_elem(&policy_subjects, &identity);
                if (subject && (subject->flags >> (!q->direction) & SLIM_POLICY_SELECTED))
                        remember(&key, bpf_map_lookup_elem(&flows, &key));
                return SLIM_POLICY_ALLOWED;
        }
        back.from = key.to;
        back.to = key.from;
        back.from_port = key.to_port;
        back.to_port = key.from_port;
        back.network = key.network;
        back.protocol = key.protocol;
        seen = bpf_map_lookup_elem(&flows, &back);
        if (!seen ||
            bpf_ktime_get_ns() - *seen >
                (key.protocol == IPPROTO_TCP ? FLOW_IDLE_TCP_NS : FLOW_IDLE_NS) ||
            judge_flow(q, &back, !q->direction) != SLIM_POLICY_ALLOWED)
                return verdict;
        remember(&back, seen);
        return SLIM_POLICY_ALLOWED;
}

/* Neighbour discovery is between a container and this host. */
static __always_inline bool is_discovery(struct __sk_buff *skb, const struct packet *p)
{
        __u8 type;

        return p->protocol == IPPROTO_ICMPV6 && p->transport &&
               packet_load(skb, p->transport, &type, 1) == 0 && type >= ICMP6_ND_FIRST &&
               type <= ICMP6_ND_LAST;
}

/* own: the endpoint whose policies are asked, which is here. enum slim_policy_verdict. */
static __always_inline int packet_verdict(struct __sk_buff *skb, const struct packet *p,
                                          const struct slim_endpoint *own, __u8 direction)
{
        __u32 identity = own->identity;
        struct question q = {
            .packet = *p,
            .network = own->network,
            .identity = identity,
            .direction = direction,
        };

        if (!identity || !bpf_map_lookup_elem(&policy_subjects, &identity))
                return SLIM_POLICY_ALLOWED;
        return slim_judge_packet(skb, &q);
}
