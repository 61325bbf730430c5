// SPDX-License-Identifier: Apache-2.0
/*
 * The SYN option's header, compiled for this machine: the parser against a plain one, the MAC
 * against one that is laid out byte by byte.
 */
#include <arpa/inet.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "../bpf/reference.h"
#include "basic/macro.h"
#include "bpf/option.h"

#define RANDOM_CASES 1000000

static const uint8_t key[16] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87,
                                0x98, 0xa9, 0xba, 0xcb, 0xdc, 0xed, 0xfe, 0x0f};

static const struct reference_syn syn = {
    .client_endpoint = 0x01020304,
    .server_endpoint = 0xa1b2c3d4,
    .client_port = 0x1f90,
    .server_port = 0x0050,
    .wire_client_port = 0x8001,
    .wire_server_port = 0xf012,
    .client_host = {[10] = 0xff, 0xff, 192, 0, 2, 7},
    .sequence = 0xdeadbeef,
};

static uint64_t rng = 0x5113;

/* xorshift64*: the same cases in every run. */
static uint32_t rnd(void)
{
        rng ^= rng >> 12;
        rng ^= rng << 25;
        rng ^= rng >> 27;
        return (uint32_t)((rng * 0x2545f4914f6cdd1d) >> 32);
}

/* Both parsers' answer, which is to be one. What is behind len must not matter. */
static int find(const uint8_t *options, unsigned int len)
{
        uint8_t buf[TCP_OPTIONS_MAX];
        int found;

        memset(buf, 1, sizeof(buf));
        memcpy(buf, options, len);
        found = slim_option_find(buf, len);
        assert_int_equal(found, reference_find(options, len));
        memset(buf + len, 0xff, sizeof(buf) - len);
        assert_int_equal(slim_option_find(buf, len), found);
        return found;
}

static void test_plain(void **state)
{
        uint8_t o[TCP_OPTIONS_MAX] = {0};

        /* Every place where it fits, behind NOPs. */
        for (unsigned int at = 0; at <= sizeof(o) - SLIM_OPTION_LEN; at++) {
                memset(o, 1, sizeof(o));
                reference_option(&syn, key, o + at);
                for (unsigned int len = 0; len <= sizeof(o); len++)
                        assert_int_equal(find(o, len), len >= at + SLIM_OPTION_LEN ? (int)at
                                                       : len > at ? SLIM_OPTION_MALFORMED
                                                                  : SLIM_OPTION_ABSENT);
        }
        assert_int_equal(find(o, 0), SLIM_OPTION_ABSENT);
}

static void test_every_length_byte(void **state)
{
        for (unsigned int at = 0; at <= 20; at++)
                for (unsigned int size = 0; size < 256; size++) {
                        uint8_t o[TCP_OPTIONS_MAX];

                        memset(o, 1, sizeof(o));
                        reference_option(&syn, key, o + at);
                        o[at + 1] = (uint8_t)size;
                        if (size == SLIM_OPTION_LEN)
                                assert_int_equal(find(o, sizeof(o)), at);
                        else if (size < 2 || size >= 4)
                                assert_int_equal(find(o, sizeof(o)), SLIM_OPTION_MALFORMED);
                        else /* too short to be of any experiment: what follows decides */
                                assert_true(find(o, sizeof(o)) < 0);
                }
}

static void test_others(void **state)
{
        /* As Linux lays a SYN out: MSS, SACK-permitted, timestamps, NOP, window scale. */
        uint8_t o[TCP_OPTIONS_MAX] = {2, 4, 0x05, 0xb4, 4, 2, 8, 10, 1, 2,
                                      3, 4, 0,    0,    0, 0, 1, 3,  3, 7};

        reference_option(&syn, key, o + 20);
        assert_int_equal(find(o, sizeof(o)), 20);
        assert_int_equal(find(o, 20), SLIM_OPTION_ABSENT);

        /* The end of options hides what is behind it, be it as broken as it may. */
        o[16] = 0;
        assert_int_equal(find(o, sizeof(o)), SLIM_OPTION_ABSENT);
        memset(o + 17, 0xfe, sizeof(o) - 17);
        assert_int_equal(find(o, sizeof(o)), SLIM_OPTION_ABSENT);

        /* Twice is once too often, even when both are the same. */
        reference_option(&syn, key, o);
        reference_option(&syn, key, o + 20);
        assert_int_equal(find(o, sizeof(o)), SLIM_OPTION_MALFORMED);
        o[22] ^= 1; /* another experiment's */
        assert_int_equal(find(o, sizeof(o)), 0);
        o[22] ^= 1;
        o[2] ^= 1;
        assert_int_equal(find(o, sizeof(o)), 20);
        o[0] = 253; /* the other experimental kind, with any id */
        o[2] ^= 1;
        assert_int_equal(find(o, sizeof(o)), 20);
}

static void test_every_exid(void **state)
{
        uint8_t o[SLIM_OPTION_LEN];

        reference_option(&syn, key, o);
        for (unsigned int exid = 0; exid <= 0xffff; exid++) {
                reference_put16(o + 2, (uint16_t)exid);
                assert_int_equal(
                    find(o, sizeof(o)),
                    exid == SLIM_OPTION_EXID || exid == SLIM_OPTION_EXID6 ? 0 : SLIM_OPTION_ABSENT);
        }
}

/* Option bytes of which many are nearly right, so that the cases go deep. */
static unsigned int random_options(uint8_t o[TCP_OPTIONS_MAX])
{
        unsigned int len = rnd() % (TCP_OPTIONS_MAX + 1), at = 0;

        for (unsigned int i = 0; i < TCP_OPTIONS_MAX; i++)
                o[i] = (uint8_t)rnd();
        while (at < len) {
                uint32_t dice = rnd() % 16;
                uint8_t part[TCP_OPTIONS_MAX];
                unsigned int size;

                for (unsigned int i = 0; i < sizeof(part); i++)
                        part[i] = (uint8_t)rnd();
                if (dice < 3) {
                        size = 1;
                        part[0] = 1;
                } else if (dice < 9) {
                        size = SLIM_OPTION_LEN;
                        part[0] = dice == 8 ? 253 : 254;
                        part[1] = (uint8_t)size;
                        part[2] = 0x51;
                        part[3] = rnd() % 2 ? 0x1e : 0x1f;
                } else {
                        size = 2 + rnd() % 9;
                        part[0] = dice == 9 ? 254 : part[0];
                        part[1] = (uint8_t)size;
                }
                if (size > TCP_OPTIONS_MAX - at)
                        size = TCP_OPTIONS_MAX - at;
                memcpy(o + at, part, size);
                at += size;
        }
        /* And sometimes one byte is wrong. */
        if (rnd() % 4 == 0)
                o[rnd() % TCP_OPTIONS_MAX] = (uint8_t)rnd();
        return len;
}

static void test_random(void **state)
{
        unsigned int seen[3] = {0};

        for (unsigned int i = 0; i < RANDOM_CASES; i++) {
                uint8_t o[TCP_OPTIONS_MAX];
                unsigned int len = random_options(o);
                int found = find(o, len);

                seen[found >= 0 ? 2 : -found - 1]++;
        }
        /* The cases are not all of one kind. */
        for (unsigned int i = 0; i < ARRAY_SIZE(seen); i++)
                assert_in_range(seen[i], RANDOM_CASES / 40, RANDOM_CASES);
}

static void test_noise(void **state)
{
        for (unsigned int i = 0; i < RANDOM_CASES; i++) {
                uint8_t o[TCP_OPTIONS_MAX];

                for (unsigned int k = 0; k < sizeof(o); k += 4)
                        reference_put32(o + k, rnd());
                find(o, rnd() % (sizeof(o) + 1));
        }
}

/* --- the MAC ---------------------------------------------------------------------------------- */

static void option_of(const struct reference_syn *s, struct slim_option *ret)
{
        uint8_t o[REFERENCE_OPTION_LEN];

        reference_option(s, key, o);
        memcpy(ret, o, sizeof(*ret));
}

static uint32_t mac_of(const struct reference_syn *s)
{
        __u64 k[2] = {reference_le64(key), reference_le64(key + 8)};
        struct slim_option o;
        union slim_addr host;

        option_of(s, &o);
        memcpy(&host, s->client_host, sizeof(host));
        return slim_option_mac(&o, &host, htons(s->wire_client_port), htons(s->wire_server_port),
                               htonl(s->sequence), k);
}

static void test_layout(void **state)
{
        struct slim_option o;

        option_of(&syn, &o);
        assert_int_equal(o.kind, 254);
        assert_int_equal(o.len, 20);
        assert_int_equal(ntohs(o.exid), SLIM_OPTION_EXID);
        assert_int_equal(slim_option_family(&o), SLIM_V4);
        assert_int_equal(ntohl(o.client_endpoint), syn.client_endpoint);
        assert_int_equal(ntohl(o.server_endpoint), syn.server_endpoint);
        assert_int_equal(ntohs(o.client_port), syn.client_port);
        assert_int_equal(ntohs(o.server_port), syn.server_port);
        assert_int_equal(o.mac, mac_of(&syn));
}

static void test_family(void **state)
{
        struct reference_syn six = syn;
        struct slim_option o;

        six.six = 1;
        option_of(&six, &o);
        assert_int_equal(ntohs(o.exid), SLIM_OPTION_EXID6);
        assert_int_equal(slim_option_family(&o), SLIM_V6);
        assert_int_equal(slim_option_exid(SLIM_V4), htons(SLIM_OPTION_EXID));
        assert_int_equal(slim_option_exid(SLIM_V6), htons(SLIM_OPTION_EXID6));
}

/* Hosts of a cluster may be of different versions: what is on the wire does not change. */
static void test_wire_format(void **state)
{
        static const uint8_t wire[] = {0xfe, 0x14, 0x51, 0x1e, 0x01, 0x02, 0x03, 0x04, 0x1f, 0x90,
                                       0x00, 0x50, 0xa1, 0xb2, 0xc3, 0xd4, 0xc6, 0x02, 0x5a, 0x86};
        uint8_t o[REFERENCE_OPTION_LEN];
        uint32_t mac = mac_of(&syn);

        reference_option(&syn, key, o);
        memcpy(o + 16, &mac, sizeof(mac));
        assert_memory_equal(o, wire, sizeof(wire));
}

static void test_mac_random(void **state)
{
        for (unsigned int i = 0; i < 100000; i++) {
                struct reference_syn s = {
                    .client_endpoint = rnd(),
                    .server_endpoint = rnd(),
                    .client_port = (uint16_t)rnd(),
                    .server_port = (uint16_t)rnd(),
                    .wire_client_port = (uint16_t)rnd(),
                    .wire_server_port = (uint16_t)rnd(),
                    .sequence = rnd(),
                    .six = rnd() % 2,
                };
                struct slim_option o;

                for (size_t k = 0; k < sizeof(s.client_host); k++)
                        s.client_host[k] = (uint8_t)rnd();
                option_of(&s, &o);
                assert_int_equal(mac_of(&s), o.mac);
        }
}

/* Whatever a SYN says, the MAC covers each bit of it; and each bit of the key matters. */
static void test_mac_every_bit(void **state)
{
        uint32_t whole = mac_of(&syn);
        struct slim_option o;
        union slim_addr host;

        for (size_t bit = 0; bit <= 8 * offsetof(struct reference_syn, six); bit++) {
                struct reference_syn s = syn;

                ((uint8_t *)&s)[bit / 8] ^= (uint8_t)(1U << bit % 8);
                assert_int_not_equal(mac_of(&s), whole);
        }
        option_of(&syn, &o);
        memcpy(&host, syn.client_host, sizeof(host));
        for (int bit = 0; bit < 128; bit++) {
                __u64 k[2] = {reference_le64(key), reference_le64(key + 8)};

                k[bit / 64] ^= 1ULL << bit % 64;
                assert_int_not_equal(slim_option_mac(&o, &host, htons(syn.wire_client_port),
                                                     htons(syn.wire_server_port),
                                                     htonl(syn.sequence), k),
                                     whole);
        }
}

/* What the MAC does not cover is its own frame, which the parser has looked at. */
static void test_mac_frame(void **state)
{
        _Static_assert(sizeof(struct reference_syn) == 2 * 4 + 4 * 2 + 16 + 4 + 4,
                       "a hidden byte would make test_mac_every_bit fail");
        __u64 k[2] = {reference_le64(key), reference_le64(key + 8)};
        struct slim_option o;
        union slim_addr host;
        uint32_t whole = mac_of(&syn);

        option_of(&syn, &o);
        memcpy(&host, syn.client_host, sizeof(host));
        o.kind = o.len = 0;
        o.mac = 0;
        assert_int_equal(slim_option_mac(&o, &host, htons(syn.wire_client_port),
                                         htons(syn.wire_server_port), htonl(syn.sequence), k),
                         whole);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_plain),         cmocka_unit_test(test_every_length_byte),
            cmocka_unit_test(test_others),        cmocka_unit_test(test_every_exid),
            cmocka_unit_test(test_random),        cmocka_unit_test(test_noise),
            cmocka_unit_test(test_layout),        cmocka_unit_test(test_family),
            cmocka_unit_test(test_wire_format),   cmocka_unit_test(test_mac_random),
            cmocka_unit_test(test_mac_every_bit), cmocka_unit_test(test_mac_frame),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
