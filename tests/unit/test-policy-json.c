/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The decoder and the writer. Texts here are JSON with ' for ", to be read without a squint.
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

#include "basic/macro.h"
#include "policy/world.h"

static struct policy_error error;

static json_t *json_of(const char *text)
{
        char copy[4096];
        json_error_t e;
        json_t *json;

        assert_true(strlen(text) < sizeof(copy));
        strcpy(copy, text);
        for (char *c = copy; *c; c++)
                if (*c == '\'')
                        *c = '"';
        json = json_loads(copy, JSON_DECODE_ANY | JSON_ALLOW_NUL, &e);
        if (!json)
                fail_msg("%s: %s", text, e.text);
        return json;
}

static struct policy *decoded(const json_t *json)
{
        struct policy *p = NULL;
        int r = policy_from_json(json, &p, &error);

        if (r < 0)
                fail_msg("%d %s: %s", r, error.path, error.text);
        return p;
}

#define HEAD "{'apiVersion': 'networking.k8s.io/v1', 'kind': 'NetworkPolicy', "

static struct policy *policy_of(const char *spec)
{
        char text[4096];
        json_t *json;
        struct policy *p;

        snprintf(text, sizeof(text), HEAD "'metadata': {'name': 'a'}, 'spec': %s}", spec);
        json = json_of(text);
        p = decoded(json);
        json_decref(json);
        return p;
}

/* --- what is taken ---------------------------------------------------------------------------- */

static void test_metadata(void **state)
{
        json_t *json = json_of(
            HEAD
            "'status': {}, 'metadata': {'name': 'x.y-1', 'namespace': 'blue', 'uid': 'u',"
            "'labels': {'a': 'b', 'c.d/e': ''}, 'generation': 3, 'resourceVersion': '1',"
            "'creationTimestamp': null, 'finalizers': [], 'ownerReferences': [],"
            "'managedFields': [{'any': 1}], 'annotations': {'slim.io/deny': 'reject', 'A.B/C': '',"
            "'x/y': 'any text, \\n even this'}}, 'spec': {}}");
        struct policy *p = decoded(json);

        assert_string_equal(p->name, "x.y-1");
        assert_string_equal(p->network, "blue");
        assert_true(p->reject);
        policy_free(p);
        json_decref(json);
        p = policy_of("{}");
        assert_string_equal(p->network, "default");
        assert_false(p->reject);
        assert_int_equal(p->pods.n, 0);
        policy_free(p);
}

static void test_types(void **state)
{
        static const struct {
                const char *spec;
                bool ingress, egress;
        } cases[] = {
            {"{}", true, false},
            {"{'policyTypes': []}", true, false},
            {"{'policyTypes': null, 'egress': []}", true, false},
            {"{'egress': [{}]}", true, true},
            {"{'ingress': [{}]}", true, false},
            {"{'policyTypes': ['Egress']}", false, true},
            {"{'policyTypes': ['Ingress'], 'egress': [{}]}", true, false},
            {"{'policyTypes': ['Egress', 'Ingress']}", true, true},
            {"{'policyTypes': ['Ingress', 'Ingress']}", true, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct policy *p = policy_of(cases[i].spec);

                assert_int_equal(p->selects[SLIM_POLICY_INGRESS], cases[i].ingress);
                assert_int_equal(p->selects[SLIM_POLICY_EGRESS], cases[i].egress);
                policy_free(p);
        }
}

static void test_rules(void **state)
{
        struct policy *p = policy_of(
            "{'podSelector': {'matchLabels': {'app': 'db'}, 'matchExpressions':"
            "[{'key': 'tier', 'operator': 'NotIn', 'values': ['z', 'a', 'z']},"
            " {'key': 'x', 'operator': 'Exists', 'values': []}]},"
            "'ingress': [{'from': [{'podSelector': null, 'namespaceSelector': {}}], 'ports': []},"
            "            {'from': null, 'ports': [{}, {'protocol': 'SCTP', 'port': 'x-y'},"
            "             {'port': 1, 'endPort': 65535}, {'port': 80, 'protocol': null}]}],"
            "'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'except': ['fd00::/8']}}]}]}");
        const struct policy_rule *r = p->rules[SLIM_POLICY_INGRESS].v;

        assert_int_equal(p->pods.n, 3);
        assert_int_equal(p->pods.v[1].n_values, 2);
        assert_int_equal(p->rules[SLIM_POLICY_INGRESS].n, 2);
        assert_int_equal(r[0].n_peers, 1);
        assert_true(r[0].peers[0].has_namespaces);
        assert_int_equal(r[0].n_ports, 0);
        assert_int_equal(r[1].n_peers, 0);
        assert_int_equal(r[1].n_ports, 4);
        assert_int_equal(r[1].ports[0].protocol, IPPROTO_TCP);
        assert_int_equal(r[1].ports[0].first, 0);
        assert_int_equal(r[1].ports[1].protocol, IPPROTO_SCTP);
        assert_string_equal(r[1].ports[1].name, "x-y");
        assert_int_equal(r[1].ports[2].last, 65535);
        assert_int_equal(r[1].ports[3].last, 80);
        assert_true(p->rules[SLIM_POLICY_EGRESS].v[0].peers[0].is_block);
        assert_int_equal(p->rules[SLIM_POLICY_EGRESS].v[0].peers[0].block.n_except, 1);
        policy_free(p);
}

/* --- what is refused -------------------------------------------------------------------------- */

static void refused(const char *text, const char *path, const char *says)
{
        json_t *json = json_of(text);
        struct policy *p;
        int r = policy_from_json(json, &p, &error);

        if (r != -EINVAL || strcmp(error.path, path) != 0 || !strstr(error.text, says))
                fail_msg("%s: %d %s: %s", text, r, error.path, error.text);
        assert_null(strchr(error.text, '\n'));
        assert_int_equal(error.line, 0);
        json_decref(json);
}

static void test_bad_heads(void **state)
{
        static const struct {
                const char *text, *path, *says;
        } bad[] = {
            {"[]", "", "this has to be an object, and is a list"},
            {"1", "", "is a number"},
            {"1.5", "", "is a fraction"},
            {"true", "", "is true or false"},
            {"null", "", "is nothing"},
            {"{}", "", "apiVersion is missing: it is networking.k8s.io/v1"},
            {"{'apiVersion': 'v1'}", "apiVersion", "\"v1\" is not networking.k8s.io/v1"},
            {"{'apiVersion': 1}", "apiVersion", "apiVersion has to be a text, and is a number"},
            {"{'apiVersion': 'networking.k8s.io/v1'}", "", "kind is missing"},
            {"{'apiVersion': 'networking.k8s.io/v1', 'kind': 'Ingress'}", "kind",
             "\"Ingress\" is not NetworkPolicy"},
            {HEAD "'x': 1}", "x", "\"x\" is not a field here"},
            {HEAD "'spec': {}}", "", "metadata is missing"},
            {HEAD "'metadata': []}", "metadata", "metadata has to be an object"},
            {HEAD "'metadata': {}}", "metadata", "metadata.name is missing"},
            {HEAD "'metadata': {'name': null}}", "metadata", "metadata.name is missing"},
            {HEAD "'metadata': {'name': ''}}", "metadata.name", "\"\" is not a policy's name"},
            {HEAD "'metadata': {'name': 'A'}}", "metadata.name", "\"A\" is not a policy's name"},
            {HEAD "'metadata': {'name': 'a\\u0000b'}}", "metadata.name", "has a NUL character"},
            {HEAD "'metadata': {'name': 'a', 'namespace': ''}}", "metadata.namespace",
             "\"\" is not a network's name"},
            {HEAD "'metadata': {'name': 'a', 'namespace': 'a_b'}}", "metadata.namespace",
             "\"a_b\" is not a network's name"},
            {HEAD "'metadata': {'name': 'a', 'namespace': 1}}", "metadata.namespace",
             "namespace has to be a text, and is a number"},
            {HEAD "'metadata': {'name': 'a', 'nam': 1}}", "metadata.nam", "is not a field here"},
            {HEAD "'metadata': {'name': 'a', 'labels': []}}", "metadata.labels", "an object"},
            {HEAD "'metadata': {'name': 'a', 'labels': {'-': 'x'}}}", "metadata.labels.-",
             "\"-\" is not a label's key"},
            {HEAD "'metadata': {'name': 'a', 'labels': {'x': '-'}}}", "metadata.labels.x",
             "\"-\" is not a label's value"},
            {HEAD "'metadata': {'name': 'a', 'labels': {'x': 1}}}", "metadata.labels.x",
             "x has to be a text"},
            {HEAD "'metadata': {'name': 'a', 'annotations': 1}}", "metadata.annotations",
             "an object"},
            {HEAD "'metadata': {'name': 'a', 'annotations': {'a b': ''}}}",
             "metadata.annotations.a b", "\"a b\" is not an annotation's key"},
            {HEAD "'metadata': {'name': 'a', 'annotations': {'a': 1}}}", "metadata.annotations.a",
             "a has to be a text"},
            {HEAD "'metadata': {'name': 'a', 'annotations': {'slim.io/deny': 'no'}}}",
             "metadata.annotations.slim.io/deny", "slim.io/deny is \"drop\" or \"reject\""},
            {HEAD "'metadata': {'name': 'a'}}", "", "spec is missing"},
            {HEAD "'metadata': {'name': 'a'}, 'spec': null}", "", "spec is missing"},
            {HEAD "'metadata': {'name': 'a'}, 'spec': []}", "spec", "spec has to be an object"},
            {HEAD "'metadata': {'name': 'a'}, 'a\\nb': 1}", "a?b", "\"a?b\" is not a field here"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                refused(bad[i].text, bad[i].path, bad[i].says);
}

static void test_bad_specs(void **state)
{
        static const struct {
                const char *spec, *path, *says;
        } bad[] = {
            {"{'x': 1}", "spec.x", "is not a field here"},
            {"{'policyTypes': 'Ingress'}", "spec.policyTypes", "has to be a list, and is a text"},
            {"{'policyTypes': ['ingress']}", "spec.policyTypes[0]",
             "\"ingress\" is not a policy type: Ingress and Egress are"},
            {"{'policyTypes': ['Ingress', 1]}", "spec.policyTypes[1]", "this has to be a text"},
            {"{'policyTypes': ['Ingress', 'Ingress', 'Egress']}", "spec.policyTypes",
             "more than two policyTypes"},
            {"{'ingress': {}}", "spec.ingress", "ingress has to be a list"},
            {"{'ingress': [1]}", "spec.ingress[0]", "this has to be an object"},
            {"{'ingress': [{}, {'to': []}]}", "spec.ingress[1].to", "\"to\" is not a field here"},
            {"{'egress': [{'from': []}]}", "spec.egress[0].from", "\"from\" is not a field here"},
            {"{'ingress': [{'from': {}}]}", "spec.ingress[0].from", "from has to be a list"},
            {"{'ingress': [{'ports': {}}]}", "spec.ingress[0].ports", "ports has to be a list"},
            /* peers */
            {"{'ingress': [{'from': [{}]}]}", "spec.ingress[0].from[0]", "a peer is a podSelector"},
            {"{'ingress': [{'from': [{'ipBlock': null}]}]}", "spec.ingress[0].from[0]",
             "a peer is a podSelector"},
            {"{'ingress': [{'from': [{'pods': {}}]}]}", "spec.ingress[0].from[0].pods",
             "is not a field here"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0'}, 'podSelector': {}}]}]}",
             "spec.egress[0].to[0].ipBlock", "an ipBlock cannot stand beside a selector"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0'}, 'namespaceSelector': {}}]}]}",
             "spec.egress[0].to[0].ipBlock", "an ipBlock cannot stand beside a selector"},
            {"{'egress': [{'to': [{'namespaceSelector': {'x': 1}}]}]}",
             "spec.egress[0].to[0].namespaceSelector.x", "is not a field here"},
            {"{'egress': [{'to': [{'podSelector': 1}]}]}", "spec.egress[0].to[0].podSelector",
             "has to be an object"},
            {"{'egress': [{'to': [{'ipBlock': {}}]}]}", "spec.egress[0].to[0].ipBlock",
             "cidr is missing"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'x': 1}}]}]}",
             "spec.egress[0].to[0].ipBlock.x", "is not a field here"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': 1}}]}]}",
             "spec.egress[0].to[0].ipBlock.cidr", "cidr has to be a text"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '10.0.0.0'}}]}]}",
             "spec.egress[0].to[0].ipBlock.cidr", "\"10.0.0.0\" is not a prefix"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '10.0.0.0/33'}}]}]}",
             "spec.egress[0].to[0].ipBlock.cidr", "\"10.0.0.0/33\" is not a prefix"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '10.0.0.1/8'}}]}]}",
             "spec.egress[0].to[0].ipBlock.cidr", "\"10.0.0.1/8\" has bits set behind its length"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::ffff:10.0.0.0/104'}}]}]}",
             "spec.egress[0].to[0].ipBlock.cidr", "is of IPv4: written as such"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'except': '::/1'}}]}]}",
             "spec.egress[0].to[0].ipBlock.except", "except has to be a list"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'except': ['::/1', 'x']}}]}]}",
             "spec.egress[0].to[0].ipBlock.except[1]", "\"x\" is not a prefix"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'except': ['10.0.0.0/8']}}]}]}",
             "spec.egress[0].to[0].ipBlock.except[0]", "10.0.0.0/8 is not a part of cidr ::/0"},
            {"{'egress': [{'to': [{'ipBlock': {'cidr': 'a::/16', 'except': ['a::/16']}}]}]}",
             "spec.egress[0].to[0].ipBlock.except[0]", "a::/16 is not a part of cidr a::/16"},
            /* ports */
            {"{'ingress': [{'ports': [1]}]}", "spec.ingress[0].ports[0]", "has to be an object"},
            {"{'ingress': [{'ports': [{'x': 1}]}]}", "spec.ingress[0].ports[0].x", "not a field"},
            {"{'ingress': [{'ports': [{'protocol': 'tcp'}]}]}", "spec.ingress[0].ports[0].protocol",
             "\"tcp\" is not a protocol: TCP, UDP and SCTP"},
            {"{'ingress': [{'ports': [{'protocol': 6}]}]}", "spec.ingress[0].ports[0].protocol",
             "protocol has to be a text"},
            {"{'ingress': [{'ports': [{'port': 0}]}]}", "spec.ingress[0].ports[0].port",
             "port is not from 1 to 65535"},
            {"{'ingress': [{'ports': [{'port': 65536}]}]}", "spec.ingress[0].ports[0].port",
             "port is not from 1 to 65535"},
            {"{'ingress': [{'ports': [{'port': 80.0}]}]}", "spec.ingress[0].ports[0].port",
             "port has to be a number, and is a fraction"},
            {"{'ingress': [{'ports': [{'port': '80'}]}]}", "spec.ingress[0].ports[0].port",
             "\"80\" is not a port's name"},
            {"{'ingress': [{'ports': [{'port': 'a\\u0000'}]}]}", "spec.ingress[0].ports[0].port",
             "port has a NUL character"},
            {"{'ingress': [{'ports': [{'endPort': 80}]}]}", "spec.ingress[0].ports[0].endPort",
             "endPort stands only beside a port"},
            {"{'ingress': [{'ports': [{'port': 'web', 'endPort': 80}]}]}",
             "spec.ingress[0].ports[0].endPort", "endPort stands only beside a number"},
            {"{'ingress': [{'ports': [{'port': 80, 'endPort': 79}]}]}",
             "spec.ingress[0].ports[0].endPort", "endPort 79 is less than port 80"},
            {"{'ingress': [{'ports': [{'port': 80, 'endPort': 65536}]}]}",
             "spec.ingress[0].ports[0].endPort", "endPort is not from 1 to 65535"},
            {"{'ingress': [{'ports': [{'port': 80, 'endPort': '81'}]}]}",
             "spec.ingress[0].ports[0].endPort", "endPort has to be a number, and is a text"},
            /* selectors */
            {"{'podSelector': {'matchLabels': []}}", "spec.podSelector.matchLabels", "an object"},
            {"{'podSelector': {'matchLabels': {'': 'x'}}}", "spec.podSelector.matchLabels.",
             "\"\" is not a label's key"},
            {"{'podSelector': {'matchLabels': {'a': null}}}", "spec.podSelector.matchLabels.a",
             "a has to be a text, and is nothing"},
            {"{'podSelector': {'matchLabels': {'a': 'b c'}}}", "spec.podSelector.matchLabels.a",
             "\"b c\" is not a label's value"},
            {"{'podSelector': {'matchExpressions': {}}}", "spec.podSelector.matchExpressions",
             "has to be a list"},
            {"{'podSelector': {'matchExpressions': [1]}}", "spec.podSelector.matchExpressions[0]",
             "has to be an object"},
            {"{'podSelector': {'matchExpressions': [{'operator': 'In'}]}}",
             "spec.podSelector.matchExpressions[0]", "key is missing"},
            {"{'podSelector': {'matchExpressions': [{'key': 1}]}}",
             "spec.podSelector.matchExpressions[0].key", "key has to be a text"},
            {"{'podSelector': {'matchExpressions': [{'key': '/'}]}}",
             "spec.podSelector.matchExpressions[0].key", "\"/\" is not a label's key"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a'}]}}",
             "spec.podSelector.matchExpressions[0]", "operator is missing"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 1}]}}",
             "spec.podSelector.matchExpressions[0].operator", "operator has to be a text"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'Gt'}]}}",
             "spec.podSelector.matchExpressions[0].operator", "\"Gt\" is not an operator"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'In'}]}}",
             "spec.podSelector.matchExpressions[0]", "In needs values"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'NotIn',"
             "'values': []}]}}",
             "spec.podSelector.matchExpressions[0]", "NotIn needs values"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'Exists',"
             "'values': ['x']}]}}",
             "spec.podSelector.matchExpressions[0].values", "Exists takes no values"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'DoesNotExist',"
             "'values': ['x']}]}}",
             "spec.podSelector.matchExpressions[0].values", "DoesNotExist takes no values"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'In', 'values': 1}]}}",
             "spec.podSelector.matchExpressions[0].values", "values has to be a list"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'In',"
             "'values': ['x', 1]}]}}",
             "spec.podSelector.matchExpressions[0].values[1]", "this has to be a text"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'operator': 'In',"
             "'values': ['x', 'y-']}]}}",
             "spec.podSelector.matchExpressions[0].values[1]", "\"y-\" is not a label's value"},
            {"{'podSelector': {'matchExpressions': [{'key': 'a', 'x': 1}]}}",
             "spec.podSelector.matchExpressions[0].x", "is not a field here"},
        };
        char text[1024];

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                snprintf(text, sizeof(text), HEAD "'metadata': {'name': 'a'}, 'spec': %s}",
                         bad[i].spec);
                refused(text, bad[i].path, bad[i].says);
        }
}

/* --- bounds ----------------------------------------------------------------------------------- */

/* A list of n times the same. */
static json_t *times(size_t n, const char *what)
{
        json_t *one = json_of(what), *array = json_array();

        for (size_t i = 0; i < n; i++)
                json_array_append(array, one);
        json_decref(one);
        return array;
}

/* A policy whose spec has this; decodes it, and frees it. */
static int decode_with(const char *path, json_t *what)
{
        json_t *json = json_of(HEAD "'metadata': {'name': 'a'}, 'spec': {}}");
        struct policy *p;
        int r;

        json_object_set_new(json_object_get(json, "spec"), path, what);
        r = policy_from_json(json, &p, &error);
        if (r == 0)
                policy_free(p);
        json_decref(json);
        return r;
}

static json_t *one_rule(size_t n_peers, size_t n_ports)
{
        return json_pack("[{s:o, s:o}]", "from", times(n_peers, "{'podSelector': {}}"), "ports",
                         times(n_ports, "{'port': 80}"));
}

static json_t *expression(size_t n_values)
{
        return json_pack("{s:[{s:s, s:s, s:o}]}", "matchExpressions", "key", "a", "operator", "In",
                         "values", times(n_values, "'x'"));
}

static void test_bounds(void **state)
{
        assert_int_equal(decode_with("ingress", times(POLICY_EXPANDED_MAX, "{}")), 0);
        assert_int_equal(decode_with("ingress", times(POLICY_EXPANDED_MAX + 1, "{}")), -EINVAL);
        assert_string_equal(error.path, "spec.ingress");
        assert_string_equal(error.text, "there are more than 4096 rules");

        assert_int_equal(decode_with("ingress", one_rule(64, 64)), 0);
        assert_int_equal(decode_with("ingress", one_rule(64, 65)), -EINVAL);
        assert_string_equal(error.path, "spec");
        assert_non_null(strstr(error.text, "the policy is too large"));
        assert_non_null(strstr(error.text, "are 4160, and 4096 at most"));

        assert_int_equal(decode_with("podSelector", expression(SELECTOR_VALUES_MAX)), 0);
        assert_int_equal(decode_with("podSelector", expression(SELECTOR_VALUES_MAX + 1)), -EINVAL);
        assert_string_equal(error.text, "there are more than 256 values");

        assert_int_equal(
            decode_with("podSelector", json_pack("{s:o}", "matchExpressions",
                                                 times(SELECTOR_REQUIREMENTS_MAX,
                                                       "{'key': 'a', 'operator': 'Exists'}"))),
            0);
        assert_int_equal(
            decode_with("podSelector", json_pack("{s:o}", "matchExpressions",
                                                 times(SELECTOR_REQUIREMENTS_MAX + 1,
                                                       "{'key': 'a', 'operator': 'Exists'}"))),
            -EINVAL);
        assert_string_equal(error.path, "spec.podSelector.matchExpressions[64]");
        assert_string_equal(error.text, "a selector has more than 64 requirements");
}

static void test_annotations(void **state)
{
        json_t *json = json_of(HEAD "'metadata': {'name': 'a', 'annotations': {}}, 'spec': {}}");
        json_t *annotations = json_object_get(json_object_get(json, "metadata"), "annotations");
        char *text = malloc(POLICY_ANNOTATIONS_MAX);
        struct policy *p;

        assert_non_null(text);
        memset(text, 'x', POLICY_ANNOTATIONS_MAX);
        json_object_set_new(annotations, "a", json_stringn(text, POLICY_ANNOTATIONS_MAX - 1));
        policy_free(decoded(json));
        json_object_set_new(annotations, "b", json_string(""));
        assert_int_equal(policy_from_json(json, &p, &error), -EINVAL);
        assert_string_equal(error.path, "metadata.annotations");
        assert_string_equal(error.text, "annotations are longer than 256 KiB together");
        free(text);
        json_decref(json);
}

/* A path that is longer than there is room for is cut off. */
static void test_long_path(void **state)
{
        char key[400];
        json_t *json = json_of(HEAD "'metadata': {'name': 'a', 'annotations': {}}, 'spec': {}}");
        struct policy *p;

        memset(key, '\n', sizeof(key));
        key[sizeof(key) - 1] = '\0';
        json_object_set_new(json_object_get(json_object_get(json, "metadata"), "annotations"), key,
                            json_string(""));
        assert_int_equal(policy_from_json(json, &p, &error), -EINVAL);
        assert_true(strlen(error.path) < POLICY_PATH_MAX);
        assert_null(strchr(error.path, '\n'));
        json_decref(json);
}

/* --- the writer ------------------------------------------------------------------------------- */

static void written(const char *spec, const char *canonical)
{
        struct policy *p = policy_of(spec), *again;
        json_t *json = policy_to_json(p), *expected = json_of(canonical), *json_again;

        if (!json_equal(json_object_get(json, "spec"), expected))
                fail_msg("%s is %s", spec, json_dumps(json, 0));
        again = decoded(json);
        json_again = policy_to_json(again);
        assert_true(json_equal(json, json_again));
        policy_free(p);
        policy_free(again);
        json_decref(json);
        json_decref(json_again);
        json_decref(expected);
}

static void test_canonical(void **state)
{
        written("{}", "{'podSelector': {}, 'policyTypes': ['Ingress']}");
        written("{'policyTypes': ['Egress', 'Ingress'], 'ingress': []}",
                "{'podSelector': {}, 'policyTypes': ['Ingress', 'Egress']}");
        written("{'podSelector': {'matchExpressions': [{'key': 'b', 'operator': 'In', 'values':"
                "['x']}, {'key': 'a', 'operator': 'In', 'values': ['2', '1', '2']},"
                "{'key': 'c', 'operator': 'Exists'}], 'matchLabels': {'b': 'y'}}}",
                "{'podSelector': {'matchLabels': {'b': 'x'}, 'matchExpressions': [{'key': 'a',"
                "'operator': 'In', 'values': ['1', '2']}, {'key': 'b', 'operator': 'In',"
                "'values': ['y']}, {'key': 'c', 'operator': 'Exists'}]},"
                "'policyTypes': ['Ingress']}");
        written("{'ingress': [{}, {'from': [{'namespaceSelector': {}, 'podSelector': {}},"
                "{'podSelector': {}}, {'namespaceSelector': {}, 'podSelector':"
                "{'matchLabels': {'a': ''}}}, {'ipBlock': {'cidr': '10.0.0.0/8', 'except': []}},"
                "{'ipBlock': {'cidr': '::/0', 'except': ['FD00::/8']}}],"
                "'ports': [{}, {'port': 80}, {'port': 80, 'endPort': 80}, {'port': 'web'},"
                "{'port': 1, 'endPort': 2, 'protocol': 'UDP'}]}]}",
                "{'podSelector': {}, 'policyTypes': ['Ingress'], 'ingress': [{}, {'from':"
                "[{'namespaceSelector': {}}, {'podSelector': {}}, {'namespaceSelector': {},"
                "'podSelector': {'matchLabels': {'a': ''}}}, {'ipBlock': {'cidr': '10.0.0.0/8'}},"
                "{'ipBlock': {'cidr': '::/0', 'except': ['fd00::/8']}}],"
                "'ports': [{'protocol': 'TCP'}, {'protocol': 'TCP', 'port': 80}, {'protocol':"
                "'TCP', 'port': 80}, {'protocol': 'TCP', 'port': 'web'}, {'protocol': 'UDP',"
                "'port': 1, 'endPort': 2}]}]}");
}

static void test_random(void **state)
{
        struct world w;

        world_init(&w, world_seed());
        for (size_t i = 0; i < 2000; i++) {
                json_t *json = world_random_policy(&w), *first, *second;
                struct policy *p = decoded(json), *again;

                first = policy_to_json(p);
                again = decoded(first);
                second = policy_to_json(again);
                assert_true(json_equal(first, second));
                assert_int_equal(p->reject, again->reject);
                assert_string_equal(p->name, again->name);
                assert_string_equal(p->network, again->network);
                policy_free(p);
                policy_free(again);
                json_decref(json);
                json_decref(first);
                json_decref(second);
        }
        world_clear(&w);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_metadata),    cmocka_unit_test(test_types),
            cmocka_unit_test(test_rules),       cmocka_unit_test(test_bad_heads),
            cmocka_unit_test(test_bad_specs),   cmocka_unit_test(test_bounds),
            cmocka_unit_test(test_annotations), cmocka_unit_test(test_long_path),
            cmocka_unit_test(test_canonical),   cmocka_unit_test(test_random),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
