/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The answer to a packet that a policy rejects, made of the packet itself (reject.h).
 *
 * Checksums. The packet may be one whose checksum its sender has left to the device
 * (CHECKSUM_PARTIAL), and a program can neither see that nor change it. Such a device, or the
 * kernel instead of it, sums up all from the transport header on, and puts the complement where the
 * packet had its checksum; nobody does that to any other packet. Both have to come out right:
 *
 *   a reset    has the sum of the pseudo-header in its checksum, which is what a checksum that is
 *              still to be computed has there. Its window, which says nothing in a reset, is such
 *              that this is the right checksum, too; so what is put there is what was there.
 *   ICMPv6     of a UDP packet, whose checksum was in the last bytes of what ICMPv6 has unused:
 *              the same by the sum of the pseudo-header there.
 *   ICMP       has no pseudo-header: the complement of its sum is a zero of that arithmetic.
 *
 * SCTP's is another checksum, which would not come out right: nobody is told.
 */
#include "reject.h"

#include <linux/tcp.h>

#define HOPS 64

#define ICMP_ECHO                8
#define ICMP_UNREACHABLE         3
#define ICMP_PROHIBITED          13
#define ICMP6_ECHO               128
#define ICMP6_UNREACHABLE        1
#define ICMP6_PROHIBITED         1
#define ICMP_QUOTED_OF_TRANSPORT 8 /* bytes, as in RFC 792 */

struct icmp_header {
        __u8 type, code;
        __be16 sum;
        __be16 unused[2];
};

struct pseudo_header4 {
        __be32 from, to;
        __u8 zero, protocol;
        __be16 len;
};

struct pseudo_header6 {
        union slim_addr from, to;
        __be32 len;
        __u8 zero[3];
        __u8 next;
};

/* Of 16-bit words in the packet's own order; `len` is a constant that four divides. */
#define sum_of(what, len, seed) ((__u32)bpf_csum_diff(0, 0, (__be32 *)(what), (len), (seed)))

static __always_inline __u16 fold(__u32 sum)
{
        sum = (sum & 0xffff) + (sum >> 16);
        return (__u16)((sum & 0xffff) + (sum >> 16));
}

/* Of an answer to p, `len` bytes without the IP header. */
static __always_inline __u16 pseudo_sum(const struct packet *p, __u8 protocol, __u16 len)
{
        if (addr_is_v4(&p->from)) {
                struct pseudo_header4 h = {
                    .from = p->to.w[3],
                    .to = p->from.w[3],
                    .protocol = protocol,
                    .len = bpf_htons(len),
                };

                return fold(sum_of(&h, sizeof(h), 0));
        }

        struct pseudo_header6 h = {
            .from = p->to,
            .to = p->from,
            .len = bpf_htonl(len),
            .next = protocol,
        };

        return fold(sum_of(&h, sizeof(h), 0));
}

/* From a container, so that the host's stack takes it, and a VXLAN device does not take it for what
 * it has sent itself. */
static __always_inline bool turn_frame(struct __sk_buff *skb)
{
        struct {
                __u8 to[ETH_ALEN], from[ETH_ALEN];
        } macs = {.from = SLIM_CONTAINER_MAC};

        return bpf_skb_load_bytes(skb, ETH_ALEN, macs.to, sizeof(macs.to)) == 0 &&
               bpf_skb_store_bytes(skb, 0, &macs, sizeof(macs), 0) == 0;
}

/* The frame gets this length, and the headers below the transport's of an answer to p. */
static __always_inline bool begin(struct __sk_buff *skb, const struct packet *p, __u8 protocol,
                                  __u16 len)
{
        if (!turn_frame(skb))
                return false;
        if (addr_is_v4(&p->from)) {
                struct iphdr ip = {
                    .version = 4,
                    .ihl = 5,
                    .tot_len = bpf_htons(sizeof(ip) + len),
                    .frag_off = bpf_htons(0x4000), /* do not fragment */
                    .ttl = HOPS,
                    .protocol = protocol,
                    .saddr = p->to.w[3],
                    .daddr = p->from.w[3],
                };

                ip.check = ~fold(sum_of(&ip, sizeof(ip), 0));
                return bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ip) + len, 0) == 0 &&
                       bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip),
                                           BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) == 0;
        }

        struct ipv6hdr ip = {
            .version = 6,
            .payload_len = bpf_htons(len),
            .nexthdr = protocol,
            .hop_limit = HOPS,
        };

        __builtin_memcpy(&ip.saddr, &p->to, sizeof(ip.saddr));
        __builtin_memcpy(&ip.daddr, &p->from, sizeof(ip.daddr));
        return bpf_skb_change_tail(skb, ETH_HLEN + sizeof(ip) + len, 0) == 0 &&
               bpf_skb_store_bytes(skb, ETH_HLEN, &ip, sizeof(ip),
                                   BPF_F_RECOMPUTE_CSUM | BPF_F_INVALIDATE_HASH) == 0;
}

static __always_inline bool reset(struct __sk_buff *skb, const struct packet *p)
{
        struct tcphdr in, out = {.doff = sizeof(out) / 4, .rst = 1};
        __u16 pseudo = pseudo_sum(p, IPPROTO_TCP, sizeof(out));
        __u32 headers = ETH_HLEN + p->transport;

        if (packet_load(skb, p->transport, &in, sizeof(in)) < 0 || in.rst)
                return false;
        headers += in.doff * 4;
        if (in.doff < 5 || skb->len < headers)
                return false;
        out.source = in.dest;
        out.dest = in.source;
        if (in.ack) {
                out.seq = in.ack_seq;
        } else {
                out.ack = 1;
                out.ack_seq = bpf_htonl(bpf_ntohl(in.seq) + in.syn + in.fin + (skb->len - headers));
        }
        out.window = ~fold(2 * pseudo + fold(sum_of(&out, sizeof(out), 0)));
        out.check = pseudo;
        return begin(skb, p, IPPROTO_TCP, sizeof(out)) &&
               bpf_skb_store_bytes(skb, ETH_HLEN + p->transport, &out, sizeof(out),
                                   BPF_F_RECOMPUTE_CSUM) == 0;
}

static __always_inline bool prohibited4(struct __sk_buff *skb, const struct packet *p)
{
        struct {
                struct icmp_header icmp;
                __u8 quote[sizeof(struct iphdr) + ICMP_QUOTED_OF_TRANSPORT];
        } out = {.icmp = {.type = ICMP_UNREACHABLE, .code = ICMP_PROHIBITED}};

        if (packet_load(skb, 0, out.quote, sizeof(out.quote)) < 0)
                return false;
        out.icmp.sum = ~fold(sum_of(&out, sizeof(out), 0));
        return begin(skb, p, IPPROTO_ICMP, sizeof(out)) &&
               bpf_skb_store_bytes(skb, ETH_HLEN + p->transport, &out, sizeof(out),
                                   BPF_F_RECOMPUTE_CSUM) == 0;
}

static __always_inline bool prohibited6(struct __sk_buff *skb, const struct packet *p)
{
        struct {
                struct icmp_header icmp;
                __u8 quote[sizeof(struct ipv6hdr) + ICMP_QUOTED_OF_TRANSPORT];
        } out = {.icmp = {.type = ICMP6_UNREACHABLE, .code = ICMP6_PROHIBITED}};
        __u16 pseudo = pseudo_sum(p, IPPROTO_ICMPV6, sizeof(out));

        if (packet_load(skb, 0, out.quote, sizeof(out.quote)) < 0)
                return false;
        out.icmp.unused[1] = pseudo;
        out.icmp.sum = ~fold(sum_of(&out, sizeof(out), pseudo));
        return begin(skb, p, IPPROTO_ICMPV6, sizeof(out)) &&
               bpf_skb_store_bytes(skb, ETH_HLEN + p->transport, &out, sizeof(out),
                                   BPF_F_RECOMPUTE_CSUM) == 0;
}

/* Is it ICMP that has no answer? */
static __always_inline bool is_silent_icmp(struct __sk_buff *skb, const struct packet *p, bool v4)
{
        __u8 type;

        if (p->protocol != (v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
                return false;
        return packet_load(skb, p->transport, &type, sizeof(type)) < 0 ||
               type != (v4 ? ICMP_ECHO : ICMP6_ECHO);
}

__weak __noinline int slim_reject(struct __sk_buff *skb, const struct packet *p)
{
        bool v4;

        if (!p)
                return 0;
        v4 = addr_is_v4(&p->from);
        if (!p->whole || p->protocol == IPPROTO_SCTP ||
            p->transport != (v4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) ||
            is_silent_icmp(skb, p, v4))
                return 0;
        if (p->protocol == IPPROTO_TCP)
                return reset(skb, p);
        return v4 ? prohibited4(skb, p) : prohibited6(skb, p);
}
