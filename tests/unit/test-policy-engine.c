/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "policy/texts.h"

static struct policy_engine *engine;
static struct maps maps;

static int setup(void **state)
{
        maps = (struct maps){};
        return policy_engine_new(&engine);
}

static int teardown(void **state)
{
        policy_engine_free(engine);
        maps_clear(&maps);
        return 0;
}

#define ALL_DENIED "{'podSelector': {}, 'policyTypes': ['Ingress', 'Egress']}"

/* --- identities ------------------------------------------------------------------------------- */

static void test_numbers(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true), b, c;

        assert_int_equal(a, 1);
        b = ref_identity(engine, "default", "app=b", "", false);
        assert_int_equal(b, 2);
        /* The same in all that counts, in whatever order. */
        assert_int_equal(ref_identity(engine, "default", "app=a", "", true), a);
        c = ref_identity(engine, "default", "x=1 app=c", "web=80/TCP dns=53/UDP", false);
        assert_int_equal(
            ref_identity(engine, "default", "app=c x=1", "dns=53/UDP web=80/TCP", true), c);
        /* And not the same. */
        assert_int_equal(ref_identity(engine, "blue", "app=a", "", false), 4);
        assert_int_equal(ref_identity(engine, "default", "app=a", "web=80/TCP", false), 5);
        assert_int_equal(ref_identity(engine, "default", "app=a", "web=81/TCP", false), 6);
        assert_int_equal(ref_identity(engine, "default", "app=a", "web=80/UDP", false), 7);
        assert_int_equal(ref_identity(engine, "default", "", "", false), 8);
        assert_int_equal(ref_host(engine, "default", "h1", false), 9);
        assert_int_equal(
            ref_identity(engine, "default", "slim.io/kind=host slim.io/host=h1", "", false), 10);
        assert_int_equal(flush(engine, &maps), 0);
}

/* A number is nobody else's before a flush, and after it goes to the next. */
static void test_reuse(void **state)
{
        char labels[32];

        for (unsigned int round = 0; round < 3; round++) {
                bool taken[302] = {};
                uint32_t id;

                for (uint32_t i = 0; i < 300; i++) {
                        snprintf(labels, sizeof(labels), "n=%u-%u", round, i);
                        id = ref_identity(engine, "default", labels, "", false);
                        assert_in_range(id, 1, 301);
                        assert_false(taken[id]);
                        taken[id] = true;
                }
                for (id = 1; id <= 301; id++)
                        assert_int_equal(policy_engine_identity_unref(engine, id, false),
                                         taken[id] ? 0 : -ENOENT);
                id = ref_identity(engine, "default", "n=new", "", false);
                assert_in_range(id, 1, 301);
                assert_false(taken[id]);
                assert_int_equal(policy_engine_identity_unref(engine, id, false), 0);
                assert_int_equal(flush(engine, &maps), 0);
        }
}

/* One that comes back before the flush is who it was. */
static void test_back(void **state)
{
        uint32_t a, b;

        put_policy(engine, "p",
                   "{'podSelector': {}, 'ingress': [{'from': [{'podSelector': {}}]}]}");
        a = ref_identity(engine, "default", "app=a", "", true);
        b = ref_identity(engine, "default", "app=b", "", false);
        assert_int_equal(flush(engine, &maps), 3);
        assert_int_equal(policy_engine_identity_unref(engine, a, true), 0);
        assert_int_equal(policy_engine_identity_unref(engine, b, false), 0);
        assert_int_equal(ref_identity(engine, "default", "app=b", "", false), b);
        assert_int_equal(ref_identity(engine, "default", "app=a", "", true), a);
        assert_int_equal(flush(engine, &maps), 0);
        assert_int_equal(policy_engine_identity_unref(engine, a, true), 0);
        assert_int_equal(policy_engine_identity_unref(engine, b, false), 0);
        assert_int_equal(flush(engine, &maps), 3);
        assert_int_equal(maps_entries(&maps), 0);
}

static void test_references(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);
        struct policy_engine_stats stats;

        put_policy(engine, "p", ALL_DENIED);
        assert_int_equal(ref_identity(engine, "default", "app=a", "", false), a);
        assert_int_equal(flush(engine, &maps), 1);
        policy_engine_stats(engine, &stats);
        assert_int_equal(stats.identities, 1);
        assert_int_equal(stats.subjects, 1);
        assert_int_equal(stats.policies, 1);
        /* The local one goes: no subject any more, but still an identity. */
        assert_int_equal(policy_engine_identity_unref(engine, a, true), 0);
        assert_int_equal(policy_engine_identity_unref(engine, a, true), -ENOENT);
        assert_int_equal(flush(engine, &maps), 1);
        assert_int_equal(maps_entries(&maps), 0);
        assert_int_equal(ref_identity(engine, "default", "app=a", "", false), a);
        assert_int_equal(policy_engine_identity_unref(engine, a, false), 0);
        assert_int_equal(policy_engine_identity_unref(engine, a, false), 0);
        assert_int_equal(policy_engine_identity_unref(engine, a, false), -ENOENT);
        assert_int_equal(policy_engine_identity_unref(engine, 99, false), -ENOENT);
}

static void test_many_labels(void **state)
{
        char problem[LABEL_PROBLEM_MAX], key[16];
        struct labels l = {};

        for (unsigned int i = 0; i < LABELS_MAX; i++) {
                if (i == LABELS_MAX - 1)
                        assert_int_equal(policy_engine_put_network(engine, "blue", &l), 0);
                snprintf(key, sizeof(key), "k%u", i);
                assert_int_equal(labels_add(&l, key, "", problem), 0);
        }
        assert_int_equal(policy_engine_put_network(engine, "blue", &l), -E2BIG);
        labels_clear(&l);
}

static void test_refusals(void **state)
{
        struct named_port ports[POLICY_NAMED_PORTS_MAX + 1];
        struct policy_identity identity = {.network = "default", .ports = ports, .n_ports = 2};
        static const struct named_port good = {"web", IPPROTO_TCP, 80};
        static const struct named_port bad[] = {
            {"Web", IPPROTO_TCP, 80}, {"", IPPROTO_TCP, 80},    {"web", IPPROTO_TCP, 0},
            {"web", IPPROTO_ICMP, 8}, {"web", IPPROTO_TCP, 81},
        };
        struct labels none = {};
        uint32_t id = 77;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                ports[0] = good;
                ports[1] = bad[i];
                assert_int_equal(policy_engine_identity_ref(engine, &identity, true, &id), -EINVAL);
        }
        identity.n_ports = ARRAY_SIZE(ports);
        assert_int_equal(policy_engine_identity_ref(engine, &identity, true, &id), -E2BIG);
        identity.n_ports = 0;
        identity.network = "no network";
        assert_int_equal(policy_engine_identity_ref(engine, &identity, true, &id), -EINVAL);
        assert_int_equal(policy_engine_put_network(engine, "no network", &none), -EINVAL);
        assert_int_equal(policy_engine_drop_network(engine, "no network"), -EINVAL);
        assert_int_equal(policy_engine_drop(engine, "default", "p"), -ENOENT);
        assert_int_equal(id, 77);
        assert_null(policy_engine_get(engine, "default", "p"));
        put_policy(engine, "p", "{}");
        assert_non_null(policy_engine_get(engine, "default", "p"));
        assert_null(policy_engine_get(engine, "blue", "p"));
}

/* --- what is compiled ------------------------------------------------------------------------- */

static void test_ports(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "web=8080/TCP", true);
        uint32_t b = ref_identity(engine, "default", "app=b", "web=9090/TCP dns=53/UDP", false);
        uint32_t c = ref_identity(engine, "blue", "", "web=7070/TCP", false);

        put_policy(engine, "p",
                   "{'podSelector': {'matchLabels': {'app': 'a'}},"
                   "'ingress': [{'ports': [{'port': 'web'}, {'port': 1000, 'endPort': 2000}]}],"
                   "'egress': [{'ports': [{'port': 'web'}, {'port': 'dns'}]}]}");
        /* In: 1 + 8. Out: what b and c call so; and a itself. */
        assert_int_equal(flush(engine, &maps), 9 + 3 + 1);
        assert_true(may_enter(&maps, a, 0, "192.0.2.1", 8080));
        assert_false(may_enter(&maps, a, b, "10.0.0.1", 9090)); /* the name is its own */
        assert_true(may_enter(&maps, a, 0, "192.0.2.1", 1000));
        assert_true(may_enter(&maps, a, 0, "192.0.2.1", 2000));
        assert_false(may_enter(&maps, a, 0, "192.0.2.1", 999));
        assert_false(may_enter(&maps, a, 0, "192.0.2.1", 2001));
        assert_true(may_leave(&maps, a, b, "10.0.0.1", 9090));
        assert_false(may_leave(&maps, a, b, "10.0.0.1", 8080));
        assert_false(may_leave(&maps, a, b, "10.0.0.1", 53)); /* TCP */
        assert_true(may_leave(&maps, a, c, "10.0.0.1", 7070));
        assert_false(may_leave(&maps, a, 0, "192.0.2.1", 9090)); /* which has no names */
}

static void test_peers(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);
        uint32_t b = ref_identity(engine, "default", "app=b", "", false);
        uint32_t blue = ref_identity(engine, "blue", "app=b", "", false);
        uint32_t host = ref_host(engine, "default", "h1", true);

        put_policy(engine, "p",
                   "{'podSelector': {'matchLabels': {'app': 'a'}}, 'ingress': [{'from':"
                   "[{'podSelector': {}}]}, {'from': [{'namespaceSelector': {'matchLabels':"
                   "{'kubernetes.io/metadata.name': 'blue'}}}], 'ports': [{'port': 80}]},"
                   "{'from': [{'podSelector': {'matchLabels': {'slim.io/kind': 'host',"
                   "'slim.io/host': 'h1'}}}], 'ports': [{'port': 22}]}]}");
        flush(engine, &maps);
        assert_true(may_enter(&maps, a, b, "10.0.0.1", 1));
        assert_true(may_enter(&maps, a, a, "10.0.0.1", 1));
        assert_true(may_enter(&maps, a, blue, "10.0.0.1", 80));
        assert_false(may_enter(&maps, a, blue, "10.0.0.1", 81));
        assert_true(may_enter(&maps, a, host, "10.0.0.1", 22));
        assert_false(may_enter(&maps, a, host, "10.0.0.1", 80));
        assert_false(may_enter(&maps, a, 0, "10.0.0.1", 80));
        assert_true(may_enter(&maps, host, 0, "10.0.0.1", 80)); /* which nothing selects */
        put_policy(engine, "q",
                   "{'podSelector': {'matchLabels': {'slim.io/kind': 'host'}}, 'ingress': []}");
        flush(engine, &maps);
        assert_false(may_enter(&maps, host, b, "10.0.0.1", 80));
        assert_true(may_enter(&maps, a, b, "10.0.0.1", 1));
}

static void test_blocks(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);
        struct policy_engine_stats stats;

        put_policy(engine, "p",
                   "{'podSelector': {}, 'egress': [{'to': [{'ipBlock': {'cidr': '::/0',"
                   "'except': ['fd00::/8']}}]}, {'to': [{'ipBlock': {'cidr': '10.0.0.0/8',"
                   "'except': ['10.1.0.0/16']}}], 'ports': [{'port': 80}]}]}");
        /* ::/0, fd00::/8, 10/8, 10.1/16 and, so that ::/0 is not IPv4's, 0.0.0.0/0; two rules. */
        assert_int_equal(flush(engine, &maps), 5 + 2 + 1);
        policy_engine_stats(engine, &stats);
        assert_int_equal(stats.cidrs, 5);
        assert_int_equal(stats.rules, 2);
        assert_true(may_leave(&maps, a, 0, "2001:db8::1", 1));
        assert_false(may_leave(&maps, a, 0, "fd00::1", 1));
        assert_true(may_leave(&maps, a, 0, "10.0.0.1", 80));
        assert_false(may_leave(&maps, a, 0, "10.0.0.1", 81));
        assert_false(may_leave(&maps, a, 0, "10.1.0.1", 80));
        assert_false(may_leave(&maps, a, 0, "192.0.2.1", 80));
        /* An exception is no more than that: another rule can have it. */
        put_policy(
            engine, "q",
            "{'podSelector': {}, 'egress': [{'to': [{'ipBlock': {'cidr': '10.1.2.0/24'}}]}]}");
        assert_int_equal(flush(engine, &maps), 2);
        assert_true(may_leave(&maps, a, 0, "10.1.2.3", 81));
        assert_false(may_leave(&maps, a, 0, "10.1.3.3", 81));
        assert_int_equal(policy_engine_drop(engine, "default", "p"), 0);
        assert_int_equal(policy_engine_drop(engine, "default", "q"), 0);
        flush(engine, &maps);
        assert_int_equal(maps_entries(&maps), 0);
}

static void test_networks(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);
        uint32_t b = ref_identity(engine, "blue", "app=b", "", false);

        put_policy(engine, "p",
                   "{'podSelector': {}, 'ingress': [{'from': [{'namespaceSelector':"
                   "{'matchLabels': {'team': 'x'}}}]}, {'from': [{'namespaceSelector':"
                   "{'matchLabels': {'kubernetes.io/metadata.name': 'red'}}}]}]}");
        flush(engine, &maps);
        assert_false(may_enter(&maps, a, b, "10.0.0.1", 1));
        put_network(engine, "blue", "team=x");
        assert_int_equal(flush(engine, &maps), 1);
        assert_true(may_enter(&maps, a, b, "10.0.0.1", 1));
        put_network(engine, "blue", "team=x");
        assert_int_equal(flush(engine, &maps), 0);
        /* A name that is not its own is not taken. */
        put_network(engine, "blue", "team=y kubernetes.io/metadata.name=red");
        assert_int_equal(flush(engine, &maps), 1);
        assert_false(may_enter(&maps, a, b, "10.0.0.1", 1));
        put_network(engine, "blue", "team=x");
        assert_int_equal(policy_engine_drop_network(engine, "blue"), 0);
        assert_int_equal(flush(engine, &maps), 0);
        /* Of a network that nobody is in yet. */
        put_network(engine, "green", "team=x");
        b = ref_identity(engine, "green", "", "", false);
        assert_int_equal(flush(engine, &maps), 1);
        assert_true(may_enter(&maps, a, b, "10.0.0.1", 1));
}

/* Nothing that was there is emitted again. */
static void test_increments(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);

        put_policy(engine, "p",
                   "{'podSelector': {'matchLabels': {'app': 'a'}}, 'ingress': [{'from':"
                   "[{'podSelector': {'matchLabels': {'app': 'b'}}}], 'ports': [{'port': 80},"
                   "{'port': 81}]}]}");
        put_policy(engine, "blue/p", ALL_DENIED);
        assert_int_equal(flush(engine, &maps), 1);
        assert_int_equal(ref_identity(engine, "default", "app=a", "", true), a);
        assert_int_equal(flush(engine, &maps), 0);
        ref_identity(engine, "default", "app=b", "", false);
        assert_int_equal(flush(engine, &maps), 2);
        ref_identity(engine, "default", "app=b", "", true); /* which no policy selects */
        ref_identity(engine, "default", "app=c", "", true);
        assert_int_equal(flush(engine, &maps), 0);
        ref_identity(engine, "blue", "app=b", "", true);
        assert_int_equal(flush(engine, &maps), 1);
        /* The same policy once more; a rule that another has too. */
        put_policy(engine, "p",
                   "{'podSelector': {'matchLabels': {'app': 'a'}}, 'ingress': [{'from':"
                   "[{'podSelector': {'matchLabels': {'app': 'b'}}}], 'ports': [{'port': 81},"
                   "{'port': 80}]}]}");
        assert_int_equal(flush(engine, &maps), 0);
        put_policy(engine, "q",
                   "{'podSelector': {}, 'ingress': [{'from': [{'podSelector': {'matchLabels':"
                   "{'app': 'b'}}}], 'ports': [{'port': 80}]}]}");
        /* For b and c: a rule and a subject each. */
        assert_int_equal(flush(engine, &maps), 4);
        put_policy(engine, "p", "{'podSelector': {'matchLabels': {'app': 'a'}}}");
        assert_int_equal(flush(engine, &maps), 1);
}

static void test_reject(void **state)
{
        struct slim_policy_check check = {.subject = 1, .protocol = IPPROTO_TCP, .port = 80};
        struct policy *p = policy_of("p", ALL_DENIED);

        ref_identity(engine, "default", "", "", true);
        put_policy(engine, "q", "{'podSelector': {}}");
        flush(engine, &maps);
        assert_int_equal(maps_verdict(&maps, &check), SLIM_POLICY_DROP);
        p->reject = true;
        assert_int_equal(policy_engine_put(engine, &p), 0);
        assert_int_equal(flush(engine, &maps), 1);
        assert_int_equal(maps_verdict(&maps, &check), SLIM_POLICY_REJECT);
        check.direction = SLIM_POLICY_EGRESS;
        assert_int_equal(maps_verdict(&maps, &check), SLIM_POLICY_REJECT);
        put_policy(engine, "p", ALL_DENIED);
        assert_int_equal(flush(engine, &maps), 1);
        assert_int_equal(maps_verdict(&maps, &check), SLIM_POLICY_DROP);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
        static const struct CMUnitTest tests[] = {
            TEST(test_numbers),    TEST(test_reuse),      TEST(test_back),
            TEST(test_references), TEST(test_refusals),   TEST(test_many_labels),
            TEST(test_ports),      TEST(test_peers),      TEST(test_blocks),
            TEST(test_networks),   TEST(test_increments), TEST(test_reject),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
