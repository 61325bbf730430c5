/* SPDX-License-Identifier: Apache-2.0 */
#include "reference.h"

#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

/* --- selectors -------------------------------------------------------------------------------- */

static const char *text(const json_t *object, const char *key)
{
        return json_string_value(json_object_get(object, key));
}

static bool same(const char *a, const char *b)
{
        return a && b && strcmp(a, b) == 0;
}

/* "A requirement is satisfied …": In, NotIn (also without the key), Exists, DoesNotExist. */
static bool satisfies(const json_t *expression, const json_t *labels)
{
        const char *op = text(expression, "operator");
        const char *value = text(labels, text(expression, "key"));
        bool listed = false;
        const json_t *v;
        size_t i;

        json_array_foreach (json_object_get(expression, "values"), i, v) {
                listed |= same(json_string_value(v), value);
        }
        if (same(op, "In"))
                return listed;
        if (same(op, "NotIn"))
                return !listed;
        if (same(op, "Exists"))
                return value != NULL;
        return !value;
}

/* "The requirements are ANDed." An empty selector has none. */
static bool selected(const json_t *selector, const json_t *labels)
{
        const json_t *v;
        const char *key;
        json_t *value;
        size_t i;

        json_object_foreach (json_object_get(selector, "matchLabels"), key, value) {
                if (!same(text(labels, key), json_string_value(value)))
                        return false;
        }
        json_array_foreach (json_object_get(selector, "matchExpressions"), i, v) {
                if (!satisfies(v, labels))
                        return false;
        }
        return true;
}

/* Slim's own: hosts are selected by what asks for slim.io/kind=host, which selects hosts only. */
static bool asks_for_hosts(const json_t *selector)
{
        const json_t *v;
        size_t i;

        if (same(text(json_object_get(selector, "matchLabels"), "slim.io/kind"), "host"))
                return true;
        json_array_foreach (json_object_get(selector, "matchExpressions"), i, v) {
                const json_t *values = json_object_get(v, "values");

                if (same(text(v, "key"), "slim.io/kind") && same(text(v, "operator"), "In") &&
                    json_array_size(values) == 1 &&
                    same(json_string_value(json_array_get(values, 0)), "host"))
                        return true;
        }
        return false;
}

static bool pod_selected(const json_t *selector, const struct reference_endpoint *e)
{
        return asks_for_hosts(selector) == e->is_host && selected(selector, e->labels);
}

static bool namespace_selected(const json_t *selector, const char *network, const json_t *networks)
{
        const json_t *given = json_object_get(networks, network);
        json_t *labels = given ? json_copy((json_t *)given) : json_object();
        bool yes;

        json_object_set_new(labels, "kubernetes.io/metadata.name", json_string(network));
        yes = selected(selector, labels);
        json_decref(labels);
        return yes;
}

/* --- addresses -------------------------------------------------------------------------------- */

/* Is an address, which is one of IPv4 or of IPv6, in a prefix of the same family? */
static bool in_prefix(const char *prefix, const union slim_addr *addr)
{
        static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};
        bool v4 = memcmp(addr->b, mapped, sizeof(mapped)) == 0;
        const uint8_t *a = v4 ? &addr->b[12] : addr->b;
        char copy[64], *slash;
        uint8_t p[16];
        long bits;

        strcpy(copy, prefix);
        slash = strchr(copy, '/');
        *slash = '\0';
        bits = strtol(slash + 1, NULL, 10);
        if (inet_pton(v4 ? AF_INET : AF_INET6, copy, p) != 1)
                return false;
        for (long i = 0; i < bits; i++)
                if ((a[i / 8] ^ p[i / 8]) & (0x80 >> (i % 8)))
                        return false;
        return true;
}

/* --- rules ------------------------------------------------------------------------------------ */

/* "From" and "to": namespaceSelector, podSelector, both (ANDed), or ipBlock. */
static bool is_peer(const json_t *peer, const char *network, const json_t *networks,
                    const struct reference_flow *flow)
{
        const json_t *pods = json_object_get(peer, "podSelector");
        const json_t *namespaces = json_object_get(peer, "namespaceSelector");
        const json_t *block = json_object_get(peer, "ipBlock"), *v;
        size_t i;

        if (block) {
                if (!in_prefix(text(block, "cidr"), &flow->addr))
                        return false;
                json_array_foreach (json_object_get(block, "except"), i, v) {
                        if (in_prefix(json_string_value(v), &flow->addr))
                                return false;
                }
                return true;
        }
        if (!flow->peer)
                return false;
        if (namespaces ? !namespace_selected(namespaces, flow->peer->network, networks)
                       : strcmp(flow->peer->network, network) != 0)
                return false;
        return pod_selected(pods, flow->peer);
}

/* "port … can either be a numerical or named port on a pod": on the one that is connected to, which
 * is none when it is known by its address only. */
static bool is_port(const json_t *port, const struct reference_endpoint *server,
                    const struct reference_flow *flow)
{
        const json_t *number = json_object_get(port, "port");
        const json_t *end = json_object_get(port, "endPort"), *v;
        const char *protocol = text(port, "protocol");
        size_t i;

        if (!same(protocol ? protocol : "TCP", flow->protocol))
                return false;
        if (!number)
                return true;
        if (json_is_integer(number)) {
                json_int_t first = json_integer_value(number);

                return flow->port >= first && flow->port <= (end ? json_integer_value(end) : first);
        }
        json_array_foreach (server ? server->ports : NULL, i, v) {
                if (same(text(v, "name"), json_string_value(number)) &&
                    same(text(v, "protocol"), flow->protocol) &&
                    json_integer_value(json_object_get(v, "port")) == flow->port)
                        return true;
        }
        return false;
}

static bool is_any_port(const json_t *ports, const struct reference_endpoint *server,
                        const struct reference_flow *flow)
{
        const json_t *v;
        size_t i;

        json_array_foreach (ports, i, v) {
                if (is_port(v, server, flow))
                        return true;
        }
        return json_array_size(ports) == 0;
}

/* "Each rule allows traffic which matches both the from and ports sections." */
static bool rule_allows(const json_t *rule, const char *network, const json_t *networks,
                        const struct reference_flow *flow)
{
        bool ingress = flow->direction == SLIM_POLICY_INGRESS;
        const json_t *peers = json_object_get(rule, ingress ? "from" : "to");
        const json_t *ports = json_object_get(rule, "ports"), *v;
        const struct reference_endpoint *server = ingress ? flow->subject : flow->peer;
        size_t i;

        json_array_foreach (peers, i, v) {
                bool by_addr = !ingress && json_object_get(v, "ipBlock");

                if (is_peer(v, network, networks, flow) &&
                    is_any_port(ports, by_addr ? NULL : server, flow))
                        return true;
        }
        return json_array_size(peers) == 0 && is_any_port(ports, server, flow);
}

/* --- policies --------------------------------------------------------------------------------- */

/* "If no policyTypes are specified … Ingress will always be set and Egress will be set if the
 * NetworkPolicy has any egress rules." */
static bool is_of_type(const json_t *spec, enum slim_policy_direction direction)
{
        const json_t *types = json_object_get(spec, "policyTypes"), *v;
        size_t i;

        if (json_array_size(types) == 0)
                return direction == SLIM_POLICY_INGRESS ||
                       json_array_size(json_object_get(spec, "egress")) > 0;
        json_array_foreach (types, i, v) {
                if (same(json_string_value(v),
                         direction == SLIM_POLICY_INGRESS ? "Ingress" : "Egress"))
                        return true;
        }
        return false;
}

enum slim_policy_verdict reference_verdict(const json_t *policies, const json_t *networks,
                                           const struct reference_flow *flow)
{
        bool isolated = false, rejects = false;
        const json_t *policy, *rule;
        size_t i, j;

        json_array_foreach (policies, i, policy) {
                const json_t *metadata = json_object_get(policy, "metadata");
                const json_t *spec = json_object_get(policy, "spec"), *rules;
                const char *network = text(metadata, "namespace");

                network = network ? network : "default";
                if (strcmp(network, flow->subject->network) != 0 ||
                    !is_of_type(spec, flow->direction) ||
                    !pod_selected(json_object_get(spec, "podSelector"), flow->subject))
                        continue;
                isolated = true;
                rejects |=
                    same(text(json_object_get(metadata, "annotations"), "slim.io/deny"), "reject");
                rules = json_object_get(spec, flow->direction == SLIM_POLICY_INGRESS ? "ingress"
                                                                                     : "egress");
                json_array_foreach (rules, j, rule) {
                        if (rule_allows(rule, network, networks, flow))
                                return SLIM_POLICY_ALLOWED;
                }
        }
        if (!isolated)
                return SLIM_POLICY_ALLOWED;
        return rejects ? SLIM_POLICY_REJECT : SLIM_POLICY_DROP;
}
