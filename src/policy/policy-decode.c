/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder of policies. It walks down with a chain of places on its stack, so that whatever it
 * refuses has a path and, when it is of a file, a line.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "policy.h"

/* A value, and what it is a member of. */
struct place {
        const struct place *up;
        const json_t *value;
        const char *key; /* NULL: the index'th element of an array */
        size_t index;
};

/* What every decoding function is given. */
struct decoder {
        struct policy *policy;
        struct policy_error *error;
};

/* --- refusals --------------------------------------------------------------------------------- */

static void format_path(const struct place *at, char buf[POLICY_PATH_MAX])
{
        size_t len;

        if (!at->up) {
                buf[0] = '\0';
                return;
        }
        format_path(at->up, buf);
        len = strlen(buf);
        if (!at->key) {
                snprintf(buf + len, POLICY_PATH_MAX - len, "[%zu]", at->index);
                return;
        }
        snprintf(buf + len, POLICY_PATH_MAX - len, "%s%.64s", len ? "." : "", at->key);
        for (char *c = buf + len; *c; c++)
                if ((unsigned char)*c < 0x20 || *c == 0x7f)
                        *c = '?';
}

/* Which member of its object is it? */
static size_t index_of_key(const json_t *object, const char *key)
{
        const char *other;
        json_t *value;
        size_t i = 0;

        json_object_foreach ((json_t *)object, other, value) {
                if (strcmp(other, key) == 0)
                        break;
                i++;
        }
        return i;
}

/* Returns -EINVAL. */
static _printf_(4, 5) int refuse_at(const struct decoder *d, const struct place *at, bool on_key,
                                    const char *format, ...)
{
        struct policy_error *e = d->error;
        va_list ap;

        *e = (struct policy_error){.on_key = on_key};
        format_path(at, e->path);
        if (at->up) {
                e->parent = at->up->value;
                e->index = at->key ? index_of_key(e->parent, at->key) : at->index;
        }
        va_start(ap, format);
        vsnprintf(e->text, sizeof(e->text), format, ap);
        va_end(ap);
        return -EINVAL;
}

#define refuse(d, at, ...) refuse_at(d, at, false, __VA_ARGS__)

static const char *type_name(json_type type)
{
        switch (type) {
        case JSON_OBJECT:
                return "an object";
        case JSON_ARRAY:
                return "a list";
        case JSON_STRING:
                return "a text";
        case JSON_INTEGER:
                return "a number";
        case JSON_REAL:
                return "a fraction";
        case JSON_TRUE:
        case JSON_FALSE:
                return "true or false";
        case JSON_NULL:
                break;
        }
        return "nothing";
}

/* --- members ---------------------------------------------------------------------------------- */

static int expect(const struct decoder *d, const struct place *at, json_type type)
{
        if (json_typeof(at->value) == type)
                return 0;
        return refuse(d, at, "%s has to be %s, and is %s", at->key ? at->key : "this",
                      type_name(type), type_name(json_typeof(at->value)));
}

/* An object, and in it nothing but these fields. */
static int expect_fields(const struct decoder *d, const struct place *at, const char *const *fields,
                         size_t n)
{
        const char *key;
        json_t *value;
        int r;

        r = expect(d, at, JSON_OBJECT);
        if (r < 0)
                return r;
        json_object_foreach ((json_t *)at->value, key, value) {
                struct place member = {at, value, key, 0};
                char quoted[POLICY_QUOTE_MAX];
                size_t i = 0;

                while (i < n && strcmp(fields[i], key) != 0)
                        i++;
                if (i == n)
                        return refuse_at(d, &member, true, "%s is not a field here",
                                         policy_quote(key, strlen(key), quoted));
        }
        return 0;
}

/* Is there such a member? null is as good as none, as in Kubernetes. */
static bool member(const struct place *at, const char *key, struct place *ret)
{
        const json_t *value = json_object_get(at->value, key);

        if (!value || json_is_null(value))
                return false;
        *ret = (struct place){at, value, key, 0};
        return true;
}

/* A list that may be missing: how many elements. */
static int list(const struct decoder *d, const struct place *at, const char *key, struct place *ret,
                size_t *ret_n)
{
        int r;

        *ret_n = 0;
        if (!member(at, key, ret))
                return 0;
        r = expect(d, ret, JSON_ARRAY);
        if (r < 0)
                return r;
        *ret_n = json_array_size(ret->value);
        return 0;
}

static struct place element(const struct place *at, size_t i)
{
        return (struct place){at, json_array_get(at->value, i), NULL, i};
}

/* A text without a NUL character. */
static int text(const struct decoder *d, const struct place *at, const char **ret)
{
        int r = expect(d, at, JSON_STRING);

        if (r < 0)
                return r;
        *ret = json_string_value(at->value);
        if (strlen(*ret) != json_string_length(at->value))
                return refuse(d, at, "%s has a NUL character in it", at->key ? at->key : "this");
        return 0;
}

/* A text that may be missing. *ret stays what it is then. */
static int text_member(const struct decoder *d, const struct place *at, const char *key,
                       struct place *ret_place, const char **ret)
{
        return member(at, key, ret_place) ? text(d, ret_place, ret) : 0;
}

/* For messages: a text in quotes. One buffer, since no message has two. */
#define QUOTE(s) policy_quote(s, strlen(s), (char[POLICY_QUOTE_MAX]){})

/* --- selectors -------------------------------------------------------------------------------- */

#define KEY_FORM \
        "[DNS-NAME/]NAME, where NAME is 1 to 63 letters, digits, - _ . between letters or digits"
#define VALUE_FORM "up to 63 letters, digits, - _ . between letters or digits"

static int add_requirement(const struct decoder *d, const struct place *at, struct selector *s,
                           const char *key, enum selector_operator op, const char *const *values,
                           size_t n)
{
        if (s->n == SELECTOR_REQUIREMENTS_MAX)
                return refuse(d, at, "a selector has more than %d requirements",
                              SELECTOR_REQUIREMENTS_MAX);
        return selector_add(s, key, op, values, n);
}

/* Labels of a policy itself, which have no meaning here (s NULL), or those that a selector wants.
 */
static int decode_labels(const struct decoder *d, const struct place *at, const char *field,
                         struct selector *s)
{
        struct place labels;
        const char *key;
        json_t *value;
        int r;

        if (!member(at, field, &labels))
                return 0;
        r = expect(d, &labels, JSON_OBJECT);
        if (r < 0)
                return r;
        json_object_foreach ((json_t *)labels.value, key, value) {
                struct place label = {&labels, value, key, 0};
                const char *v = NULL;

                if (!label_key_is_valid(key))
                        return refuse_at(d, &label, true, "%s is not a label's key: " KEY_FORM,
                                         QUOTE(key));
                r = text(d, &label, &v);
                if (r < 0)
                        return r;
                if (!label_value_is_valid(v))
                        return refuse(d, &label, "%s is not a label's value: " VALUE_FORM,
                                      QUOTE(v));
                r = s ? add_requirement(d, &label, s, key, SELECTOR_IN, &v, 1) : 0;
                if (r < 0)
                        return r;
        }
        return 0;
}

static int decode_values(const struct decoder *d, const struct place *values, const char **ret)
{
        size_t n = json_array_size(values->value);

        for (size_t i = 0; i < n; i++) {
                struct place value = element(values, i);
                int r = text(d, &value, &ret[i]);

                if (r < 0)
                        return r;
                if (!label_value_is_valid(ret[i]))
                        return refuse(d, &value, "%s is not a label's value: " VALUE_FORM,
                                      QUOTE(ret[i]));
        }
        return 0;
}

static int decode_expression(const struct decoder *d, const struct place *at, struct selector *s)
{
        static const char *const fields[] = {"key", "operator", "values"};
        const char *key = NULL, *name = NULL, *value[SELECTOR_VALUES_MAX];
        struct place place, values;
        enum selector_operator op;
        size_t n;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r < 0)
                return r;
        r = text_member(d, at, "key", &place, &key);
        if (r < 0)
                return r;
        if (!key)
                return refuse(d, at, "key is missing");
        if (!label_key_is_valid(key))
                return refuse(d, &place, "%s is not a label's key: " KEY_FORM, QUOTE(key));
        r = text_member(d, at, "operator", &place, &name);
        if (r < 0)
                return r;
        if (!name)
                return refuse(d, at, "operator is missing: In, NotIn, Exists or DoesNotExist");
        op = selector_operator_by_name(name);
        if (op == SELECTOR_OPERATOR_MAX)
                return refuse(d, &place,
                              "%s is not an operator: In, NotIn, Exists and DoesNotExist are",
                              QUOTE(name));
        r = list(d, at, "values", &values, &n);
        if (r < 0)
                return r;
        if ((op == SELECTOR_IN || op == SELECTOR_NOT_IN) && n == 0)
                return refuse(d, at, "%s needs values", name);
        if ((op == SELECTOR_EXISTS || op == SELECTOR_DOES_NOT_EXIST) && n > 0)
                return refuse(d, &values, "%s takes no values", name);
        if (n > SELECTOR_VALUES_MAX)
                return refuse(d, &values, "there are more than %d values", SELECTOR_VALUES_MAX);
        r = n > 0 ? decode_values(d, &values, value) : 0;
        if (r < 0)
                return r;
        return add_requirement(d, at, s, key, op, value, n);
}

static int decode_selector(const struct decoder *d, const struct place *at, struct selector *s)
{
        static const char *const fields[] = {"matchLabels", "matchExpressions"};
        struct place expressions;
        size_t n;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r < 0)
                return r;
        r = decode_labels(d, at, "matchLabels", s);
        if (r < 0)
                return r;
        r = list(d, at, "matchExpressions", &expressions, &n);
        for (size_t i = 0; r == 0 && i < n; i++) {
                struct place expression = element(&expressions, i);

                r = decode_expression(d, &expression, s);
        }
        return r;
}

/* --- peers ------------------------------------------------------------------------------------ */

static int decode_prefix(const struct decoder *d, const struct place *at, struct inaddr_prefix *ret)
{
        const char *prefix = NULL;
        int r;

        r = text(d, at, &prefix);
        if (r < 0)
                return r;
        r = inaddr_prefix_parse(prefix, ret);
        if (r == -ERANGE)
                return refuse(d, at, "%s has bits set behind its length", QUOTE(prefix));
        if (r < 0)
                return refuse(d, at, "%s is not a prefix such as 10.1.0.0/16 or fd00::/64",
                              QUOTE(prefix));
        if (strchr(prefix, ':') && ret->bits >= 96 && inaddr_is_v4(&ret->addr))
                return refuse(d, at, "%s is of IPv4: written as such", QUOTE(prefix));
        return 0;
}

static int decode_block(const struct decoder *d, const struct place *at, struct policy_block *b)
{
        static const char *const fields[] = {"cidr", "except"};
        struct place cidr, except;
        size_t n;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r < 0)
                return r;
        if (!member(at, "cidr", &cidr))
                return refuse(d, at, "cidr is missing");
        r = decode_prefix(d, &cidr, &b->cidr);
        if (r < 0)
                return r;
        r = list(d, at, "except", &except, &n);
        if (r < 0 || n == 0)
                return r;
        b->except = new0(struct inaddr_prefix, n);
        if (!b->except)
                return -ENOMEM;
        for (; b->n_except < n; b->n_except++) {
                struct place place = element(&except, b->n_except);
                struct inaddr_prefix *e = &b->except[b->n_except];

                r = decode_prefix(d, &place, e);
                if (r < 0)
                        return r;
                if (!policy_prefix_contains(&b->cidr, e) || e->bits == b->cidr.bits)
                        return refuse(d, &place, "%s is not a part of cidr %s",
                                      json_string_value(place.value),
                                      json_string_value(cidr.value));
        }
        return 0;
}

static int decode_peer(const struct decoder *d, const struct place *at, struct policy_peer *peer)
{
        static const char *const fields[] = {"podSelector", "namespaceSelector", "ipBlock"};
        struct place pods, namespaces, block;
        bool has_pods;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r < 0)
                return r;
        has_pods = member(at, "podSelector", &pods);
        peer->has_namespaces = member(at, "namespaceSelector", &namespaces);
        peer->is_block = member(at, "ipBlock", &block);
        if (!has_pods && !peer->has_namespaces && !peer->is_block)
                return refuse(d, at, "a peer is a podSelector, a namespaceSelector or an ipBlock");
        if (peer->is_block && (has_pods || peer->has_namespaces))
                return refuse(d, &block, "an ipBlock cannot stand beside a selector");
        r = has_pods ? decode_selector(d, &pods, &peer->pods) : 0;
        if (r == 0 && peer->has_namespaces)
                r = decode_selector(d, &namespaces, &peer->namespaces);
        if (r == 0 && peer->is_block)
                r = decode_block(d, &block, &peer->block);
        return r;
}

/* --- ports ------------------------------------------------------------------------------------ */

static int decode_protocol(const struct decoder *d, const struct place *at, uint8_t *ret)
{
        static const uint8_t protocols[] = {IPPROTO_TCP, IPPROTO_UDP, IPPROTO_SCTP};
        const char *name = policy_protocol_name(IPPROTO_TCP);
        struct place place;
        int r;

        r = text_member(d, at, "protocol", &place, &name);
        if (r < 0)
                return r;
        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++)
                if (strcmp(policy_protocol_name(protocols[i]), name) == 0) {
                        *ret = protocols[i];
                        return 0;
                }
        return refuse(d, &place, "%s is not a protocol: TCP, UDP and SCTP are", QUOTE(name));
}

static int decode_port_number(const struct decoder *d, const struct place *at, uint16_t *ret)
{
        json_int_t number;
        int r;

        r = expect(d, at, JSON_INTEGER);
        if (r < 0)
                return r;
        number = json_integer_value(at->value);
        if (number < 1 || number > UINT16_MAX)
                return refuse(d, at, "%s is not from 1 to 65535", at->key);
        *ret = (uint16_t)number;
        return 0;
}

static int decode_port(const struct decoder *d, const struct place *at, struct policy_port *port)
{
        static const char *const fields[] = {"protocol", "port", "endPort"};
        struct place first, last;
        const char *name = NULL;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r == 0)
                r = decode_protocol(d, at, &port->protocol);
        if (r < 0)
                return r;
        if (!member(at, "port", &first)) {
                if (member(at, "endPort", &last))
                        return refuse(d, &last, "endPort stands only beside a port");
                return 0;
        }
        if (json_is_string(first.value)) {
                r = text(d, &first, &name);
                if (r < 0)
                        return r;
                if (!policy_port_name_is_valid(name))
                        return refuse(d, &first,
                                      "%s is not a port's name: up to 15 of a-z 0-9 -, a letter "
                                      "among them (a number stands without quotes)",
                                      QUOTE(name));
                if (member(at, "endPort", &last))
                        return refuse(d, &last, "endPort stands only beside a number");
                strcpy(port->name, name);
                return 0;
        }
        r = decode_port_number(d, &first, &port->first);
        port->last = port->first;
        if (r == 0 && member(at, "endPort", &last)) {
                r = decode_port_number(d, &last, &port->last);
                if (r == 0 && port->last < port->first)
                        return refuse(d, &last, "endPort %u is less than port %u", port->last,
                                      port->first);
        }
        return r;
}

/* --- rules ------------------------------------------------------------------------------------ */

static int decode_rule(const struct decoder *d, const struct place *at,
                       enum slim_policy_direction direction, struct policy_rule *rule)
{
        const char *const fields[] = {direction == SLIM_POLICY_INGRESS ? "from" : "to", "ports"};
        struct place peers, ports;
        size_t n_peers = 0, n_ports = 0;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r == 0)
                r = list(d, at, fields[0], &peers, &n_peers);
        if (r == 0)
                r = list(d, at, "ports", &ports, &n_ports);
        if (r < 0)
                return r;
        rule->peers = new0(struct policy_peer, n_peers + 1);
        rule->ports = new0(struct policy_port, n_ports + 1);
        if (!rule->peers || !rule->ports)
                return -ENOMEM;
        while (r == 0 && rule->n_peers < n_peers) {
                struct place peer = element(&peers, rule->n_peers);

                r = decode_peer(d, &peer, &rule->peers[rule->n_peers++]);
        }
        while (r == 0 && rule->n_ports < n_ports) {
                struct place port = element(&ports, rule->n_ports);

                r = decode_port(d, &port, &rule->ports[rule->n_ports++]);
        }
        return r;
}

static int decode_rules(const struct decoder *d, const struct place *spec,
                        enum slim_policy_direction direction)
{
        struct policy_rules *rules = &d->policy->rules[direction];
        struct place place;
        size_t n;
        int r;

        r = list(d, spec, policy_direction_name(direction), &place, &n);
        if (r < 0)
                return r;
        /* Before there is memory for them: each counts as one at least. */
        if (n > POLICY_EXPANDED_MAX)
                return refuse(d, &place, "there are more than %d rules", POLICY_EXPANDED_MAX);
        rules->v = new0(struct policy_rule, n + 1);
        if (!rules->v)
                return -ENOMEM;
        while (r == 0 && rules->n < n) {
                struct place rule = element(&place, rules->n);

                r = decode_rule(d, &rule, direction, &rules->v[rules->n++]);
        }
        return r;
}

/* Kubernetes: of no types, Ingress, and Egress when there are rules of it. */
static int decode_types(const struct decoder *d, const struct place *spec)
{
        struct policy *p = d->policy;
        struct place types;
        size_t n;
        int r;

        r = list(d, spec, "policyTypes", &types, &n);
        if (r < 0)
                return r;
        if (n > SLIM_POLICY_DIRECTIONS)
                return refuse(d, &types, "there are more than two policyTypes");
        if (n == 0) {
                p->selects[SLIM_POLICY_INGRESS] = true;
                p->selects[SLIM_POLICY_EGRESS] = p->rules[SLIM_POLICY_EGRESS].n > 0;
        }
        for (size_t i = 0; i < n; i++) {
                struct place type = element(&types, i);
                const char *name = NULL;

                r = text(d, &type, &name);
                if (r < 0)
                        return r;
                if (strcmp(name, "Ingress") == 0)
                        p->selects[SLIM_POLICY_INGRESS] = true;
                else if (strcmp(name, "Egress") == 0)
                        p->selects[SLIM_POLICY_EGRESS] = true;
                else
                        return refuse(d, &type, "%s is not a policy type: Ingress and Egress are",
                                      QUOTE(name));
        }
        return 0;
}

static int decode_spec(const struct decoder *d, const struct place *at)
{
        static const char *const fields[] = {"podSelector", "policyTypes", "ingress", "egress"};
        struct place pods;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r == 0 && member(at, "podSelector", &pods))
                r = decode_selector(d, &pods, &d->policy->pods);
        for (unsigned int i = 0; r == 0 && i < SLIM_POLICY_DIRECTIONS; i++)
                r = decode_rules(d, at, (enum slim_policy_direction)i);
        if (r == 0)
                r = decode_types(d, at);
        if (r < 0)
                return r;
        if (policy_expanded(d->policy) > POLICY_EXPANDED_MAX)
                return refuse(d, at,
                              "the policy is too large: its rules' peers times ports are %zu, and "
                              "%d at most",
                              policy_expanded(d->policy), POLICY_EXPANDED_MAX);
        return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

/* Of annotations the API server looks at keys in lower case. */
static bool annotation_key_is_valid(const char *key)
{
        char lower[LABEL_KEY_MAX + 1];
        size_t len = strlen(key);

        if (len >= sizeof(lower))
                return false;
        for (size_t i = 0; i <= len; i++)
                lower[i] = (char)(key[i] >= 'A' && key[i] <= 'Z' ? key[i] - 'A' + 'a' : key[i]);
        return label_key_is_valid(lower);
}

static int decode_deny(const struct decoder *d, const struct place *annotation)
{
        const char *value = json_string_value(annotation->value);

        d->policy->reject = strcmp(value, "reject") == 0;
        if (!d->policy->reject && strcmp(value, "drop") != 0)
                return refuse(d, annotation, POLICY_DENY_ANNOTATION " is \"drop\" or \"reject\"");
        return 0;
}

static int decode_annotations(const struct decoder *d, const struct place *metadata)
{
        struct place annotations;
        size_t size = 0;
        const char *key;
        json_t *value;
        int r;

        if (!member(metadata, "annotations", &annotations))
                return 0;
        r = expect(d, &annotations, JSON_OBJECT);
        if (r < 0)
                return r;
        json_object_foreach ((json_t *)annotations.value, key, value) {
                struct place annotation = {&annotations, value, key, 0};

                if (!annotation_key_is_valid(key))
                        return refuse_at(d, &annotation, true,
                                         "%s is not an annotation's key: " KEY_FORM, QUOTE(key));
                r = expect(d, &annotation, JSON_STRING);
                if (r == 0 && strcmp(key, POLICY_DENY_ANNOTATION) == 0)
                        r = decode_deny(d, &annotation);
                if (r < 0)
                        return r;
                size += strlen(key) + json_string_length(value);
        }
        if (size > POLICY_ANNOTATIONS_MAX)
                return refuse(d, &annotations, "annotations are longer than %u KiB together",
                              POLICY_ANNOTATIONS_MAX >> 10);
        return 0;
}

static int decode_metadata(const struct decoder *d, const struct place *at)
{
        /* ObjectMeta: what an exported policy has. All but the first four is the server's. */
        static const char *const fields[] = {
            "name",          "namespace",         "labels",
            "annotations",   "generateName",      "selfLink",
            "uid",           "resourceVersion",   "generation",
            "finalizers",    "creationTimestamp", "deletionTimestamp",
            "managedFields", "ownerReferences",   "deletionGracePeriodSeconds",
        };
        const char *name = NULL, *network = POLICY_DEFAULT_NETWORK;
        struct place place;
        int r;

        r = expect_fields(d, at, fields, ARRAY_SIZE(fields));
        if (r == 0)
                r = text_member(d, at, "name", &place, &name);
        if (r < 0)
                return r;
        if (!name)
                return refuse(d, at, "metadata.name is missing");
        if (!subdomain_is_valid(name))
                return refuse(d, &place,
                              "%s is not a policy's name: up to 253 of a-z 0-9 - ., each part "
                              "between letters or digits",
                              QUOTE(name));
        strcpy(d->policy->name, name);
        r = text_member(d, at, "namespace", &place, &network);
        if (r < 0)
                return r;
        if (!name_is_valid(network))
                return refuse(d, &place, "%s is not a network's name", QUOTE(network));
        strcpy(d->policy->network, network);
        r = decode_labels(d, at, "labels", NULL);
        return r < 0 ? r : decode_annotations(d, at);
}

/* A field that has one value only. */
static int decode_constant(const struct decoder *d, const struct place *at, const char *key,
                           const char *value)
{
        const char *found = NULL;
        struct place place;
        int r;

        r = text_member(d, at, key, &place, &found);
        if (r < 0)
                return r;
        if (!found)
                return refuse(d, at, "%s is missing: it is %s", key, value);
        if (strcmp(found, value) != 0)
                return refuse(d, &place, "%s is not %s, which is all that is supported here",
                              QUOTE(found), value);
        return 0;
}

int policy_from_json(const json_t *json, struct policy **ret, struct policy_error *ret_error)
{
        /* Until 1.27 exported policies had a status. */
        static const char *const fields[] = {"apiVersion", "kind", "metadata", "spec", "status"};
        _cleanup_(policy_freep) struct policy *policy = new0(struct policy, 1);
        struct decoder d = {policy, ret_error};
        struct place at = {.value = json}, metadata, spec;
        int r;

        if (!policy)
                return -ENOMEM;
        r = expect(&d, &at, JSON_OBJECT);
        if (r == 0)
                r = decode_constant(&d, &at, "apiVersion", POLICY_API_VERSION);
        if (r == 0)
                r = decode_constant(&d, &at, "kind", POLICY_KIND);
        if (r == 0)
                r = expect_fields(&d, &at, fields, ARRAY_SIZE(fields));
        if (r < 0)
                return r;
        if (!member(&at, "metadata", &metadata))
                return refuse(&d, &at, "metadata is missing");
        r = decode_metadata(&d, &metadata);
        if (r < 0)
                return r;
        if (!member(&at, "spec", &spec))
                return refuse(&d, &at, "spec is missing");
        r = decode_spec(&d, &spec);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(policy);
        return 0;
}
