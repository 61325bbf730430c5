/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An engine that takes maps over from another: worlds at random, as they were and changed while
 * nobody looked, where no flow is denied or allowed in passing.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "policy/fresh.h"
#include "policy/texts.h"
#include "policy/watch.h"
#include "policy/world.h"

#define WORLDS 400

static uint64_t seed;

static void adopt(struct policy_engine *engine, const struct maps *maps, const uint32_t *ids,
                  size_t n_ids)
{
        for (const struct maps_cidr *c = maps->cidrs; c; c = c->hh.next)
                assert_int_equal(policy_engine_adopt_cidr(engine, &c->key, c->id), 0);
        for (size_t i = 0; i < n_ids; i++)
                if (ids[i])
                        assert_int_equal(policy_engine_adopt_identity(engine, ids[i], 0), 0);
        for (const struct maps_subject *s = maps->subjects; s; s = s->hh.next)
                assert_int_equal(policy_engine_adopt_identity(engine, s->identity, s->flags), 0);
        for (const struct maps_rule *rule = maps->rules; rule; rule = rule->hh.next)
                assert_int_equal(policy_engine_adopt_rule(engine, &rule->key), 0);
}

static void world_ids(const struct world *w, uint32_t ids[WORLD_ENDPOINTS])
{
        for (size_t i = 0; i < WORLD_ENDPOINTS; i++)
                ids[i] = w->endpoints[i].live ? w->endpoints[i].id : 0;
}

/* Nothing changed: nothing is written, and all numbers are what they were. */
static void test_unchanged(void **state)
{
        size_t entries = 0;

        for (size_t n = 0; n < WORLDS; n++) {
                uint32_t before[WORLD_ENDPOINTS], after[WORLD_ENDPOINTS];
                struct policy_engine *engine;
                struct maps maps = {};
                struct world w;

                world_init(&w, seed + n);
                world_fill(&w);
                for (uint32_t i = world_random(&w, 30); i > 0; i--) {
                        world_change(&w);
                        if (i % 3 == 0) /* so that numbers are given again */
                                flush(w.engine, &maps);
                }
                flush(w.engine, &maps);
                world_ids(&w, before);
                entries += maps_entries(&maps);
                assert_int_equal(policy_engine_new(&engine), 0);
                adopt(engine, &maps, before, WORLD_ENDPOINTS);
                world_tell(&w, engine, after);
                assert_memory_equal(before, after, sizeof(before));
                assert_int_equal(flush(engine, &maps), 0);
                assert_int_equal(policy_engine_adopt_end(engine), 0);
                assert_int_equal(flush(engine, &maps), 0);
                policy_engine_free(engine);
                maps_clear(&maps);
                world_clear(&w);
        }
        assert_true(entries > 10UL * WORLDS);
}

/* --- changes while nobody looked -------------------------------------------------------------- */

static void test_changed(void **state)
{
        size_t looked = 0, steps = 0;

        for (size_t n = 0; n < WORLDS; n++) {
                uint32_t before[WORLD_ENDPOINTS], after[WORLD_ENDPOINTS];
                struct policy_engine *engine;
                struct watch watch = {};
                struct maps maps = {};
                struct fresh fresh;
                struct world w;

                world_init(&w, seed + 10000 + n);
                world_fill(&w);
                flush(w.engine, &maps);
                world_ids(&w, before);
                watch_flows(&watch, &w, &maps);
                for (uint32_t i = 1 + world_random(&w, 12); i > 0; i--)
                        world_change(&w);

                assert_int_equal(policy_engine_new(&engine), 0);
                adopt(engine, &maps, before, WORLD_ENDPOINTS);
                world_tell(&w, engine, after);
                for (size_t i = 0; i < WORLD_ENDPOINTS; i++)
                        if (w.endpoints[i].live)
                                w.endpoints[i].id = after[i];
                watch_expect(&watch, &w);
                maps.look = watch_look;
                maps.userdata = &watch;
                steps += flush(engine, &maps);
                assert_int_equal(policy_engine_adopt_end(engine), 0);
                steps += flush(engine, &maps);
                maps.look = NULL;
                fresh_compile(&w, &fresh);
                fresh_assert_same(&w, &maps, &fresh);
                maps_clear(&fresh.maps);
                looked += watch.looked;
                policy_engine_free(engine);
                maps_clear(&maps);
                world_clear(&w);
        }
        printf("# %zu steps, %zu times a flow\n", steps, looked);
        assert_true(steps > WORLDS && looked > 1000);
}

/* --- by hand ---------------------------------------------------------------------------------- */

static uint32_t ref_number(struct policy_engine *engine, const char *value, uint32_t number)
{
        struct policy_identity identity = {.network = "default", .number = number};
        char problem[LABEL_PROBLEM_MAX];
        uint32_t id = 0;

        assert_int_equal(labels_add(&identity.labels, "app", value, problem), 0);
        assert_int_equal(policy_engine_identity_ref(engine, &identity, true, &id), 0);
        labels_clear(&identity.labels);
        return id;
}

static void test_numbers(void **state)
{
        struct policy_engine *engine;
        struct maps maps = {};

        assert_int_equal(policy_engine_new(&engine), 0);
        assert_int_equal(policy_engine_adopt_identity(engine, 3, 0), 0);
        assert_int_equal(policy_engine_adopt_identity(engine, 3, 0), 0);
        assert_int_equal(policy_engine_adopt_identity(engine, 100, 0), 0);
        /* Neither a number that is free, nor one of another: they count on from the last. */
        assert_int_equal(ref_number(engine, "a", 0), 101);
        assert_int_equal(ref_number(engine, "b", 7), 102);
        assert_int_equal(ref_number(engine, "c", 3), 3);
        assert_int_equal(ref_number(engine, "d", 3), 103);
        assert_int_equal(ref_number(engine, "c", 100), 3); /* it has one */
        flush(engine, &maps);
        assert_int_equal(ref_number(engine, "e", 0), 104); /* 100 is still kept */
        assert_int_equal(policy_engine_adopt_end(engine), 0);
        flush(engine, &maps);
        /* From now on they are given to anybody, each once. */
        for (size_t i = 0; i < 99; i++) {
                char value[16];

                snprintf(value, sizeof(value), "f%zu", i);
                assert_in_range(ref_number(engine, value, 0), 1, 100);
        }
        assert_int_equal(ref_number(engine, "g", 0), 105);
        policy_engine_free(engine);
        maps_clear(&maps);
}

static void test_refused(void **state)
{
        struct slim_prefix_key prefix = {.prefixlen = 104}, other = {.prefixlen = 129};
        struct slim_policy_key rule = {
            .prefixlen = SLIM_POLICY_BITS_PEER, .subject = 1, .peer = SLIM_POLICY_CIDR | 2};
        struct policy_engine *engine;
        struct maps maps = {};

        assert_int_equal(policy_engine_new(&engine), 0);
        assert_int_equal(policy_engine_adopt_identity(engine, 0, 0), -ERANGE);
        assert_int_equal(policy_engine_adopt_identity(engine, UINT32_MAX, 0), -ERANGE);
        assert_int_equal(policy_engine_adopt_cidr(engine, &prefix, 0), -ERANGE);
        assert_int_equal(policy_engine_adopt_cidr(engine, &other, 1), -ERANGE);
        assert_int_equal(policy_engine_adopt_rule(engine, &rule), -ENOENT);
        assert_int_equal(policy_engine_adopt_cidr(engine, &prefix, 2), 0);
        prefix.prefixlen = 105;
        assert_int_equal(policy_engine_adopt_cidr(engine, &prefix, 2), -EEXIST);
        assert_int_equal(policy_engine_adopt_cidr(engine, &prefix, 1000), 0);
        assert_int_equal(policy_engine_adopt_rule(engine, &rule), 0);
        rule.subject = 0;
        assert_int_equal(policy_engine_adopt_rule(engine, &rule), -ERANGE);
        rule.subject = 1;
        rule.peer = SLIM_POLICY_CIDR - 1;
        assert_int_equal(policy_engine_adopt_rule(engine, &rule), -ERANGE);
        rule.peer = SLIM_POLICY_CIDR | 70000;
        assert_int_equal(policy_engine_adopt_rule(engine, &rule), -ENOENT);
        policy_engine_free(engine); /* halfway: nothing is left behind */
        maps_clear(&maps);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_unchanged),
            cmocka_unit_test(test_changed),
            cmocka_unit_test(test_numbers),
            cmocka_unit_test(test_refused),
        };

        seed = world_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
