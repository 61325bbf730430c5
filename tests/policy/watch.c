/* SPDX-License-Identifier: Apache-2.0 */
#include "watch.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>

#include <cmocka.h>

static bool allows(const struct maps *maps, const struct world_flow *flow)
{
        return maps_verdict(maps, &flow->check) == SLIM_POLICY_ALLOWED;
}

void watch_flows(struct watch *watch, struct world *w, const struct maps *maps)
{
        struct watched *v = watch->v;

        for (watch->n = 0; watch->n < WATCH_FLOWS && world_random_flow(w, &v->flow);
             watch->n++, v++)
                v->before = allows(maps, &v->flow);
}

void watch_expect(struct watch *watch, const struct world *w)
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

void watch_look(const struct maps *maps, void *watch_data)
{
        struct watch *watch = watch_data;

        for (size_t i = 0; i < watch->n; i++) {
                const struct watched *v = &watch->v[i];
                bool now = allows(maps, &v->flow);

                if (v->before == v->after && now != v->before)
                        fail_msg("step %zu: a flow that is %s before and after is %s", maps->steps,
                                 v->before ? "allowed" : "denied", now ? "allowed" : "denied");
                watch->looked++;
        }
}
