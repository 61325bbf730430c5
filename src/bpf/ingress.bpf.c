/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * tc ingress of the underlay device and of lo: is this SYN to a Slim port what it says it is?
 *
 * Looks at TCP SYNs and at nothing else. Of those that are to no Slim port, it drops the ones to
 * published ports which a policy drops: steer.bpf.c asks too, and can only have them refused.
 * A SYN whose option is there, well-formed,
 * signed by the cluster key for this very packet, names a local endpoint of the client's own
 * network and is allowed by that one's policies leaves an entry for sk_lookup (steer.bpf.c) and for
 * accepted() (sockops.bpf.c), and goes up. Every other is dropped here and counted, but for two,
 * which are signed and whose entry has them refused: one that a policy rejects, and one to an
 * endpoint that is not here any more, which its host has not heard of yet.
 *
 * Reads from the network header, so the link layer does not matter. Not covered: a SYN in
 * fragments, and one behind extension headers of IPv6 that packet.h does not understand. It leaves
 * no entry, so that sk_lookup drops it.
 */
#include "event.h"
#include "option.h"
#include "packet.h"
#include "published.h"

#include <asm-generic/errno.h>
#include <linux/pkt_cls.h>
#include <linux/tcp.h>

#define AF_INET  2
#define AF_INET6 10

/* Where a SYN comes from and goes to, and where its TCP header begins. */
struct syn_packet {
        struct slim_tuple tuple;
        __u32 tcp_offset; /* from the network header */
        struct tcphdr th;
        __u32 client,
            server;   /* endpoints that its option names, once the MAC is known to be good */
        bool refused; /* it goes up to be answered with a reset */
};

static __always_inline bool is_syn(const struct tcphdr *th)
{
        return th->syn && !th->ack;
}

/* A TCP header behind extension headers: where, and what it says. */
static __always_inline bool find_behind(struct __sk_buff *skb, const struct ipv6hdr *ip,
                                        __u32 *offset, struct tcphdr *th)
{
        struct packet p = {};

        switch (ip->nexthdr) {
        case IPPROTO_HOPOPTS:
        case IPPROTO_DSTOPTS:
        case IPPROTO_ROUTING:
        case IPPROTO_FRAGMENT:
        case IPPROTO_AH:
                break;
        default:
                return false;
        }
        if (packet_read(skb, &p) != SLIM_REASON_NONE || p.protocol != IPPROTO_TCP || !p.whole)
                return false;
        *offset = p.transport;
        return packet_load(skb, p.transport, th, sizeof(*th)) == 0;
}

/* Is it a SYN? One call for an IPv4 packet without options, which most are. */
static __always_inline bool find_syn(struct __sk_buff *skb, struct syn_packet *p)
{
        if (skb->protocol == bpf_htons(ETH_P_IP)) {
                struct {
                        struct iphdr ip;
                        struct tcphdr th;
                } h;

                if (packet_load(skb, 0, &h, sizeof(h)) < 0 || h.ip.protocol != IPPROTO_TCP ||
                    (h.ip.frag_off & bpf_htons(IP_OFFSET)))
                        return false;
                p->tcp_offset = h.ip.ihl * 4;
                if (h.ip.ihl != 5 && packet_load(skb, p->tcp_offset, &h.th, sizeof(h.th)) < 0)
                        return false;
                if (!is_syn(&h.th))
                        return false;
                p->tuple.client_addr = addr_v4(h.ip.saddr);
                p->tuple.server_addr = addr_v4(h.ip.daddr);
                p->th = h.th;
                return true;
        }
        if (skb->protocol == bpf_htons(ETH_P_IPV6)) {
                struct {
                        struct ipv6hdr ip;
                        struct tcphdr th;
                } h;

                if (packet_load(skb, 0, &h, sizeof(h)) < 0)
                        return false;
                p->tcp_offset = sizeof(h.ip);
                if (h.ip.nexthdr != IPPROTO_TCP && !find_behind(skb, &h.ip, &p->tcp_offset, &h.th))
                        return false;
                if (!is_syn(&h.th))
                        return false;
                __builtin_memcpy(&p->tuple.client_addr, &h.ip.saddr, 16);
                __builtin_memcpy(&p->tuple.server_addr, &h.ip.daddr, 16);
                p->th = h.th;
                return true;
        }
        return false;
}

static __always_inline bool mac_is_good(const struct slim_option *o, const struct syn_packet *p)
{
#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_KEYS; i++) {
                __u32 index = i;
                struct slim_key *key = bpf_map_lookup_elem(&keys, &index);

                if (key && key->epoch &&
                    slim_option_mac(o, &p->tuple.client_addr, p->th.source, p->th.dest, p->th.seq,
                                    key->k) == o->mac)
                        return true;
        }
        return false;
}

static __always_inline int ingress(const struct slim_endpoint *server,
                                   const struct slim_endpoint *client, const struct slim_syn *syn)
{
        struct slim_policy_check check = {
            .subject = server->identity,
            .peer = client->identity,
            .addr = syn->client_addr,
            .port = syn->server_port,
            .direction = SLIM_POLICY_INGRESS,
            .protocol = IPPROTO_TCP,
        };

        return policy_verdict(&check);
}

/* SLIM_REASON_SYN_ACCEPTED, or why not. Fills *syn. */
static __always_inline enum slim_reason judge(const struct slim_option *o, struct syn_packet *p,
                                              struct slim_syn *syn)
{
        __u32 client_id = bpf_ntohl(o->client_endpoint), server_id = bpf_ntohl(o->server_endpoint);
        enum slim_family family = slim_option_family(o);
        struct slim_endpoint *client, *server;
        int verdict;

        if (!mac_is_good(o, p))
                return SLIM_REASON_SYN_BAD_MAC;
        p->client = client_id;
        p->server = server_id;
        server = bpf_map_lookup_elem(&identities, &server_id);
        if (!server || !(server->flags & SLIM_ENDPOINT_LOCAL))
                return SLIM_REASON_SYN_UNKNOWN_SERVER;
        client = bpf_map_lookup_elem(&identities, &client_id);
        if (!client)
                return SLIM_REASON_SYN_UNKNOWN_CLIENT;
        if (client->network != server->network)
                return SLIM_REASON_SYN_OTHER_NETWORK;
        syn->peer_kind = SLIM_PEER_OVERLAY;
        if (addr_is_loopback(&p->tuple.server_addr)) {
                /* The kernel lets these in on lo alone. */
                if (client_id != server_id)
                        return SLIM_REASON_SYN_UNKNOWN_CLIENT;
                syn->peer_kind = SLIM_PEER_LOOPBACK;
        } else if (addr_is_none(addr_of(server->addr, family))) {
                return SLIM_REASON_SYN_UNKNOWN_SERVER;
        } else if (addr_is_none(addr_of(client->addr, family))) {
                return SLIM_REASON_SYN_UNKNOWN_CLIENT;
        }
        syn->client_endpoint = client_id;
        syn->server_endpoint = server_id;
        syn->client_addr = *addr_of(client->addr, family);
        syn->client_port = bpf_ntohs(o->client_port);
        syn->server_port = bpf_ntohs(o->server_port);
        if (syn->peer_kind == SLIM_PEER_LOOPBACK)
                return SLIM_REASON_SYN_ACCEPTED;
        verdict = ingress(server, client, syn);
        if (verdict == SLIM_POLICY_ALLOWED)
                return SLIM_REASON_SYN_ACCEPTED;
        if (verdict == SLIM_POLICY_REJECT)
                syn->server_endpoint = 0;
        return SLIM_REASON_POLICY_INGRESS;
}

static __always_inline enum slim_reason check(struct __sk_buff *skb, struct syn_packet *p,
                                              struct slim_syn *syn)
{
        __u8 options[TCP_OPTIONS_MAX] = {};
        struct slim_option o;
        enum slim_reason reason;
        __u32 len;
        int at;

        if (p->th.doff < 5)
                return SLIM_REASON_SYN_BAD_OPTION;
        len = p->th.doff * 4 - sizeof(struct tcphdr);
        if (len < SLIM_OPTION_LEN)
                return SLIM_REASON_SYN_NO_OPTION;
        if (len > TCP_OPTIONS_MAX ||
            packet_load(skb, p->tcp_offset + sizeof(struct tcphdr), options, len) < 0)
                return SLIM_REASON_SYN_BAD_OPTION;
        at = slim_option_find(options, len);
        if (at < 0)
                return at == SLIM_OPTION_ABSENT ? SLIM_REASON_SYN_NO_OPTION
                                                : SLIM_REASON_SYN_BAD_OPTION;
        if (packet_load(skb, p->tcp_offset + sizeof(struct tcphdr) + at, &o, sizeof(o)) < 0)
                return SLIM_REASON_SYN_BAD_OPTION;
        reason = judge(&o, p, syn);
        p->refused = !syn->server_endpoint && (reason == SLIM_REASON_POLICY_INGRESS ||
                                               reason == SLIM_REASON_SYN_UNKNOWN_SERVER);
        if (reason != SLIM_REASON_SYN_ACCEPTED && !p->refused)
                return reason;
        p->tuple.client_port = bpf_ntohs(p->th.source);
        p->tuple.server_port = bpf_ntohs(p->th.dest);
        if (bpf_map_update_elem(&syns, &p->tuple, syn, BPF_ANY) < 0)
                return SLIM_REASON_STEER_NO_SYN;
        return reason;
}

/* Of a policy's denial between endpoints the overlay addresses are known, of all else those of the
 * wire. */
static __noinline int tell(const struct syn_packet *p, const struct slim_syn *syn,
                           enum slim_reason reason)
{
        struct slim_event e = {
            .from = p->tuple.client_addr,
            .to = p->tuple.server_addr,
            .from_port = bpf_ntohs(p->th.source),
            .to_port = bpf_ntohs(p->th.dest),
            .endpoint = p->server,
            .peer = p->client,
            .reason = reason,
            .hook = SLIM_HOOK_SYN,
            .protocol = IPPROTO_TCP,
            .error = p->refused ? ECONNREFUSED : 0,
        };
        __u32 id = p->server;
        struct slim_endpoint *server = bpf_map_lookup_elem(&identities, &id);

        if (server)
                e.network = server->network;
        if (server && syn->client_endpoint && reason == SLIM_REASON_POLICY_INGRESS) {
                e.from = syn->client_addr;
                e.to = *addr_of(server->addr, addr_family(&syn->client_addr));
                e.from_port = syn->client_port;
                e.to_port = syn->server_port;
        }
        event_send(&e);
        return 0;
}

/* Is it for this host, and not one that it forwards? */
static __always_inline bool is_for_host(struct __sk_buff *skb, const struct slim_tuple *t)
{
        struct bpf_fib_lookup fib = {.ifindex = skb->ifindex, .l4_protocol = IPPROTO_TCP};
        long r;

        if (addr_is_v4(&t->server_addr)) {
                fib.family = AF_INET;
                fib.ipv4_src = t->client_addr.w[3];
                fib.ipv4_dst = t->server_addr.w[3];
        } else {
                fib.family = AF_INET6;
                __builtin_memcpy(fib.ipv6_src, &t->client_addr, sizeof(fib.ipv6_src));
                __builtin_memcpy(fib.ipv6_dst, &t->server_addr, sizeof(fib.ipv6_dst));
        }
        r = bpf_fib_lookup(skb, &fib, sizeof(fib), 0);
        return r == BPF_FIB_LKUP_RET_NOT_FWDED || r == BPF_FIB_LKUP_RET_FWD_DISABLED;
}

/* A SYN to a published port: must it vanish? */
static __always_inline bool is_to_vanish(struct __sk_buff *skb, struct syn_packet *p)
{
        struct slim_published *published;

        p->tuple.client_port = bpf_ntohs(p->th.source);
        p->tuple.server_port = bpf_ntohs(p->th.dest);
        published = published_at(&p->tuple);
        if (!published || published_verdict(&p->tuple, published) != SLIM_POLICY_DROP ||
            !is_for_host(skb, &p->tuple))
                return false;
        p->server = published->endpoint;
        return true;
}

SEC("tc")
int slim_ingress(struct __sk_buff *skb)
{
        struct syn_packet p = {};
        struct slim_syn syn = {};
        enum slim_reason reason;

        if (!find_syn(skb, &p))
                return TC_ACT_UNSPEC;
        if (!is_slim_port(bpf_ntohs(p.th.dest))) {
                if (!is_to_vanish(skb, &p))
                        return TC_ACT_UNSPEC;
                count(SLIM_REASON_POLICY_INGRESS);
                if (event_wanted(SLIM_REASON_POLICY_INGRESS))
                        tell(&p, &syn, SLIM_REASON_POLICY_INGRESS);
                return TC_ACT_SHOT;
        }
        reason = check(skb, &p, &syn);
        count(reason);
        if (reason != SLIM_REASON_SYN_ACCEPTED && event_wanted(reason))
                tell(&p, &syn, reason);
        return reason == SLIM_REASON_SYN_ACCEPTED || p.refused ? TC_ACT_UNSPEC : TC_ACT_SHOT;
}
