/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which policy allows a flow, and which rule of it; or which ones do not. It walks the policies as
 * they are written, whatever the maps have.
 */
#include "policy-engine-parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

struct asked {
        const struct policy_flow *flow;
        const struct identity *subject, *peer; /* peer NULL: not an endpoint */
};

static bool peer_matches(const struct compiled *c, const struct policy_peer *peer,
                         const struct asked *a)
{
        struct inaddr_prefix addr = {.addr = a->flow->addr, .bits = 128};

        if (peer->is_block)
                return policy_block_contains(&peer->block, &addr);
        return a->peer && engine_peer_matches(c, peer, a->peer);
}

/* server: whose names of ports count, or NULL. */
static bool port_matches(const struct policy_port *port, const struct identity *server,
                         const struct policy_flow *flow)
{
        if (port->protocol != flow->protocol)
                return false;
        if (*port->name) {
                uint16_t number = server ? engine_named_port(server, port) : 0;

                return number && number == flow->port;
        }
        return !port->first || (flow->port >= port->first && flow->port <= port->last);
}

static bool ports_match(const struct policy_rule *rule, const struct identity *server,
                        const struct policy_flow *flow)
{
        for (size_t i = 0; i < rule->n_ports; i++)
                if (port_matches(&rule->ports[i], server, flow))
                        return true;
        return rule->n_ports == 0;
}

static bool rule_allows(const struct compiled *c, const struct policy_rule *rule,
                        const struct asked *a)
{
        bool ingress = a->flow->direction == SLIM_POLICY_INGRESS;
        const struct identity *server = ingress ? a->subject : a->peer;

        for (size_t i = 0; i < rule->n_peers; i++) {
                /* On the way out, to what is known by its address, no port has a name. */
                bool nameless = !ingress && rule->peers[i].is_block;

                if (peer_matches(c, &rule->peers[i], a) &&
                    ports_match(rule, nameless ? NULL : server, a->flow))
                        return true;
        }
        return rule->n_peers == 0 && ports_match(rule, server, a->flow);
}

static int compare_policies(const void *a, const void *b)
{
        const struct compiled *const *x = a, *const *y = b;

        return strcmp((*x)->key, (*y)->key);
}

/* Those that select the subject in a direction, by their names. The caller frees *ret. */
static int selecting(const struct policy_engine *engine, const struct asked *a,
                     struct compiled ***ret, size_t *ret_n)
{
        struct compiled **v = new0(struct compiled *, HASH_COUNT(engine->policies) + 1);
        size_t n = 0;

        if (!v)
                return -ENOMEM;
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                if (c->network == a->subject->network && c->policy->selects[a->flow->direction] &&
                    policy_pods_match(&c->policy->pods, &a->subject->labels, a->subject->is_host))
                        v[n++] = c;
        qsort(v, n, sizeof(struct compiled *), compare_policies);
        *ret = v;
        *ret_n = n;
        return 0;
}

static void judge(struct compiled *const *v, size_t n, const struct asked *a,
                  struct policy_explanation *e)
{
        const struct policy_rules *rules;

        for (size_t i = 0; i < n; i++) {
                rules = &v[i]->policy->rules[a->flow->direction];
                for (size_t j = 0; j < rules->n; j++)
                        if (rule_allows(v[i], &rules->v[j], a)) {
                                e->allowed_by = v[i]->policy;
                                e->rule = j;
                                return;
                        }
        }
        if (n == 0)
                return;
        e->verdict = SLIM_POLICY_DROP;
        for (size_t i = 0; i < n; i++)
                if (v[i]->policy->reject)
                        e->verdict = SLIM_POLICY_REJECT;
}

void policy_explanation_clear(struct policy_explanation *e)
{
        free(e->selecting);
        *e = (struct policy_explanation){};
}

int policy_engine_explain(const struct policy_engine *engine, const struct policy_flow *flow,
                          struct policy_explanation *ret)
{
        struct asked a = {flow, engine_identity(engine, flow->subject), NULL};
        struct policy_explanation e = {
            .verdict = SLIM_POLICY_ALLOWED,
            .direction = flow->direction,
        };
        _cleanup_free_ struct compiled **v = NULL;
        int r;

        if (flow->peer)
                a.peer = engine_identity(engine, flow->peer);
        if (!a.subject || (flow->peer && !a.peer))
                return -ENOENT;
        r = selecting(engine, &a, &v, &e.n_selecting);
        if (r < 0)
                return r;
        e.selecting = new0(const struct policy *, e.n_selecting + 1);
        if (!e.selecting)
                return -ENOMEM;
        for (size_t i = 0; i < e.n_selecting; i++)
                e.selecting[i] = v[i]->policy;
        judge(v, e.n_selecting, &a, &e);
        *ret = e;
        return 0;
}

char *policy_explanation_format(const struct policy_explanation *e)
{
        const char *direction = policy_direction_name(e->direction);
        const struct policy *p = e->allowed_by;
        size_t size = 128 + sizeof(p->network) + sizeof(p->name);
        char *text, *end;

        for (size_t i = 0; i < e->n_selecting; i++)
                size += strlen(e->selecting[i]->network) + strlen(e->selecting[i]->name) +
                        strlen(", /");
        text = malloc(size);
        if (!text)
                return NULL;
        if (p) {
                sprintf(text, "allowed by %s/%s %s[%zu]", p->network, p->name, direction, e->rule);
                return text;
        }
        if (e->n_selecting == 0) {
                sprintf(text, "allowed: no policy selects it for %s", direction);
                return text;
        }
        end = text + sprintf(text, "denied (%s): no %s rule allows it of",
                             e->verdict == SLIM_POLICY_REJECT ? "reject" : "drop", direction);
        for (size_t i = 0; i < e->n_selecting; i++)
                end += sprintf(end, "%s %s/%s", i ? "," : "", e->selecting[i]->network,
                               e->selecting[i]->name);
        return text;
}
