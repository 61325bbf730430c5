/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policies as JSON. There is one form for each: lists that mean nothing are left out, selectors are
 * sorted, and what has a default is written all the same.
 */
#include "policy.h"

static json_t *values_to_json(const struct requirement *r)
{
        json_t *array = json_array();

        for (size_t i = 0; i < r->n_values; i++)
                if (json_array_append_new(array, json_string(r->values[i])) < 0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *expression_to_json(const struct requirement *r)
{
        const char *op = selector_operator_name(r->op);

        if (r->n_values == 0)
                return json_pack("{s:s, s:s}", "key", r->key, "operator", op);
        return json_pack("{s:s, s:s, s:o}", "key", r->key, "operator", op, "values",
                         values_to_json(r));
}

/* One value of a key that has none yet is a matchLabel, all else an expression. */
static json_t *selector_to_json(const struct selector *s)
{
        json_t *labels = NULL, *expressions = NULL;
        bool ok = true;

        for (size_t i = 0; ok && i < s->n; i++) {
                const struct requirement *r = &s->v[i];

                if (r->op == SELECTOR_IN && r->n_values == 1 && !json_object_get(labels, r->key)) {
                        if (!labels)
                                labels = json_object();
                        ok = json_object_set_new(labels, r->key, json_string(r->values[0])) == 0;
                        continue;
                }
                if (!expressions)
                        expressions = json_array();
                ok = json_array_append_new(expressions, expression_to_json(r)) == 0;
        }
        if (!ok) {
                json_decref(labels);
                json_decref(expressions);
                return NULL;
        }
        return json_pack("{s:o*, s:o*}", "matchLabels", labels, "matchExpressions", expressions);
}

static json_t *prefixes_to_json(const struct inaddr_prefix *v, size_t n)
{
        char text[INADDR_TEXT_MAX];
        json_t *array = json_array();

        for (size_t i = 0; i < n; i++)
                if (json_array_append_new(array, json_string(inaddr_prefix_format(&v[i], text))) <
                    0) {
                        json_decref(array);
                        return NULL;
                }
        return array;
}

static json_t *block_to_json(const struct policy_block *b)
{
        char text[INADDR_TEXT_MAX];

        inaddr_prefix_format(&b->cidr, text);
        if (b->n_except == 0)
                return json_pack("{s:s}", "cidr", text);
        return json_pack("{s:s, s:o}", "cidr", text, "except",
                         prefixes_to_json(b->except, b->n_except));
}

static json_t *peer_to_json(const struct policy_peer *peer)
{
        if (peer->is_block)
                return json_pack("{s:o}", "ipBlock", block_to_json(&peer->block));
        if (!peer->has_namespaces)
                return json_pack("{s:o}", "podSelector", selector_to_json(&peer->pods));
        if (peer->pods.n == 0)
                return json_pack("{s:o}", "namespaceSelector", selector_to_json(&peer->namespaces));
        return json_pack("{s:o, s:o}", "namespaceSelector", selector_to_json(&peer->namespaces),
                         "podSelector", selector_to_json(&peer->pods));
}

static json_t *port_to_json(const struct policy_port *port)
{
        json_t *json = json_pack("{s:s}", "protocol", policy_protocol_name(port->protocol));
        int r = 0;

        if (*port->name)
                r = json_object_set_new(json, "port", json_string(port->name));
        else if (port->first)
                r = json_object_set_new(json, "port", json_integer(port->first));
        if (r == 0 && port->last != port->first)
                r = json_object_set_new(json, "endPort", json_integer(port->last));
        if (r < 0) {
                json_decref(json);
                return NULL;
        }
        return json;
}

static json_t *rule_to_json(const struct policy_rule *rule, enum slim_policy_direction direction)
{
        json_t *peers = rule->n_peers ? json_array() : NULL;
        json_t *ports = rule->n_ports ? json_array() : NULL;
        int r = 0;

        for (size_t i = 0; r == 0 && i < rule->n_peers; i++)
                r = json_array_append_new(peers, peer_to_json(&rule->peers[i]));
        for (size_t i = 0; r == 0 && i < rule->n_ports; i++)
                r = json_array_append_new(ports, port_to_json(&rule->ports[i]));
        if (r < 0) {
                json_decref(peers);
                json_decref(ports);
                return NULL;
        }
        return json_pack("{s:o*, s:o*}", direction == SLIM_POLICY_INGRESS ? "from" : "to", peers,
                         "ports", ports);
}

static int set_rules(json_t *spec, const struct policy *p, enum slim_policy_direction direction)
{
        json_t *array;
        int r = 0;

        if (p->rules[direction].n == 0)
                return 0;
        array = json_array();
        for (size_t i = 0; r == 0 && i < p->rules[direction].n; i++)
                r = json_array_append_new(array,
                                          rule_to_json(&p->rules[direction].v[i], direction));
        if (r < 0) {
                json_decref(array);
                return r;
        }
        return json_object_set_new(spec, policy_direction_name(direction), array);
}

/* (json_pack() would leave out what it has no memory for, where it may leave something out.) */
static json_t *types_to_json(const struct policy *p)
{
        json_t *array = json_array();
        int r = 0;

        if (p->selects[SLIM_POLICY_INGRESS])
                r = json_array_append_new(array, json_string("Ingress"));
        if (r == 0 && p->selects[SLIM_POLICY_EGRESS])
                r = json_array_append_new(array, json_string("Egress"));
        if (r == 0)
                return array;
        json_decref(array);
        return NULL;
}

json_t *policy_to_json(const struct policy *p)
{
        _cleanup_(json_decrefp) json_t *metadata =
            json_pack("{s:s, s:s}", "name", p->name, "namespace", p->network);
        _cleanup_(json_decrefp) json_t *spec =
            json_pack("{s:o, s:o}", "podSelector", selector_to_json(&p->pods), "policyTypes",
                      types_to_json(p));

        if (p->reject &&
            json_object_set_new(metadata, "annotations",
                                json_pack("{s:s}", POLICY_DENY_ANNOTATION, "reject")) < 0)
                return NULL;
        for (unsigned int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                if (set_rules(spec, p, (enum slim_policy_direction)i) < 0)
                        return NULL;
        return json_pack("{s:s, s:s, s:O, s:O}", "apiVersion", POLICY_API_VERSION, "kind",
                         POLICY_KIND, "metadata", metadata, "spec", spec);
}
