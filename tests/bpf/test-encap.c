// SPDX-License-Identifier: Apache-2.0
/*
 * slim_from_container, slim_from_vxlan and slim_to_vxlan: their verdict on a packet by itself, and,
 * since a test run does not say where a packet is redirected to, real packets over real devices:
 * two containers here, a VXLAN device, and an underlay on whose far end a packet socket sees what
 * comes out.
 *
 * `here` is the namespace that the test stays in; all three have no name and go with the process.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <poll.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"
#include "shared/netlink.h"
#include "tunnel.skel.h"

#define NETWORK       7
#define OTHER_NETWORK 8

#define VXLAN_PORT  8472
#define PATIENCE_MS 60000

static struct slim_bpf *skel;
static struct tunnel_bpf *tunnel;

/* The host's sides of three veths: of container A, of container B, of the underlay. */
static uint32_t if_a, if_b, if_under;
static int here = -1, there = -1;

/* --- the stage -------------------------------------------------------------------------------- */

static const uint8_t mac_near[6] = {2, 0, 0, 0, 0, 1}, mac_far[6] = {2, 0, 0, 0, 0, 2},
                     mac_vxlan[6] = {2, 0, 0, 0, 0, 3};

static uint32_t veth(struct netlink *nl, struct netlink *nl_there, const char *name,
                     const char *peer)
{
        struct netlink_link l, p;

        if (netlink_veth_add(nl, name, mac_near, peer, mac_far, there, 1500) < 0 ||
            netlink_link_get(nl, name, &l) < 0 || netlink_link_get(nl_there, peer, &p) < 0 ||
            netlink_link_up(nl, l.ifindex) < 0 || netlink_link_up(nl_there, p.ifindex) < 0)
                return 0;
        return l.ifindex;
}

/* Devices up to VXLAN_IFINDEX - 1 are made and removed, so that the next one gets that number. */
static int make_vxlan(struct netlink *nl)
{
        struct netlink_link l = {};

        for (int i = 0; i < VXLAN_IFINDEX && l.ifindex < VXLAN_IFINDEX - 1; i++) {
                if (netlink_vxlan_add(nl, "filler", VXLAN_PORT, 1450, mac_vxlan) < 0 ||
                    netlink_link_get(nl, "filler", &l) < 0 || netlink_link_del(nl, "filler") < 0)
                        return -1;
        }
        if (netlink_vxlan_add(nl, "vx", VXLAN_PORT, 1450, mac_vxlan) < 0 ||
            netlink_link_get(nl, "vx", &l) < 0 || l.ifindex != VXLAN_IFINDEX)
                return -1;
        return netlink_link_up(nl, l.ifindex);
}

static int attach(uint32_t ifindex, enum bpf_tc_attach_point point, const struct bpf_program *prog)
{
        DECLARE_LIBBPF_OPTS(bpf_tc_hook, hook, .ifindex = (int)ifindex, .attach_point = point);
        DECLARE_LIBBPF_OPTS(bpf_tc_opts, opts, .prog_fd = bpf_program__fd(prog));
        int r = bpf_tc_hook_create(&hook);

        return r < 0 && r != -EEXIST ? r : bpf_tc_attach(&hook, &opts);
}

/* In the caller's namespace, for devices to come: no packets but those that a test sends. */
static int no_ipv6(void)
{
        int r = write_file_at(AT_FDCWD, "/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");

        return r == -ENOENT ? 0 : r;
}

/* On one processor, what is sent first comes first, and is counted before what comes later. */
static int stay_on_one_cpu(void)
{
        cpu_set_t set;

        CPU_ZERO(&set);
        CPU_SET(sched_getcpu(), &set);
        return sched_setaffinity(0, sizeof(set), &set);
}

static int make_stage(void **state)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL, *nl_there = NULL;
        union slim_addr self = harness_addr("192.0.2.8"), far = harness_addr("192.0.2.9");
        uint32_t zero = 0;
        int fd;

        here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (stay_on_one_cpu() < 0 || no_ipv6() < 0 || unshare(CLONE_NEWNET) < 0 || no_ipv6() < 0)
                return -1;
        there = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        if (here < 0 || there < 0 || setns(here, CLONE_NEWNET) < 0 || netlink_open(-1, &nl) < 0 ||
            netlink_open(there, &nl_there) < 0)
                return -1;
        if_a = veth(nl, nl_there, "a", "in-a");
        if_b = veth(nl, nl_there, "b", "in-b");
        if_under = veth(nl, nl_there, "u", "wire");
        if (!if_a || !if_b || !if_under || make_vxlan(nl) < 0 ||
            netlink_addr_add(nl, if_under, &self, 24) < 0 ||
            netlink_neigh_add(nl, if_under, &far, mac_far) < 0 ||
            attach(if_a, BPF_TC_INGRESS, skel->progs.slim_from_container) < 0 ||
            attach(if_b, BPF_TC_INGRESS, skel->progs.slim_from_container) < 0 ||
            attach(VXLAN_IFINDEX, BPF_TC_EGRESS, skel->progs.slim_to_vxlan) < 0 ||
            attach(VXLAN_IFINDEX, BPF_TC_INGRESS, skel->progs.slim_from_vxlan) < 0)
                return -1;
        tunnel = tunnel_bpf__open_and_load();
        if (!tunnel)
                return -1;
        fd = bpf_program__fd(skel->progs.slim_from_vxlan);
        return bpf_map_update_elem(bpf_map__fd(tunnel->maps.next), &zero, &fd, BPF_ANY);
}

static int strike_stage(void **state)
{
        tunnel_bpf__destroy(tunnel);
        here = safe_close(here);
        there = safe_close(there);
        return 0;
}

static void endpoint(uint32_t id, uint32_t network, const char *addr, const char *host,
                     uint32_t ifindex)
{
        struct slim_endpoint e = {
            .id = id,
            .network = network,
            .flags = ifindex ? SLIM_ENDPOINT_LOCAL : 0,
            .ifindex = ifindex,
        };

        harness_addrs(e.addr, addr);
        harness_addrs(e.host, host);
        harness_endpoint(skel, &e);
        if (ifindex) {
                struct slim_device d = {.endpoint = id, .network = network};

                memcpy(d.addr, e.addr, sizeof(d.addr));
                harness_put(skel->maps.devices, &ifindex, &d);
        }
}

/* The network that slim_to_vxlan takes a source address to be of. */
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
        endpoint(1, NETWORK, "10.1.0.5", "192.0.2.8", if_a);
        endpoint(2, NETWORK, "10.1.0.6", "192.0.2.8", if_b);
        endpoint(3, NETWORK, "10.1.0.7", "192.0.2.9", 0);
        endpoint(4, OTHER_NETWORK, "10.1.0.8", "192.0.2.9", 0);
        endpoint(5, OTHER_NETWORK, "10.1.0.7", "192.0.2.10", 0);
        host("192.0.2.8");
        host("192.0.2.9");
        host("192.0.2.10");
        return 0;
}

/* --- verdicts: from a container --------------------------------------------------------------- */

static int from_container(const struct packet *p, uint32_t ifindex)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        return harness_run_tc(skel->progs.slim_from_container, data, len, ifindex);
}

static void container_drop(const struct packet *p, uint32_t ifindex, enum slim_reason reason)
{
        assert_int_equal(from_container(p, ifindex), TC_ACT_SHOT);
        harness_counted(skel, reason);
}

static void container_goes(const struct packet *p, uint32_t ifindex, int verdict)
{
        assert_int_equal(from_container(p, ifindex), verdict);
        harness_counted(skel, SLIM_REASON_NONE);
}

static void test_container_routes(void **state)
{
        struct packet p;

        p = packet_between("10.1.0.5", "10.1.0.6");
        container_goes(&p, if_a, TC_ACT_REDIRECT);
        p = packet_between("10.1.0.6", "10.1.0.5");
        container_goes(&p, if_b, TC_ACT_REDIRECT);
        p = packet_between("10.1.0.5", "10.1.0.7");
        container_goes(&p, if_a, TC_ACT_REDIRECT);
        /* Nobody's, another network's, not an overlay's: up to the host's stack. */
        p = packet_between("10.1.0.5", "10.1.0.99");
        container_goes(&p, if_a, TC_ACT_OK);
        p = packet_between("10.1.0.5", "10.1.0.8");
        container_goes(&p, if_a, TC_ACT_OK);
        p = packet_between("10.1.0.5", "198.51.100.1");
        container_goes(&p, if_a, TC_ACT_OK);
        p = packet_between("10.1.0.5", "255.255.255.255");
        container_goes(&p, if_a, TC_ACT_OK);
        p = packet_between("10.1.0.5", "127.0.0.1");
        container_goes(&p, if_a, TC_ACT_OK);
}

/* What another host's VXLAN device would take for this host's. */
static void test_container_vxlan(void **state)
{
        static const char *const out[] = {"192.0.2.9", "192.0.2.8", "198.51.100.1", "127.0.0.1"};
        struct packet p;

        for (size_t i = 0; i < ARRAY_SIZE(out); i++) {
                p = packet_between("10.1.0.5", out[i]);
                container_goes(&p, if_a, TC_ACT_OK);
                p.to_port = SLIM_VXLAN_PORT;
                container_drop(&p, if_a, SLIM_REASON_ENCAP_FORGED);
                /* The first fragment, however short; a later one has no port, and goes nowhere. */
                p.fragment = 0x2000;
                container_drop(&p, if_a, SLIM_REASON_ENCAP_FORGED);
                p.fragment = 1;
                container_goes(&p, if_a, TC_ACT_OK);
                p.fragment = 0;
                /* Behind IP options; not a port of another protocol; among containers, any. */
                p.ip_words = 15;
                container_drop(&p, if_a, SLIM_REASON_ENCAP_FORGED);
                p.ip_words = 0;
                p.protocol = IPPROTO_TCP;
                container_goes(&p, if_a, TC_ACT_OK);
        }
        p = packet_between("10.1.0.5", "10.1.0.7");
        p.to_port = SLIM_VXLAN_PORT;
        container_goes(&p, if_a, TC_ACT_REDIRECT);
}

/* Every protocol, fragments and IP options go the same way. */
static void test_container_protocols(void **state)
{
        for (unsigned int i = 1; i < 256; i++) {
                struct packet p = packet_between("10.1.0.5", "10.1.0.6");

                p.protocol = (uint8_t)i;
                p.fragment = (uint16_t)(i * 111 & 0x3fff);
                p.ip_words = (uint8_t)(5 + i % 11);
                container_goes(&p, if_a, TC_ACT_REDIRECT);
        }
}

static void test_container_unknown_device(void **state)
{
        struct packet p = packet_between("10.1.0.5", "10.1.0.6");

        container_drop(&p, if_under, SLIM_REASON_ENCAP_NO_ENDPOINT);
        container_drop(&p, 0, SLIM_REASON_ENCAP_NO_ENDPOINT);
        container_goes(&p, if_a, TC_ACT_REDIRECT);
        assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.devices), &if_a), 0);
        container_drop(&p, if_a, SLIM_REASON_ENCAP_NO_ENDPOINT);
}

static void test_container_spoofed(void **state)
{
        static const char *const others[] = {"10.1.0.6",  "10.1.0.7",  "0.0.0.0",
                                             "127.0.0.1", "192.0.2.8", "255.255.255.255"};
        struct slim_device six = {.endpoint = 1, .network = NETWORK};
        struct packet p;

        for (unsigned int bit = 0; bit < 32; bit++) {
                p = packet_between("10.1.0.5", "10.1.0.6");
                p.from.b[12 + bit / 8] ^= (uint8_t)(1U << bit % 8);
                container_drop(&p, if_a, SLIM_REASON_ENCAP_SPOOFED);
        }
        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                p = packet_between(others[i], "10.1.0.7");
                container_drop(&p, if_a, SLIM_REASON_ENCAP_SPOOFED);
                p = packet_between(others[i], "198.51.100.1");
                container_drop(&p, if_a, SLIM_REASON_ENCAP_SPOOFED);
        }
        /* A device of an IPv6 address has no IPv4 one, though four of its bytes look alike. */
        harness_addrs(six.addr, "fd00::a01:5");
        harness_put(skel->maps.devices, &if_a, &six);
        p = packet_between("10.1.0.5", "10.1.0.6");
        container_drop(&p, if_a, SLIM_REASON_ENCAP_SPOOFED);
}

static void test_container_bad_packet(void **state)
{
        static const uint16_t types[] = {ETH_P_ARP, ETH_P_8021Q, ETH_P_MPLS_UC, 0x9000};
        struct packet p = packet_between("10.1.0.5", "10.1.0.6"),
                      six = packet_between("fd00::5", "fd00::6");
        uint8_t data[PACKET_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(types); i++) {
                p.ethertype = types[i];
                container_drop(&p, if_a, SLIM_REASON_ENCAP_BAD_PACKET);
        }
        p.ethertype = 0;
        container_drop(&six, if_a, SLIM_REASON_ENCAP_SPOOFED);
        for (unsigned int version = 0; version < 16; version++) {
                size_t len = packet_build(&p, data);

                data[ETH_HLEN] = (uint8_t)(version << 4 | 5);
                assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, len, if_a),
                                 version == 4 ? TC_ACT_REDIRECT : TC_ACT_SHOT);
                harness_counted(skel,
                                version == 4 ? SLIM_REASON_NONE : SLIM_REASON_ENCAP_BAD_PACKET);
        }
        /* The shortest that can be run: an IP header and nothing else. */
        packet_build(&p, data);
        assert_int_equal(harness_run_tc(skel->progs.slim_from_container, data, ETH_HLEN + 20, if_a),
                         TC_ACT_REDIRECT);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* --- verdicts: from VXLAN --------------------------------------------------------------------- */

static int from_vxlan(const struct packet *p, uint32_t vni, const char *remote)
{
        union slim_addr a = harness_addr(remote);
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        tunnel->bss->vni = vni;
        tunnel->bss->remote = ntohl(inaddr_to_v4(&a));
        return harness_run_tc(tunnel->progs.received, data, len, VXLAN_IFINDEX);
}

static void vxlan_drop(const struct packet *p, uint32_t vni, const char *remote,
                       enum slim_reason reason)
{
        assert_int_equal(from_vxlan(p, vni, remote), TC_ACT_SHOT);
        harness_counted(skel, reason);
}

static void vxlan_goes(const struct packet *p, uint32_t vni, const char *remote)
{
        assert_int_equal(from_vxlan(p, vni, remote), TC_ACT_REDIRECT);
        harness_counted(skel, SLIM_REASON_NONE);
}

static void test_vxlan_good(void **state)
{
        struct packet p = packet_between("10.1.0.7", "10.1.0.5");

        vxlan_goes(&p, NETWORK, "192.0.2.9");
        p = packet_between("10.1.0.7", "10.1.0.6");
        vxlan_goes(&p, NETWORK, "192.0.2.9");
        for (unsigned int i = 1; i < 256; i++) {
                p.protocol = (uint8_t)i;
                vxlan_goes(&p, NETWORK, "192.0.2.9");
        }
}

static void test_vxlan_bad_packet(void **state)
{
        struct packet p = packet_between("10.1.0.7", "10.1.0.5"),
                      six = packet_between("fd00::7", "fd00::5");
        uint8_t data[PACKET_MAX];
        size_t len;

        /* No tunnel metadata at all: not from the VXLAN device. */
        len = packet_build(&p, data);
        assert_int_equal(harness_run_tc(skel->progs.slim_from_vxlan, data, len, VXLAN_IFINDEX),
                         TC_ACT_SHOT);
        harness_counted(skel, SLIM_REASON_ENCAP_BAD_PACKET);
        vxlan_drop(&six, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        p.ethertype = ETH_P_ARP;
        vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_BAD_PACKET);
        p.ethertype = 0;
        for (unsigned int version = 0; version < 16; version++) {
                if (version == 4)
                        continue;
                len = packet_build(&p, data);
                data[ETH_HLEN] = (uint8_t)(version << 4 | 5);
                assert_int_equal(harness_run_tc(tunnel->progs.received, data, len, VXLAN_IFINDEX),
                                 TC_ACT_SHOT);
                harness_counted(skel, SLIM_REASON_ENCAP_BAD_PACKET);
        }
        vxlan_goes(&p, NETWORK, "192.0.2.9");
}

static void test_vxlan_unknown_host(void **state)
{
        static const char *const others[] = {"192.0.2.7", "0.0.0.0", "127.0.0.1", "10.1.0.7",
                                             "9.2.0.192"};
        struct packet p = packet_between("10.1.0.7", "10.1.0.5");
        union slim_addr gone = harness_addr("192.0.2.9");

        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                vxlan_drop(&p, NETWORK, others[i], SLIM_REASON_ENCAP_UNKNOWN_HOST);
        assert_int_equal(bpf_map_delete_elem(bpf_map__fd(skel->maps.hosts), &gone), 0);
        vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_UNKNOWN_HOST);
}

/* A host speaks for its own endpoints, and for those in the network that it names. */
static void test_vxlan_spoofed(void **state)
{
        struct packet p = packet_between("10.1.0.7", "10.1.0.5");

        vxlan_drop(&p, NETWORK, "192.0.2.10", SLIM_REASON_ENCAP_SPOOFED);
        vxlan_drop(&p, NETWORK, "192.0.2.8", SLIM_REASON_ENCAP_SPOOFED);
        vxlan_drop(&p, OTHER_NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        vxlan_drop(&p, 0, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        vxlan_drop(&p, NETWORK | 0x800000, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("10.1.0.6", "10.1.0.5"); /* one of ours */
        vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("10.1.0.99", "10.1.0.5"); /* nobody's */
        vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("198.51.100.1", "10.1.0.5");
        vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_SPOOFED);
}

static void test_vxlan_no_endpoint(void **state)
{
        static const char *const others[] = {"10.1.0.99",    "10.1.0.7",        "10.1.0.8",
                                             "198.51.100.1", "255.255.255.255", "192.0.2.8",
                                             "127.0.0.1"};
        struct packet p;

        for (size_t i = 0; i < ARRAY_SIZE(others); i++) {
                p = packet_between("10.1.0.7", others[i]);
                vxlan_drop(&p, NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_NO_ENDPOINT);
        }
        /* The same address in another network is another endpoint. */
        p = packet_between("10.1.0.8", "10.1.0.5");
        vxlan_drop(&p, OTHER_NETWORK, "192.0.2.9", SLIM_REASON_ENCAP_NO_ENDPOINT);
}

/* The host itself is an endpoint: what is for it goes up. */
static void test_to_the_host(void **state)
{
        struct slim_endpoint self = {
            .id = 9,
            .network = NETWORK,
            .flags = SLIM_ENDPOINT_LOCAL | SLIM_ENDPOINT_HOST,
        };
        struct packet p = packet_between("10.1.0.5", "10.1.0.1");

        harness_addrs(self.addr, "10.1.0.1");
        harness_addrs(self.host, "192.0.2.8");
        harness_endpoint(skel, &self);
        container_goes(&p, if_a, TC_ACT_OK);
        p = packet_between("10.1.0.7", "10.1.0.1");
        assert_int_equal(from_vxlan(&p, NETWORK, "192.0.2.9"), TC_ACT_OK);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* --- verdicts: to VXLAN ----------------------------------------------------------------------- */

static void to_vxlan(const struct packet *p, int verdict, enum slim_reason reason)
{
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(skel->progs.slim_to_vxlan, data, len, VXLAN_IFINDEX),
                         verdict);
        harness_counted(skel, reason);
}

static void test_to_vxlan(void **state)
{
        static const char *const sources[] = {"10.1.0.7",     "10.1.0.8",  "10.1.0.99",
                                              "198.51.100.1", "192.0.2.8", "0.0.0.0"},
                                 *const nowhere[] = {"10.1.0.5", "10.1.0.6", "10.1.0.8",
                                                     "10.1.0.99", "198.51.100.1"};
        struct packet p = packet_between("10.1.0.5", "10.1.0.7"),
                      six = packet_between("fd00::5", "fd00::7");

        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED); /* of no network */
        prefix("10.1.0.0", 96 + 16, OTHER_NETWORK);
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        prefix("10.1.0.0", 96 + 16, NETWORK);
        to_vxlan(&p, TC_ACT_OK, SLIM_REASON_NONE);
        for (unsigned int i = 1; i < 256; i++) {
                p.protocol = (uint8_t)i;
                p.ip_words = (uint8_t)(5 + i % 11);
                to_vxlan(&p, TC_ACT_OK, SLIM_REASON_NONE);
        }
        /* From who is not here, and to who is, or is nobody. */
        for (size_t i = 0; i < ARRAY_SIZE(sources); i++) {
                p = packet_between(sources[i], "10.1.0.7");
                to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        }
        for (size_t i = 0; i < ARRAY_SIZE(nowhere); i++) {
                p = packet_between("10.1.0.5", nowhere[i]);
                to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_ENDPOINT);
        }
        to_vxlan(&six, TC_ACT_SHOT, SLIM_REASON_ENCAP_SPOOFED);
        p = packet_between("10.1.0.5", "10.1.0.7");
        p.ethertype = ETH_P_ARP;
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_BAD_PACKET);
        /* An endpoint whose host has IPv6 alone, which this one has not. */
        endpoint(6, NETWORK, "10.1.0.9", "fd00::9", 0);
        p = packet_between("10.1.0.5", "10.1.0.9");
        to_vxlan(&p, TC_ACT_SHOT, SLIM_REASON_ENCAP_NO_WAY);
}

/* --- where packets go ------------------------------------------------------------------------- */

/* A packet socket on a device of the far namespace. Nothing is there before it is bound. */
static int packet_socket(const char *device)
{
        struct sockaddr_ll at = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct netlink_link l;
        int fd;

        assert_int_equal(netlink_open(there, &nl), 0);
        assert_int_equal(netlink_link_get(nl, device, &l), 0);
        assert_int_equal(setns(there, CLONE_NEWNET), 0);
        fd = socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0);
        assert_int_equal(setns(here, CLONE_NEWNET), 0);
        assert_true(fd >= 0);
        at.sll_ifindex = (int)l.ifindex;
        assert_int_equal(bind(fd, (struct sockaddr *)&at, sizeof(at)), 0);
        return fd;
}

/* Waits for an IPv4 packet of a protocol that this end of the veth takes for its own. */
static size_t receive_ipv4(int fd, uint8_t protocol, uint8_t data[PACKET_MAX])
{
        for (int i = 0; i < 1000; i++) {
                struct pollfd p = {.fd = fd, .events = POLLIN};
                struct sockaddr_ll from = {};
                socklen_t len = sizeof(from);
                ssize_t n;

                if (poll(&p, 1, PATIENCE_MS) != 1)
                        fail_msg("no packet came");
                n = recvfrom(fd, data, PACKET_MAX, 0, (struct sockaddr *)&from, &len);
                assert_true(n > 0);
                if (from.sll_pkttype == PACKET_HOST && n >= ETH_HLEN + 20 &&
                    from.sll_protocol == htons(ETH_P_IP) && data[ETH_HLEN + 9] == protocol)
                        return (size_t)n;
        }
        fail_msg("no such packet came");
        return 0;
}

static void send_out(int fd, const uint8_t *data, size_t len)
{
        assert_int_equal(send(fd, data, len, 0), len);
}

static size_t between_macs(const struct packet *p, const uint8_t to[6], uint8_t *ret)
{
        size_t len = packet_build(p, ret);

        memcpy(ret, to, 6);
        return len;
}

/* From container A to container B on the same host: into B's namespace, unchanged. */
static void test_live_local(void **state)
{
        _cleanup_close_ int a = packet_socket("in-a"), b = packet_socket("in-b");
        struct packet p = packet_between("10.1.0.5", "10.1.0.6");
        uint8_t sent[PACKET_MAX], got[PACKET_MAX];
        size_t len = between_macs(&p, mac_near, sent);

        send_out(a, sent, len);
        assert_int_equal(receive_ipv4(b, IPPROTO_UDP, got), len);
        assert_memory_equal(got + ETH_HLEN, sent + ETH_HLEN, len - ETH_HLEN);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* To an endpoint elsewhere: VXLAN to its host, with the network's id, and the packet within. */
static void test_live_encap(void **state)
{
        _cleanup_close_ int a = packet_socket("in-a"), wire = packet_socket("wire");
        struct packet p = packet_between("10.1.0.5", "10.1.0.7");
        static const uint8_t self[] = {192, 0, 2, 8}, far[] = {192, 0, 2, 9},
                             vxlan[] = {8, 0, 0, 0, 0, 0, NETWORK, 0};
        uint8_t sent[PACKET_MAX], got[PACKET_MAX];
        const uint8_t *ip = got + ETH_HLEN, *udp = ip + 20, *inner = udp + 16;
        size_t len = between_macs(&p, mac_near, sent);

        prefix("10.1.0.0", 96 + 16, NETWORK);
        send_out(a, sent, len);
        assert_int_equal(receive_ipv4(wire, IPPROTO_UDP, got), len + ETH_HLEN + 20 + 8 + 8);
        assert_memory_equal(ip + 12, self, 4);
        assert_memory_equal(ip + 16, far, 4);
        assert_int_equal(ip[8], 64); /* TTL */
        assert_int_equal(udp[2] << 8 | udp[3], VXLAN_PORT);
        assert_int_equal(udp[6] << 8 | udp[7], 0); /* no checksum */
        assert_memory_equal(udp + 8, vxlan, sizeof(vxlan));
        assert_memory_equal(inner + ETH_HLEN, sent + ETH_HLEN, len - ETH_HLEN);
        harness_counted(skel, SLIM_REASON_NONE);
}

/* A VXLAN packet as a host would send it, from the far end of the underlay. */
static void send_vxlan(int wire, const char *from_host, uint32_t vni, const struct packet *p)
{
        struct packet outer = {
            .from = harness_addr(from_host),
            .to = harness_addr("192.0.2.8"),
            .protocol = IPPROTO_UDP,
        };
        uint8_t data[PACKET_MAX], inner[PACKET_MAX], *udp;
        static const uint8_t nobody[6] = {2, 9, 9, 9, 9, 9};
        size_t inner_len = between_macs(p, nobody, inner), udp_len = 8 + 8 + inner_len;
        uint32_t sum = 0;

        between_macs(&outer, mac_near, data);
        data[ETH_HLEN + 2] = (uint8_t)((20 + udp_len) >> 8);
        data[ETH_HLEN + 3] = (uint8_t)(20 + udp_len);
        for (int i = 0; i < 20; i += 2)
                sum += (uint32_t)(data[ETH_HLEN + i] << 8 | data[ETH_HLEN + i + 1]);
        sum = ~((sum & 0xffff) + (sum >> 16));
        data[ETH_HLEN + 10] = (uint8_t)(sum >> 8);
        data[ETH_HLEN + 11] = (uint8_t)sum;
        udp = data + ETH_HLEN + 20;
        memset(udp, 0, 16);
        udp[0] = 0xc0;
        udp[2] = VXLAN_PORT >> 8;
        udp[3] = VXLAN_PORT & 0xff;
        udp[4] = (uint8_t)(udp_len >> 8);
        udp[5] = (uint8_t)udp_len;
        udp[8] = 8; /* the network's id is there */
        udp[12] = (uint8_t)(vni >> 16);
        udp[13] = (uint8_t)(vni >> 8);
        udp[14] = (uint8_t)vni;
        memcpy(udp + 16, inner, inner_len);
        send_out(wire, data, ETH_HLEN + 20 + udp_len);
}

/* From VXLAN into the container, whatever the inner MAC address; and not from those that lie. */
static void test_live_decap(void **state)
{
        _cleanup_close_ int b = packet_socket("in-b"), wire = packet_socket("wire");
        struct packet good = packet_between("10.1.0.7", "10.1.0.6"), bad = good;
        uint8_t want[PACKET_MAX], got[PACKET_MAX];
        size_t len = packet_build(&good, want);

        bad.from_port = 666;
        send_vxlan(wire, "192.0.2.10", NETWORK, &bad);
        send_vxlan(wire, "192.0.2.9", OTHER_NETWORK, &bad);
        send_vxlan(wire, "192.0.2.9", NETWORK, &good);
        /* The bad ones came first and are not there. */
        assert_int_equal(receive_ipv4(b, IPPROTO_UDP, got), len);
        assert_memory_equal(got + ETH_HLEN, want + ETH_HLEN, len - ETH_HLEN);
        harness_counted_times(skel, SLIM_REASON_ENCAP_SPOOFED, 2);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
            TEST(test_container_routes),    TEST(test_container_vxlan),
            TEST(test_container_protocols), TEST(test_container_unknown_device),
            TEST(test_container_spoofed),   TEST(test_container_bad_packet),
            TEST(test_to_the_host),         TEST(test_to_vxlan),
            TEST(test_vxlan_good),          TEST(test_vxlan_bad_packet),
            TEST(test_vxlan_unknown_host),  TEST(test_vxlan_spoofed),
            TEST(test_vxlan_no_endpoint),   TEST(test_live_local),
            TEST(test_live_encap),          TEST(test_live_decap),
#undef TEST
        };
        int failed;

        skel = harness_start();
        if (!skel)
                return 0;
        failed = cmocka_run_group_tests(tests, make_stage, strike_stage);
        slim_bpf__destroy(skel);
        return failed;
}
