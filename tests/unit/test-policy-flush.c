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
#include "policy/world.h"

#define SEQUENCES 150
#define CHANGES   60
#define FLOWS     60

static uint64_t seed;

/* --- looking at every step -------------------------------------------------------------------- */

struct watched {
        struct world_flow flow;
        bool before, after;
};

struct watch {
        size_t n;
        struct watched v[FLOWS];
        size_t looked;
};

static bool allows(const struct maps *maps, const struct world_flow *flow)
{
        return maps_verdict(maps, &flow->check) == SLIM_POLICY_ALLOWED;
}

static void look(const struct maps *maps, void *userdata)
{
        struct watch *watch = userdata;

        for (size_t i = 0; i < watch->n; i++) {
                const struct watched *w = &watch->v[i];
                bool now = allows(maps, &w->flow);

                if (w->before == w->after && now != w->before)
                        fail_msg("step %zu: a flow that is %s before and after is %s", maps->steps,
                                 w->before ? "allowed" : "denied", now ? "allowed" : "denied");
                watch->looked++;
        }
}

/* Flows between endpoints that live through what is to come. */
static void watch_flows(struct watch *watch, struct world *w, const struct maps *maps)
{
        watch->n = 0;
        while (watch->n < FLOWS && world_random_flow(w, &watch->v[watch->n].flow)) {
                watch->v[watch->n].before = allows(maps, &watch->v[watch->n].flow);
                watch->n++;
        }
}

/* The same ones, as far as both ends are still who they were. */
static void expect_flows(struct watch *watch, const struct world *w)
{
        size_t kept = 0;

        for (size_t i = 0; i < watch->n; i++) {
                struct watched *v = &watch->v[i];
                const struct world_endpoint *s = &w->endpoints[v->flow.subject];
                const struct world_endpoint *p =
                    v->flow.peer < WORLD_ENDPOINTS ? &w->endpoints[v->flow.peer] : NULL;

                if (!s->live || !s->local || s->id != v->flow.check.subject ||
                    (p && (!p->live || p->id != v->flow.check.peer)))
                        continue;
                world_refresh(w, &v->flow);
                v->after = world_verdict(w, &v->flow) == SLIM_POLICY_ALLOWED;
                watch->v[kept++] = *v;
        }
        watch->n = kept;
}

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
                        expect_flows(&watch, &w);
                        maps.steps = 0;
                        maps.fail_at = world_random(&w, 4) == 0 ? 1 + world_random(&w, 40) : 0;
                        maps.look = look;
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

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_sequences),
            cmocka_unit_test(test_model),
        };

        seed = world_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
