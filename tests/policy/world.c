/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"

static const char *const networks[WORLD_NETWORKS] = {"default", "blue", "red.net"};
static const char *const keys[] = {"app", "tier", "slim.io/kind", "example.com/Env_1"};
static const char *const values[] = {"x", "y", "", "host"};
static const char *const port_names[] = {"web", "dns", "x9"};
static const char *const protocols[] = {"TCP", "UDP", "SCTP", "ICMP"};
static const uint16_t port_numbers[] = {1, 53, 80, 443, 1023, 1024, 8080, 32768, 65535};

/* Each that has exceptions in this list has them behind it. */
static const char *const prefixes[] = {
    "0.0.0.0/0",   "10.0.0.0/8",    "10.0.0.0/22",  "10.0.0.0/24", "10.0.0.4/30",   "10.0.0.5/32",
    "10.0.1.0/24", "10.0.1.128/25", "192.0.2.0/24", "::/0",        "::/64",         "fd00::/8",
    "fd00::/64",   "fd00::/124",    "fd00::5/128",  "fd00:1::/32", "2001:db8::/32",
};
static const char *const addresses[] = {
    "10.0.0.4",  "10.0.0.5",    "10.0.0.77", "10.0.1.1", "10.0.1.200", "10.0.2.1",
    "10.9.9.9",  "192.0.2.1",   "8.8.8.8",   "fd00::5",  "fd00::e",    "fd00::1:1",
    "fd00:1::1", "2001:db8::1", "::1:2",     "fe80::1",
};

uint64_t world_seed(void)
{
        const char *text = getenv("SLIM_SEED");
        uint64_t seed = text ? strtoull(text, NULL, 0) : 0x511e;

        printf("# SLIM_SEED=%#llx\n", (unsigned long long)seed);
        return seed;
}

/* xorshift64* */
uint32_t world_random(struct world *w, uint32_t n)
{
        w->random ^= w->random >> 12;
        w->random ^= w->random << 25;
        w->random ^= w->random >> 27;
        return (uint32_t)((w->random * 0x2545f4914f6cdd1d) >> 33) % n;
}

/* One time in n. */
static bool seldom(struct world *w, uint32_t n)
{
        return world_random(w, n) == 0;
}

#define PICK(w, array) ((array)[world_random(w, ARRAY_SIZE(array))])

void world_init(struct world *w, uint64_t seed)
{
        *w = (struct world){
            .random = seed * 2 + 1, /* never 0 */
            .policies = json_array(),
            .networks = json_object(),
        };
        for (unsigned int i = 0; i < 8; i++)
                world_random(w, 2);
        assert_int_equal(policy_engine_new(&w->engine), 0);
        for (size_t i = 0; i < WORLD_ENDPOINTS; i++)
                assert_int_equal(
                    inaddr_parse(addresses[i % ARRAY_SIZE(addresses)], &w->endpoints[i].as.addr),
                    0);
}

static void endpoint_clear(struct world_endpoint *e)
{
        json_decref((json_t *)e->as.labels);
        json_decref((json_t *)e->as.ports);
        e->as.labels = e->as.ports = NULL;
        e->live = false;
}

void world_clear(struct world *w)
{
        for (size_t i = 0; i < WORLD_ENDPOINTS; i++)
                endpoint_clear(&w->endpoints[i]);
        json_decref(w->policies);
        json_decref(w->networks);
        policy_engine_free(w->engine);
}

/* --- policies --------------------------------------------------------------------------------- */

static json_t *random_labels(struct world *w)
{
        json_t *labels = json_object();

        for (uint32_t n = world_random(w, 3); n > 0; n--)
                json_object_set_new(labels, PICK(w, keys), json_string(PICK(w, values)));
        return labels;
}

static json_t *random_expression(struct world *w)
{
        static const char *const ops[] = {"In", "NotIn", "Exists", "DoesNotExist"};
        const char *op = PICK(w, ops);
        json_t *e = json_pack("{s:s, s:s}", "key", PICK(w, keys), "operator", op), *array;

        if (op[0] != 'I' && op[0] != 'N')
                return e;
        array = json_array();
        for (uint32_t n = 1 + world_random(w, 2); n > 0; n--)
                json_array_append_new(array, json_string(PICK(w, values)));
        json_object_set_new(e, "values", array);
        return e;
}

static json_t *random_selector(struct world *w)
{
        json_t *selector = json_object(), *array;

        if (seldom(w, 3))
                return selector;
        if (!seldom(w, 3))
                json_object_set_new(selector, "matchLabels", random_labels(w));
        if (seldom(w, 3)) {
                array = json_array();
                for (uint32_t n = world_random(w, 3); n > 0; n--)
                        json_array_append_new(array, random_expression(w));
                json_object_set_new(selector, "matchExpressions", array);
        }
        return selector;
}

static json_t *random_namespaces(struct world *w)
{
        if (seldom(w, 2))
                return random_selector(w);
        return json_pack("{s:{s:s}}", "matchLabels", "kubernetes.io/metadata.name",
                         PICK(w, networks));
}

static json_t *random_block(struct world *w)
{
        uint32_t at = world_random(w, ARRAY_SIZE(prefixes));
        json_t *block = json_pack("{s:s}", "cidr", prefixes[at]), *except;
        struct inaddr_prefix outer, inner;

        if (seldom(w, 2))
                return block;
        except = json_array();
        assert_int_equal(inaddr_prefix_parse(prefixes[at], &outer), 0);
        for (size_t i = at + 1; i < ARRAY_SIZE(prefixes); i++) {
                assert_int_equal(inaddr_prefix_parse(prefixes[i], &inner), 0);
                if (policy_prefix_contains(&outer, &inner) && seldom(w, 2))
                        json_array_append_new(except, json_string(prefixes[i]));
        }
        json_object_set_new(block, "except", except);
        return block;
}

static json_t *random_peer(struct world *w)
{
        json_t *peer = json_object();

        switch (world_random(w, 5)) {
        case 0:
                json_object_set_new(peer, "podSelector", random_selector(w));
                json_object_set_new(peer, "namespaceSelector", random_namespaces(w));
                break;
        case 1:
                json_object_set_new(peer, "namespaceSelector", random_namespaces(w));
                break;
        case 2:
                json_object_set_new(peer, "podSelector", random_selector(w));
                break;
        default:
                json_object_set_new(peer, "ipBlock", random_block(w));
        }
        return peer;
}

static json_t *random_port(struct world *w)
{
        json_t *port = json_object();
        uint16_t first = PICK(w, port_numbers);

        if (!seldom(w, 2))
                json_object_set_new(port, "protocol", json_string(protocols[world_random(w, 3)]));
        switch (world_random(w, 6)) {
        case 0:
                break;
        case 1:
        case 2:
                json_object_set_new(port, "port", json_string(PICK(w, port_names)));
                break;
        case 3:
                json_object_set_new(port, "endPort",
                                    json_integer(first + world_random(w, 65536U - first)));
                __attribute__((fallthrough));
        default:
                json_object_set_new(port, "port", json_integer(first));
        }
        return port;
}

static json_t *random_rule(struct world *w, const char *peers)
{
        json_t *rule = json_object(), *array;

        if (!seldom(w, 4)) {
                array = json_array();
                for (uint32_t n = world_random(w, 3); n > 0; n--)
                        json_array_append_new(array, random_peer(w));
                json_object_set_new(rule, peers, array);
        }
        if (!seldom(w, 3)) {
                array = json_array();
                for (uint32_t n = world_random(w, 3); n > 0; n--)
                        json_array_append_new(array, random_port(w));
                json_object_set_new(rule, "ports", array);
        }
        return rule;
}

static json_t *random_rules(struct world *w, const char *peers)
{
        json_t *array = json_array();

        for (uint32_t n = world_random(w, 3); n > 0; n--)
                json_array_append_new(array, random_rule(w, peers));
        return array;
}

json_t *world_random_policy(struct world *w)
{
        json_t *spec = json_pack("{s:o}", "podSelector", random_selector(w)), *policy;
        char name[16];

        snprintf(name, sizeof(name), "policy-%u", world_random(w, WORLD_POLICIES));
        if (!seldom(w, 3))
                json_object_set_new(spec, "ingress", random_rules(w, "from"));
        if (!seldom(w, 3))
                json_object_set_new(spec, "egress", random_rules(w, "to"));
        if (seldom(w, 2)) {
                json_t *types = json_array();

                if (seldom(w, 2))
                        json_array_append_new(types, json_string("Egress"));
                if (seldom(w, 2))
                        json_array_append_new(types, json_string("Ingress"));
                json_object_set_new(spec, "policyTypes", types);
        }
        policy = json_pack("{s:s, s:s, s:{s:s}, s:o}", "apiVersion", "networking.k8s.io/v1", "kind",
                           "NetworkPolicy", "metadata", "name", name, "spec", spec);
        if (!seldom(w, 3))
                json_object_set_new(json_object_get(policy, "metadata"), "namespace",
                                    json_string(PICK(w, networks)));
        if (seldom(w, 3))
                json_object_set_new(
                    json_object_get(policy, "metadata"), "annotations",
                    json_pack("{s:s}", "slim.io/deny", seldom(w, 2) ? "reject" : "drop"));
        return policy;
}

static const char *network_of(const json_t *policy)
{
        const json_t *network = json_object_get(json_object_get(policy, "metadata"), "namespace");

        return network ? json_string_value(network) : "default";
}

static const char *name_of(const json_t *policy)
{
        return json_string_value(json_object_get(json_object_get(policy, "metadata"), "name"));
}

static void tell_policy(struct policy_engine *engine, const json_t *json)
{
        struct policy_error error;
        struct policy *policy;

        if (policy_from_json(json, &policy, &error) < 0)
                fail_msg("%s: %s", error.path, error.text);
        assert_int_equal(policy_engine_put(engine, &policy), 0);
        assert_null(policy);
}

void world_put_policy(struct world *w)
{
        json_t *policy = world_random_policy(w);
        const json_t *other;
        size_t i;

        json_array_foreach (w->policies, i, other) {
                if (strcmp(network_of(other), network_of(policy)) == 0 &&
                    strcmp(name_of(other), name_of(policy)) == 0)
                        break;
        }
        if (i < json_array_size(w->policies))
                json_array_set_new(w->policies, i, policy);
        else
                json_array_append_new(w->policies, policy);
        tell_policy(w->engine, policy);
}

void world_drop_policy(struct world *w)
{
        size_t n = json_array_size(w->policies), at;
        const json_t *policy;

        if (n == 0)
                return;
        at = world_random(w, (uint32_t)n);
        policy = json_array_get(w->policies, at);
        assert_int_equal(policy_engine_drop(w->engine, network_of(policy), name_of(policy)), 0);
        json_array_remove(w->policies, at);
}

/* --- endpoints -------------------------------------------------------------------------------- */

static uint8_t protocol_number(const char *name)
{
        return !strcmp(name, "TCP")    ? IPPROTO_TCP
               : !strcmp(name, "UDP")  ? IPPROTO_UDP
               : !strcmp(name, "SCTP") ? IPPROTO_SCTP
                                       : IPPROTO_ICMP;
}

static uint32_t tell_endpoint(struct policy_engine *engine, const struct world_endpoint *e)
{
        /* The number is for an engine that has adopted it. */
        struct policy_identity identity = {
            .network = e->as.network, .is_host = e->as.is_host, .number = e->id};
        struct named_port ports[ARRAY_SIZE(port_names)] = {};
        char problem[LABEL_PROBLEM_MAX];
        const json_t *port;
        uint32_t id;
        size_t i;

        assert_int_equal(labels_from_json(e->as.labels, &identity.labels, problem), 0);
        json_array_foreach (e->as.ports, i, port) {
                strcpy(ports[i].name, json_string_value(json_object_get(port, "name")));
                ports[i].protocol =
                    protocol_number(json_string_value(json_object_get(port, "protocol")));
                ports[i].port = (uint16_t)json_integer_value(json_object_get(port, "port"));
        }
        identity.ports = ports;
        identity.n_ports = json_array_size(e->as.ports);
        assert_int_equal(policy_engine_identity_ref(engine, &identity, e->local, &id), 0);
        labels_clear(&identity.labels);
        return id;
}

static json_t *random_ports(struct world *w)
{
        json_t *ports = json_array();

        for (size_t i = 0; i < ARRAY_SIZE(port_names); i++)
                if (seldom(w, 2))
                        json_array_append_new(ports,
                                              json_pack("{s:s, s:s, s:i}", "name", port_names[i],
                                                        "protocol", protocols[world_random(w, 3)],
                                                        "port", PICK(w, port_numbers)));
        return ports;
}

/* One that is not there, where one begins at random. */
static struct world_endpoint *find_endpoint(struct world *w, bool live)
{
        uint32_t first = world_random(w, WORLD_ENDPOINTS);

        for (uint32_t i = 0; i < WORLD_ENDPOINTS; i++) {
                struct world_endpoint *e = &w->endpoints[(first + i) % WORLD_ENDPOINTS];

                if (e->live == live)
                        return e;
        }
        return NULL;
}

void world_put_endpoint(struct world *w)
{
        struct world_endpoint *e = find_endpoint(w, false);
        json_t *labels;

        if (!e)
                return;
        labels = random_labels(w);
        e->as.is_host = seldom(w, 6);
        if (e->as.is_host)
                json_object_set_new(labels, "slim.io/kind", json_string("host"));
        e->as.labels = labels;
        e->as.ports = random_ports(w);
        e->as.network = PICK(w, networks);
        e->live = true;
        e->local = !seldom(w, 3);
        e->id = tell_endpoint(w->engine, e);
        assert_true(e->id > 0 && e->id < SLIM_POLICY_CIDR);
}

void world_drop_endpoint(struct world *w)
{
        struct world_endpoint *e = find_endpoint(w, true);

        if (!e)
                return;
        assert_int_equal(policy_engine_identity_unref(w->engine, e->id, e->local), 0);
        endpoint_clear(e);
}

/* --- networks --------------------------------------------------------------------------------- */

static void tell_network(struct policy_engine *engine, const char *name, const json_t *json)
{
        char problem[LABEL_PROBLEM_MAX];
        struct labels labels;

        assert_int_equal(labels_from_json(json, &labels, problem), 0);
        assert_int_equal(policy_engine_put_network(engine, name, &labels), 0);
        labels_clear(&labels);
}

void world_set_network(struct world *w)
{
        const char *name = PICK(w, networks);
        json_t *labels;

        if (seldom(w, 3)) {
                json_object_del(w->networks, name);
                assert_int_equal(policy_engine_drop_network(w->engine, name), 0);
                return;
        }
        labels = random_labels(w);
        json_object_set_new(w->networks, name, labels);
        tell_network(w->engine, name, labels);
}

/* --- the whole -------------------------------------------------------------------------------- */

void world_change(struct world *w)
{
        switch (world_random(w, 9)) {
        case 0:
        case 1:
        case 2:
                world_put_policy(w);
                break;
        case 3:
        case 4:
                world_drop_policy(w);
                break;
        case 5:
        case 6:
                world_put_endpoint(w);
                break;
        case 7:
                world_drop_endpoint(w);
                break;
        default:
                world_set_network(w);
        }
}

void world_fill(struct world *w)
{
        for (size_t i = 0; i < WORLD_POLICIES; i++)
                world_put_policy(w);
        for (size_t i = 0; i < WORLD_ENDPOINTS; i++)
                world_put_endpoint(w);
        for (size_t i = 0; i < WORLD_NETWORKS; i++)
                world_set_network(w);
}

void world_tell(const struct world *w, struct policy_engine *engine, uint32_t ids[WORLD_ENDPOINTS])
{
        const json_t *policy;
        const char *name;
        json_t *labels;
        size_t i;

        for (i = 0; i < WORLD_ENDPOINTS; i++)
                ids[i] = w->endpoints[i].live ? tell_endpoint(engine, &w->endpoints[i]) : 0;
        json_array_foreach (w->policies, i, policy) {
                tell_policy(engine, policy);
        }
        json_object_foreach (w->networks, name, labels) {
                tell_network(engine, name, labels);
        }
}

/* --- flows ------------------------------------------------------------------------------------ */

/* At a port that has a name where it goes. */
static void aim_at_name(struct world *w, struct world_flow *f)
{
        size_t server = f->as.direction == SLIM_POLICY_INGRESS ? f->subject : f->peer;
        const json_t *ports = w->endpoints[server].as.ports, *port;
        const char *protocol;

        if (json_array_size(ports) == 0)
                return;
        port = json_array_get(ports, world_random(w, (uint32_t)json_array_size(ports)));
        protocol = json_string_value(json_object_get(port, "protocol"));
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
                if (strcmp(protocols[i], protocol) == 0)
                        f->as.protocol = protocols[i]; /* which outlives the endpoint */
        f->as.port = (uint16_t)json_integer_value(json_object_get(port, "port"));
}

bool world_random_flow(struct world *w, struct world_flow *ret)
{
        const struct world_endpoint *e = NULL;
        uint32_t first = world_random(w, WORLD_ENDPOINTS);

        *ret = (struct world_flow){};
        for (uint32_t i = 0; i < WORLD_ENDPOINTS && !e; i++) {
                ret->subject = (first + i) % WORLD_ENDPOINTS;
                if (w->endpoints[ret->subject].live && w->endpoints[ret->subject].local)
                        e = &w->endpoints[ret->subject];
        }
        if (!e)
                return false;
        ret->as.direction = (enum slim_policy_direction)world_random(w, SLIM_POLICY_DIRECTIONS);
        ret->as.protocol = PICK(w, protocols);
        ret->as.port =
            seldom(w, 3) ? (uint16_t)(1 + world_random(w, 65535)) : PICK(w, port_numbers);
        if (ret->as.port < UINT16_MAX && seldom(w, 8))
                ret->as.port++;
        ret->peer = world_random(w, WORLD_ENDPOINTS);
        if (!w->endpoints[ret->peer].live || seldom(w, 3)) {
                ret->peer = WORLD_ENDPOINTS;
                assert_int_equal(inaddr_parse(PICK(w, addresses), &ret->as.addr), 0);
        }
        if (seldom(w, 3) && ret->peer < WORLD_ENDPOINTS)
                aim_at_name(w, ret);
        if (strcmp(ret->as.protocol, "ICMP") == 0)
                ret->as.port = 0;
        world_refresh(w, ret);
        return true;
}

void world_refresh(const struct world *w, struct world_flow *f)
{
        const struct world_endpoint *s = &w->endpoints[f->subject], *p = NULL;

        f->as.subject = &s->as;
        if (f->peer < WORLD_ENDPOINTS) {
                p = &w->endpoints[f->peer];
                f->as.peer = &p->as;
                f->as.addr = p->as.addr;
        }
        f->check = (struct slim_policy_check){
            .subject = s->id,
            .peer = p ? p->id : 0,
            .addr = f->as.addr,
            .port = f->as.port,
            .direction = (uint8_t)f->as.direction,
            .protocol = protocol_number(f->as.protocol),
        };
}

enum slim_policy_verdict world_verdict(const struct world *w, const struct world_flow *flow)
{
        return reference_verdict(w->policies, w->networks, &flow->as);
}
