// SPDX-License-Identifier: Apache-2.0
/*
 * What becomes of a packet that a policy rejects: slim_from_container makes it its own answer, or
 * drops it. Looked at byte by byte, with checksums as they are, and as they come out when the
 * packet is one whose checksum is still left to the device.
 */
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/icmp6.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip6.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
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
#define ID_B    22

static struct slim_bpf *skel;
static uint32_t if_a, if_b; /* the host's sides of two veths; which are the two ends of one */

static const struct {
        const char *a, *b, *far;
} families[] = {{"10.1.0.5", "10.1.0.6", "10.1.0.7"}, {"fd00::5", "fd00::6", "fd00::7"}};

static void endpoint(uint32_t id, const char *addrs, uint32_t identity, uint32_t ifindex)
{
        struct slim_endpoint e = {
            .id = id,
            .network = NETWORK,
            .flags = ifindex ? SLIM_ENDPOINT_LOCAL : 0,
            .ifindex = ifindex,
            .identity = identity,
        };
        struct slim_device d = {.endpoint = id, .network = NETWORK};

        harness_addrs(e.addr, addrs);
        harness_addrs(e.host, ifindex ? "192.0.2.8" : "192.0.2.9");
        harness_endpoint(skel, &e);
        memcpy(d.addr, e.addr, sizeof(d.addr));
        if (ifindex)
                harness_put(skel->maps.devices, &ifindex, &d);
}

static void subject(uint32_t flags)
{
        struct slim_policy_subject s = {.flags = flags};
        uint32_t identity = ID_B;

        harness_put(skel->maps.policy_subjects, &identity, &s);
}

/* Nobody may talk to B, nor B to anybody. */
static int setup(void **state)
{
        harness_reset(skel);
        endpoint(1, "10.1.0.5 fd00::5", 0, if_a);
        endpoint(2, "10.1.0.6 fd00::6", ID_B, if_b);
        endpoint(3, "10.1.0.7 fd00::7", 0, 0);
        subject((SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS) << SLIM_POLICY_INGRESS |
                (SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS) << SLIM_POLICY_EGRESS);
        return 0;
}

/* --- checksums -------------------------------------------------------------------------------- */

/* RFC 1071: what a good packet has is 0xffff. */
static uint32_t sum(const void *data, size_t len, uint32_t seed)
{
        const uint8_t *at = data;

        for (size_t i = 0; i < len; i++)
                seed += i % 2 ? at[i] : (uint32_t)at[i] << 8;
        while (seed >> 16)
                seed = (seed & 0xffff) + (seed >> 16);
        return seed;
}

struct answer {
        uint8_t data[PACKET_MAX];
        size_t len;
        size_t at; /* of the transport header */
        bool v4;
        uint8_t protocol;
};

static uint32_t pseudo_sum(const struct answer *a)
{
        const uint8_t *ip = a->data + ETH_HLEN;
        uint32_t s = (uint32_t)(a->len - a->at) + a->protocol;

        return a->v4 ? sum(ip + 12, 8, s) : sum(ip + 8, 32, s);
}

static void transport_is_good(const struct answer *a)
{
        uint32_t seed = a->protocol == IPPROTO_ICMP ? 0 : pseudo_sum(a);

        assert_int_equal(sum(a->data + a->at, a->len - a->at, seed), 0xffff);
}

/* What skb_checksum_help() does to a packet whose checksum was at `offset` of the header. */
static void complete(struct answer *a, size_t offset)
{
        uint16_t check = (uint16_t)~sum(a->data + a->at, a->len - a->at, 0);

        check = htons(check ? check : 0xffff);
        memcpy(a->data + a->at + offset, &check, sizeof(check));
}

/* --- runs ------------------------------------------------------------------------------------- */

static struct packet packet(const char *from, const char *to, uint8_t protocol)
{
        return (struct packet){
            .from = harness_addr(from),
            .to = harness_addr(to),
            .from_port = 40000,
            .to_port = 80,
            .sequence = 0xfffffffe,
            .protocol = protocol,
        };
}

/* An answer that goes from whom p was for to whom it was from. */
static struct answer answered(const struct packet *p, const uint8_t *data, size_t len,
                              uint32_t ifindex, enum slim_reason reason)
{
        static const uint8_t mac[ETH_ALEN] = SLIM_CONTAINER_MAC;
        struct answer a = {.v4 = inaddr_is_v4(&p->from)};
        const uint8_t *ip = a.data + ETH_HLEN;

        assert_int_equal(
            harness_run_tc_out(skel->progs.slim_from_container, data, len, ifindex, a.data, &a.len),
            TC_ACT_REDIRECT);
        harness_counted(skel, reason);
        assert_memory_equal(a.data, data + ETH_ALEN, ETH_ALEN);
        assert_memory_equal(a.data + ETH_ALEN, mac, ETH_ALEN);
        if (a.v4) {
                struct iphdr h;

                memcpy(&h, ip, sizeof(h));
                assert_int_equal(sum(&h, sizeof(h), 0), 0xffff);
                assert_int_equal(h.version, 4);
                assert_int_equal(h.ihl, 5);
                assert_int_equal(ntohs(h.tot_len), a.len - ETH_HLEN);
                assert_int_equal(h.ttl, 64);
                assert_int_equal(h.saddr, inaddr_to_v4(&p->to));
                assert_int_equal(h.daddr, inaddr_to_v4(&p->from));
                a.protocol = h.protocol;
                a.at = ETH_HLEN + sizeof(h);
        } else {
                struct ip6_hdr h;

                memcpy(&h, ip, sizeof(h));
                assert_int_equal(ntohl(h.ip6_flow), 6U << 28);
                assert_int_equal(ntohs(h.ip6_plen), a.len - ETH_HLEN - sizeof(h));
                assert_int_equal(h.ip6_hlim, 64);
                assert_memory_equal(&h.ip6_src, &p->to, 16);
                assert_memory_equal(&h.ip6_dst, &p->from, 16);
                a.protocol = h.ip6_nxt;
                a.at = ETH_HLEN + sizeof(h);
        }
        transport_is_good(&a);
        return a;
}

static void silent(const struct packet *p)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_a),
                         TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
}

/* --- TCP -------------------------------------------------------------------------------------- */

static struct tcphdr reset_of(const struct packet *p, uint32_t ifindex, enum slim_reason reason)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);
        struct answer a = answered(p, data, len, ifindex, reason);
        struct tcphdr th;

        assert_int_equal(a.protocol, IPPROTO_TCP);
        assert_int_equal(a.len, a.at + sizeof(th));
        memcpy(&th, a.data + a.at, sizeof(th));
        assert_int_equal(ntohs(th.source), 80);
        assert_int_equal(ntohs(th.dest), 40000);
        assert_int_equal(th.doff, 5);
        assert_int_equal(a.data[a.at + 13], th.ack ? TCP_RST | TCP_ACK : TCP_RST);
        complete(&a, 16);
        transport_is_good(&a);
        return th;
}

/* Of what has no ACK, all that it says is acknowledged; otherwise the reset is where that was. */
static void test_tcp(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p = packet(families[f].a, families[f].b, IPPROTO_TCP);
                struct tcphdr th;

                p.flags = TCP_SYN;
                p.options_len = 17;
                th = reset_of(&p, if_a, SLIM_REASON_POLICY_INGRESS);
                assert_true(th.ack);
                assert_int_equal(th.seq, 0);
                assert_int_equal(ntohl(th.ack_seq), 0xffffffff);
                p.flags = TCP_SYN | TCP_FIN;
                p.payload = 1000;
                th = reset_of(&p, if_a, SLIM_REASON_POLICY_INGRESS);
                assert_int_equal(ntohl(th.ack_seq), 1000);
                p.flags = TCP_ACK | TCP_PSH;
                th = reset_of(&p, if_a, SLIM_REASON_POLICY_INGRESS);
                assert_false(th.ack);
                assert_int_equal(th.seq, 0); /* which is what the packet has acknowledged */
                p.flags = TCP_RST;
                silent(&p);
                p.flags = TCP_RST | TCP_ACK;
                silent(&p);
                p.flags = TCP_SYN;
                p.doff = 4;
                silent(&p);
                p.doff = 15; /* and is not that long */
                p.payload = 0;
                p.options_len = 0;
                silent(&p);
        }
}

/* B itself may say nothing. */
static void test_egress(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p = packet(families[f].b, families[f].far, IPPROTO_TCP);
                uint8_t data[PACKET_MAX];
                size_t len;

                p.flags = TCP_SYN;
                reset_of(&p, if_b, SLIM_REASON_POLICY_EGRESS);
                p.protocol = IPPROTO_UDP;
                len = packet_build(&p, data);
                answered(&p, data, len, if_b, SLIM_REASON_POLICY_EGRESS);
                p.to = harness_addr(f ? "2001:db8::1" : "198.51.100.1"); /* who is outside */
                len = packet_build(&p, data);
                answered(&p, data, len, if_b, SLIM_REASON_POLICY_EGRESS);
        }
}

/* Whatever is in the packet, its sums come out right. */
static void test_any_sum(void **state)
{
        for (int i = 0; i < 4000; i++) {
                struct packet p = packet(families[i % 2].a, families[i % 2].b, IPPROTO_TCP);

                p.flags = i % 3 ? TCP_SYN : TCP_ACK;
                p.sequence = harness_random();
                p.payload = harness_random() % 1400;
                reset_of(&p, if_a, SLIM_REASON_POLICY_INGRESS);
        }
}

/* --- all else --------------------------------------------------------------------------------- */

static void prohibited(const struct packet *p, const uint8_t *data, size_t len, size_t checksum)
{
        struct answer a = answered(p, data, len, if_a, SLIM_REASON_POLICY_INGRESS);
        size_t header = a.v4 ? sizeof(struct iphdr) : sizeof(struct ip6_hdr);
        const uint8_t *icmp = a.data + a.at;

        assert_int_equal(a.protocol, a.v4 ? IPPROTO_ICMP : IPPROTO_ICMPV6);
        assert_int_equal(icmp[0], a.v4 ? ICMP_DEST_UNREACH : ICMP6_DST_UNREACH);
        assert_int_equal(icmp[1], a.v4 ? ICMP_PKT_FILTERED : ICMP6_DST_UNREACH_ADMIN);
        assert_int_equal(a.len, a.at + 8 + header + 8);
        /* The header and eight bytes of what it is about. */
        assert_memory_equal(icmp + 8, data + ETH_HLEN, header + 8);
        if (!checksum)
                return;
        complete(&a, checksum);
        transport_is_good(&a);
        assert_memory_equal(icmp + 8, data + ETH_HLEN, header + 8);
}

static void test_datagrams(void **state)
{
        static const uint8_t protocols[] = {IPPROTO_UDP, IPPROTO_UDPLITE, IPPROTO_DCCP,
                                            IPPROTO_GRE};

        for (size_t f = 0; f < ARRAY_SIZE(families); f++)
                for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
                        for (size_t payload = 0; payload < 1400; payload += 173) {
                                struct packet p =
                                    packet(families[f].a, families[f].b, protocols[i]);
                                uint8_t data[PACKET_MAX];
                                size_t len;

                                p.payload = payload;
                                len = packet_build(&p, data);
                                prohibited(&p, data, len, protocols[i] == IPPROTO_GRE ? 0 : 6);
                        }
}

/* Shorter than what it becomes; and too short to be about anything. */
static void test_short(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p = packet(families[f].a, families[f].b, IPPROTO_UDP);
                size_t header = f ? sizeof(struct ip6_hdr) : sizeof(struct iphdr);
                uint8_t data[PACKET_MAX];

                packet_build(&p, data);
                if (f)
                        data[ETH_HLEN + 5] = 8; /* its payload */
                else
                        data[ETH_HLEN + 3] = (uint8_t)(header + 8);
                prohibited(&p, data, ETH_HLEN + header + 8, 6);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data,
                                                ETH_HLEN + header + 7, if_a),
                                 TC_ACT_SHOT);
                harness_counted(skel,
                                f ? SLIM_REASON_ENCAP_BAD_PACKET : SLIM_REASON_POLICY_INGRESS);
        }
}

/* Its type and code are where another protocol has a port. */
static void test_icmp(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p =
                    packet(families[f].a, families[f].b, f ? IPPROTO_ICMPV6 : IPPROTO_ICMP);
                uint16_t echo = f ? ICMP6_ECHO_REQUEST : ICMP_ECHO;
                uint8_t data[PACKET_MAX];
                size_t len;

                for (uint16_t type = 0; type < 256; type++) {
                        if (type == echo || (f && type >= 133 && type <= 137)) /* discovery */
                                continue;
                        p.from_port = (uint16_t)(type << 8);
                        silent(&p);
                }
                p.from_port = (uint16_t)(echo << 8);
                len = packet_build(&p, data);
                prohibited(&p, data, len, 0);
        }
}

static void test_silent(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p = packet(families[f].a, families[f].b, IPPROTO_SCTP);

                silent(&p);
                p.protocol = IPPROTO_UDP;
                p.extensions_len = f ? 16 : 0;
                p.first = IPPROTO_FRAGMENT;
                p.extensions[0] = IPPROTO_UDP;
                p.extensions[3] = 1; /* more of them to come */
                p.extensions_len = f ? 8 : 0;
                p.fragment = IP_MF;
                silent(&p);
                p.fragment = 0;
                p.first = IPPROTO_DSTOPTS;
                p.extensions[3] = 0;
                p.ip_words = 6;
                silent(&p);
                p.protocol = IPPROTO_TCP;
                p.extensions[0] = IPPROTO_TCP;
                p.flags = TCP_SYN;
                silent(&p);
        }
}

/* A drop is no reject. */
static void test_drop(void **state)
{
        subject(SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS);
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p = packet(families[f].a, families[f].b, IPPROTO_TCP);

                p.flags = TCP_SYN;
                silent(&p);
                p.protocol = IPPROTO_UDP;
                silent(&p);
        }
}

/* --- by way of the host's stack --------------------------------------------------------------- */

/* What is rejected at the device goes back into the host, past all policies. */
static void test_to_container(void **state)
{
        for (size_t f = 0; f < ARRAY_SIZE(families); f++) {
                struct packet p =
                    packet(f ? "2001:db8::1" : "198.51.100.1", families[f].b, IPPROTO_TCP);
                struct __sk_buff context = {.ifindex = if_b};
                struct __sk_buff answer = {.ifindex = if_b, .mark = SLIM_MARK_REJECTED};
                uint8_t data[PACKET_MAX], out[PACKET_MAX];
                DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_out = out,
                                    .data_size_out = sizeof(out), .ctx_in = &context,
                                    .ctx_out = &context, .ctx_size_in = sizeof(context),
                                    .ctx_size_out = sizeof(context));
                DECLARE_LIBBPF_OPTS(bpf_test_run_opts, back, .data_in = out, .ctx_in = &answer,
                                    .ctx_out = &answer, .ctx_size_in = sizeof(answer),
                                    .ctx_size_out = sizeof(answer));

                p.flags = TCP_SYN;
                opts.data_size_in = (uint32_t)packet_build(&p, data);
                assert_int_equal(
                    bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_to_container), &opts),
                    0);
                assert_int_equal(opts.retval, TC_ACT_REDIRECT);
                harness_counted(skel, SLIM_REASON_POLICY_INGRESS);
                assert_int_equal(context.mark, SLIM_MARK_REJECTED);
                back.data_size_in = opts.data_size_out;
                assert_int_equal(
                    bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_from_container), &back),
                    0);
                assert_int_equal(back.retval, TC_ACT_OK);
                harness_counted(skel, SLIM_REASON_NONE);
                assert_int_equal(answer.mark, 0);
                /* As if it were its own: B may say nothing. */
                answer.mark = 0;
                assert_int_equal(
                    bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_from_container), &back),
                    0);
                assert_int_equal(back.retval, TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_POLICY_EGRESS);
        }
}

static int make_devices(void **state)
{
        return harness_veth(&if_a, &if_b);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup(f, setup)
        static const struct CMUnitTest tests[] = {
            TEST(test_tcp),       TEST(test_egress), TEST(test_any_sum),
            TEST(test_datagrams), TEST(test_short),  TEST(test_icmp),
            TEST(test_silent),    TEST(test_drop),   TEST(test_to_container),
        };
        int r;

        skel = harness_start();
        if (!skel)
                return 0;
        r = cmocka_run_group_tests(tests, make_devices, NULL);
        slim_bpf__destroy(skel);
        return r;
}
