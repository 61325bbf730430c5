// SPDX-License-Identifier: Apache-2.0
/*
 * slim_ingress, packet by packet. Each option is signed here, byte by byte (reference.h), and not
 * by the code of the programs.
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"
#include "reference.h"
#include "shared/netlink.h"

/* The cast of each test. */
#define CLIENT 0x01020304U /* on another host */
#define SERVER 0xa1b2c3d4U /* here */
#define LOCAL  0x11111111U /* here too */
#define REMOTE 0x22222222U /* a server elsewhere */
#define OTHER  0x33333333U /* here, in another network */
#define NOBODY 0x44444444U

#define WIRE_PORT (PORT_BASE + 0x12)

static struct slim_bpf *skel;

static const uint8_t key_now[16] = "the key of today", key_before[16] = "the one before  ",
                     key_wrong[16] = "nobody has this ";

static void set_key(uint32_t index, const uint8_t key[16], uint32_t epoch)
{
        struct slim_key k = {
            .k = {reference_le64(key), reference_le64(key + 8)},
            .epoch = epoch,
        };

        harness_put(skel->maps.keys, &index, &k);
}

static void endpoint(uint32_t id, uint32_t network, const char *addr, uint32_t flags)
{
        struct slim_endpoint e = {
            .id = id,
            .network = network,
            .flags = flags | SLIM_ENDPOINT_SLIM,
            .identity = 100 + id,
        };

        harness_addrs(e.addr, addr);
        harness_addrs(e.host, "192.0.2.9");
        harness_endpoint(skel, &e);
}

static int setup(void **state)
{
        harness_reset(skel);
        set_key(0, key_now, 2);
        set_key(1, key_before, 1);
        endpoint(CLIENT, 7, "10.1.0.5", 0);
        endpoint(SERVER, 7, "10.1.0.6", SLIM_ENDPOINT_LOCAL);
        endpoint(LOCAL, 7, "10.1.0.7", SLIM_ENDPOINT_LOCAL);
        endpoint(REMOTE, 7, "10.1.0.8", 0);
        endpoint(OTHER, 8, "10.1.0.5", SLIM_ENDPOINT_LOCAL);
        return 0;
}

/* --- SYNs and what becomes of them ------------------------------------------------------------ */

/* A SYN as Linux would send it, but for its options. */
static struct packet bare(void)
{
        return (struct packet){
            .from = harness_addr("192.0.2.7"),
            .to = harness_addr("192.0.2.8"),
            .from_port = 0x8001,
            .to_port = WIRE_PORT,
            .sequence = 0xdeadbeef,
            .flags = TCP_SYN,
        };
}

static struct reference_syn claim_of(const struct packet *p)
{
        struct reference_syn s = {
            .client_endpoint = CLIENT,
            .server_endpoint = SERVER,
            .client_port = 0x1f90,
            .server_port = 0x0050,
            .wire_client_port = p->from_port,
            .wire_server_port = p->to_port,
            .sequence = p->sequence,
        };

        memcpy(s.client_host, p->from.b, sizeof(s.client_host));
        return s;
}

static void add(struct packet *p, const void *option, size_t len)
{
        assert_in_range(p->options_len + len, 0, sizeof(p->options));
        memcpy(p->options + p->options_len, option, len);
        p->options_len += len;
}

static void add_slim(struct packet *p, const struct reference_syn *s, const uint8_t key[16])
{
        uint8_t o[REFERENCE_OPTION_LEN];

        reference_option(s, key, o);
        add(p, o, sizeof(o));
}

/* A SYN that is right in all, its option alone or behind others. */
static struct packet good_after(const void *others, size_t len)
{
        struct packet p = bare();
        struct reference_syn s = claim_of(&p);

        add(&p, others, len);
        add_slim(&p, &s, key_now);
        return p;
}

static struct packet good(void)
{
        return good_after("", 0);
}

static int run(const struct packet *p)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        return harness_run_tc(skel->progs.slim_ingress, data, len, 0);
}

static struct slim_tuple tuple_of(const struct packet *p)
{
        return (struct slim_tuple){
            .client_addr = p->from,
            .server_addr = p->to,
            .client_port = p->from_port,
            .server_port = p->to_port,
        };
}

/* Takes the entry of a packet's connection away; was there one? */
static bool take_entry(const struct packet *p, struct slim_syn *ret)
{
        struct slim_tuple t = tuple_of(p);
        bool there = harness_get(skel->maps.syns, &t, ret);

        if (there)
                bpf_map_delete_elem(bpf_map__fd(skel->maps.syns), &t);
        return there;
}

/* Goes up, with its one entry. */
static struct slim_syn accepted(const struct packet *p)
{
        struct slim_syn syn;

        assert_int_equal(run(p), TC_ACT_UNSPEC);
        harness_counted(skel, SLIM_REASON_SYN_ACCEPTED);
        assert_true(take_entry(p, &syn));
        return syn;
}

/* Is dropped, for this reason, and leaves nothing. */
static void dropped(const struct packet *p, enum slim_reason reason)
{
        struct slim_syn syn;

        assert_int_equal(run(p), TC_ACT_SHOT);
        harness_counted(skel, reason);
        assert_false(take_entry(p, &syn));
}

/* Goes up, with an entry that finds nobody, so that the client is told. */
static void refused(const struct packet *p, enum slim_reason reason)
{
        struct slim_syn syn;

        assert_int_equal(run(p), TC_ACT_UNSPEC);
        harness_counted(skel, reason);
        assert_true(take_entry(p, &syn));
        assert_int_equal(syn.server_endpoint, 0);
}

/* Goes up without having been looked at. */
static void passed(const struct packet *p)
{
        struct slim_syn syn;

        assert_int_equal(run(p), TC_ACT_UNSPEC);
        harness_counted(skel, SLIM_REASON_NONE);
        assert_false(take_entry(p, &syn));
}

static int no_entries(void **state)
{
        assert_int_equal(harness_entries(skel->maps.syns), 0);
        return 0;
}

/* What becomes of a SYN with these options; `reason` if they hold a well-formed Slim option. */
static enum slim_reason verdict_on(const uint8_t *area, size_t len, enum slim_reason reason)
{
        int at = len < SLIM_OPTION_LEN ? REFERENCE_ABSENT : reference_find(area, len);

        if (at == REFERENCE_ABSENT)
                return SLIM_REASON_SYN_NO_OPTION;
        return at == REFERENCE_MALFORMED ? SLIM_REASON_SYN_BAD_OPTION : reason;
}

static void as_parsed(const struct packet *p, enum slim_reason reason)
{
        uint8_t area[40] = {0};

        memcpy(area, p->options, p->options_len);
        reason = verdict_on(area, (p->options_len + 3) / 4 * 4, reason);
        if (reason == SLIM_REASON_SYN_ACCEPTED)
                accepted(p);
        else
                dropped(p, reason);
}

/* MSS, SACK-permitted, timestamps, NOP, window scale: what a Linux SYN has beside ours. */
static const uint8_t linux_options[20] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2,
                                          3, 4, 0,    0,    0, 0, 1, 3,  3, 7};

/* --- what is accepted ------------------------------------------------------------------------- */

static void test_good(void **state)
{
        union slim_addr client = harness_addr("10.1.0.5");
        struct packet p = good_after(linux_options, sizeof(linux_options));
        struct slim_syn syn = accepted(&p);
        static const uint8_t pad[3];

        assert_int_equal(syn.client_endpoint, CLIENT);
        assert_int_equal(syn.server_endpoint, SERVER);
        assert_memory_equal(&syn.client_addr, &client, sizeof(client));
        assert_int_equal(syn.client_port, 0x1f90);
        assert_int_equal(syn.server_port, 0x0050);
        assert_int_equal(syn.peer_kind, SLIM_PEER_OVERLAY);
        assert_memory_equal(syn.pad, pad, sizeof(pad));
}

/* The option says of which family the overlay connection is; the wire's is another matter. */
static void test_families(void **state)
{
        static const struct {
                const char *wire_client, *wire_server;
        } wires[] = {{"192.0.2.8", "192.0.2.9"}, {"2001:db8::8", "2001:db8::9"}};

        endpoint(CLIENT, 7, "10.1.0.5 fd00::5", 0);
        endpoint(SERVER, 7, "10.1.0.6 fd00::6", SLIM_ENDPOINT_LOCAL);
        for (size_t i = 0; i < ARRAY_SIZE(wires); i++)
                for (uint32_t six = 0; six < 2; six++) {
                        union slim_addr client = harness_addr(six ? "fd00::5" : "10.1.0.5");
                        struct packet p = bare();
                        struct reference_syn s;
                        struct slim_syn syn;

                        p.from = harness_addr(wires[i].wire_client);
                        p.to = harness_addr(wires[i].wire_server);
                        s = claim_of(&p);
                        s.six = six;
                        add_slim(&p, &s, key_now);
                        syn = accepted(&p);
                        assert_memory_equal(&syn.client_addr, &client, sizeof(client));
                }
}

/* An endpoint without an address of the family cannot be at either end of the connection. */
static void test_family_missing(void **state)
{
        struct packet p = bare();
        struct reference_syn s = claim_of(&p);

        s.six = 1;
        add_slim(&p, &s, key_now);
        refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
        endpoint(SERVER, 7, "10.1.0.6 fd00::6", SLIM_ENDPOINT_LOCAL);
        dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
        endpoint(CLIENT, 7, "fd00::5", 0);
        accepted(&p);
        p = good();
        dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
        endpoint(SERVER, 7, "fd00::6", SLIM_ENDPOINT_LOCAL);
        refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
}

/* A SYN that is sent again, and a new one from the same port: the last one's word holds. */
static void test_again(void **state)
{
        struct packet p = good();
        struct reference_syn s;
        struct slim_syn syn;

        assert_int_equal(run(&p), TC_ACT_UNSPEC);
        harness_counted(skel, SLIM_REASON_SYN_ACCEPTED);
        assert_int_equal(run(&p), TC_ACT_UNSPEC);
        harness_counted(skel, SLIM_REASON_SYN_ACCEPTED);
        assert_int_equal(harness_entries(skel->maps.syns), 1);
        p = bare();
        p.sequence = 1;
        s = claim_of(&p);
        s.client_port = 4711;
        add_slim(&p, &s, key_now);
        syn = accepted(&p);
        assert_int_equal(syn.client_port, 4711);
}

/* Each field of the option arrives, whatever its bits. */
static void test_fields(void **state)
{
        for (int i = 0; i < 2000; i++) {
                struct packet p = bare();
                struct reference_syn s;
                struct slim_syn syn;

                p.from.w[3] = harness_random();
                p.to.w[3] = htonl(0xc0000200 | harness_random() % 256);
                p.from_port = (uint16_t)harness_random();
                p.to_port = (uint16_t)(PORT_BASE + harness_random() % PORT_COUNT);
                p.sequence = harness_random();
                s = claim_of(&p);
                s.client_port = (uint16_t)harness_random();
                s.server_port = (uint16_t)harness_random();
                add_slim(&p, &s, key_now);
                syn = accepted(&p);
                assert_int_equal(syn.client_port, s.client_port);
                assert_int_equal(syn.server_port, s.server_port);
        }
}

static void test_every_slim_port(void **state)
{
        for (unsigned int port = PORT_BASE; port < PORT_BASE + PORT_COUNT; port++) {
                struct packet p = bare(), without = bare();
                struct reference_syn s;

                p.to_port = without.to_port = (uint16_t)port;
                s = claim_of(&p);
                add_slim(&p, &s, key_now);
                accepted(&p);
                dropped(&without, SLIM_REASON_SYN_NO_OPTION);
        }
}

/* Behind headers that are understood it is a SYN as any other; else it leaves nothing. */
static void test_ipv6_extensions(void **state)
{
        static const struct {
                uint8_t first, bytes[16], len;
                bool good;
        } chains[] = {
            {0, {6, 0, 1, 4}, 8, true},
            {60, {6, 1}, 16, true},
            {0, {60, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, 16, true},
            {43, {6, 0, 4, 0}, 8, true},
            {43, {6, 0, 4, 1}, 8, false},
            {43, {6, 0, 0, 0}, 8, false},
            {44, {6, 0, 0, 0}, 8, true},
            {44, {6, 0, 0, 1}, 8, false},
            {44, {6, 0, 0, 8}, 8, false},
            {51, {6, 2}, 16, true},
            {60, {0, 0, 1, 4, 0, 0, 0, 0, 6, 0, 1, 4}, 16, false},
            {135, {6, 0}, 8, false},
            {60, {17, 0}, 8, false},
            {60, {6, 255}, 8, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(chains); i++) {
                struct packet p = bare();
                struct reference_syn s;

                p.from = harness_addr("fd00::7");
                p.to = harness_addr("fd00::8");
                p.first = chains[i].first;
                p.extensions_len = chains[i].len;
                memcpy(p.extensions, chains[i].bytes, chains[i].len);
                s = claim_of(&p);
                add_slim(&p, &s, key_now);
                if (chains[i].good)
                        accepted(&p);
                else
                        passed(&p);
        }
}

static void test_ipv6(void **state)
{
        union slim_addr client = harness_addr("10.1.0.5");
        struct packet p = bare(), cut, other;
        struct reference_syn s;
        struct slim_syn syn;

        p.from = harness_addr("fd00::7");
        p.to = harness_addr("fd00::8");
        dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        s = claim_of(&p);
        add_slim(&p, &s, key_now);
        syn = accepted(&p);
        assert_int_equal(syn.client_endpoint, CLIENT);
        assert_memory_equal(&syn.client_addr, &client, sizeof(client));

        for (int bit = 0; bit < 128; bit++) {
                other = p;
                other.from.b[bit / 8] ^= (uint8_t)(1U << bit % 8);
                dropped(&other, SLIM_REASON_SYN_BAD_MAC);
        }
        cut = p;
        cut.options[1] = 19;
        dropped(&cut, SLIM_REASON_SYN_BAD_OPTION);
        /* A first header that is not TCP: not looked at, and no entry for sk_lookup. */
        for (unsigned int next = 0; next < 256; next++) {
                other = p;
                other.protocol = (uint8_t)next;
                if (next != IPPROTO_TCP && next != 0)
                        passed(&other);
        }
        other = p;
        other.to_port = PORT_BASE - 1;
        passed(&other);
        other = p;
        other.flags = TCP_SYN | TCP_ACK;
        passed(&other);
}

/* --- the options area ------------------------------------------------------------------------- */

static void test_no_option(void **state)
{
        struct packet p = bare();

        dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        add(&p, linux_options, sizeof(linux_options));
        dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        p.options_len = 0;
        for (size_t i = 0; i < 10; i++) {
                add(&p, "\1\1\1\1", 4);
                dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        }
}

/* The header ends early, at each word of it; the packet behind it is whole. */
static void test_truncated_area(void **state)
{
        struct packet first = good(), last = good_after(linux_options, sizeof(linux_options));

        add(&first, linux_options, sizeof(linux_options));
        for (unsigned int doff = 0; doff < 16; doff++)
                for (int i = 0; i < 2; i++) {
                        const struct packet *p = i ? &last : &first;
                        enum slim_reason want = SLIM_REASON_SYN_BAD_OPTION;
                        uint8_t data[PACKET_MAX];
                        struct slim_syn syn;
                        size_t len = packet_build(p, data);

                        data[packet_tcp(p) + 12] = (uint8_t)(doff << 4);
                        if (doff >= 5)
                                want = verdict_on(p->options, (size_t)(doff - 5) * 4,
                                                  SLIM_REASON_SYN_ACCEPTED);
                        if (i) /* nothing but all of it will do */
                                assert_int_equal(want == SLIM_REASON_SYN_ACCEPTED, doff == 15);
                        else if (doff < 10)
                                assert_int_not_equal(want, SLIM_REASON_SYN_ACCEPTED);
                        assert_int_equal(harness_run_tc(skel->progs.slim_ingress, data, len, 0),
                                         want == SLIM_REASON_SYN_ACCEPTED ? TC_ACT_UNSPEC
                                                                          : TC_ACT_SHOT);
                        harness_counted(skel, want);
                        assert_int_equal(take_entry(p, &syn), want == SLIM_REASON_SYN_ACCEPTED);
                }
}

/* The packet ends early, at each byte of it. */
static void test_short_packets(void **state)
{
        static const uint8_t words[] = {5, 6, 15};

        for (size_t i = 0; i < ARRAY_SIZE(words); i++) {
                struct packet p = good_after(linux_options, sizeof(linux_options));
                uint8_t data[PACKET_MAX];
                struct slim_syn syn;
                size_t whole, tcp;

                p.ip_words = words[i];
                tcp = packet_tcp(&p);
                whole = packet_build(&p, data);
                assert_int_equal(whole, tcp + 60);
                /* Newer kernels refuse to run a program for less than an IP header. */
                for (size_t len = whole - 1; len >= ETH_HLEN + 20; len--) {
                        /* The first read is 40 bytes, also of a header with IP options. */
                        bool seen = len >= tcp + 20;

                        assert_int_equal(harness_run_tc(skel->progs.slim_ingress, data, len, 0),
                                         seen ? TC_ACT_SHOT : TC_ACT_UNSPEC);
                        harness_counted(skel, seen ? SLIM_REASON_SYN_BAD_OPTION : SLIM_REASON_NONE);
                        assert_false(take_entry(&p, &syn));
                }
                accepted(&p);
        }
}

static void test_every_length_byte(void **state)
{
        for (unsigned int size = 0; size < 256; size++) {
                struct packet alone = good(), last, first = good();

                last = good_after(linux_options, sizeof(linux_options));
                add(&first, linux_options, sizeof(linux_options));
                alone.options[1] = first.options[1] = last.options[21] = (uint8_t)size;
                if (size == SLIM_OPTION_LEN) {
                        accepted(&alone);
                        accepted(&first);
                        accepted(&last);
                        continue;
                }
                as_parsed(&alone, SLIM_REASON_NONE);
                as_parsed(&first, SLIM_REASON_NONE);
                as_parsed(&last, SLIM_REASON_NONE);
                if (size < 2 || size > 3) {
                        dropped(&alone, SLIM_REASON_SYN_BAD_OPTION);
                        dropped(&first, SLIM_REASON_SYN_BAD_OPTION);
                        dropped(&last, SLIM_REASON_SYN_BAD_OPTION);
                }
        }
}

/* Every length byte of an option before ours: 2 to 20 may hide part of ours, none may crash. */
static void test_every_length_byte_before(void **state)
{
        for (unsigned int size = 0; size < 256; size++)
                for (unsigned int at = 0; at < 4; at++) {
                        static const uint8_t where[] = {1, 5, 7, 18};
                        struct packet p = good_after(linux_options, sizeof(linux_options));

                        p.options[where[at]] = (uint8_t)size;
                        as_parsed(&p, SLIM_REASON_SYN_ACCEPTED);
                }
}

static const struct {
        const char *bytes;
        size_t len;
} parts[] = {
    {"\1", 1},                       /* NOP */
    {"\2\4\5\264", 4},               /* MSS */
    {"\4\2", 2},                     /* SACK-permitted */
    {"\10\12\1\2\3\4\0\0\0\0", 10},  /* timestamps */
    {"\3\3\7", 3},                   /* window scale */
    {"\376\4\371\211", 4},           /* Fast Open's experiment, kind 254 */
    {"\375\4\121\036", 4},           /* kind 253, with our id */
    {"\376\2", 2},                   /* 254 with no id */
    {"\376\3\121", 3},               /* … with half of ours */
    {"\376\6\036\121\1\2", 6},       /* … with ours the wrong way round */
    {"\5\12\1\2\3\4\5\6\7\10", 10},  /* SACK, which no SYN has */
    {"\42\12\1\2\3\4\5\6\7\10", 10}, /* Fast Open */
    {"\143\2", 2},                   /* unknown */
};

/* Up to two options before ours and up to two behind it, in every combination that fits. */
static void test_before_and_after(void **state)
{
        const size_t n = ARRAY_SIZE(parts);
        unsigned int tried = 0;

        for (size_t a = 0; a <= n; a++)
                for (size_t b = 0; b <= n; b++)
                        for (size_t c = 0; c <= n; c++) {
                                const size_t before[] = {a, b};
                                struct packet p = bare();
                                struct reference_syn s = claim_of(&p);
                                size_t sum = 0;

                                for (size_t i = 0; i < 2; i++)
                                        sum += before[i] < n ? parts[before[i]].len : 0;
                                sum += c < n ? 2 * parts[c].len : 0;
                                if (sum > 20)
                                        continue;
                                for (size_t i = 0; i < 2; i++)
                                        if (before[i] < n)
                                                add(&p, parts[before[i]].bytes,
                                                    parts[before[i]].len);
                                add_slim(&p, &s, key_now);
                                for (size_t i = 0; i < 2 && c < n; i++)
                                        add(&p, parts[c].bytes, parts[c].len);
                                accepted(&p);
                                tried++;
                        }
        assert_in_range(tried, 1000, 10000);
}

/* The end of options hides what is behind it, and nothing else. */
static void test_end_of_options(void **state)
{
        static const uint8_t noise[] = {254, 255, 254, 1, 0, 77, 0, 254};
        struct packet p;

        for (size_t at = 0; at < sizeof(linux_options); at++) {
                p = good_after(linux_options, sizeof(linux_options));
                p.options[at] = 0;
                as_parsed(&p, SLIM_REASON_SYN_ACCEPTED);
        }
        for (size_t nops = 0; nops < 20; nops++) {
                p = bare();
                memset(p.options, 1, sizeof(p.options));
                p.options_len = nops;
                add(&p, "", 1);
                {
                        struct reference_syn s = claim_of(&p);

                        add_slim(&p, &s, key_now);
                }
                dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        }
        p = good();
        add(&p, "", 1);
        add(&p, noise, sizeof(noise));
        accepted(&p);
}

static void test_twice(void **state)
{
        struct packet p = good();
        struct reference_syn s = claim_of(&p);

        add_slim(&p, &s, key_now);
        dropped(&p, SLIM_REASON_SYN_BAD_OPTION);
        /* Also where only one of them would have been good. */
        p.options[16] ^= 1;
        dropped(&p, SLIM_REASON_SYN_BAD_OPTION);
        p.options[16] ^= 1;
        p.options[36] ^= 1;
        dropped(&p, SLIM_REASON_SYN_BAD_OPTION);
        /* Behind the end of options it is not there. */
        p = good_after("", 0);
        add(&p, "", 1);
        memcpy(p.options + 21, p.options, 19);
        p.options_len = 40;
        accepted(&p);
}

static void test_every_exid(void **state)
{
        uint8_t data[PACKET_MAX];
        struct packet p = good();
        size_t len = packet_build(&p, data), at = packet_tcp(&p) + 22;

        for (unsigned int exid = 0; exid <= 0xffff; exid++) {
                if (exid == SLIM_OPTION_EXID || exid == SLIM_OPTION_EXID6)
                        continue;
                reference_put16(data + at, (uint16_t)exid);
                assert_int_equal(harness_run_tc(skel->progs.slim_ingress, data, len, 0),
                                 TC_ACT_SHOT);
        }
        harness_counted_times(skel, SLIM_REASON_SYN_NO_OPTION, 0xfffe);
}

static void test_every_kind(void **state)
{
        for (unsigned int kind = 0; kind < 256; kind++) {
                struct packet p = good();

                p.options[0] = (uint8_t)kind;
                as_parsed(&p, SLIM_REASON_SYN_ACCEPTED);
        }
}

/* Options areas that are nearly right, and signed as if they were. */
static void test_random_areas(void **state)
{
        unsigned int good_ones = 0;

        for (int i = 0; i < 20000; i++) {
                struct packet p = bare();
                struct reference_syn s = claim_of(&p);
                uint8_t area[40];
                int at;

                while (p.options_len < 16 && harness_random() % 4) {
                        size_t part = harness_random() % ARRAY_SIZE(parts);

                        if (p.options_len + parts[part].len <= 20)
                                add(&p, parts[part].bytes, parts[part].len);
                }
                add_slim(&p, &s, key_now);
                while (p.options_len < sizeof(p.options)) {
                        uint8_t b = (uint8_t)harness_random();

                        add(&p, b % 2 ? &b : (const uint8_t *)"\1", 1);
                }
                for (uint32_t n = harness_random() % 3; n > 0; n--)
                        p.options[harness_random() % 40] = (uint8_t)harness_random();
                memcpy(area, p.options, sizeof(area));
                at = reference_find(area, sizeof(area));
                if (at >= 0) {
                        uint8_t whole[REFERENCE_OPTION_LEN];

                        reference_option(&s, key_now, whole);
                        good_ones += memcmp(whole, area + at, sizeof(whole)) == 0;
                        as_parsed(&p, memcmp(whole, area + at, sizeof(whole)) == 0
                                          ? SLIM_REASON_SYN_ACCEPTED
                                          : SLIM_REASON_SYN_BAD_MAC);
                } else {
                        as_parsed(&p, SLIM_REASON_NONE);
                }
        }
        assert_in_range(good_ones, 500, 15000);
}

/* --- the MAC ---------------------------------------------------------------------------------- */

static void test_every_bit_of_the_option(void **state)
{
        for (unsigned int bit = 0; bit < 8 * SLIM_OPTION_LEN; bit++) {
                struct packet p = good_after(linux_options, sizeof(linux_options));

                p.options[20 + bit / 8] ^= (uint8_t)(1U << bit % 8);
                if (bit >= 32 || bit == 24) /* bit 24: of the other family */
                        dropped(&p, SLIM_REASON_SYN_BAD_MAC);
                else if (bit / 8 == 1)
                        dropped(&p, SLIM_REASON_SYN_BAD_OPTION);
                else /* another kind, or another experiment's: whole, and not ours */
                        dropped(&p, SLIM_REASON_SYN_NO_OPTION);
        }
}

/* An option that was seen on the wire is of no use for another connection. */
static void test_every_bit_of_the_header(void **state)
{
        for (unsigned int bit = 0; bit < 16; bit++) {
                struct packet p = good();

                p.from_port ^= (uint16_t)(1U << bit);
                dropped(&p, SLIM_REASON_SYN_BAD_MAC);
                p = good();
                p.to_port ^= (uint16_t)(1U << bit);
                if (p.to_port >= PORT_BASE && p.to_port < PORT_BASE + PORT_COUNT)
                        dropped(&p, SLIM_REASON_SYN_BAD_MAC);
                else
                        passed(&p);
        }
        for (unsigned int bit = 0; bit < 32; bit++) {
                struct packet p = good();

                p.sequence ^= 1U << bit;
                dropped(&p, SLIM_REASON_SYN_BAD_MAC);
                p = good();
                p.from.b[12 + bit / 8] ^= (uint8_t)(1U << bit % 8);
                dropped(&p, SLIM_REASON_SYN_BAD_MAC);
        }
}

static void test_keys(void **state)
{
        static const uint8_t zero_key[16];
        struct packet p = bare(), now = bare(), before = bare(), wrong = bare(), zero = bare();
        struct reference_syn s = claim_of(&p);

        add_slim(&now, &s, key_now);
        add_slim(&before, &s, key_before);
        add_slim(&wrong, &s, key_wrong);
        add_slim(&zero, &s, zero_key);
        accepted(&now);
        accepted(&before);
        dropped(&wrong, SLIM_REASON_SYN_BAD_MAC);
        dropped(&zero, SLIM_REASON_SYN_BAD_MAC);

        /* Rotated: what was the previous one is worth nothing now. */
        set_key(0, key_wrong, 3);
        set_key(1, key_now, 2);
        accepted(&wrong);
        accepted(&now);
        dropped(&before, SLIM_REASON_SYN_BAD_MAC);

        /* Epoch 0 is no key, whatever its bits. */
        set_key(1, key_now, 0);
        accepted(&wrong);
        dropped(&now, SLIM_REASON_SYN_BAD_MAC);
        set_key(0, key_wrong, 0);
        dropped(&wrong, SLIM_REASON_SYN_BAD_MAC);
        set_key(0, zero_key, 0);
        set_key(1, zero_key, 0);
        dropped(&zero, SLIM_REASON_SYN_BAD_MAC);
        dropped(&now, SLIM_REASON_SYN_BAD_MAC);
        /* One that is all zeros and in force does count. */
        set_key(1, zero_key, 1);
        accepted(&zero);

        /* While hosts are given the next one, whoever has it already may sign by it. */
        set_key(SLIM_KEY_CURRENT, key_now, 2);
        set_key(SLIM_KEY_PREVIOUS, key_before, 1);
        dropped(&wrong, SLIM_REASON_SYN_BAD_MAC);
        set_key(SLIM_KEY_NEXT, key_wrong, 3);
        accepted(&wrong);
        accepted(&now);
        accepted(&before);
}

/* --- who, and to whom ------------------------------------------------------------------------- */

static struct packet between(uint32_t client, uint32_t server, const char *to)
{
        struct packet p = bare();
        struct reference_syn s;

        p.to = harness_addr(to);
        if (!inaddr_is_v4(&p.to))
                p.from = harness_addr("fd00::7");
        if (p.to.b[15] == 1 && !inaddr_is_v4(&p.to))
                p.from = p.to;
        s = claim_of(&p);
        s.client_endpoint = client;
        s.server_endpoint = server;
        add_slim(&p, &s, key_now);
        return p;
}

static void test_endpoints(void **state)
{
        struct packet p;

        p = between(CLIENT, SERVER, "192.0.2.8");
        accepted(&p);
        p = between(LOCAL, SERVER, "192.0.2.8"); /* two containers of one host */
        accepted(&p);
        p = between(SERVER, SERVER, "192.0.2.8"); /* itself, by its overlay address */
        assert_int_equal(accepted(&p).peer_kind, SLIM_PEER_OVERLAY);
        p = between(NOBODY, SERVER, "192.0.2.8");
        dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
        p = between(0, SERVER, "192.0.2.8");
        dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
        p = between(CLIENT, NOBODY, "192.0.2.8");
        refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
        p = between(CLIENT, 0, "192.0.2.8");
        refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
        p = between(CLIENT, REMOTE, "192.0.2.8"); /* not here */
        refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
        p = between(OTHER, SERVER, "192.0.2.8");
        dropped(&p, SLIM_REASON_SYN_OTHER_NETWORK);
        p = between(CLIENT, OTHER, "192.0.2.8");
        dropped(&p, SLIM_REASON_SYN_OTHER_NETWORK);
        /* It goes as it came. */
        {
                uint32_t id = CLIENT;

                assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.identities), &id), 0);
        }
        p = between(CLIENT, SERVER, "192.0.2.8");
        dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
}

/* By a loopback address a container reaches itself and nobody else. */
static void test_loopback(void **state)
{
        static const char *const loopback[] = {"127.0.0.1", "127.0.0.2", "127.255.255.254", "::1"},
                                 *const outside[] = {"126.255.255.255", "128.0.0.1", "0.0.0.0",
                                                     "::2", "1::1"};

        for (size_t i = 0; i < ARRAY_SIZE(loopback); i++) {
                struct packet p = between(SERVER, SERVER, loopback[i]);
                struct slim_syn syn = accepted(&p);

                assert_int_equal(syn.peer_kind, SLIM_PEER_LOOPBACK);
                assert_int_equal(syn.client_endpoint, SERVER);
                assert_int_equal(syn.server_endpoint, SERVER);
                p = between(LOCAL, SERVER, loopback[i]);
                dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
                p = between(CLIENT, SERVER, loopback[i]);
                dropped(&p, SLIM_REASON_SYN_UNKNOWN_CLIENT);
                p = between(OTHER, SERVER, loopback[i]);
                dropped(&p, SLIM_REASON_SYN_OTHER_NETWORK);
                p = between(CLIENT, CLIENT, loopback[i]); /* not here */
                refused(&p, SLIM_REASON_SYN_UNKNOWN_SERVER);
        }
        for (size_t i = 0; i < ARRAY_SIZE(outside); i++) {
                struct packet p = between(CLIENT, SERVER, outside[i]);

                assert_int_equal(accepted(&p).peer_kind, SLIM_PEER_OVERLAY);
        }
}

/* --- policies --------------------------------------------------------------------------------- */

static void subject(uint32_t id, uint32_t flags)
{
        struct slim_policy_subject s = {.flags = flags};
        uint32_t identity = 100 + id;

        harness_put(skel->maps.policy_subjects, &identity, &s);
}

static void allow(uint32_t server, uint32_t peer, uint16_t port)
{
        struct slim_policy_key key = {
            .prefixlen = SLIM_POLICY_BITS_PORT,
            .subject = 100 + server,
            .peer = peer,
            .direction = SLIM_POLICY_INGRESS,
            .protocol = IPPROTO_TCP,
            .be_port = htons(port),
        };
        uint32_t one = 1;

        harness_put(skel->maps.policy_rules, &key, &one);
}

static void test_policy(void **state)
{
        const uint32_t ingress = SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS;
        struct slim_prefix_key cidr = {.prefixlen = 128, .addr = harness_addr("10.1.0.5")};
        struct packet p = good(), local = between(LOCAL, SERVER, "192.0.2.8");
        uint32_t id = 3;

        /* The client's own policies, and the server's for what it begins, are not asked here. */
        subject(CLIENT, SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        subject(SERVER, SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        accepted(&p);

        subject(SERVER, ingress);
        dropped(&p, SLIM_REASON_POLICY_INGRESS);
        allow(SERVER, 100 + CLIENT, 0x0051); /* another port */
        dropped(&p, SLIM_REASON_POLICY_INGRESS);
        allow(SERVER, 100 + CLIENT, 0x0050);
        accepted(&p);
        dropped(&local, SLIM_REASON_POLICY_INGRESS); /* another client */
        allow(SERVER, 0, 0x0050);
        accepted(&local);

        /* By its overlay address, and not by that of its host. */
        setup(NULL);
        subject(SERVER, ingress | SLIM_POLICY_CIDRS << SLIM_POLICY_INGRESS);
        harness_put(skel->maps.policy_cidrs, &cidr, &id);
        dropped(&p, SLIM_REASON_POLICY_INGRESS);
        allow(SERVER, SLIM_POLICY_CIDR | id, 0x0050);
        accepted(&p);
        dropped(&local, SLIM_REASON_POLICY_INGRESS);
}

static void test_policy_rejects(void **state)
{
        struct packet p = good();

        subject(SERVER, (SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS) << SLIM_POLICY_INGRESS);
        refused(&p, SLIM_REASON_POLICY_INGRESS);
        /* What is not signed is not told anything. */
        p.options[p.options_len - 1] ^= 1;
        dropped(&p, SLIM_REASON_SYN_BAD_MAC);
}

/* A container and itself are nobody's business. */
static void test_policy_and_loopback(void **state)
{
        struct packet p = between(SERVER, SERVER, "127.0.0.1");

        subject(SERVER, (SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS) |
                            (SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS));
        assert_int_equal(accepted(&p).peer_kind, SLIM_PEER_LOOPBACK);
}

/* --- published ports -------------------------------------------------------------------------- */

#define PUBLISHED 8080

/* Addresses of this host's, and of others, for whom it forwards. */
static const struct {
        const char *client, *own, *other;
} outside[] = {{"198.51.100.7", "192.0.2.8", "192.0.2.77"},
               {"2001:db8:1::7", "2001:db8::8", "2001:db8::77"}};

static void publish(const char *addr)
{
        struct slim_published_key key = {.addr = harness_addr(addr), .port = PUBLISHED};
        struct slim_published value = {.endpoint = SERVER, .port = 80};

        harness_put(skel->maps.published, &key, &value);
}

static struct packet to_published(const char *client, const char *server)
{
        struct packet p = bare();

        p.from = harness_addr(client);
        p.to = harness_addr(server);
        p.to_port = PUBLISHED;
        return p;
}

/* What a policy drops vanishes; what it rejects goes up, to be refused. */
static void test_published(void **state)
{
        static const char *const any[] = {"0.0.0.0", "::"};

        for (size_t f = 0; f < ARRAY_SIZE(outside); f++)
                for (int exact = 0; exact < 2; exact++) {
                        struct packet p = to_published(outside[f].client, outside[f].own);
                        struct packet other = to_published(outside[f].client, outside[f].other);

                        setup(NULL);
                        subject(SERVER, SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS);
                        passed(&p);
                        publish(exact ? outside[f].own : any[f]);
                        dropped(&p, SLIM_REASON_POLICY_INGRESS);
                        passed(&other);
                        p.flags = TCP_SYN | TCP_ACK;
                        passed(&p);
                        p.flags = TCP_ACK;
                        passed(&p);
                        p.flags = TCP_SYN;
                        p.to_port++;
                        passed(&p);
                        p.to_port--;
                        p.protocol = IPPROTO_UDP;
                        passed(&p);
                        p.protocol = IPPROTO_TCP;
                        subject(SERVER, (SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS)
                                            << SLIM_POLICY_INGRESS);
                        passed(&p);
                        subject(SERVER, SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
                        passed(&p);
                }
}

/* Whom the policies let in, by the address. */
static void test_published_and_allowed(void **state)
{
        struct slim_prefix_key prefix = {.prefixlen = 96 + 24,
                                         .addr = harness_addr("198.51.100.0")};
        uint32_t one = 1;
        struct packet p = to_published("198.51.100.7", "192.0.2.8");
        struct packet stranger = to_published("198.51.101.7", "192.0.2.8");

        publish("0.0.0.0");
        subject(SERVER, (SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS) |
                            (SLIM_POLICY_CIDRS << SLIM_POLICY_INGRESS));
        harness_put(skel->maps.policy_cidrs, &prefix, &one);
        allow(SERVER, SLIM_POLICY_CIDR | one, 80);
        passed(&p);
        dropped(&stranger, SLIM_REASON_POLICY_INGRESS);
}

/* --- what is not looked at -------------------------------------------------------------------- */

/* Of all combinations of flags, those with SYN and without ACK are SYNs. */
static void test_every_flag(void **state)
{
        for (unsigned int flags = 0; flags < 256; flags++) {
                struct packet with = good(), without = bare();

                with.flags = without.flags = (uint8_t)flags;
                if ((flags & TCP_SYN) && !(flags & TCP_ACK)) {
                        accepted(&with);
                        dropped(&without, SLIM_REASON_SYN_NO_OPTION);
                } else {
                        passed(&with);
                        passed(&without);
                }
        }
}

static void test_data(void **state)
{
        static const uint8_t flags[] = {TCP_ACK, TCP_ACK | TCP_PSH, TCP_ACK | TCP_FIN,
                                        TCP_RST, TCP_RST | TCP_ACK, TCP_SYN | TCP_ACK,
                                        0};

        for (int i = 0; i < 5000; i++) {
                struct packet p = bare();

                p.flags = flags[harness_random() % ARRAY_SIZE(flags)];
                p.sequence = harness_random();
                p.payload = harness_random() % 1400;
                p.options_len = (size_t)(harness_random() % 11) * 4;
                for (size_t k = 0; k < p.options_len; k++)
                        p.options[k] = (uint8_t)harness_random();
                if (i % 4 == 0) {
                        p.from = harness_addr("fd00::7");
                        p.to = harness_addr("fd00::8");
                }
                passed(&p);
        }
}

static void test_other_ports(void **state)
{
        static const uint16_t ports[] = {
            0, 1, 80, PORT_BASE - 1, PORT_BASE + PORT_COUNT, 6144, 60999, 61439 - 1, 65535};

        for (size_t i = 0; i < ARRAY_SIZE(ports); i++) {
                struct packet p = good();

                p.to_port = ports[i];
                passed(&p);
                /* From a Slim port is not to one. */
                p.from_port = WIRE_PORT;
                passed(&p);
                p.options_len = 0;
                passed(&p);
        }
}

static void test_other_protocols(void **state)
{
        static const uint16_t types[] = {ETH_P_ARP, ETH_P_8021Q, ETH_P_MPLS_UC, ETH_P_PPP_SES,
                                         0x9000};

        for (unsigned int protocol = 1; protocol < 256; protocol++) {
                struct packet p = good();

                p.protocol = (uint8_t)protocol;
                if (protocol == IPPROTO_TCP)
                        accepted(&p);
                else
                        passed(&p);
        }
        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                struct packet p = good();

                p.ethertype = types[i];
                passed(&p);
        }
}

/* A later fragment has no TCP header, whatever its bytes look like; a first one has. */
static void test_fragments(void **state)
{
        static const uint16_t more = 0x2000, dont = 0x4000;

        for (unsigned int bit = 0; bit < 13; bit++) {
                struct packet p = good();

                p.fragment = (uint16_t)(1U << bit);
                passed(&p);
                p.fragment |= more;
                passed(&p);
        }
        for (int i = 0; i < 2; i++) {
                struct packet p = i ? good() : bare();

                p.fragment = dont;
                as_parsed(&p, SLIM_REASON_SYN_ACCEPTED);
                p.fragment = more;
                as_parsed(&p, SLIM_REASON_SYN_ACCEPTED);
        }
}

static void test_ip_options(void **state)
{
        for (unsigned int words = 5; words <= 15; words++) {
                struct packet p = good(), bad = good(), none = bare(), other = good();

                p.ip_words = bad.ip_words = none.ip_words = other.ip_words = (uint8_t)words;
                accepted(&p);
                bad.options[7] ^= 1;
                dropped(&bad, SLIM_REASON_SYN_BAD_MAC);
                dropped(&none, SLIM_REASON_SYN_NO_OPTION);
                other.flags = TCP_ACK;
                passed(&other);
                other.flags = TCP_SYN;
                other.to_port = 80;
                passed(&other);
        }
}

/* --- floods ----------------------------------------------------------------------------------- */

/* More half-open connections than there is room for: the last one is there all the same. */
static void test_flood(void **state)
{
        unsigned int room = bpf_map__max_entries(skel->maps.syns);

        for (unsigned int i = 0; i < room + room / 4; i++) {
                struct packet p = bare();
                struct reference_syn s;
                struct slim_tuple t;
                struct slim_syn syn;

                p.from.w[3] = htonl(0x0b000000 + i);
                s = claim_of(&p);
                add_slim(&p, &s, key_now);
                assert_int_equal(run(&p), TC_ACT_UNSPEC);
                t = tuple_of(&p);
                assert_true(harness_get(skel->maps.syns, &t, &syn));
        }
        assert_in_range(harness_entries(skel->maps.syns), room / 2, room);
        harness_reset(skel);
}

/* This host: it has addresses, and forwards to the others of their networks. */
static int make_host(void **state)
{
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
        _cleanup_close_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct netlink_link lo, a, b;

        if (here < 0 || netlink_open(-1, &nl) < 0 ||
            write_file_at(AT_FDCWD, "/proc/sys/net/ipv4/ip_forward", "1") < 0 ||
            write_file_at(AT_FDCWD, "/proc/sys/net/ipv6/conf/all/forwarding", "1") < 0 ||
            netlink_link_get(nl, "lo", &lo) < 0 || netlink_link_up(nl, lo.ifindex) < 0 ||
            netlink_veth_add(nl, "a", mac, "b", mac, here, 1500) < 0 ||
            netlink_link_get(nl, "a", &a) < 0 || netlink_link_get(nl, "b", &b) < 0 ||
            netlink_link_up(nl, a.ifindex) < 0 || netlink_link_up(nl, b.ifindex) < 0)
                return -1;
        for (size_t f = 0; f < ARRAY_SIZE(outside); f++) {
                union slim_addr own = harness_addr(outside[f].own);

                if (netlink_addr_add(nl, a.ifindex, &own, f ? 64 : 24) < 0)
                        return -1;
        }
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, no_entries)
            TEST(test_good),
            TEST(test_families),
            TEST(test_family_missing),
            TEST(test_again),
            TEST(test_fields),
            TEST(test_every_slim_port),
            TEST(test_ipv6),
            TEST(test_ipv6_extensions),
            TEST(test_no_option),
            TEST(test_truncated_area),
            TEST(test_short_packets),
            TEST(test_every_length_byte),
            TEST(test_every_length_byte_before),
            TEST(test_before_and_after),
            TEST(test_end_of_options),
            TEST(test_twice),
            TEST(test_every_exid),
            TEST(test_every_kind),
            TEST(test_random_areas),
            TEST(test_every_bit_of_the_option),
            TEST(test_every_bit_of_the_header),
            TEST(test_keys),
            TEST(test_endpoints),
            TEST(test_loopback),
            TEST(test_policy),
            TEST(test_policy_rejects),
            TEST(test_policy_and_loopback),
            TEST(test_published),
            TEST(test_published_and_allowed),
            TEST(test_every_flag),
            TEST(test_data),
            TEST(test_other_ports),
            TEST(test_other_protocols),
            TEST(test_fragments),
            TEST(test_ip_options),
            TEST(test_flood),
#undef TEST
        };
        int failed;

        skel = harness_start();
        if (!skel)
                return 0;
        failed = cmocka_run_group_tests(tests, make_host, NULL);
        slim_bpf__destroy(skel);
        return failed;
}
