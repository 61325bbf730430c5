/* SPDX-License-Identifier: Apache-2.0 */
#include "flood-packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <stdbool.h>
#include <string.h>

#include "basic/macro.h"

#define OPTIONS_MAX 40
#define HOPS        64

static const char *const names[] = {
    [FLOOD_NONE] = "none",   [FLOOD_RANDOM] = "random", [FLOOD_TRUNCATED] = "truncated",
    [FLOOD_VALID] = "valid", [FLOOD_PLAIN] = "plain",   [FLOOD_GARBAGE] = "garbage",
    [FLOOD_VXLAN] = "vxlan", [FLOOD_ICMP] = "icmp",
};
_Static_assert(ARRAY_SIZE(names) == FLOOD_KIND_MAX, "each kind has a name");

int flood_kind_find(const char *name)
{
        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcmp(names[i], name) == 0)
                        return (int)i;
        return -EINVAL;
}

const char *flood_kind_name(enum flood_kind kind)
{
        return names[kind];
}

/* Marsaglia's xorshift64, with a multiplication since its low bits are weak. */
static uint64_t draw(uint64_t *seed)
{
        *seed ^= *seed << 13;
        *seed ^= *seed >> 7;
        *seed ^= *seed << 17;
        return *seed * 0x2545f4914f6cdd1dULL >> 16;
}

static uint32_t draw_below(uint64_t *seed, uint32_t n)
{
        return (uint32_t)(draw(seed) % n);
}

static void draw_bytes(uint64_t *seed, uint8_t *to, size_t n)
{
        for (size_t i = 0; i < n; i++)
                to[i] = (uint8_t)draw(seed);
}

/* One of a prefix's addresses; of more than 2^32 one that differs from its first in four bytes. */
static union slim_addr draw_address(uint64_t *seed, const struct inaddr_prefix *p)
{
        uint32_t host = 128U - p->bits;
        union slim_addr a = p->addr;

        if (host > 0)
                a.w[3] |= htonl((uint32_t)(draw(seed) & (host < 32 ? (1ULL << host) - 1 : ~0U)));
        return a;
}

/* The one's complement sum of an even number of bytes, in the machine's byte order (RFC 1071). */
static uint64_t sum(const void *data, size_t len, uint64_t start)
{
        const uint8_t *at = data;
        uint16_t word;

        for (; len > 0; len -= 2, at += 2) {
                memcpy(&word, at, 2);
                start += word;
        }
        return start;
}

static uint16_t fold(uint64_t total)
{
        while (total >> 16)
                total = (total & 0xffff) + (total >> 16);
        return (uint16_t)~total;
}

/* Of a transport header of an even length at `at`, with its pseudo header. */
static uint16_t checksum(const union slim_addr *from, const union slim_addr *to, uint8_t protocol,
                         const void *at, size_t len)
{
        uint64_t total = sum(from, sizeof(*from), 0) + sum(to, sizeof(*to), 0);

        /* The mapped addresses' ffff is nothing to a one's complement sum. */
        return fold(sum(at, len, total + htons(protocol) + htons((uint16_t)len)));
}

/* An IP header in front of `payload` bytes; its length. */
static size_t put_ip(uint8_t *buf, const union slim_addr *from, const union slim_addr *to,
                     uint8_t protocol, size_t payload)
{
        if (inaddr_is_v4(to)) {
                struct iphdr ip = {
                    .version = 4,
                    .ihl = 5,
                    .tot_len = htons((uint16_t)(sizeof(ip) + payload)),
                    .frag_off = htons(IP_DF),
                    .ttl = HOPS,
                    .protocol = protocol,
                    .saddr = from->w[3],
                    .daddr = to->w[3],
                };

                ip.check = fold(sum(&ip, sizeof(ip), 0));
                memcpy(buf, &ip, sizeof(ip));
                return sizeof(ip);
        }

        struct ip6_hdr ip6 = {
            .ip6_flow = htonl(6U << 28),
            .ip6_plen = htons((uint16_t)payload),
            .ip6_nxt = protocol,
            .ip6_hops = HOPS,
        };

        memcpy(&ip6.ip6_src, from, sizeof(ip6.ip6_src));
        memcpy(&ip6.ip6_dst, to, sizeof(ip6.ip6_dst));
        memcpy(buf, &ip6, sizeof(ip6));
        return sizeof(ip6);
}

/* --- SYNs ------------------------------------------------------------------------------------- */

static size_t slim_option(const struct flood *f, uint64_t *seed, uint8_t *options)
{
        struct slim_option o = {
            .kind = SLIM_OPTION_KIND,
            .len = SLIM_OPTION_LEN,
            .exid = htons(inaddr_is_v4(&f->to) ? SLIM_OPTION_EXID : SLIM_OPTION_EXID6),
            .client_endpoint = htonl(f->client),
            .client_port = (uint16_t)draw(seed),
            .server_port = (uint16_t)draw(seed),
            .server_endpoint = htonl(f->server),
            .mac = (uint32_t)draw(seed),
        };

        memcpy(options, &o, sizeof(o));
        return sizeof(o);
}

/* As long as the Slim option at least: what is shorter cannot have one. */
static size_t truncated_option(const struct flood *f, uint64_t *seed, uint8_t *options)
{
        uint32_t cut = 4 + draw_below(seed, SLIM_OPTION_LEN - 4); /* bytes that are left of it */
        uint8_t whole[OPTIONS_MAX];

        slim_option(f, seed, whole);
        memset(options, TCPOPT_NOP, OPTIONS_MAX);
        if (draw(seed) & 1) { /* the header ends in it */
                memcpy(options + OPTIONS_MAX - cut, whole, cut);
        } else {
                whole[1] = (uint8_t)cut; /* it says that it is shorter than it is */
                memcpy(options, whole, SLIM_OPTION_LEN);
        }
        return OPTIONS_MAX;
}

/* In Linux's order: MSS, SACK permitted, timestamps, window scale. */
static size_t usual_options(uint64_t *seed, uint8_t *options)
{
        static const uint8_t usual[] = {TCPOPT_MAXSEG,
                                        TCPOLEN_MAXSEG,
                                        1460 >> 8,
                                        1460 & 0xff,
                                        TCPOPT_SACK_PERMITTED,
                                        TCPOLEN_SACK_PERMITTED,
                                        TCPOPT_TIMESTAMP,
                                        TCPOLEN_TIMESTAMP,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        0,
                                        TCPOPT_NOP,
                                        TCPOPT_WINDOW,
                                        TCPOLEN_WINDOW,
                                        7};

        memcpy(options, usual, sizeof(usual));
        draw_bytes(seed, options + 8, 4); /* the time stamp */
        return sizeof(usual);
}

static size_t put_options(const struct flood *f, uint64_t *seed, uint8_t *options)
{
        size_t len;

        switch (f->kind) {
        case FLOOD_RANDOM:
                len = 4UL * (1 + draw_below(seed, OPTIONS_MAX / 4));
                draw_bytes(seed, options, len);
                return len;
        case FLOOD_TRUNCATED:
                return truncated_option(f, seed, options);
        case FLOOD_VALID:
                len = usual_options(seed, options);
                return len + slim_option(f, seed, options + len);
        case FLOOD_PLAIN:
                return usual_options(seed, options);
        default:
                return 0;
        }
}

static size_t put_syn(const struct flood *f, uint64_t *seed, uint8_t *at,
                      const union slim_addr *from)
{
        size_t len = sizeof(struct tcphdr) + put_options(f, seed, at + sizeof(struct tcphdr));
        struct tcphdr th = {
            .source = htons((uint16_t)(1024 + draw_below(seed, 65536 - 1024))),
            .dest = htons((uint16_t)(f->port + draw_below(seed, f->ports))),
            .seq = (uint32_t)draw(seed),
            .doff = (uint16_t)(len / 4) & 15,
            .syn = 1,
            .window = htons(64240),
        };

        memcpy(at, &th, sizeof(th));
        th.check = checksum(from, &f->to, IPPROTO_TCP, at, len);
        memcpy(at, &th, sizeof(th));
        return len;
}

/* --- VXLAN ------------------------------------------------------------------------------------ */

/* A UDP header in front of `payload` bytes, which are there. */
static size_t put_udp(uint8_t *at, const union slim_addr *from, const union slim_addr *to,
                      uint16_t source, uint16_t dest, size_t payload)
{
        struct udphdr udp = {
            .source = htons(source),
            .dest = htons(dest),
            .len = htons((uint16_t)(sizeof(udp) + payload)),
        };

        memcpy(at, &udp, sizeof(udp));
        udp.check = checksum(from, to, IPPROTO_UDP, at, sizeof(udp) + payload) ?: 0xffff;
        memcpy(at, &udp, sizeof(udp));
        return sizeof(udp) + payload;
}

/* RFC 7348: flags, VNI, and an Ethernet frame. */
static size_t put_vxlan(const struct flood *f, uint64_t *seed, uint8_t *at)
{
        union slim_addr from = draw_address(seed, &f->inner), to = draw_address(seed, &f->inner);
        uint32_t head[2] = {htonl(0x08000000), htonl(f->network << 8)};
        const uint8_t frame[14] = {2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2};
        uint16_t type = htons(inaddr_is_v4(&to) ? 0x0800 : 0x86dd), source = (uint16_t)draw(seed);
        uint8_t *inner = at + sizeof(head) + sizeof(frame);
        size_t ip = put_ip(inner, &from, &to, IPPROTO_UDP, sizeof(struct udphdr));

        memcpy(at, head, sizeof(head));
        memcpy(at + sizeof(head), frame, sizeof(frame));
        memcpy(inner - sizeof(type), &type, sizeof(type));
        return sizeof(head) + sizeof(frame) + ip + put_udp(inner + ip, &from, &to, source, 53, 0);
}

static size_t put_to_vxlan(const struct flood *f, uint64_t *seed, uint8_t *at,
                           const union slim_addr *from)
{
        uint8_t *payload = at + sizeof(struct udphdr);
        size_t len = 2UL * (1 + draw_below(seed, 32));

        if (f->kind == FLOOD_VXLAN)
                len = put_vxlan(f, seed, payload);
        else
                draw_bytes(seed, payload, len);
        return put_udp(at, from, &f->to, (uint16_t)(1024 + draw_below(seed, 65536 - 1024)),
                       (uint16_t)(f->port + draw_below(seed, f->ports)), len);
}

/* --- ICMP errors ------------------------------------------------------------------------------ */

/* About a segment of `to`, from one of the ports to somebody: unreachable, too big, out of time. */
static size_t put_icmp(const struct flood *f, uint64_t *seed, uint8_t *at,
                       const union slim_addr *from)
{
        static const uint8_t errors[][2] = {{ICMP_DEST_UNREACH, ICMP_PORT_UNREACH},
                                            {ICMP_DEST_UNREACH, ICMP_FRAG_NEEDED},
                                            {ICMP_TIME_EXCEEDED, ICMP_EXC_TTL}},
                             errors6[][2] = {{ICMP6_DST_UNREACH, ICMP6_DST_UNREACH_NOPORT},
                                             {ICMP6_PACKET_TOO_BIG, 0},
                                             {ICMP6_TIME_EXCEEDED, ICMP6_TIME_EXCEED_TRANSIT}};
        bool v4 = inaddr_is_v4(&f->to);
        const uint8_t *error = (v4 ? errors : errors6)[draw_below(seed, ARRAY_SIZE(errors))];
        union slim_addr peer = draw_address(seed, &f->from);
        struct tcphdr th = {
            .source = htons((uint16_t)(f->port + draw_below(seed, f->ports))),
            .dest = htons((uint16_t)(1024 + draw_below(seed, 65536 - 1024))),
            .seq = (uint32_t)draw(seed),
            .doff = 5,
            .ack = 1,
        };
        uint8_t head[8] = {error[0], error[1]};
        const uint16_t mtu = htons(1280); /* in the last two bytes, for both families */
        size_t len = sizeof(head);
        uint16_t check;

        memcpy(head + 6, &mtu, sizeof(mtu));
        memcpy(at, head, sizeof(head));
        len += put_ip(at + len, &f->to, &peer, IPPROTO_TCP, sizeof(th));
        memcpy(at + len, &th, sizeof(th));
        len += sizeof(th);
        check = v4 ? fold(sum(at, len, 0)) : checksum(from, &f->to, IPPROTO_ICMPV6, at, len);
        memcpy(at + 2, &check, sizeof(check));
        return len;
}

size_t flood_packet(const struct flood *f, uint64_t *seed, uint8_t *buf)
{
        union slim_addr from = draw_address(seed, &f->from);
        bool v4 = inaddr_is_v4(&f->to);
        uint8_t *at = buf + (v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr));
        uint8_t protocol;
        size_t len;

        switch (f->kind) {
        case FLOOD_GARBAGE:
        case FLOOD_VXLAN:
                protocol = IPPROTO_UDP;
                len = put_to_vxlan(f, seed, at, &from);
                break;
        case FLOOD_ICMP:
                protocol = v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
                len = put_icmp(f, seed, at, &from);
                break;
        default:
                protocol = IPPROTO_TCP;
                len = put_syn(f, seed, at, &from);
        }
        return put_ip(buf, &from, &f->to, protocol, len) + len;
}
