// SPDX-License-Identifier: Apache-2.0
/*
 * The encapsulated path's programs on IPv6 packets: who may send what to whom, the walk over
 * extension headers against a plain one, truncated packets, and hosts of both families.
 *
 * The loopback device stands for a container's and for the VXLAN device: a test run sends nothing.
 */
#include <arpa/inet.h>
#include <linux/if_ether.h>
#include <linux/ipv6.h>
#include <linux/pkt_cls.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"
#include "tunnel.skel.h"

#define NETWORK       7
#define OTHER_NETWORK 8
#define LO            1

enum {
        HOPOPTS = 0,
        TCP = 6,
        UDP = 17,
        ROUTING = 43,
        FRAGMENT = 44,
        ESP = 50,
        AH = 51,
        ICMPV6 = 58,
        NONE = 59,
        DSTOPTS = 60,
};

static struct slim_bpf *skel;
static struct tunnel_bpf *tunnel;

/* --- the stage -------------------------------------------------------------------------------- */

static void endpoint(uint32_t id, uint32_t network, const char *addrs, const char *hosts,
                     uint32_t flags)
{
        struct slim_endpoint e = {
            .id = id,
            .network = network,
            .flags = flags,
            .ifindex = flags & SLIM_ENDPOINT_LOCAL ? LO : 0,
        };

        harness_addrs(e.addr, addrs);
        harness_addrs(e.host, hosts);
        harness_endpoint(skel, &e);
}

static void device(uint32_t id, const char *addrs)
{
        struct slim_device d = {.endpoint = id, .network = NETWORK};
        uint32_t ifindex = LO;

        harness_addrs(d.addr, addrs);
        harness_put(skel->maps.devices, &ifindex, &d);
}

static void prefix(const char *addr, uint32_t bits, uint32_t network)
{
        struct slim_prefix_key key = {.prefixlen = bits, .addr = harness_addr(addr)};

        harness_put(skel->maps.prefixes, &key, &network);
}

static void host(const char *addr)
{
        union slim_addr a = harness_addr(addr);
        uint32_t one = 1;

        harness_put(skel->maps.hosts, &a, &one);
}

static int setup(void **state)
{
        harness_reset(skel);
        endpoint(1, NETWORK, "10.1.0.5 fd00::5", "2001:db8::8", SLIM_ENDPOINT_LOCAL);
        endpoint(2, NETWORK, "fd00::6", "2001:db8::8", SLIM_ENDPOINT_LOCAL);
        endpoint(3, NETWORK, "fd00::7", "2001:db8::9", 0);
        endpoint(4, OTHER_NETWORK, "fd01::8", "192.0.2.9 2001:db8::9", 0);
        endpoint(5, NETWORK, "fd00::9", "192.0.2.10", 0);
        device(1, "10.1.0.5 fd00::5");
        prefix("fd00::", 64, NETWORK);
        prefix("fd01::", 64, OTHER_NETWORK);
        host("2001:db8::8");
        host("2001:db8::9");
        host("192.0.2.9");
        host("192.0.2.10");
        memset(tunnel->bss->remote6, 0, sizeof(tunnel->bss->remote6));
        return 0;
}

/* --- one packet, one verdict ------------------------------------------------------------------ */

static void from_container(const struct packet *p, int verdict, enum slim_reason reason)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, LO), verdict);
        harness_counted(skel, reason);
}

static void from_vxlan(const struct packet *p, uint32_t vni, const char *remote, int verdict,
                       enum slim_reason reason)
{
        union slim_addr a = harness_addr(remote);
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        memset(tunnel->bss->remote6, 0, sizeof(tunnel->bss->remote6));
        if (inaddr_is_v4(&a))
                tunnel->bss->remote = ntohl(inaddr_to_v4(&a));
        else
                memcpy(tunnel->bss->remote6, &a, sizeof(a));
        tunnel->bss->vni = vni;
        assert_int_equal(harness_run_tc(tunnel->progs.received, data, len, LO), verdict);
        harness_counted(skel, reason);
}

static void to_vxlan(const struct packet *p, int verdict, enum slim_reason reason)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(skel->progs.slim_to_vxlan, data, len, LO), verdict);
        harness_counted(skel, reason);
}

/* Forwarded by the host's stack (ingress: the device that it came by), or its own (0). */
static void to_container(const struct packet *p, uint32_t ingress, int verdict,
                         enum slim_reason reason)
{
        struct __sk_buff context = {.ifindex = LO, .ingress_ifindex = ingress};
        uint8_t data[PACKET_MAX];
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data,
                            .data_size_in = (uint32_t)packet_build(p, data), .ctx_in = &context,
                            .ctx_size_in = sizeof(context));

        assert_int_equal(
            bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_to_container), &opts), 0);
        assert_int_equal((int)opts.retval, verdict);
        harness_counted(skel, reason);
}

/* --- from a container ------------------------------------------------------------------------- */

static void test_container_routes(void **state)
{
        struct packet p;

        p = packet_between("fd00::5", "fd00::6");
        from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
        p = packet_between("fd00::5", "fd00::7");
        from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
        /* Nobody's, and another network's: up, and counted. Outside: up. */
        p = packet_between("fd00::5", "fd00::99");
        from_container(&p, TC_ACT_OK, SLIM_REASON_ENCAP_NO_ENDPOINT);
        p = packet_between("fd00::5", "fd01::8");
        from_container(&p, TC_ACT_OK, SLIM_REASON_ENCAP_NO_ENDPOINT);
        p = packet_between("fd00::5", "2001:db8::1");
        from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
        p = packet_between("fd00::5", "::1");
        from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
        /* But for what another host's VXLAN device would take for this host's. */
        p = packet_between("fd00::5", "2001:db8::9");
        from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
        p.to_port = SLIM_VXLAN_PORT;
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_FORGED);
}

/* What goes up to the stack for an overlay has its last hop behind it; nothing else is changed. */
static void test_last_hop(void **state)
{
        static const struct {
                const char *to;
                uint8_t hops;
        } cases[] = {{"fd00::99", 1}, {"fd01::8", 1}, {"2001:db8::1", 64}, {"fd02::1", 64}};

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct packet p = packet_between("fd00::5", cases[i].to);
                struct __sk_buff context = {.ifindex = LO};
                uint8_t data[PACKET_MAX], out[PACKET_MAX];
                size_t len = packet_build(&p, data);
                DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data,
                                    .data_size_in = (uint32_t)len, .data_out = out,
                                    .data_size_out = sizeof(out), .ctx_in = &context,
                                    .ctx_size_in = sizeof(context));

                assert_int_equal(
                    bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_from_container), &opts),
                    0);
                assert_int_equal(opts.retval, TC_ACT_OK);
                data[ETH_HLEN + offsetof(struct ipv6hdr, hop_limit)] = cases[i].hops;
                assert_int_equal(opts.data_size_out, len);
                assert_memory_equal(out, data, len);
        }
}

static void test_container_spoofed(void **state)
{
        static const char *const others[] = {
            "fd00::6",     "fd00::7", "::", "::1", "fe80::1", "fe80::51:1eff:fe00:3",
            "2001:db8::8", "ff02::1"};
        struct packet p;

        for (unsigned int bit = 0; bit < 128; bit++) {
                p = packet_between("fd00::5", "fd00::6");
                p.from.b[bit / 8] ^= (uint8_t)(1U << bit % 8);
                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                p = packet_between(others[i], "fd00::7");
                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
                p = packet_between(others[i], "2001:db8::1");
                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
        /* A container without IPv6. */
        device(1, "10.1.0.5");
        p = packet_between("fd00::5", "fd00::6");
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("::", "fd00::6");
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
}

/* An IPv4 address in an IPv6 header is not that IPv4 address. */
static void test_mapped(void **state)
{
        struct packet p;

        p = packet_between("fd00::5", "fd00::6");
        p.ethertype = ETH_P_IPV6;
        for (int i = 0; i < 2; i++) {
                uint8_t data[PACKET_MAX];
                union slim_addr mapped = harness_addr(i ? "10.1.0.6" : "10.1.0.5");
                size_t len = packet_build(&p, data);

                memcpy(data + ETH_HLEN + (i ? 24 : 8), &mapped, sizeof(mapped));
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, LO),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_ENCAP_BAD_PACKET);
        }
}

static void test_scoped(void **state)
{
        static const char *const scoped[] = {"fe80::1", "fe80::2", "febf:ffff::1", "ff02::1:ff00:3",
                                             "ff02::2", "ff05::2", "ff0e::1"};
        static const char *const sources[] = {"fd00::5", "fe80::51:1eff:fe00:3", "::"};
        static const char *const others[] = {"fe80::1", "fe80::51:1eff:fe00:4", "fd00::6", "::1",
                                             "2001:db8::8"};
        struct packet p;

        for (size_t i = 0; i < ARRAY_SIZE(scoped); i++) {
                for (size_t k = 0; k < ARRAY_SIZE(sources); k++) {
                        p = packet_between(sources[k], scoped[i]);
                        p.protocol = ICMPV6;
                        from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
                }
                for (size_t k = 0; k < ARRAY_SIZE(others); k++) {
                        p = packet_between(others[k], scoped[i]);
                        p.protocol = ICMPV6;
                        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
                }
                /* Even if somebody had such an address. */
                endpoint(9, NETWORK, scoped[i], "2001:db8::8", SLIM_ENDPOINT_LOCAL);
                p = packet_between("fd00::5", scoped[i]);
                from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
                /* Of the VXLAN device itself. */
                to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_NONE);
        }
        p = packet_between("fd00::5", "fec0::1"); /* the one next to it */
        from_container(&p, TC_ACT_OK, SLIM_REASON_NONE);
        p = packet_between("fe80::51:1eff:fe00:3", "fec0::1");
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        device(1, "10.1.0.5");
        for (size_t k = 0; k < ARRAY_SIZE(sources); k++) {
                p = packet_between(sources[k], "fe80::1");
                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
}

/* --- extension headers ------------------------------------------------------------------------ */

static void chain_clear(struct packet *p)
{
        p->extensions_len = 0;
        p->first = 0;
}

/* Puts a header of this type at the end; the one before it, or the IPv6 header, says so. */
static uint8_t *chain_add(struct packet *p, uint8_t type, size_t len, size_t *last)
{
        uint8_t *at = p->extensions + p->extensions_len;

        assert_in_range(p->extensions_len + len, 0, sizeof(p->extensions));
        if (p->extensions_len == 0)
                p->first = type;
        else
                p->extensions[*last] = type;
        *last = p->extensions_len;
        memset(at, 0, len);
        at[0] = p->protocol;
        at[1] = (uint8_t)(type == AH ? len / 4 - 2 : type == FRAGMENT ? 0 : len / 8 - 1);
        if (type == ROUTING)
                at[2] = 4;
        p->extensions_len += len;
        return at;
}

static const int transports[] = {4, TCP, UDP, 33, 41, 47, ESP, ICMPV6, NONE, 132, 136};

/* How long each one's own header is at least (RFC 9293, 768, 4340, 8200, 2784, 4303, 4443, 9260).
 */
static int transport_len(uint8_t type)
{
        static const int lens[] = {20, 20, 8, 12, 40, 4, 8, 4, 0, 12, 8};

        for (size_t i = 0; i < ARRAY_SIZE(transports); i++)
                if (transports[i] == type)
                        return lens[i];
        return -1;
}

static void test_every_next_header(void **state)
{
        for (unsigned int i = 0; i < 256; i++) {
                struct packet p = packet_between("fd00::5", "fd00::6");
                bool extension =
                    i == HOPOPTS || i == ROUTING || i == FRAGMENT || i == AH || i == DSTOPTS;

                if (extension) /* the noise behind it is no good chain: see below */
                        continue;
                p.extensions_len = 0;
                p.protocol = (uint8_t)i;
                from_container(&p, transport_len((uint8_t)i) >= 0 ? TC_ACT_REDIRECT : TC_ACT_SHOT,
                               transport_len((uint8_t)i) >= 0 ? SLIM_REASON_NONE
                                                              : SLIM_REASON_ENCAP_BAD_HEADER);
        }
}

static void test_each_extension(void **state)
{
        static const uint8_t types[] = {HOPOPTS, ROUTING, FRAGMENT, AH, DSTOPTS};
        size_t last = 0;

        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                for (size_t t = 0; t < ARRAY_SIZE(transports); t++) {
                        struct packet p = packet_between("fd00::5", "fd00::6");

                        p.protocol = (uint8_t)transports[t];
                        chain_add(&p, types[i], 8, &last);
                        from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
                        p = packet_between("fd00::7", "fd00::5");
                        p.protocol = (uint8_t)transports[t];
                        chain_add(&p, types[i], 8, &last);
                        from_vxlan(&p, NETWORK, "2001:db8::9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
                }
        /* In every size that they can have here. */
        for (size_t i = 0; i < ARRAY_SIZE(types); i++)
                for (size_t len = 8; len <= 256; len += 8) {
                        struct packet p = packet_between("fd00::5", "fd00::6");

                        if (types[i] == FRAGMENT && len > 8)
                                break;
                        chain_add(&p, types[i], len, &last);
                        from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
                        p.extensions[last + 1]++; /* and one that is longer than it is */
                        if (types[i] != FRAGMENT)
                                from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
                        p.extensions[last + 1] = 255;
                        if (types[i] != FRAGMENT)
                                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_BAD_PACKET);
                }
}

static void test_bound(void **state)
{
        for (int n = 0; n <= 12; n++) {
                struct packet p = packet_between("fd00::5", "fd00::6");
                size_t last = 0;

                for (int i = 0; i < n; i++)
                        chain_add(&p, DSTOPTS, 8, &last);
                from_container(&p, n <= 8 ? TC_ACT_REDIRECT : TC_ACT_SHOT,
                               n <= 8 ? SLIM_REASON_NONE : SLIM_REASON_ENCAP_BAD_HEADER);
        }
}

static void test_hop_by_hop_is_first(void **state)
{
        struct packet p = packet_between("fd00::5", "fd00::6");
        size_t last = 0;

        chain_add(&p, HOPOPTS, 8, &last);
        chain_add(&p, DSTOPTS, 8, &last);
        from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
        chain_clear(&p);
        chain_add(&p, DSTOPTS, 8, &last);
        chain_add(&p, HOPOPTS, 8, &last);
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_BAD_HEADER);
        chain_clear(&p);
        chain_add(&p, HOPOPTS, 8, &last);
        chain_add(&p, HOPOPTS, 8, &last);
        from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_BAD_HEADER);
}

/* With an address left to visit, or of type 0, it goes to nobody, from nobody. */
static void test_routing(void **state)
{
        size_t last = 0;

        for (unsigned int type = 0; type < 256; type++)
                for (unsigned int left = 0; left < 3; left++) {
                        bool good = type > 0 && left == 0;
                        int verdict = good ? TC_ACT_REDIRECT : TC_ACT_SHOT;
                        enum slim_reason reason =
                            good ? SLIM_REASON_NONE : SLIM_REASON_ENCAP_BAD_HEADER;
                        struct packet p = packet_between("fd00::5", "fd00::6");
                        uint8_t *h = chain_add(&p, ROUTING, 24, &last);

                        h[2] = (uint8_t)type;
                        h[3] = (uint8_t)left;
                        from_container(&p, verdict, reason);
                        p.from = harness_addr("fd00::7");
                        p.to = harness_addr("fd00::5");
                        from_vxlan(&p, NETWORK, "2001:db8::9", verdict, reason);
                        p.from = harness_addr("2001:db8::1");
                        to_container(&p, LO, good ? TC_ACT_OK : TC_ACT_SHOT, reason);
                        to_container(&p, 0, TC_ACT_OK, SLIM_REASON_NONE);
                }
}

static void test_fragments(void **state)
{
        static const struct {
                uint16_t field; /* offset in eights << 3, and the bit that says "more" */
                bool first;
        } cases[] = {{0x0000, true}, {0x0001, true},  {0x0008, false}, {0x0009, false},
                     {0x0006, true}, {0xfff8, false}, {0x8000, false}};
        size_t last = 0;

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct packet p = packet_between("fd00::5", "fd00::6");
                uint8_t *h = chain_add(&p, FRAGMENT, 8, &last);

                h[2] = (uint8_t)(cases[i].field >> 8);
                h[3] = (uint8_t)cases[i].field;
                from_container(&p, TC_ACT_REDIRECT, SLIM_REASON_NONE);
                /* What is behind a first one is read, what is behind a later one is just data. */
                h[0] = 200;
                from_container(&p, cases[i].first ? TC_ACT_SHOT : TC_ACT_REDIRECT,
                               cases[i].first ? SLIM_REASON_ENCAP_BAD_HEADER : SLIM_REASON_NONE);
                /* Who it is from and for is in every fragment. */
                p.from = harness_addr("fd00::6");
                h[0] = UDP;
                from_container(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
        for (int second = 0; second < 2; second++) {
                struct packet p = packet_between("fd00::5", "fd00::6");

                chain_add(&p, FRAGMENT, 8, &last)[3] = 1;
                if (second)
                        chain_add(&p, FRAGMENT, 8, &last)[3] = 1;
                from_container(&p, second ? TC_ACT_SHOT : TC_ACT_REDIRECT,
                               second ? SLIM_REASON_ENCAP_BAD_HEADER : SLIM_REASON_NONE);
        }
}

/* Cut anywhere, or with a payload length that ends anywhere, it goes only with its whole chain. */
static void test_truncated(void **state)
{
        struct packet p = packet_between("fd00::5", "fd00::6");
        uint8_t data[PACKET_MAX];
        size_t last = 0, len, need;

        chain_add(&p, HOPOPTS, 16, &last);
        chain_add(&p, DSTOPTS, 8, &last);
        len = packet_build(&p, data);
        need = 40 + 24 + 8;
        for (size_t n = 40; n <= len - ETH_HLEN; n++) {
                bool good = n >= need;
                bool walked = n >= 40 + 16 + 8; /* over both extension headers */

                assert_int_equal(
                    harness_run_tc(skel->progs.slim_from_container, data, ETH_HLEN + n, LO),
                    good ? TC_ACT_REDIRECT : TC_ACT_SHOT);
                harness_counted(skel, good     ? SLIM_REASON_NONE
                                      : walked ? SLIM_REASON_ENCAP_BAD_PACKET
                                               : SLIM_REASON_ENCAP_BAD_HEADER);
        }
}

static void test_payload_length(void **state)
{
        struct packet p = packet_between("fd00::5", "fd00::6");
        uint8_t data[PACKET_MAX];
        size_t last = 0, len;

        chain_add(&p, DSTOPTS, 8, &last);
        len = packet_build(&p, data);
        for (uint16_t n = 0; n < 100; n++) {
                bool good = n >= 16;

                data[ETH_HLEN + 4] = (uint8_t)(n >> 8);
                data[ETH_HLEN + 5] = (uint8_t)n;
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, LO),
                                 good ? TC_ACT_REDIRECT : TC_ACT_SHOT);
                harness_counted(skel, good    ? SLIM_REASON_NONE
                                      : n < 8 ? SLIM_REASON_ENCAP_BAD_HEADER
                                              : SLIM_REASON_ENCAP_BAD_PACKET);
        }
}

/* The walk as the documents have it, on a whole packet from its IPv6 header on. */
static bool understood(const uint8_t *ip, size_t len)
{
        size_t at = 40, end = 40 + (size_t)(ip[4] << 8 | ip[5]);
        uint8_t next = ip[6];
        bool fragment = false;

        if (end > len)
                end = len;
        for (int n = 0; n <= 8; n++) {
                const uint8_t *h = ip + at;
                size_t size;

                if (transport_len(next) >= 0)
                        return at + (size_t)transport_len(next) <= end;
                if (at + 8 > end)
                        return false;
                size = (size_t)(h[1] + 1) * 8;
                if (next == FRAGMENT) {
                        if (fragment)
                                return false;
                        if ((h[2] << 8 | h[3]) & 0xfff8)
                                return true;
                        fragment = h[3] & 1;
                        size = 8;
                } else if (next == AH) {
                        size = (size_t)(h[1] + 2) * 4;
                } else if (next == ROUTING) {
                        if (h[2] == 0 || h[3] != 0)
                                return false;
                } else if (next != DSTOPTS && !(next == HOPOPTS && n == 0)) {
                        return false;
                }
                next = h[0];
                at += size;
        }
        return false;
}

static void test_random_chains(void **state)
{
        static const uint8_t types[] = {HOPOPTS, ROUTING, FRAGMENT, AH, DSTOPTS, DSTOPTS, ESP, 135};
        unsigned int good = 0;

        for (int i = 0; i < 20000; i++) {
                struct packet p = packet_between("fd00::5", "fd00::6");
                uint8_t data[PACKET_MAX];
                size_t last = 0, len;
                uint32_t n = harness_random() % 6;
                int verdict;
                bool want;

                p.protocol = harness_random() % 4 ? UDP : (uint8_t)harness_random();
                for (uint32_t k = 0; k < n; k++)
                        chain_add(&p, types[harness_random() % ARRAY_SIZE(types)],
                                  8 * (size_t)(1 + harness_random() % 3), &last);
                for (uint32_t k = harness_random() % 3; k > 0 && n; k--)
                        p.extensions[harness_random() % p.extensions_len] =
                            (uint8_t)(harness_random() % 2 ? harness_random() : 0);
                len = packet_build(&p, data);
                if (harness_random() % 4 == 0)
                        len -= harness_random() % (len - ETH_HLEN - 40 + 1);
                want = understood(data + ETH_HLEN, len - ETH_HLEN);
                verdict = harness_run_tc(skel->progs.slim_from_container, data, len, LO);
                if (verdict != (want ? TC_ACT_REDIRECT : TC_ACT_SHOT))
                        fail_msg("packet %d: verdict %d", i, verdict);
                good += want;
        }
        assert_in_range(good, 2000, 18000);
}

/* --- to a container, from and to VXLAN -------------------------------------------------------- */

static void test_to_container(void **state)
{
        struct packet p = packet_between("2001:db8::1", "fd00::5");

        to_container(&p, LO, TC_ACT_OK, SLIM_REASON_NONE);
        p.from = harness_addr("fd00::7");
        to_container(&p, LO, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        to_container(&p, 0, TC_ACT_OK, SLIM_REASON_NONE);
        p.from = harness_addr("fd01::99");
        to_container(&p, LO, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
}

static void test_from_vxlan(void **state)
{
        struct packet p = packet_between("fd00::7", "fd00::5");

        from_vxlan(&p, NETWORK, "2001:db8::9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
        from_vxlan(&p, NETWORK, "2001:db8::8", TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        from_vxlan(&p, NETWORK, "192.0.2.9", TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        from_vxlan(&p, NETWORK, "2001:db8::7", TC_ACT_SHOT, SLIM_REASON_ENCAP_UNKNOWN_HOST);
        from_vxlan(&p, NETWORK, "192.0.2.7", TC_ACT_SHOT, SLIM_REASON_ENCAP_UNKNOWN_HOST);
        from_vxlan(&p, OTHER_NETWORK, "2001:db8::9", TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        for (unsigned int bit = 0; bit < 128; bit++) {
                struct packet other = p;

                other.from.b[bit / 8] ^= (uint8_t)(1U << bit % 8);
                from_vxlan(&other, NETWORK, "2001:db8::9", TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
        p.to = harness_addr("fd00::99");
        from_vxlan(&p, NETWORK, "2001:db8::9", TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_ENDPOINT);
        /* A host of both families may send by either, and an IPv4 one sends IPv6 all the same. */
        endpoint(3, NETWORK, "fd00::7 10.1.0.7", "192.0.2.9 2001:db8::9", 0);
        p = packet_between("fd00::7", "fd00::5");
        from_vxlan(&p, NETWORK, "192.0.2.9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
        from_vxlan(&p, NETWORK, "2001:db8::9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
        p = packet_between("10.1.0.7", "10.1.0.5");
        from_vxlan(&p, NETWORK, "192.0.2.9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
        from_vxlan(&p, NETWORK, "2001:db8::9", TC_ACT_REDIRECT, SLIM_REASON_NONE);
}

static void test_to_vxlan(void **state)
{
        struct packet p = packet_between("fd00::5", "fd00::7");

        to_vxlan(&p, TC_ACT_OK, SLIM_REASON_NONE);
        p.to = harness_addr("fd00::6"); /* here */
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_ENDPOINT);
        p.to = harness_addr("fd01::8"); /* of another network */
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_ENDPOINT);
        p.to = harness_addr("fd00::9"); /* its host has IPv4 alone, this one IPv6 */
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_WAY);
        endpoint(1, NETWORK, "fd00::5", "192.0.2.8 2001:db8::8", SLIM_ENDPOINT_LOCAL);
        to_vxlan(&p, TC_ACT_OK, SLIM_REASON_NONE);
        p = packet_between("fd00::7", "fd00::9"); /* not from here */
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("2001:db8::1", "fd00::7"); /* of no network */
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("fd00::5", "fd00::7");
        p.protocol = 200;
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_BAD_HEADER);
}

static int load_tunnel(void **state)
{
        uint32_t zero = 0;
        int fd;

        tunnel = tunnel_bpf__open_and_load();
        if (!tunnel)
                return -1;
        fd = bpf_program__fd(skel->progs.slim_from_vxlan);
        return bpf_map_update_elem(bpf_map__fd(tunnel->maps.next), &zero, &fd, BPF_ANY);
}

static int unload_tunnel(void **state)
{
        tunnel_bpf__destroy(tunnel);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
            TEST(test_container_routes), TEST(test_last_hop),      TEST(test_container_spoofed),
            TEST(test_mapped),           TEST(test_scoped),        TEST(test_every_next_header),
            TEST(test_each_extension),   TEST(test_bound),         TEST(test_hop_by_hop_is_first),
            TEST(test_routing),          TEST(test_fragments),     TEST(test_truncated),
            TEST(test_payload_length),   TEST(test_random_chains), TEST(test_to_container),
            TEST(test_from_vxlan),       TEST(test_to_vxlan),
#undef TEST
        };
        int failed;

        skel = harness_start();
        if (!skel)
                return 0;
        failed = cmocka_run_group_tests(tests, load_tunnel, unload_tunnel);
        slim_bpf__destroy(skel);
        return failed;
}
