/* SPDX-License-Identifier: Apache-2.0 */
#include "harness.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "basic/macro.h"
#include "shared/netlink.h"

static uint64_t rng = 0x511e;
static uint64_t counted_before[SLIM_REASON_MAX];

struct slim_bpf *harness_open(void)
{
        struct slim_bpf *skel = slim_bpf__open();
        struct slim_config *config;

        if (!skel)
                return NULL;
        /* const for the programs; before loading, it is what its map starts with. */
        config = (struct slim_config *)(uintptr_t)&skel->rodata->config;
        *config = (struct slim_config){
            .port_base = PORT_BASE,
            .port_count = PORT_COUNT,
            .vxlan_ifindex = VXLAN_IFINDEX,
        };
        return skel;
}

struct slim_bpf *harness_start(void)
{
        struct slim_bpf *skel;

        if (unshare(CLONE_NEWNET) < 0) {
                printf("1..0 # SKIP cannot make a network namespace (%s): run as root\n",
                       strerror(errno));
                return NULL;
        }
        skel = harness_open();
        if (!skel || slim_bpf__load(skel) < 0) {
                printf("Bail out! cannot load the data path: %s\n", strerror(errno));
                exit(EXIT_FAILURE);
        }
        return skel;
}

uint32_t harness_random(void)
{
        rng ^= rng >> 12;
        rng ^= rng << 25;
        rng ^= rng >> 27;
        return (uint32_t)((rng * 0x2545f4914f6cdd1d) >> 32);
}

union slim_addr harness_addr(const char *text)
{
        union slim_addr a;

        assert_int_equal(inaddr_parse(text, &a), 0);
        return a;
}

void harness_addrs(union slim_addr ret[SLIM_FAMILIES], const char *texts)
{
        char copy[128], *save = NULL;

        memset(ret, 0, SLIM_FAMILIES * sizeof(ret[0]));
        assert_true(strlen(texts) < sizeof(copy));
        strcpy(copy, texts);
        for (char *text = strtok_r(copy, " ", &save); text; text = strtok_r(NULL, " ", &save)) {
                union slim_addr a = harness_addr(text);

                ret[inaddr_family(&a)] = a;
        }
}

void harness_put(const struct bpf_map *map, const void *key, const void *value)
{
        assert_int_equal(bpf_map_update_elem(bpf_map__fd(map), key, value, BPF_ANY), 0);
}

bool harness_get(const struct bpf_map *map, const void *key, void *ret_value)
{
        return bpf_map_lookup_elem(bpf_map__fd(map), key, ret_value) == 0;
}

unsigned int harness_entries(const struct bpf_map *map)
{
        uint8_t key[64], next[64];
        unsigned int n = 0;

        for (const void *at = NULL; bpf_map_get_next_key(bpf_map__fd(map), at, next) == 0; n++)
                at = memcpy(key, next, sizeof(key));
        return n;
}

void harness_endpoint(struct slim_bpf *skel, const struct slim_endpoint *e)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                struct slim_endpoint_key key = {.network = e->network, .addr = e->addr[f]};

                if (!inaddr_is_none(&e->addr[f]))
                        harness_put(skel->maps.endpoints, &key, e);
        }
        harness_put(skel->maps.identities, &e->id, e);
}

static void clear(const struct bpf_map *map)
{
        uint8_t key[64];

        while (bpf_map_get_next_key(bpf_map__fd(map), NULL, key) == 0)
                assert_int_equal(bpf_map_delete_elem(bpf_map__fd(map), key), 0);
}

static void read_counters(const struct slim_bpf *skel, uint64_t ret[SLIM_REASON_MAX])
{
        static uint64_t value[8192]; /* one for each processor that the kernel can have */
        int cpus = libbpf_num_possible_cpus();

        assert_in_range(cpus, 1, ARRAY_SIZE(value));
        for (uint32_t i = 0; i < SLIM_REASON_MAX; i++) {
                assert_true(harness_get(skel->maps.counters, &i, value));
                ret[i] = 0;
                for (int c = 0; c < cpus; c++)
                        ret[i] += value[c];
        }
}

void harness_reset(struct slim_bpf *skel)
{
        struct slim_key none = {};
        uint32_t zero = 0;

        clear(skel->maps.endpoints);
        clear(skel->maps.identities);
        clear(skel->maps.prefixes);
        clear(skel->maps.hosts);
        clear(skel->maps.devices);
        clear(skel->maps.ports);
        clear(skel->maps.listeners);
        clear(skel->maps.syns);
        clear(skel->maps.published);
        clear(skel->maps.policy_rules);
        clear(skel->maps.policy_cidrs);
        clear(skel->maps.policy_subjects);
        clear(skel->maps.flows);
        for (uint32_t i = 0; i < SLIM_KEYS; i++)
                harness_put(skel->maps.keys, &i, &none);
        for (uint32_t i = 0; i < bpf_map__max_entries(skel->maps.hidden_ports); i++) {
                uint32_t v;

                if (harness_get(skel->maps.hidden_ports, &i, &v) && v)
                        harness_put(skel->maps.hidden_ports, &i, &zero);
        }
        read_counters(skel, counted_before);
}

void harness_counted_times(struct slim_bpf *skel, enum slim_reason reason, uint64_t times)
{
        uint64_t now[SLIM_REASON_MAX];

        read_counters(skel, now);
        for (uint32_t i = 0; i < SLIM_REASON_MAX; i++) {
                uint64_t more = now[i] - counted_before[i];

                if (more != (i == reason ? times : 0))
                        fail_msg("reason %u was counted %llu times, where %u was expected", i,
                                 (unsigned long long)more, reason);
        }
        memcpy(counted_before, now, sizeof(now));
}

void harness_counted(struct slim_bpf *skel, enum slim_reason reason)
{
        harness_counted_times(skel, reason, reason == SLIM_REASON_NONE ? 0 : 1);
}

/* --- packets ---------------------------------------------------------------------------------- */

static bool is_v4(const struct packet *p)
{
        return inaddr_is_v4(&p->to);
}

static size_t ip_len(const struct packet *p)
{
        return is_v4(p) ? (size_t)(p->ip_words ? p->ip_words : 5) * 4
                        : sizeof(struct ipv6hdr) + p->extensions_len;
}

size_t packet_tcp(const struct packet *p)
{
        return ETH_HLEN + ip_len(p);
}

struct packet packet_between(const char *from, const char *to)
{
        return (struct packet){
            .from = harness_addr(from),
            .to = harness_addr(to),
            .from_port = 4711,
            .to_port = 53,
            .protocol = IPPROTO_UDP,
            .payload = 32,
        };
}

size_t packet_build(const struct packet *p, uint8_t *ret)
{
        size_t options = (p->options_len + 3) / 4 * 4;
        size_t tcp_len = sizeof(struct tcphdr) + options + p->payload;
        uint8_t *at = ret;
        struct ethhdr eth = {
            .h_dest = {2, 0, 0, 0, 0, 1},
            .h_source = {2, 0, 0, 0, 0, 2},
            .h_proto = htons(p->ethertype ? p->ethertype
                             : is_v4(p)   ? ETH_P_IP
                                          : ETH_P_IPV6),
        };
        struct tcphdr th = {
            .source = htons(p->from_port),
            .dest = htons(p->to_port),
            .seq = htonl(p->sequence),
            .window = htons(64240),
        };

        memset(ret, 0, PACKET_MAX);
        memcpy(at, &eth, sizeof(eth));
        at += sizeof(eth);
        if (is_v4(p)) {
                struct iphdr ip = {
                    .version = 4,
                    .ihl = p->ip_words ? p->ip_words : 5,
                    .tot_len = htons((uint16_t)(ip_len(p) + tcp_len)),
                    .frag_off = htons(p->fragment),
                    .ttl = 64,
                    .protocol = p->protocol ? p->protocol : IPPROTO_TCP,
                    .saddr = inaddr_to_v4(&p->from),
                    .daddr = inaddr_to_v4(&p->to),
                };

                memcpy(at, &ip, sizeof(ip));
                if (ip_len(p) > sizeof(ip)) /* the options: NOPs */
                        memset(at + sizeof(ip), 1, ip_len(p) - sizeof(ip));
        } else {
                struct ipv6hdr ip = {
                    .version = 6,
                    .payload_len = htons((uint16_t)(p->extensions_len + tcp_len)),
                    .nexthdr = p->extensions_len ? p->first
                               : p->protocol     ? p->protocol
                                                 : IPPROTO_TCP,
                    .hop_limit = 64,
                };

                memcpy(&ip.saddr, &p->from, sizeof(ip.saddr));
                memcpy(&ip.daddr, &p->to, sizeof(ip.daddr));
                memcpy(at, &ip, sizeof(ip));
                memcpy(at + sizeof(ip), p->extensions, p->extensions_len);
        }
        at += ip_len(p);
        memcpy(at, &th, sizeof(th));
        at[12] = (uint8_t)((p->doff ? p->doff : (sizeof(th) + options) / 4) << 4);
        at[13] = p->flags;
        at += sizeof(th);
        memcpy(at, p->options, p->options_len);
        at += options;
        memset(at, 0x5a, p->payload);
        return (size_t)(at - ret) + p->payload;
}

int harness_veth(uint32_t *ret_a, uint32_t *ret_b)
{
        static const uint8_t mac[6] = {2, 0, 0, 0, 0, 1};
        _cleanup_close_ int here = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        struct netlink_link a, b;

        if (here < 0 || netlink_open(-1, &nl) < 0 ||
            netlink_veth_add(nl, "a", mac, "b", mac, here, 1500) < 0 ||
            netlink_link_get(nl, "a", &a) < 0 || netlink_link_get(nl, "b", &b) < 0)
                return -1;
        *ret_a = a.ifindex;
        *ret_b = b.ifindex;
        return 0;
}

int harness_run_tc_out(const struct bpf_program *prog, const uint8_t *data, size_t len,
                       uint32_t ifindex, uint8_t *out, size_t *out_len)
{
        struct __sk_buff context = {.ifindex = ifindex};
        DECLARE_LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = data, .data_size_in = (uint32_t)len,
                            .data_out = out, .data_size_out = out ? PACKET_MAX : 0,
                            .ctx_in = ifindex ? &context : NULL,
                            .ctx_size_in = ifindex ? sizeof(context) : 0);

        assert_int_equal(bpf_prog_test_run_opts(bpf_program__fd(prog), &opts), 0);
        if (out)
                *out_len = opts.data_size_out;
        return (int)opts.retval;
}

int harness_run_tc(const struct bpf_program *prog, const uint8_t *data, size_t len,
                   uint32_t ifindex)
{
        return harness_run_tc_out(prog, data, len, ifindex, NULL, NULL);
}
