// SPDX-License-Identifier: Apache-2.0
/*
 * The verdict of the kernel, on real maps, against what the policies say: worlds at random, which
 * go on from one another as they would in slimd, and flows of each.
 */
#include <errno.h>
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

#include "basic/macro.h"
#include "harness.h"
#include "policy/maps.h"
#include "policy/world.h"

#define WORLDS 1000
#define FLOWS  100

static struct slim_bpf *skel;
static uint64_t seed;

/* --- the maps --------------------------------------------------------------------------------- */

static int put_rule(const struct slim_policy_key *key, void *userdata)
{
        const uint32_t one = 1;

        harness_put(skel->maps.policy_rules, key, &one);
        return maps_sink.put_rule(key, userdata);
}

static int put_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        harness_put(skel->maps.policy_cidrs, key, &id);
        return maps_sink.put_cidr(key, id, userdata);
}

static int put_subject(uint32_t identity, const struct slim_policy_subject *subject, void *userdata)
{
        harness_put(skel->maps.policy_subjects, &identity, subject);
        return maps_sink.put_subject(identity, subject, userdata);
}

static int drop(const struct bpf_map *map, const void *key)
{
        return bpf_map_delete_elem(bpf_map__fd(map), key);
}

static int drop_subject(uint32_t identity, void *userdata)
{
        assert_int_equal(drop(skel->maps.policy_subjects, &identity), 0);
        return maps_sink.drop_subject(identity, userdata);
}

static int drop_cidr(const struct slim_prefix_key *key, void *userdata)
{
        assert_int_equal(drop(skel->maps.policy_cidrs, key), 0);
        return maps_sink.drop_cidr(key, userdata);
}

static int drop_rule(const struct slim_policy_key *key, void *userdata)
{
        assert_int_equal(drop(skel->maps.policy_rules, key), 0);
        return maps_sink.drop_rule(key, userdata);
}

/* Into both: the kernel's maps, and the model of them. */
static const struct policy_sink both = {
    .put_rule = put_rule,
    .put_cidr = put_cidr,
    .put_subject = put_subject,
    .drop_subject = drop_subject,
    .drop_cidr = drop_cidr,
    .drop_rule = drop_rule,
};

static int ask(const void *data, size_t len)
{
        return harness_run_tc(skel->progs.slim_policy_check, data, len, 0);
}

static enum slim_policy_verdict verdict(const struct slim_policy_check *check)
{
        return (enum slim_policy_verdict)ask(check, sizeof(*check));
}

/* --- tests ------------------------------------------------------------------------------------ */

static int setup(void **state)
{
        harness_reset(skel);
        return 0;
}

/* Three answers to 100,000 questions: what is written, what is emitted, what the kernel says. */
static void test_model(void **state)
{
        size_t seen[3] = {}, asked = 0;
        struct maps maps = {};
        struct world w;

        world_init(&w, seed);
        for (size_t n = 0; n < WORLDS; n++) {
                if (n % 20 == 0)
                        world_fill(&w);
                for (uint32_t i = world_random(&w, 8); i > 0; i--)
                        world_change(&w);
                assert_int_equal(policy_engine_flush(w.engine, &both, &maps), 0);
                for (size_t i = 0; i < FLOWS; i++) {
                        enum slim_policy_verdict expected, found;
                        struct world_flow flow;

                        if (!world_random_flow(&w, &flow))
                                world_put_endpoint(&w);
                        else {
                                expected = world_verdict(&w, &flow);
                                found = verdict(&flow.check);
                                if (found != expected ||
                                    maps_verdict(&maps, &flow.check) != expected)
                                        fail_msg("world %zu, flow %zu: %d instead of %d", n, i,
                                                 found, expected);
                                seen[found]++;
                                asked++;
                        }
                }
        }
        assert_int_equal(harness_entries(skel->maps.policy_rules), HASH_COUNT(maps.rules));
        assert_int_equal(harness_entries(skel->maps.policy_cidrs), HASH_COUNT(maps.cidrs));
        assert_int_equal(harness_entries(skel->maps.policy_subjects), HASH_COUNT(maps.subjects));
        printf("# %zu allowed, %zu dropped, %zu rejected\n", seen[0], seen[1], seen[2]);
        assert_int_equal(asked, WORLDS * FLOWS);
        assert_true(seen[0] > 10000 && seen[1] > 10000 && seen[2] > 2000);
        maps_clear(&maps);
        world_clear(&w);
}

static void put(uint32_t prefixlen, uint32_t peer, enum slim_policy_direction direction,
                uint8_t protocol, uint16_t port)
{
        struct slim_policy_key key = {prefixlen,          5,        peer,
                                      (uint8_t)direction, protocol, htons(port)};
        const uint32_t one = 1;

        harness_put(skel->maps.policy_rules, &key, &one);
}

static void select_subject(uint32_t flags)
{
        const struct slim_policy_subject subject = {flags};
        const uint32_t five = 5;

        harness_put(skel->maps.policy_subjects, &five, &subject);
}

static struct slim_policy_check question(const char *addr, uint32_t peer, uint16_t port)
{
        return (struct slim_policy_check){
            .subject = 5,
            .peer = peer,
            .addr = harness_addr(addr),
            .port = port,
            .direction = SLIM_POLICY_INGRESS,
            .protocol = IPPROTO_TCP,
        };
}

/* Each kind of entry on its own, and none for what is beside it. */
static void test_entries(void **state)
{
        struct slim_policy_check c = question("10.0.0.7", 7, 80);
        struct slim_prefix_key prefix = {104, harness_addr("10.0.0.0")};
        uint32_t id = 3;

        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED); /* no subject */
        select_subject(SLIM_POLICY_SELECTED << SLIM_POLICY_EGRESS);
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED); /* not in this direction */
        select_subject(SLIM_POLICY_SELECTED);
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);
        select_subject(SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS << SLIM_POLICY_EGRESS);
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);
        select_subject(SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS);
        assert_int_equal(verdict(&c), SLIM_POLICY_REJECT);

        put(SLIM_POLICY_BITS_PORT, 7, SLIM_POLICY_EGRESS, IPPROTO_TCP, 80);
        put(SLIM_POLICY_BITS_PORT, 7, SLIM_POLICY_INGRESS, IPPROTO_UDP, 80);
        put(SLIM_POLICY_BITS_PORT, 7, SLIM_POLICY_INGRESS, IPPROTO_TCP, 81);
        put(SLIM_POLICY_BITS_PORT, 8, SLIM_POLICY_INGRESS, IPPROTO_TCP, 80);
        put(SLIM_POLICY_BITS_PORT, SLIM_POLICY_CIDR | 3, SLIM_POLICY_INGRESS, IPPROTO_TCP, 80);
        assert_int_equal(verdict(&c), SLIM_POLICY_REJECT);

        harness_put(skel->maps.policy_cidrs, &prefix, &id);
        assert_int_equal(verdict(&c), SLIM_POLICY_REJECT); /* there are no rules of addresses */
        select_subject(SLIM_POLICY_SELECTED | SLIM_POLICY_CIDRS);
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED);
        c.addr = harness_addr("11.0.0.7");
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);

        put(SLIM_POLICY_BITS_PROTOCOL + 12, 0, SLIM_POLICY_INGRESS, IPPROTO_TCP, 0x0050);
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED); /* anybody, 80 to 95 */
        c.port = 96;
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);
        put(SLIM_POLICY_BITS_PROTOCOL, 7, SLIM_POLICY_INGRESS, IPPROTO_TCP, 0);
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED);
        c.protocol = IPPROTO_ICMP;
        c.port = 0;
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);
        put(SLIM_POLICY_BITS_PEER, 7, SLIM_POLICY_INGRESS, 0, 0);
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED);
        c.peer = 0; /* not an endpoint */
        assert_int_equal(verdict(&c), SLIM_POLICY_DROP);
        c.subject = 0; /* without an identity */
        assert_int_equal(verdict(&c), SLIM_POLICY_ALLOWED);
}

/* What is no question is not allowed either. */
static void test_short(void **state)
{
        uint8_t data[sizeof(struct slim_policy_check)] = {};

        assert_int_equal(ask(data, sizeof(data)), SLIM_POLICY_ALLOWED);
        assert_int_equal(ask(data, sizeof(data) - 1), SLIM_POLICY_REJECT);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup(test_entries, setup),
            cmocka_unit_test_setup(test_short, setup),
            cmocka_unit_test_setup(test_model, setup),
        };
        int failed;

        skel = harness_start();
        if (!skel)
                return 0;
        seed = world_seed();
        failed = cmocka_run_group_tests(tests, NULL, NULL);
        slim_bpf__destroy(skel);
        return failed;
}
