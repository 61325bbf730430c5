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
#include "policy/maps.h"
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

/* --- the same as a fresh compile -------------------------------------------------------------- */

struct fresh {
        struct maps maps;
        uint32_t ids[WORLD_ENDPOINTS];
};

static void compile(const struct world *w, struct fresh *ret)
{
        struct policy_engine *engine;

        assert_int_equal(policy_engine_new(&engine), 0);
        *ret = (struct fresh){};
        world_tell(w, engine, ret->ids);
        assert_int_equal(policy_engine_flush(engine, &maps_sink, &ret->maps), 0);
        policy_engine_free(engine);
}

/* The other engine's number for an identity or a prefix. */
static uint32_t translate(const struct world *w, const struct maps *maps, const struct fresh *fresh,
                          uint32_t number)
{
        const struct maps_cidr *c, *other;

        for (size_t i = 0; i < WORLD_ENDPOINTS && !(number & SLIM_POLICY_CIDR); i++)
                if (w->endpoints[i].live && w->endpoints[i].id == number)
                        return fresh->ids[i];
        for (c = maps->cidrs; c; c = c->hh.next) {
                if (!(number & SLIM_POLICY_CIDR) || c->id != (number & ~SLIM_POLICY_CIDR))
                        continue;
                HASH_FIND(hh, fresh->maps.cidrs, &c->key, sizeof(c->key), other);
                assert_non_null(other);
                return SLIM_POLICY_CIDR | other->id;
        }
        assert_int_equal(number, 0);
        return 0;
}

static void assert_same(const struct world *w, const struct maps *maps, const struct fresh *fresh)
{
        assert_int_equal(HASH_COUNT(maps->rules), HASH_COUNT(fresh->maps.rules));
        assert_int_equal(HASH_COUNT(maps->cidrs), HASH_COUNT(fresh->maps.cidrs));
        assert_int_equal(HASH_COUNT(maps->subjects), HASH_COUNT(fresh->maps.subjects));
        for (const struct maps_rule *rule = maps->rules; rule; rule = rule->hh.next) {
                struct slim_policy_key key = rule->key;

                key.subject = translate(w, maps, fresh, key.subject);
                key.peer = translate(w, maps, fresh, key.peer);
                assert_true(maps_have_rule(&fresh->maps, &key));
        }
        for (const struct maps_subject *s = maps->subjects; s; s = s->hh.next) {
                uint32_t identity = translate(w, maps, fresh, s->identity);
                const struct maps_subject *other;

                HASH_FIND(hh, fresh->maps.subjects, &identity, sizeof(identity), other);
                assert_non_null(other);
                assert_int_equal(s->flags, other->flags);
        }
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
                        compile(&w, &fresh);
                        assert_same(&w, &maps, &fresh);
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
