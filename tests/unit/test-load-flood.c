// SPDX-License-Identifier: Apache-2.0
/*
 * The packets of a flood are what their kind says, each of them: as the option's reference finds
 * it, with checksums that a host would take, and from and to where they were asked to be.
 */
#include "flood-packet.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "../bpf/reference.h"
#include "basic/macro.h"

#define PACKETS 5000

static const char *const targets[] = {"192.0.2.1", "2001:db8::1"};
static const char *const sources[] = {"198.18.0.0/15", "2001:db8:5::/64"};
static const char *const inners[] = {"10.77.0.0/16", "fd51:1e::/64"};

static struct flood flood_of(enum flood_kind kind, int family)
{
        struct flood f = {.kind = kind,
                          .port = 61440,
                          .ports = 256,
                          .client = 0x01020304,
                          .server = 0xa1b2c3d4,
                          .network = 0x0708};

        assert_int_equal(inaddr_parse(targets[family], &f.to), 0);
        assert_int_equal(inaddr_prefix_parse(sources[family], &f.from), 0);
        assert_int_equal(inaddr_prefix_parse(inners[family], &f.inner), 0);
        return f;
}

/* A packet that was taken apart. */
struct parts {
        union slim_addr from, to;
        uint8_t protocol;
        const uint8_t *payload;
        size_t len;
};

/* The one's complement sum of bytes, two at a time, in network byte order. */
static uint32_t add_up(const uint8_t *at, size_t len, uint32_t total)
{
        for (size_t i = 0; i < len; i++)
                total += i % 2 ? at[i] : (uint32_t)at[i] << 8;
        while (total >> 16)
                total = (total & 0xffff) + (total >> 16);
        return total;
}

static struct parts take_apart(const uint8_t *buf, size_t len)
{
        struct parts p = {};

        assert_in_range(len, sizeof(struct iphdr), FLOOD_PACKET_MAX);
        if (buf[0] >> 4 == 4) {
                struct iphdr ip;

                memcpy(&ip, buf, sizeof(ip));
                assert_int_equal(ip.ihl, 5);
                assert_int_equal(ntohs(ip.tot_len), len);
                assert_int_equal(add_up(buf, sizeof(ip), 0), 0xffff);
                p.from = inaddr_from_v4(ip.saddr);
                p.to = inaddr_from_v4(ip.daddr);
                p.protocol = ip.protocol;
                p.payload = buf + sizeof(ip);
        } else {
                struct ip6_hdr ip6;

                memcpy(&ip6, buf, sizeof(ip6));
                assert_int_equal(buf[0] >> 4, 6);
                assert_int_equal(ntohs(ip6.ip6_plen), len - sizeof(ip6));
                memcpy(&p.from, &ip6.ip6_src, sizeof(p.from));
                memcpy(&p.to, &ip6.ip6_dst, sizeof(p.to));
                p.protocol = ip6.ip6_nxt;
                p.payload = buf + sizeof(ip6);
        }
        p.len = len - (size_t)(p.payload - buf);
        return p;
}

/* Of a transport header, with the pseudo header of its family; of ICMP without one. */
static void assert_checksum(const struct parts *p)
{
        uint32_t total = 0;

        if (p->protocol != IPPROTO_ICMP) {
                if (inaddr_is_v4(&p->from))
                        total = add_up(p->from.b + 12, 4, add_up(p->to.b + 12, 4, 0));
                else
                        total = add_up(p->from.b, 16, add_up(p->to.b, 16, 0));
                total += p->protocol + (uint32_t)p->len;
        }
        assert_int_equal(add_up(p->payload, p->len, total), 0xffff);
}

static struct parts next(const struct flood *f, uint64_t *seed, uint8_t *buf)
{
        struct parts p = take_apart(buf, flood_packet(f, seed, buf));

        assert_true(inaddr_prefix_contains(&f->from, &p.from));
        assert_true(inaddr_equal(&f->to, &p.to));
        assert_checksum(&p);
        return p;
}

static void check_syn(const struct flood *f, const struct parts *p)
{
        size_t len = p->len - sizeof(struct tcphdr);
        const uint8_t *options = p->payload + sizeof(struct tcphdr);
        struct slim_option o;
        struct tcphdr th;
        int at = reference_find(options, len);

        memcpy(&th, p->payload, sizeof(th));
        assert_int_equal(p->protocol, IPPROTO_TCP);
        assert_true(th.syn && !th.ack && !th.rst);
        assert_int_equal(th.doff * 4, p->len);
        assert_in_range(ntohs(th.dest), f->port, f->port + f->ports - 1);
        switch (f->kind) {
        case FLOOD_NONE:
                assert_int_equal(len, 0);
                break;
        case FLOOD_RANDOM:
                assert_in_range(len, 4, 40);
                break;
        case FLOOD_TRUNCATED:
                assert_int_equal(at, REFERENCE_MALFORMED);
                assert_in_range(len, SLIM_OPTION_LEN, 40);
                break;
        case FLOOD_VALID:
                assert_true(at >= 0);
                memcpy(&o, options + at, sizeof(o));
                assert_int_equal(ntohl(o.client_endpoint), f->client);
                assert_int_equal(ntohl(o.server_endpoint), f->server);
                assert_int_equal(ntohs(o.exid), inaddr_is_v4(&f->to) ? 0x511e : 0x511f);
                break;
        default:
                assert_int_equal(at, REFERENCE_ABSENT);
                assert_int_equal(len, 20);
        }
}

static void test_syns(void **state)
{
        uint8_t buf[FLOOD_PACKET_MAX];

        for (int kind = FLOOD_NONE; kind <= FLOOD_PLAIN; kind++)
                for (int family = 0; family < 2; family++) {
                        struct flood f = flood_of((enum flood_kind)kind, family);
                        uint64_t seed = 1;

                        for (int i = 0; i < PACKETS; i++) {
                                struct parts p = next(&f, &seed, buf);

                                check_syn(&f, &p);
                        }
                }
}

static void test_vxlan(void **state)
{
        uint8_t buf[FLOOD_PACKET_MAX];

        for (int family = 0; family < 2; family++) {
                struct flood f = flood_of(FLOOD_VXLAN, family);
                uint64_t seed = 2;

                f.port = 4789;
                f.ports = 1;
                for (int i = 0; i < PACKETS; i++) {
                        struct parts p = next(&f, &seed, buf), inner;
                        const uint8_t *vxlan = p.payload + sizeof(struct udphdr);
                        static const uint8_t head[] = {8, 0, 0, 0, 0, 7, 8, 0};

                        assert_int_equal(p.protocol, IPPROTO_UDP);
                        assert_int_equal(p.payload[2] << 8 | p.payload[3], 4789);
                        assert_int_equal(p.payload[4] << 8 | p.payload[5], p.len);
                        assert_memory_equal(vxlan, head, sizeof(head));
                        inner = take_apart(vxlan + 8 + 14, p.len - sizeof(struct udphdr) - 8 - 14);
                        assert_true(inaddr_prefix_contains(&f.inner, &inner.from));
                        assert_true(inaddr_prefix_contains(&f.inner, &inner.to));
                        assert_checksum(&inner);
                }
        }
}

static void test_garbage(void **state)
{
        struct flood f = flood_of(FLOOD_GARBAGE, 0);
        uint8_t buf[FLOOD_PACKET_MAX];
        uint64_t seed = 3;

        for (int i = 0; i < PACKETS; i++)
                assert_in_range(next(&f, &seed, buf).len, sizeof(struct udphdr) + 2,
                                sizeof(struct udphdr) + 64);
}

static void test_icmp(void **state)
{
        uint8_t buf[FLOOD_PACKET_MAX];

        for (int family = 0; family < 2; family++) {
                struct flood f = flood_of(FLOOD_ICMP, family);
                unsigned int seen = 0;
                uint64_t seed = 4;

                for (int i = 0; i < PACKETS; i++) {
                        struct parts p = next(&f, &seed, buf);
                        struct parts quoted = take_apart(p.payload + 8, p.len - 8);

                        assert_int_equal(p.protocol, family ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
                        assert_true(inaddr_equal(&quoted.from, &f.to));
                        assert_int_equal(quoted.protocol, IPPROTO_TCP);
                        assert_in_range(quoted.payload[0] << 8 | quoted.payload[1], f.port,
                                        f.port + f.ports - 1);
                        seen |= 1U << p.payload[0];
                }
                /* Each of its three errors. */
                assert_int_equal(seen, family ? 1 << 1 | 1 << 2 | 1 << 3 : 1 << 3 | 1 << 11);
        }
}

static void test_packets_differ(void **state)
{
        struct flood f = flood_of(FLOOD_VALID, 0);
        uint8_t buf[2][FLOOD_PACKET_MAX] = {};
        uint64_t seed = 5;

        for (int i = 0; i < PACKETS; i++) {
                flood_packet(&f, &seed, buf[i % 2]);
                assert_memory_not_equal(buf[0], buf[1], sizeof(buf[0]));
        }
        /* One address, when the prefix is one. */
        f.from.bits = 128;
        next(&f, &seed, buf[0]);
}

static void test_kinds(void **state)
{
        for (int kind = 0; kind < FLOOD_KIND_MAX; kind++)
                assert_int_equal(flood_kind_find(flood_kind_name((enum flood_kind)kind)), kind);
        assert_int_equal(flood_kind_find("nothing"), -EINVAL);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_kinds), cmocka_unit_test(test_syns),
            cmocka_unit_test(test_vxlan), cmocka_unit_test(test_garbage),
            cmocka_unit_test(test_icmp),  cmocka_unit_test(test_packets_differ),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
