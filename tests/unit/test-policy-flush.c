/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is emitted, and in what order: that no flow is denied or allowed in passing is looked at
 * after every single step. Worlds at random, and the changes that the order is made for.
 */
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

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "policy/fresh.h"
#include "policy/texts.h"
#include "policy/watch.h"
#include "policy/world.h"

#define SEQUENCES 150
#define CHANGES   60

static uint64_t seed;

/* --- tests ------------------------------------------------------------------------------------ */

/* Some changes, and a flush; at times one that fails halfway, with more changes before the next. */
static void test_sequences(void **state)
{
        size_t steps = 0, failed = 0, looked = 0;

        for (size_t n = 0; n < SEQUENCES; n++) {
                struct maps maps = {};
                struct watch watch = {};
                struct world w;

                world_init(&w, seed + n);
                for (size_t i = 0; i < CHANGES; i++) {
                        struct fresh fresh;
                        int r;

                        watch_flows(&watch, &w, &maps);
                        for (uint32_t c = 1 + world_random(&w, 4); c > 0; c--)
                                world_change(&w);
                        watch_expect(&watch, &w);
                        maps.steps = 0;
                        maps.fail_at = world_random(&w, 4) == 0 ? 1 + world_random(&w, 40) : 0;
                        maps.look = watch_look;
                        maps.userdata = &watch;
                        r = policy_engine_flush(w.engine, &maps_sink, &maps);
                        steps += maps.steps;
                        if (r < 0) {
                                assert_int_equal(r, -ENOSPC);
                                failed++;
                                continue;
                        }
                        fresh_compile(&w, &fresh);
                        fresh_assert_same(&w, &maps, &fresh);
                        maps_clear(&fresh.maps);
                        /* And once more: nothing. */
                        maps.steps = 0;
                        assert_int_equal(policy_engine_flush(w.engine, &maps_sink, &maps), 0);
                        assert_int_equal(maps.steps, 0);
                }
                looked += watch.looked;
                maps_clear(&maps);
                world_clear(&w);
        }
        printf("# %zu steps, %zu of which failed, %zu times a flow\n", steps, failed, looked);
        assert_true(failed > SEQUENCES);
}

/* What is emitted says what the policies say. */
static void test_model(void **state)
{
        size_t seen[3] = {};

        for (size_t n = 0; n < 1000; n++) {
                struct maps maps = {};
                struct world w;

                world_init(&w, seed + 1000000 + n);
                world_fill(&w);
                assert_int_equal(policy_engine_flush(w.engine, &maps_sink, &maps), 0);
                for (size_t i = 0; i < 100; i++) {
                        enum slim_policy_verdict expected, found;
                        struct world_flow flow;

                        if (!world_random_flow(&w, &flow))
                                break;
                        expected = world_verdict(&w, &flow);
                        found = maps_verdict(&maps, &flow.check);
                        if (found != expected)
                                fail_msg("world %zu, flow %zu: %d instead of %d", n, i, found,
                                         expected);
                        seen[found]++;
                }
                maps_clear(&maps);
                world_clear(&w);
        }
        printf("# %zu allowed, %zu dropped, %zu rejected\n", seen[0], seen[1], seen[2]);
        assert_true(seen[0] + seen[1] + seen[2] >= 100000);
        assert_true(seen[0] > 20000 && seen[1] > 20000 && seen[2] > 2000);
}

/* --- the changes that the order is made for --------------------------------------------------- */

struct one_flow {
        uint32_t subject, peer;
        const char *addr;
        bool allowed; /* all the time */
        size_t looked;
};

static void look_at_one(const struct maps *maps, void *userdata)
{
        struct one_flow *f = userdata;

        assert_int_equal(may_enter(maps, f->subject, f->peer, f->addr, 80), f->allowed);
        f->looked++;
}

#define SUBJECT       "{'matchLabels': {'app': 'a'}}"
#define INGRESS(what) "{'podSelector': " SUBJECT ", 'ingress': [" what "]}"
#define BLOCK(what)   "{'from': [{'ipBlock': {" what "}}]}"
#define LESS          BLOCK("'cidr': '10.0.0.0/8', 'except': ['10.1.0.0/16']")
/* Somebody else's: for the map to have a prefix already. */
#define OTHERS(what) "{'podSelector': {'matchLabels': {'app': 'b'}}, 'ingress': [" what "]}"

/* From one policy to another, looking all the time at a flow that neither changes. */
static void change(const char *others, const char *before, const char *after, bool also_back,
                   bool by_peer, const char *addr, bool allowed)
{
        struct policy_engine *engine;
        struct maps maps = {};
        struct one_flow f = {.addr = addr, .allowed = allowed};

        assert_int_equal(policy_engine_new(&engine), 0);
        f.subject = ref_identity(engine, "default", "app=a", "", true);
        ref_identity(engine, "default", "app=b", "", true);
        if (by_peer)
                f.peer = ref_identity(engine, "default", "app=c", "", false);
        if (others)
                put_policy(engine, "others", others);
        put_policy(engine, "p", before);
        flush(engine, &maps);
        maps.look = look_at_one;
        maps.userdata = &f;
        look_at_one(&maps, &f);
        put_policy(engine, "p", after);
        flush(engine, &maps);
        look_at_one(&maps, &f);
        if (also_back) {
                put_policy(engine, "p", before);
                flush(engine, &maps);
        }
        assert_true(f.looked > 2);
        policy_engine_free(engine);
        maps_clear(&maps);
}

/* The prefix with the exception is there and gets rules; the exception comes with them. */
static void test_exception(void **state)
{
        const char *others = OTHERS(BLOCK("'cidr': '10.0.0.0/8'"));

        change(others, INGRESS(""), INGRESS(LESS), true, false, "10.1.0.1", false);
        change(NULL, INGRESS(""), INGRESS(LESS), true, false, "10.1.0.1", false);
        /* In each other, twice. */
        change(NULL, INGRESS(""),
               INGRESS(BLOCK("'cidr': '10.0.0.0/8', 'except': ['10.0.0.0/9']") ", " BLOCK(
                   "'cidr': '10.1.0.0/16', 'except': ['10.1.0.0/24']")),
               true, false, "10.1.0.1", false);
}

/* From an exception's prefix to the rules of the one around it, and the other way. */
static void test_within(void **state)
{
        change(NULL, INGRESS(BLOCK("'cidr': '10.0.0.0/8'")),
               INGRESS(BLOCK("'cidr': '10.1.0.0/16'")), true, false, "10.1.0.1", true);
        change(NULL, INGRESS(BLOCK("'cidr': '10.0.0.0/8'")),
               INGRESS(BLOCK("'cidr': '10.0.0.0/8'") ", " BLOCK(
                   "'cidr': '0.0.0.0/0', 'except': ['10.1.0.0/16']")),
               true, false, "10.1.0.1", true);
}

/* Allowed as a peer before, by its address after; which is of a prefix that goes. */
static void test_peer_to_address(void **state)
{
        change(NULL, INGRESS(LESS ", {'from': [{'podSelector': {'matchLabels': {'app': 'c'}}}]}"),
               INGRESS(BLOCK("'cidr': '10.0.0.0/8'")), true, true, "10.1.0.1", true);
}

/* Not selected before, or after: that direction opens first and closes last. */
static void test_open_and_close(void **state)
{
        change(NULL, "{'podSelector': " SUBJECT ", 'policyTypes': ['Egress']}",
               INGRESS(BLOCK("'cidr': '10.0.0.0/8'")), true, false, "10.1.0.1", true);
}

/* Rules that a failed flush left behind, of a prefix that comes back with others. */
static void test_left_behind(void **state)
{
        struct policy_engine *engine;
        struct maps maps = {};
        struct one_flow f = {.addr = "10.1.0.1"};
        size_t steps;

        assert_int_equal(policy_engine_new(&engine), 0);
        f.subject = ref_identity(engine, "default", "app=a", "", true);
        put_policy(engine, "closed", INGRESS(""));
        put_policy(engine, "p", INGRESS(BLOCK("'cidr': '10.1.0.0/16'")));
        flush(engine, &maps);
        assert_true(may_enter(&maps, f.subject, 0, f.addr, 80));
        assert_int_equal(policy_engine_drop(engine, "default", "p"), 0);
        /* The prefix goes, the subject no longer looks for any, the rule stays. */
        maps.steps = 0;
        maps.fail_at = 3;
        assert_int_equal(policy_engine_flush(engine, &maps_sink, &maps), -ENOSPC);
        assert_int_equal(HASH_COUNT(maps.cidrs), 0);
        assert_int_equal(HASH_COUNT(maps.rules), 1);
        put_policy(engine, "p", INGRESS(LESS));
        maps.fail_at = 0;
        maps.look = look_at_one;
        maps.userdata = &f;
        flush(engine, &maps);
        assert_true(f.looked > 0);
        assert_true(may_enter(&maps, f.subject, 0, "10.2.0.1", 80));

        /* And a failure at each step of taking it all away. */
        maps.look = NULL;
        assert_int_equal(policy_engine_drop(engine, "default", "p"), 0);
        assert_int_equal(policy_engine_drop(engine, "default", "closed"), 0);
        assert_int_equal(policy_engine_identity_unref(engine, f.subject, true), 0);
        for (steps = 0; maps_entries(&maps) > 0; steps++) {
                int r;

                maps.steps = 0;
                maps.fail_at = 2;
                r = policy_engine_flush(engine, &maps_sink, &maps);
                assert_int_equal(r, maps_entries(&maps) > 0 ? -ENOSPC : 0);
        }
        assert_true(steps > 3);
        policy_engine_free(engine);
        maps_clear(&maps);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_exception),       cmocka_unit_test(test_within),
            cmocka_unit_test(test_peer_to_address), cmocka_unit_test(test_open_and_close),
            cmocka_unit_test(test_left_behind),     cmocka_unit_test(test_sequences),
            cmocka_unit_test(test_model),
        };

        seed = world_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
