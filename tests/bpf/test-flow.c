// SPDX-License-Identifier: Apache-2.0
/*
 * Policies on the encapsulated path: slim_from_container and slim_to_container by themselves. What
 * slim_from_vxlan and slim_to_vxlan ask is the same function.
 */
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <bpf/bpf.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"

#define NETWORK 7

/* Identities: of container A, of container B, of a container elsewhere. */
#define ID_A    21
#define ID_B    22
#define ID_FAR  23
#define ADDR_A  "10.1.0.5"
#define ADDR_B  "10.1.0.6"
#define FAR     "10.1.0.7"
#define OUTSIDE "198.51.100.1"
#define ADDR6_A "fd00::5"
#define ADDR6_B "fd00::6"
#define FAR6    "fd00::7"

static struct slim_bpf *skel;
static uint32_t if_a, if_b; /* the host's sides of their veths, which are the two ends of one */

/* --- the maps --------------------------------------------------------------------------------- */

static void endpoint(uint32_t id, const char *addrs, uint32_t identity, uint32_t ifindex)
{
        struct slim_endpoint e = {
            .id = id,
            .network = NETWORK,
            .flags = ifindex ? SLIM_ENDPOINT_LOCAL : 0,
            .ifindex = ifindex,
            .identity = identity,
        };

        harness_addrs(e.addr, addrs);
        harness_addrs(e.host, ifindex ? "192.0.2.8" : "192.0.2.9");
        harness_endpoint(skel, &e);
        if (ifindex) {
                struct slim_device d = {.endpoint = id, .network = NETWORK};

                memcpy(d.addr, e.addr, sizeof(d.addr));
                harness_put(skel->maps.devices, &ifindex, &d);
        }
}

static void prefix(const char *addr, uint32_t bits)
{
        struct slim_prefix_key key = {.prefixlen = bits, .addr = harness_addr(addr)};
        uint32_t network = NETWORK;

        harness_put(skel->maps.prefixes, &key, &network);
}

static int setup(void **state)
{
        harness_reset(skel);
        endpoint(1, ADDR_A " " ADDR6_A, ID_A, if_a);
        endpoint(2, ADDR_B " " ADDR6_B, ID_B, if_b);
        endpoint(3, FAR " " FAR6, ID_FAR, 0);
        prefix("10.1.0.0", 96 + 16);
        prefix("fd00::", 64);
        return 0;
}

static void subject(uint32_t identity, uint32_t flags)
{
        struct slim_policy_subject s = {.flags = flags};

        harness_put(skel->maps.policy_subjects, &identity, &s);
}

#define INGRESS (SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS)
#define EGRESS  (SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS)

/* What a subject may: port 0 is all, protocol 0 too. */
static struct slim_policy_key rule(uint32_t identity, uint8_t direction, uint32_t peer,
                                   uint8_t protocol, uint16_t port)
{
        return (struct slim_policy_key){
            .prefixlen = port       ? SLIM_POLICY_BITS_PORT
                         : protocol ? SLIM_POLICY_BITS_PROTOCOL
                                    : SLIM_POLICY_BITS_PEER,
            .subject = identity,
            .peer = peer,
            .direction = direction,
            .protocol = protocol,
            .be_port = htons(port),
        };
}

static void allow(uint32_t identity, uint8_t direction, uint32_t peer, uint8_t protocol,
                  uint16_t port)
{
        struct slim_policy_key key = rule(identity, direction, peer, protocol, port);
        uint32_t one = 1;

        harness_put(skel->maps.policy_rules, &key, &one);
}

static void forbid(uint32_t identity, uint8_t direction, uint32_t peer, uint8_t protocol,
                   uint16_t port)
{
        struct slim_policy_key key = rule(identity, direction, peer, protocol, port);

        assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.policy_rules), &key), 0);
}

/* --- packets ---------------------------------------------------------------------------------- */

/* A packet of ICMP or ICMPv6 has its type and code where a port would be, and its number behind. */
static struct packet packet(const char *from, uint16_t from_port, const char *to, uint16_t to_port,
                            uint8_t protocol)
{
        return (struct packet){
            .from = harness_addr(from),
            .to = harness_addr(to),
            .from_port = from_port,
            .to_port = to_port,
            .protocol = protocol,
        };
}

static int run(const struct packet *p, const struct bpf_program *prog, uint32_t ifindex)
{
        uint8_t data[PACKET_MAX];

        return harness_run_tc(prog, data, packet_build(p, data), ifindex);
}

static void passes(const struct packet *p, uint32_t ifindex)
{
        assert_int_not_equal(run(p, skel->progs.slim_from_container, ifindex), TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_NONE);
}

static void denied(const struct packet *p, uint32_t ifindex, enum slim_reason reason)
{
        assert_int_equal(run(p, skel->progs.slim_from_container, ifindex), TC_ACT_SHOT);
        harness_counted(skel, reason);
}

static unsigned int flows(void)
{
        return harness_entries(skel->maps.flows);
}

/* --- tests ------------------------------------------------------------------------------------ */

static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_SCTP,
                                    IPPROTO_DCCP};

/* Nobody is selected: nothing is asked, and nothing remembered. */
static void test_no_policy(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                struct packet p = packet(ADDR_A, 5000, ADDR_B, 80, protocols[i]);

                passes(&p, if_a);
        }
        assert_int_equal(flows(), 0);
}

static void test_ports_and_protocols(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                struct packet p = packet(ADDR_A, 5000, FAR, 80, protocols[i]);
                struct packet other = packet(ADDR_A, 80, FAR, 81, protocols[i]);
                struct packet six = packet(ADDR6_A, 5000, FAR6, 80, protocols[i]);

                setup(NULL);
                subject(ID_A, EGRESS);
                denied(&p, if_a, SLIM_REASON_POLICY_EGRESS);
                allow(ID_A, SLIM_POLICY_EGRESS, ID_FAR, protocols[i], 80);
                passes(&p, if_a);
                passes(&six, if_a);
                denied(&other, if_a, SLIM_REASON_POLICY_EGRESS);
                /* The other protocols have the port too, and no rule. */
                p.protocol = protocols[(i + 1) % ARRAY_SIZE(protocols)];
                denied(&p, if_a, SLIM_REASON_POLICY_EGRESS);
                /* Answers to A are nobody's to deny, so they are not waited for. */
                assert_int_equal(flows(), 0);
        }
}

/* The two directions are two subjects' affair. */
static void test_both_ends(void **state)
{
        struct packet p = packet(ADDR_A, 5000, ADDR_B, 80, IPPROTO_UDP);

        subject(ID_B, INGRESS);
        denied(&p, if_a, SLIM_REASON_POLICY_INGRESS);
        allow(ID_B, SLIM_POLICY_INGRESS, ID_A, IPPROTO_UDP, 80);
        passes(&p, if_a);
        subject(ID_A, EGRESS);
        denied(&p, if_a, SLIM_REASON_POLICY_EGRESS);
        allow(ID_A, SLIM_POLICY_EGRESS, 0, 0, 0);
        passes(&p, if_a);
}

/* B may not speak to A, but answer, and to nothing else than it was asked, and as long as A may
 * ask. */
static void test_answers(void **state)
{
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                struct packet question = packet(ADDR_A, 5000, ADDR_B, 80, protocols[i]);
                struct packet answer = packet(ADDR_B, 80, ADDR_A, 5000, protocols[i]);
                struct packet others[] = {
                    packet(ADDR_B, 81, ADDR_A, 5000, protocols[i]),
                    packet(ADDR_B, 80, ADDR_A, 5001, protocols[i]),
                    packet(ADDR_B, 80, ADDR_A, 5000, protocols[(i + 1) % ARRAY_SIZE(protocols)]),
                };

                setup(NULL);
                subject(ID_A, INGRESS | EGRESS);
                allow(ID_A, SLIM_POLICY_EGRESS, ID_B, protocols[i], 80);
                denied(&answer, if_b, SLIM_REASON_POLICY_INGRESS);
                passes(&question, if_a);
                assert_int_equal(flows(), 1);
                passes(&answer, if_b);
                for (size_t k = 0; k < ARRAY_SIZE(others); k++)
                        denied(&others[k], if_b, SLIM_REASON_POLICY_INGRESS);
                forbid(ID_A, SLIM_POLICY_EGRESS, ID_B, protocols[i], 80);
                denied(&answer, if_b, SLIM_REASON_POLICY_INGRESS);
                denied(&question, if_a, SLIM_REASON_POLICY_EGRESS);
        }
}

/* The same of a server that may begin nothing. */
static void test_answers_of_a_server(void **state)
{
        struct packet question = packet(ADDR_A, 5000, ADDR_B, 80, IPPROTO_UDP);
        struct packet answer = packet(ADDR_B, 80, ADDR_A, 5000, IPPROTO_UDP);

        subject(ID_B, INGRESS | EGRESS);
        allow(ID_B, SLIM_POLICY_INGRESS, ID_A, IPPROTO_UDP, 80);
        denied(&answer, if_b, SLIM_REASON_POLICY_EGRESS);
        passes(&question, if_a);
        passes(&answer, if_b);
        forbid(ID_B, SLIM_POLICY_INGRESS, ID_A, IPPROTO_UDP, 80);
        denied(&answer, if_b, SLIM_REASON_POLICY_EGRESS);
}

/* An answer that comes after a long silence is none. */
static void test_old_flows(void **state)
{
        struct packet question = packet(ADDR_A, 5000, ADDR_B, 80, IPPROTO_UDP);
        struct packet answer = packet(ADDR_B, 80, ADDR_A, 5000, IPPROTO_UDP);
        struct slim_flow_key key;
        uint64_t seen, old = 1, again;
        int fd = bpf_map__fd(skel->maps.flows);

        subject(ID_A, INGRESS);
        passes(&question, if_a);
        assert_int_equal(bpf_map_get_next_key(fd, NULL, &key), 0);
        assert_int_equal(bpf_map_lookup_elem(fd, &key, &seen), 0);
        assert_int_equal(bpf_map_update_elem(fd, &key, &old, BPF_EXIST), 0);
        denied(&answer, if_b, SLIM_REASON_POLICY_INGRESS);
        passes(&question, if_a);
        passes(&answer, if_b);
        assert_int_equal(bpf_map_lookup_elem(fd, &key, &again), 0);
        assert_true(again >= seen);
}

/* Not an endpoint: by its address. */
static void test_outside(void **state)
{
        struct slim_prefix_key cidr = {.prefixlen = 96 + 24, .addr = harness_addr("198.51.100.0")};
        struct packet p = packet(ADDR_A, 5000, OUTSIDE, 53, IPPROTO_UDP);
        struct packet answer = packet(OUTSIDE, 53, ADDR_A, 5000, IPPROTO_UDP);
        uint32_t id = 5;

        subject(ID_A, INGRESS | EGRESS | SLIM_POLICY_CIDRS << SLIM_POLICY_EGRESS);
        denied(&p, if_a, SLIM_REASON_POLICY_EGRESS);
        harness_put(skel->maps.policy_cidrs, &cidr, &id);
        allow(ID_A, SLIM_POLICY_EGRESS, SLIM_POLICY_CIDR | id, IPPROTO_UDP, 53);
        /* A test run has no device that it came in by but the one that it is on: as if A's packet
         * had been forwarded. */
        assert_int_equal(run(&answer, skel->progs.slim_to_container, if_a), TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
        passes(&p, if_a);
        assert_int_equal(run(&answer, skel->progs.slim_to_container, if_a), TC_ACT_OK);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* ICMP's type and code, and the number of an echo, where TCP has its ports and more. */
static struct packet icmp(const char *from, const char *to, uint8_t type, uint16_t id)
{
        struct packet p = packet(from, (uint16_t)(type << 8), to, 0,
                                 strchr(from, ':') ? IPPROTO_ICMPV6 : IPPROTO_ICMP);

        p.sequence = (uint32_t)id << 16;
        return p;
}

static void test_echo(void **state)
{
        static const struct {
                const char *a, *b;
                uint8_t request, reply, protocol;
        } families[] = {
            {ADDR_A, ADDR_B, 8, 0, IPPROTO_ICMP},
            {ADDR6_A, ADDR6_B, 128, 129, IPPROTO_ICMPV6},
        };

        for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
                struct packet request = icmp(families[i].a, families[i].b, families[i].request, 77);
                struct packet reply = icmp(families[i].b, families[i].a, families[i].reply, 77);
                struct packet other = icmp(families[i].b, families[i].a, families[i].reply, 78);
                struct packet back = icmp(families[i].b, families[i].a, families[i].request, 77);

                setup(NULL);
                subject(ID_A, INGRESS | EGRESS);
                denied(&request, if_a, SLIM_REASON_POLICY_EGRESS);
                allow(ID_A, SLIM_POLICY_EGRESS, ID_B, families[i].protocol, 0);
                denied(&reply, if_b, SLIM_REASON_POLICY_INGRESS);
                passes(&request, if_a);
                passes(&reply, if_b);
                denied(&other, if_b, SLIM_REASON_POLICY_INGRESS);
                denied(&back, if_b, SLIM_REASON_POLICY_INGRESS);
        }
}

/* Neighbour discovery is no matter between containers, whatever policies say. */
static void test_discovery(void **state)
{
        for (uint8_t type = 133; type <= 137; type++) {
                struct packet p = icmp(ADDR6_A, ADDR6_B, type, 0);

                denied(&p, if_a, SLIM_REASON_ENCAP_SPOOFED);
        }
}

/* An ICMP packet of `type` about a packet of UDP that has been sent, headers and ports of it. */
static size_t error_about(const struct packet *sent, const struct packet *error, uint8_t *data)
{
        bool v4 = inaddr_family(&sent->from) == SLIM_V4;
        uint8_t inner[PACKET_MAX];
        struct packet p = *error;
        size_t ip = v4 ? 20 : 40, len, quoted = ip + 8;

        p.payload = 200;
        len = packet_build(&p, data);
        packet_build(sent, inner);
        memcpy(data + 14 + ip + 8, inner + 14, quoted);
        return len;
}

static void test_errors(void **state)
{
        static const struct {
                const char *a, *b;
                uint8_t types[4];
        } families[] = {
            {ADDR_A, ADDR_B, {3, 11, 12, 3}},
            {ADDR6_A, ADDR6_B, {1, 2, 3, 4}},
        };

        for (size_t i = 0; i < 8; i++) {
                const char *a = families[i / 4].a, *b = families[i / 4].b;
                struct packet sent = packet(a, 5000, b, 80, IPPROTO_UDP);
                struct packet never = packet(a, 5001, b, 80, IPPROTO_UDP);
                struct packet error = icmp(b, a, families[i / 4].types[i % 4], 0);
                uint8_t data[PACKET_MAX];
                size_t len;

                setup(NULL);
                subject(ID_A, INGRESS | EGRESS);
                allow(ID_A, SLIM_POLICY_EGRESS, ID_B, IPPROTO_UDP, 80);
                len = error_about(&sent, &error, data);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
                passes(&sent, if_a);
                assert_int_not_equal(
                    harness_run_tc(skel->progs.slim_from_container, data, len, if_b), TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_NONE);
                len = error_about(&never, &error, data);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
                /* Too short for what it complains of. */
                len = error_about(&sent, &error, data);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data,
                                                14U + (i < 4 ? 20U : 40U) + 8U + 10U, if_b),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
        }
}

/* What an echo request meets on its way is its sender's to hear, and of no other request. */
static void test_errors_about_echoes(void **state)
{
        for (int f = 0; f < 2; f++) {
                const char *a = f ? ADDR6_A : ADDR_A, *b = f ? ADDR6_B : ADDR_B;
                struct packet sent = icmp(a, b, f ? 128 : 8, 77);
                struct packet error = icmp(b, a, f ? 1 : 3, 0);
                uint8_t data[PACKET_MAX];
                size_t len;

                setup(NULL);
                subject(ID_A, INGRESS);
                len = error_about(&sent, &error, data);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
                passes(&sent, if_a);
                assert_int_not_equal(
                    harness_run_tc(skel->progs.slim_from_container, data, len, if_b), TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_NONE);
                sent = icmp(a, b, f ? 128 : 8, 78);
                len = error_about(&sent, &error, data);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
        }
}

/* Nobody brings a packet through by an error about what is none of his, or none of the victim's. */
static void test_errors_of_others(void **state)
{
        struct packet sent = packet(ADDR_A, 5000, FAR, 80, IPPROTO_UDP);
        struct packet other = packet(OUTSIDE, 5000, ADDR_B, 80, IPPROTO_UDP);
        struct packet error = icmp(ADDR_B, ADDR_A, 3, 0);
        uint8_t data[PACKET_MAX];
        size_t len;

        subject(ID_A, INGRESS | EGRESS);
        allow(ID_A, SLIM_POLICY_EGRESS, ID_FAR, IPPROTO_UDP, 80);
        allow(ID_A, SLIM_POLICY_INGRESS, ID_FAR, 0, 0);
        passes(&sent, if_a);
        len = error_about(&sent, &error, data);
        assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                         TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
        allow(ID_A, SLIM_POLICY_INGRESS, ID_B, IPPROTO_UDP, 0);
        len = error_about(&other, &error, data);
        assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                         TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
        /* A host may say so: it is the router. */
        {
                struct slim_endpoint e;
                struct slim_endpoint_key key = {.network = NETWORK, .addr = harness_addr(ADDR_B)};

                assert_true(harness_get(skel->maps.endpoints, &key, &e));
                e.flags |= SLIM_ENDPOINT_HOST;
                harness_put(skel->maps.endpoints, &key, &e);
        }
        len = error_about(&sent, &error, data);
        assert_int_not_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_b),
                             TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* A fragment that is not the first has no ports to be judged by, and comes to nothing alone. */
static void test_fragments(void **state)
{
        struct packet first = packet(ADDR_A, 5000, ADDR_B, 80, IPPROTO_UDP);
        struct packet later = packet(ADDR_A, 5000, ADDR_B, 80, IPPROTO_UDP);

        first.fragment = 0x2000;
        later.fragment = 10;
        subject(ID_B, INGRESS);
        denied(&first, if_a, SLIM_REASON_POLICY_INGRESS);
        passes(&later, if_a);
        allow(ID_B, SLIM_POLICY_INGRESS, ID_A, IPPROTO_UDP, 80);
        passes(&first, if_a);
}

static int make_devices(void **state)
{
        return harness_veth(&if_a, &if_b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, setup)
        static const struct CMUnitTest tests[] = {
            TEST(test_no_policy),
            TEST(test_ports_and_protocols),
            TEST(test_both_ends),
            TEST(test_answers),
            TEST(test_answers_of_a_server),
            TEST(test_old_flows),
            TEST(test_outside),
            TEST(test_echo),
            TEST(test_discovery),
            TEST(test_errors),
            TEST(test_errors_about_echoes),
            TEST(test_errors_of_others),
            TEST(test_fragments),
        };
        int r;

        skel = harness_start();
        if (!skel)
                return 0;
        r = cmocka_run_group_tests(tests, make_devices, NULL);
        slim_bpf__destroy(skel);
        return r;
}
