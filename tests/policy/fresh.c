/* SPDX-License-Identifier: Apache-2.0 */
#include "fresh.h"

#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

void fresh_compile(const struct world *w, struct fresh *ret)
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
                if (!other)
                        break;
                return SLIM_POLICY_CIDR | other->id;
        }
        assert_int_equal(number, 0);
        return 0;
}

void fresh_assert_same(const struct world *w, const struct maps *maps, const struct fresh *fresh)
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
                assert_true(other && s->flags == other->flags);
        }
}
