// SPDX-License-Identifier: Apache-2.0
/*
 * Events: what the programs that can be run here say of what they refuse, that they say it only
 * while somebody watches, and what is lost is counted. (Those of cgroups' programs, which cannot,
 * are in test_monitor.py.)
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_ether.h>
#include <linux/pkt_cls.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "harness.h"
#include "reference.h"
#include "tunnel.skel.h"

/* The cast of each test. */
#define CLIENT  0x01020304U /* on another host */
#define SERVER  0xa1b2c3d4U /* here */
#define OTHER   0x33333333U /* here, in another network */
#define PLAIN   0x55555555U /* here, behind the device */
#define NETWORK 7

#define WIRE_PORT (PORT_BASE + 0x12)
#define LO        1 /* the only device that there is: a container's, where a test says so */

#define RECORD 80U /* bytes of the ring that an event takes */

static struct slim_bpf *skel;
static struct tunnel_bpf *tunnel;

static const uint8_t key_now[16] = "the key of today";

/* --- the ring --------------------------------------------------------------------------------- */

static struct ring_buffer *ring;
static struct slim_event seen[8192];
static unsigned int n_seen;

static int on_record(void *userdata, void *data, size_t size)
{
        assert_int_equal(size, sizeof(struct slim_event));
        assert_in_range(n_seen, 0, ARRAY_SIZE(seen) - 1);
        memcpy(&seen[n_seen++], data, size);
        return 0;
}

static unsigned int read_events(void)
{
        n_seen = 0;
        assert_true(ring_buffer__consume(ring) >= 0);
        return n_seen;
}

static uint64_t now(void)
{
        struct timespec t;

        assert_int_equal(clock_gettime(CLOCK_MONOTONIC, &t), 0);
        return (uint64_t)t.tv_sec * 1000000000ULL + (uint64_t)t.tv_nsec;
}

static void watch_until(uint64_t until)
{
        uint32_t zero = 0;

        harness_put(skel->maps.watch, &zero, &until);
}

/* Exactly one event was told, and every byte of it is as it should be. */
static void told(const struct slim_event *want, uint64_t since)
{
        struct slim_event got;

        assert_int_equal(read_events(), 1);
        got = seen[0];
        assert_true(got.time >= since && got.time <= now());
        got.time = 0;
        assert_memory_equal(&got, want, sizeof(got));
}

/* Windows that are new, as after a pause. */
static void forget_windows(void)
{
        static struct slim_event_window none[8192];

        assert_in_range(libbpf_num_possible_cpus(), 1, ARRAY_SIZE(none));
        for (uint32_t i = 0; i < SLIM_REASON_MAX; i++)
                harness_put(skel->maps.event_windows, &i, none);
}

/* --- the stage -------------------------------------------------------------------------------- */

static void endpoint(uint32_t id, uint32_t network, const char *addr, uint32_t flags)
{
        struct slim_endpoint e = {
            .id = id,
            .network = network,
            .flags = flags,
            .identity = 100,
        };

        harness_addrs(e.addr, addr);
        harness_addrs(e.host, "192.0.2.9");
        harness_endpoint(skel, &e);
}

static void prefix(const char *addr, uint32_t bits, uint32_t network)
{
        struct slim_prefix_key key = {.prefixlen = bits, .addr = harness_addr(addr)};

        harness_put(skel->maps.prefixes, &key, &network);
}

/* lo is the host's side of the veth of PLAIN. */
static void device(void)
{
        struct slim_device d = {.endpoint = PLAIN, .network = NETWORK};
        uint32_t ifindex = LO;

        harness_addrs(d.addr, "10.1.0.9");
        harness_put(skel->maps.devices, &ifindex, &d);
}

/* What policies deny everybody, in the directions of flags. */
static void deny(uint32_t flags)
{
        struct slim_policy_subject s = {.flags = flags};
        uint32_t identity = 100;

        harness_put(skel->maps.policy_subjects, &identity, &s);
}

static int setup(void **state)
{
        struct slim_key key = {.k = {reference_le64(key_now), reference_le64(key_now + 8)},
                               .epoch = 1};
        uint32_t current = SLIM_KEY_CURRENT;

        harness_reset(skel);
        harness_put(skel->maps.keys, &current, &key);
        endpoint(CLIENT, NETWORK, "10.1.0.5 fd00::5", SLIM_ENDPOINT_SLIM);
        endpoint(SERVER, NETWORK, "10.1.0.6 fd00::6", SLIM_ENDPOINT_SLIM | SLIM_ENDPOINT_LOCAL);
        endpoint(OTHER, 8, "10.2.0.7", SLIM_ENDPOINT_SLIM | SLIM_ENDPOINT_LOCAL);
        endpoint(PLAIN, NETWORK, "10.1.0.9", SLIM_ENDPOINT_LOCAL);
        prefix("10.1.0.0", 112, NETWORK);
        prefix("10.2.0.0", 112, 8);
        forget_windows();
        watch_until(UINT64_MAX);
        read_events();
        return 0;
}

/* --- SYNs ------------------------------------------------------------------------------------- */

static struct packet syn(void)
{
        return (struct packet){
            .from = harness_addr("192.0.2.7"),
            .to = harness_addr("192.0.2.8"),
            .from_port = 40001,
            .to_port = WIRE_PORT,
            .sequence = 0xdeadbeef,
            .flags = TCP_SYN,
        };
}

static struct packet signed_syn(uint32_t client, uint32_t server, uint32_t six)
{
        struct packet p = syn();
        struct reference_syn s = {
            .client_endpoint = client,
            .server_endpoint = server,
            .client_port = 4711,
            .server_port = 80,
            .wire_client_port = p.from_port,
            .wire_server_port = p.to_port,
            .sequence = p.sequence,
            .six = six,
        };

        memcpy(s.client_host, p.from.b, sizeof(s.client_host));
        reference_option(&s, key_now, p.options);
        p.options_len = REFERENCE_OPTION_LEN;
        return p;
}

/* What every event of a SYN has; the addresses are those of the wire. */
static struct slim_event of_syn(enum slim_reason reason)
{
        return (struct slim_event){
            .from = harness_addr("192.0.2.7"),
            .to = harness_addr("192.0.2.8"),
            .from_port = 40001,
            .to_port = WIRE_PORT,
            .reason = (uint16_t)reason,
            .hook = SLIM_HOOK_SYN,
            .protocol = IPPROTO_TCP,
        };
}

static void come_in(const struct packet *p, int verdict, const struct slim_event *want)
{
        uint64_t since = now();
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(skel->progs.slim_ingress, data, len, 0), verdict);
        harness_counted(skel, (enum slim_reason)want->reason);
        told(want, since);
}

static void test_syn_of_nobody(void **state)
{
        struct packet p = syn();
        struct slim_event want = of_syn(SLIM_REASON_SYN_NO_OPTION);

        come_in(&p, TC_ACT_SHOT, &want);
        p.doff = 4;
        want.reason = SLIM_REASON_SYN_BAD_OPTION;
        come_in(&p, TC_ACT_SHOT, &want);
        p = signed_syn(CLIENT, SERVER, 0);
        p.options[19] ^= 1;
        want.reason = SLIM_REASON_SYN_BAD_MAC; /* whatever it claims */
        come_in(&p, TC_ACT_SHOT, &want);
        p.from = harness_addr("2001:db8::7");
        p.to = harness_addr("2001:db8::8");
        want.from = p.from;
        want.to = p.to;
        come_in(&p, TC_ACT_SHOT, &want);
}

static void test_syn_of_somebody(void **state)
{
        struct packet p = signed_syn(CLIENT, 0x77, 0);
        struct slim_event want = of_syn(SLIM_REASON_SYN_UNKNOWN_SERVER);

        want.peer = CLIENT;
        want.endpoint = 0x77;
        want.error = ECONNREFUSED;
        come_in(&p, TC_ACT_UNSPEC, &want);
        p = signed_syn(0x78, SERVER, 0);
        want.error = 0;
        want.reason = SLIM_REASON_SYN_UNKNOWN_CLIENT;
        want.peer = 0x78;
        want.endpoint = SERVER;
        want.network = NETWORK;
        come_in(&p, TC_ACT_SHOT, &want);
        p = signed_syn(CLIENT, OTHER, 0);
        want.reason = SLIM_REASON_SYN_OTHER_NETWORK;
        want.peer = CLIENT;
        want.endpoint = OTHER;
        want.network = 8;
        come_in(&p, TC_ACT_SHOT, &want);
}

static void test_syn_that_a_policy_denies(void **state)
{
        struct slim_event want = of_syn(SLIM_REASON_POLICY_INGRESS);
        struct packet p = signed_syn(CLIENT, SERVER, 0);

        want.peer = CLIENT;
        want.endpoint = SERVER;
        want.network = NETWORK;
        want.from = harness_addr("10.1.0.5");
        want.to = harness_addr("10.1.0.6");
        want.from_port = 4711;
        want.to_port = 80;
        deny(SLIM_POLICY_SELECTED);
        come_in(&p, TC_ACT_SHOT, &want);
        deny(SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS);
        want.error = ECONNREFUSED;
        come_in(&p, TC_ACT_UNSPEC, &want);
        p = signed_syn(CLIENT, SERVER, 1);
        want.from = harness_addr("fd00::5");
        want.to = harness_addr("fd00::6");
        come_in(&p, TC_ACT_UNSPEC, &want);
}

/* --- lookups ---------------------------------------------------------------------------------- */

static void look_up(uint16_t port, const struct slim_event *want)
{
        struct bpf_sk_lookup context = {
            .family = AF_INET,
            .protocol = IPPROTO_TCP,
            .remote_port = htons(40001),
            .local_port = port,
            .remote_ip4 = htonl(0xc0000207),
            .local_ip4 = htonl(0xc0000208),
        };
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &context, .ctx_out = &context,
                            .ctx_size_in = sizeof(context), .ctx_size_out = sizeof(context));
        uint64_t since = now();

        assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(skel->progs.slim_steer), &opts), 0);
        assert_int_equal(opts.retval, SK_DROP);
        harness_counted(skel, (enum slim_reason)want->reason);
        told(want, since);
}

static struct slim_event of_lookup(enum slim_reason reason, uint16_t port)
{
        struct slim_event e = of_syn(reason);

        e.to_port = port;
        e.hook = SLIM_HOOK_LOOKUP;
        e.error = ECONNREFUSED;
        return e;
}

static void test_lookup(void **state)
{
        struct slim_event want = of_lookup(SLIM_REASON_HIDDEN_PORT, 33333);
        struct slim_tuple tuple = {
            .client_addr = harness_addr("192.0.2.7"),
            .server_addr = harness_addr("192.0.2.8"),
            .client_port = 40001,
            .server_port = WIRE_PORT,
        };
        struct slim_syn entry = {
            .client_endpoint = CLIENT,
            .server_endpoint = SERVER,
            .client_addr = harness_addr("10.1.0.5"),
            .client_port = 4711,
            .server_port = 80,
            .peer_kind = SLIM_PEER_OVERLAY,
        };
        uint32_t hidden = 33333, one = 1;

        harness_put(skel->maps.hidden_ports, &hidden, &one);
        look_up(33333, &want);
        want = of_lookup(SLIM_REASON_STEER_NO_SYN, WIRE_PORT);
        look_up(WIRE_PORT, &want);

        harness_put(skel->maps.syns, &tuple, &entry);
        want = of_lookup(SLIM_REASON_STEER_NO_LISTENER, 80);
        want.endpoint = SERVER;
        want.peer = CLIENT;
        want.network = NETWORK;
        want.from = harness_addr("10.1.0.5");
        want.to = harness_addr("10.1.0.6");
        want.from_port = 4711;
        look_up(WIRE_PORT, &want);

        /* Itself, by a loopback address: that one is real. */
        entry.client_endpoint = SERVER;
        entry.peer_kind = SLIM_PEER_LOOPBACK;
        harness_put(skel->maps.syns, &tuple, &entry);
        want.peer = SERVER;
        want.from = tuple.client_addr;
        want.to = tuple.server_addr;
        look_up(WIRE_PORT, &want);
}

static void test_lookup_of_a_published_port(void **state)
{
        struct slim_published_key key = {.addr = harness_addr("0.0.0.0"), .port = 8080};
        struct slim_published at = {.endpoint = SERVER, .port = 80};
        struct slim_event want = of_lookup(SLIM_REASON_PUBLISH_NO_LISTENER, 8080);

        want.endpoint = SERVER;
        want.network = NETWORK;
        harness_put(skel->maps.published, &key, &at);
        look_up(8080, &want);
        deny(SLIM_POLICY_SELECTED);
        want.reason = SLIM_REASON_POLICY_INGRESS;
        look_up(8080, &want);
}

/* --- the encapsulated path -------------------------------------------------------------------- */

static struct slim_event of_packet(const struct packet *p, enum slim_hook hook,
                                   enum slim_reason reason)
{
        return (struct slim_event){
            .from = p->from,
            .to = p->to,
            .from_port = p->from_port,
            .to_port = p->to_port,
            .network = NETWORK,
            .reason = (uint16_t)reason,
            .hook = (uint8_t)hook,
            .protocol = p->protocol,
        };
}

static void passes_by(const struct bpf_program *prog, const struct packet *p, int verdict,
                      const struct slim_event *want)
{
        uint64_t since = now();
        uint8_t data[PACKET_MAX];
        size_t len = packet_build(p, data);

        assert_int_equal(harness_run_tc(prog, data, len, 0), verdict);
        harness_counted(skel, (enum slim_reason)want->reason);
        told(want, since);
}

static void test_from_container(void **state)
{
        const struct bpf_program *prog = skel->progs.slim_from_container;
        struct packet p = packet_between("10.1.0.9", "10.1.0.5");
        struct slim_event want = {
            .reason = SLIM_REASON_ENCAP_NO_ENDPOINT,
            .hook = SLIM_HOOK_FROM_CONTAINER,
        };

        passes_by(prog, &p, TC_ACT_SHOT, &want); /* no device of a container's */
        device();

        p.from = harness_addr("10.1.0.6");
        want = of_packet(&p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_SPOOFED);
        want.endpoint = PLAIN; /* not whose address it is */
        want.peer = CLIENT;
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.9", "10.1.0.77");
        want = of_packet(&p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_ENCAP_NO_ENDPOINT);
        want.endpoint = PLAIN;
        passes_by(prog, &p, TC_ACT_OK, &want); /* the stack says that it is unreachable */

        p = packet_between("10.1.0.9", "10.1.0.5");
        p.ethertype = ETH_P_ARP;
        want = (struct slim_event){
            .endpoint = PLAIN,
            .network = NETWORK,
            .reason = SLIM_REASON_ENCAP_BAD_PACKET,
            .hook = SLIM_HOOK_FROM_CONTAINER,
        };
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.9", "10.1.0.5");
        want = of_packet(&p, SLIM_HOOK_FROM_CONTAINER, SLIM_REASON_POLICY_EGRESS);
        want.endpoint = PLAIN;
        want.peer = CLIENT;
        deny(SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.9", "10.1.0.6");
        want = of_packet(&p, SLIM_HOOK_DELIVER, SLIM_REASON_POLICY_INGRESS);
        want.endpoint = SERVER;
        want.peer = PLAIN;
        deny(SLIM_POLICY_SELECTED);
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        /* No ports. */
        p.protocol = IPPROTO_ICMP;
        want = of_packet(&p, SLIM_HOOK_DELIVER, SLIM_REASON_POLICY_INGRESS);
        want.from_port = want.to_port = 0;
        want.endpoint = SERVER;
        want.peer = PLAIN;
        passes_by(prog, &p, TC_ACT_SHOT, &want);
}

/* What the host itself sends. */
static void test_to_container(void **state)
{
        const struct bpf_program *prog = skel->progs.slim_to_container;
        struct packet p = packet_between("10.1.0.6", "10.1.0.9");
        struct slim_event want = of_packet(&p, SLIM_HOOK_TO_CONTAINER, SLIM_REASON_POLICY_EGRESS);

        device();
        deny(SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        want.endpoint = SERVER; /* which may not send */
        want.peer = PLAIN;
        passes_by(prog, &p, TC_ACT_SHOT, &want);
        deny(SLIM_POLICY_SELECTED);
        want.reason = SLIM_REASON_POLICY_INGRESS;
        want.endpoint = PLAIN;
        want.peer = SERVER;
        passes_by(prog, &p, TC_ACT_SHOT, &want);
}

static void test_from_vxlan(void **state)
{
        union slim_addr known = harness_addr("192.0.2.9");
        struct packet p = packet_between("10.1.0.5", "10.1.0.9");
        struct slim_event want =
            of_packet(&p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_UNKNOWN_HOST);
        uint32_t one = 1;

        tunnel->bss->vni = NETWORK;
        tunnel->bss->remote = 0xc0000209;
        want.endpoint = PLAIN; /* and nobody's word for the sender */
        passes_by(tunnel->progs.received, &p, TC_ACT_SHOT, &want);
        harness_put(skel->maps.hosts, &known, &one);

        p.from = harness_addr("10.1.0.44");
        want = of_packet(&p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_SPOOFED);
        want.endpoint = PLAIN;
        passes_by(tunnel->progs.received, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.5", "10.1.0.77");
        want = of_packet(&p, SLIM_HOOK_FROM_VXLAN, SLIM_REASON_ENCAP_NO_ENDPOINT);
        want.peer = CLIENT;
        passes_by(tunnel->progs.received, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.5", "10.1.0.9");
        want = of_packet(&p, SLIM_HOOK_DELIVER, SLIM_REASON_POLICY_INGRESS);
        want.endpoint = PLAIN;
        want.peer = CLIENT;
        deny(SLIM_POLICY_SELECTED);
        passes_by(tunnel->progs.received, &p, TC_ACT_SHOT, &want);

        /* By no tunnel at all: nothing was read. */
        want = (struct slim_event){.reason = SLIM_REASON_ENCAP_BAD_PACKET,
                                   .hook = SLIM_HOOK_FROM_VXLAN};
        passes_by(skel->progs.slim_from_vxlan, &p, TC_ACT_SHOT, &want);
}

static void test_to_vxlan(void **state)
{
        const struct bpf_program *prog = skel->progs.slim_to_vxlan;
        struct packet p = packet_between("10.1.0.5", "10.1.0.9");
        struct slim_event want = of_packet(&p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_ENCAP_SPOOFED);

        want.peer = PLAIN; /* its sender is not here */
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.6", "10.1.0.77");
        want = of_packet(&p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_ENCAP_NO_ENDPOINT);
        want.endpoint = SERVER;
        passes_by(prog, &p, TC_ACT_SHOT, &want);

        p = packet_between("10.1.0.6", "10.1.0.5");
        want = of_packet(&p, SLIM_HOOK_TO_VXLAN, SLIM_REASON_POLICY_EGRESS);
        want.endpoint = SERVER;
        want.peer = CLIENT;
        deny(SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        passes_by(prog, &p, TC_ACT_SHOT, &want);
}

/* --- who watches ------------------------------------------------------------------------------ */

static uint64_t counted(enum slim_reason reason)
{
        static uint64_t value[8192];
        uint32_t key = reason;
        uint64_t n = 0;

        assert_true(harness_get(skel->maps.counters, &key, value));
        for (int c = 0; c < libbpf_num_possible_cpus(); c++)
                n += value[c];
        return n;
}

/* A flood of SYNs without an option, in one call. */
static void flood(uint32_t n)
{
        struct packet p = syn();
        uint8_t data[PACKET_MAX];
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data,
                            .data_size_in = (uint32_t)packet_build(&p, data), .repeat = (int)n);
        int fd = bpf_program__fd(skel->progs.slim_ingress);

        assert_int_equal(bpf_prog_test_run_opts(fd, &opts), 0);
        assert_int_equal(opts.retval, TC_ACT_SHOT);
}

static void test_nobody_watches(void **state)
{
        watch_until(0);
        flood(1000);
        harness_counted_times(skel, SLIM_REASON_SYN_NO_OPTION, 1000);
        assert_int_equal(read_events(), 0);
}

/* slimd was killed while somebody watched. */
static void test_nobody_watches_any_more(void **state)
{
        watch_until(now());
        flood(1000);
        harness_counted_times(skel, SLIM_REASON_SYN_NO_OPTION, 1000);
        assert_int_equal(read_events(), 0);
}

/* Each refusal is counted, and each is told or counted as lost. */
static void test_flood(void **state)
{
        uint64_t lost = counted(SLIM_REASON_EVENT_LOST),
                 counts = counted(SLIM_REASON_SYN_NO_OPTION);
        uint64_t since = now(), windows;

        flood(200000);
        windows = (now() - since) / SLIM_EVENT_WINDOW_NS + 2;
        assert_int_equal(counted(SLIM_REASON_SYN_NO_OPTION) - counts, 200000);
        lost = counted(SLIM_REASON_EVENT_LOST) - lost;
        assert_int_equal(read_events() + lost, 200000);
        /* However long it took: no more than there may be in that time, on one processor. */
        assert_in_range(n_seen, SLIM_EVENT_BURST, SLIM_EVENT_BURST * windows);
        for (unsigned int i = 0; i < n_seen; i++)
                assert_int_equal(seen[i].reason, SLIM_REASON_SYN_NO_OPTION);
}

/* Another reason has room of its own. */
static void test_flood_of_another(void **state)
{
        struct slim_event want = of_syn(SLIM_REASON_SYN_BAD_MAC);
        struct packet p = signed_syn(CLIENT, SERVER, 0);
        uint64_t since;
        uint8_t data[PACKET_MAX];
        size_t len;

        p.options[19] ^= 1;
        flood(1000);
        read_events();
        since = now();
        len = packet_build(&p, data);
        harness_run_tc(skel->progs.slim_ingress, data, len, 0);
        told(&want, since);
}

/* Nobody reads: what finds no room is counted, and what was there stays as it was. */
static void test_full_ring(void **state)
{
        uint32_t room = bpf_map__max_entries(skel->maps.events) / RECORD;
        uint64_t lost = counted(SLIM_REASON_EVENT_LOST), since = now();

        for (uint32_t i = 0; i < 2 * room; i++) {
                if (i % SLIM_EVENT_BURST == 0)
                        forget_windows();
                flood(1);
        }
        assert_int_equal(counted(SLIM_REASON_EVENT_LOST) - lost, 2 * room - read_events());
        assert_in_range(n_seen, room - 1, room);
        for (unsigned int i = 0; i < n_seen; i++) {
                struct slim_event want = of_syn(SLIM_REASON_SYN_NO_OPTION);

                assert_in_range(seen[i].time, since, now());
                want.time = seen[i].time;
                assert_memory_equal(&seen[i], &want, sizeof(want));
        }
        forget_windows();
        flood(1);
        assert_int_equal(read_events(), 1);
}

/* --- all of it -------------------------------------------------------------------------------- */

static int begin(void **state)
{
        uint32_t zero = 0;
        cpu_set_t set;
        int fd;

        CPU_ZERO(&set);
        CPU_SET(sched_getcpu(), &set);
        ring = ring_buffer__new(bpf_map__fd(skel->maps.events), on_record, NULL, NULL);
        tunnel = tunnel_bpf__open_and_load();
        if (!ring || !tunnel || sched_setaffinity(0, sizeof(set), &set) < 0)
                return -1;
        fd = bpf_program__fd(skel->progs.slim_from_vxlan);
        return bpf_map_update_elem(bpf_map__fd(tunnel->maps.next), &zero, &fd, BPF_ANY);
}

static int end(void **state)
{
        ring_buffer__free(ring);
        tunnel_bpf__destroy(tunnel);
        return 0;
}

#define TEST(f) cmocka_unit_test_setup(f, setup)

int main(void)
{
        static const struct CMUnitTest tests[] = {
            TEST(test_syn_of_nobody),
            TEST(test_syn_of_somebody),
            TEST(test_syn_that_a_policy_denies),
            TEST(test_lookup),
            TEST(test_lookup_of_a_published_port),
            TEST(test_from_container),
            TEST(test_to_container),
            TEST(test_from_vxlan),
            TEST(test_to_vxlan),
            TEST(test_nobody_watches),
            TEST(test_nobody_watches_any_more),
            TEST(test_flood),
            TEST(test_flood_of_another),
            TEST(test_full_ring),
        };
        int r;

        skel = harness_start();
        if (!skel)
                return 0;
        r = cmocka_run_group_tests(tests, begin, end);
        slim_bpf__destroy(skel);
        return r;
}
