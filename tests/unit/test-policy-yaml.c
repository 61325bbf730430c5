/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
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

#include "basic/fd.h"
#include "basic/macro.h"
#include "policy/policy-yaml.h"

static struct policy_error error;

static const char *formatted(void)
{
        static char buf[POLICY_PATH_MAX + POLICY_TEXT_MAX];

        return policy_error_format(&error, "f", buf, sizeof(buf));
}

static int parse(const char *text, struct policy_list *ret)
{
        return policy_list_from_yaml(text, strlen(text), ret, &error);
}

#define HEAD                                 \
        "apiVersion: networking.k8s.io/v1\n" \
        "kind: NetworkPolicy\n"              \
        "metadata: {name: a}\n"

/* --- scalars and documents -------------------------------------------------------------------- */

static json_t *value_of(const char *text)
{
        struct yaml_documents *docs;
        json_t *v;

        if (yaml_documents_parse(text, strlen(text), &docs, &error) < 0)
                fail_msg("%s: %s", text, formatted());
        if (docs->n == 0) {
                yaml_documents_free(docs);
                return json_null();
        }
        v = json_incref(docs->v[0]);
        yaml_documents_free(docs);
        return v;
}

static void test_scalars(void **state)
{
        static const struct {
                const char *yaml, *json;
        } cases[] = {
            {"[a, 'b', \"c\\n\"]", "[\"a\", \"b\", \"c\\n\"]"},
            {"[1, -2, +3, 0, 65535]", "[1, -2, 3, 0, 65535]"},
            {"[9223372036854775807]", "[9223372036854775807]"},
            {"[1.5, .5, 1., 1e3, 2E-1, 92233720368547758080]",
             "[1.5, 0.5, 1.0, 1000.0, 0.2, 92233720368547758080.0]"},
            {"[~, null, Null, NULL, '', '~', ]", "[null, null, null, null, \"\", \"~\"]"},
            {"[true, yes, ON, y, 'yes']", "[true, true, true, true, \"yes\"]"},
            {"[false, No, off, N]", "[false, false, false, false]"},
            {"['010', '1_000', \"0x1f\"]", "[\"010\", \"1_000\", \"0x1f\"]"},
            {"[1a, 1.2.3, -, +, ., e5, 1e, 10.0.0.0/8, 1e5x, 0x]",
             "[\"1a\", \"1.2.3\", \"-\", \"+\", \".\", \"e5\", \"1e\", \"10.0.0.0/8\", \"1e5x\", "
             "\"0x\"]"},
            {"a:\nb: |\n  x\n  y\nc: >-\n  x\n  y\n1: 2\ntrue: 3",
             "{\"a\": null, \"b\": \"x\\ny\\n\", \"c\": \"x y\", \"1\": 2, \"true\": 3}"},
            {"%YAML 1.1\n---\nx: [2001-01-01, 1:30]", "{\"x\": [\"2001-01-01\", \"1:30\"]}"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                json_t *found = value_of(cases[i].yaml);
                json_t *expected = json_loads(cases[i].json, JSON_DECODE_ANY, NULL);

                assert_non_null(expected);
                if (!json_equal(found, expected))
                        fail_msg("%s is %s", cases[i].yaml, json_dumps(found, JSON_ENCODE_ANY));
                json_decref(found);
                json_decref(expected);
        }
        assert_true(json_is_null(value_of("")));
        assert_true(json_is_null(value_of("# nothing\n---\n---\n~\n...\n")));
}

/* What YAML itself is refused for: each with its line and column. */
static void test_bad_yaml(void **state)
{
        static const struct {
                const char *text, *says;
        } bad[] = {
            {"a: [1, 2\nb: 3", "f:2:2: "},
            {"a: 'x", "f:1:4: found unexpected end of stream while scanning a quoted"},
            {"\ta: 1", "f:1:1: "},
            {"a: 1\n  b: 2", "f:2:4: "},
            {"a: 1\na: 2", "f:2:1: \"a\" is here twice"},
            {"x:\n  b: 1\n  \"b\": 1", "f:3:3: \"b\" is here twice"},
            {"x: {b: 1, c: 2, b: 1}", "f:1:17: \"b\" is here twice"},
            {"x: &a 1", "f:1:4: anchors are not supported"},
            {"x: &a [1]", "f:1:4: anchors are not supported"},
            {"x: &a\n  y: 1", "f:1:4: anchors are not supported"},
            {"&a x: 1", "f:1:1: anchors are not supported"},
            {"x: 1\ny: *x", "f:2:4: aliases are not supported: write it out"},
            {"*x : 1", "f:1:1: aliases are not supported"},
            {"*x", "f:1:1: aliases are not supported"},
            {"x: !!str 1", "f:1:4: tags are not supported"},
            {"x: !a [1]", "f:1:4: tags are not supported"},
            {"x: ! {}", "f:1:4: tags are not supported"},
            {"%TAG ! tag:a,2000:\n---\nx: 1", "f:1:1: tags are not supported"},
            {"x: 010", "f:1:4: 010 is one number in YAML 1.1 and another in 1.2"},
            {"x: [1, 0x1F]", "f:1:8: 0x1F is one number"},
            {"x: -0o17", "f:1:4: -0o17 is one number"},
            {"x: 1_000", "f:1:4: 1_000 is one number"},
            {"x: 0b11", "f:1:4: 0b11 is one number"},
            {"x: .inf", "f:1:4: .inf is not a number here"},
            {"x: -.Inf", "f:1:4: -.Inf is not a number here"},
            {"x: .NaN", "f:1:4: .NaN is not a number here"},
            {"x: 1e999", "f:1:4: 1e999 is too large a number"},
            {"? [a]\n: 1", "f:1:3: a key has to be a text"},
            {"? {a: 1}\n: 1", "f:1:3: a key has to be a text"},
            {"\"a\\0b\": 1", "f:1:1: a key has a NUL character in it"},
            {"a: b\nc: \xff", "f:2:4: this is not UTF-8 text"},
            {"a: ä\x01", "f:1:5: this is not UTF-8 text"},
            {"a: 1\n---\nb: [", "f:3:5: "},
            {"a: \"x\"\nb:d", "f:2:1: could not find expected ':' while scanning a simple key"},
        };
        struct policy_list list;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r = parse(bad[i].text, &list);

                if (r != -EINVAL || strncmp(formatted(), bad[i].says, strlen(bad[i].says)) != 0)
                        fail_msg("%s: %d %s", bad[i].text, r, formatted());
                assert_null(strchr(formatted(), '\n'));
        }
}

/* --- bounds ----------------------------------------------------------------------------------- */

static char *repeated(const char *head, const char *what, size_t n, const char *tail)
{
        size_t len = strlen(what), at = strlen(head);
        char *text = malloc(at + len * n + strlen(tail) + 1);

        assert_non_null(text);
        strcpy(text, head);
        for (size_t i = 0; i < n; i++, at += len)
                memcpy(text + at, what, len + 1);
        strcpy(text + at, tail);
        return text;
}

static void refused(char *text, const char *says)
{
        struct policy_list list;

        assert_int_equal(parse(text, &list), -EINVAL);
        if (!strstr(formatted(), says))
                fail_msg("%s", formatted());
        free(text);
}

static void test_bounds(void **state)
{
        struct yaml_documents *docs;
        char *text, *brackets;

        refused(repeated("", "#", POLICY_FILE_MAX + 1, ""), "f:1:1: the file is larger than 4 MiB");
        text = repeated("", "#", POLICY_FILE_MAX, "");
        assert_int_equal(yaml_documents_parse(text, POLICY_FILE_MAX, &docs, &error), 0);
        assert_int_equal(docs->n, 0);
        yaml_documents_free(docs);
        free(text);

        refused(repeated("", "[", POLICY_DEPTH_MAX + 1, ""), "f:1:33: this is nested more than 32");
        text = repeated("", "{a: ", POLICY_DEPTH_MAX + 1, "");
        refused(text, "f:1:129: this is nested more than 32");
        brackets = repeated("", "[", POLICY_DEPTH_MAX, "");
        text = repeated(brackets, "]", POLICY_DEPTH_MAX, "");
        json_decref(value_of(text));
        free(brackets);
        free(text);

        refused(repeated("[", "a,", POLICY_NODES_MAX + 1, "]"),
                "there are more than 1048576 values");
        refused(repeated("", "---\na\n", POLICY_POLICIES_MAX + 1, ""),
                "f:20002:1: there are more than 10000 policies in this file");
}

/* --- policies --------------------------------------------------------------------------------- */

static void test_several(void **state)
{
        struct policy_list list;

        if (parse("# first\n---\n" HEAD "spec: {}\n---\n# empty\n---\n"
                  "kind: NetworkPolicy\n"
                  "apiVersion: networking.k8s.io/v1\n"
                  "metadata:\n"
                  "  name: a\n"
                  "  namespace: blue\n"
                  "spec:\n"
                  "  podSelector: {}\n"
                  "  egress: [{}]\n...\n",
                  &list) < 0)
                fail_msg("%s", formatted());
        assert_int_equal(list.n, 2);
        assert_string_equal(list.v[0]->network, "default");
        assert_false(list.v[0]->selects[SLIM_POLICY_EGRESS]);
        assert_string_equal(list.v[1]->network, "blue");
        assert_true(list.v[1]->selects[SLIM_POLICY_EGRESS]);
        policy_list_clear(&list);
        assert_int_equal(parse("", &list), 0);
        assert_int_equal(list.n, 0);
        policy_list_clear(&list);
}

/* The example of docs/policy.md, which has one fenced block of YAML. */
static void test_documented(void **state)
{
        char *text = NULL, *begin, *end;
        struct policy_list list;
        size_t len;

        assert_int_equal(
            read_file_at(AT_FDCWD, SLIM_SOURCE "/docs/policy.md", 1 << 20, &text, &len), 0);
        begin = strstr(text, "```yaml\n");
        assert_non_null(begin);
        begin += strlen("```yaml\n");
        end = strstr(begin, "```");
        assert_non_null(end);
        *end = '\0';
        if (parse(begin, &list) < 0)
                fail_msg("%s", formatted());
        assert_int_equal(list.n, 1);
        assert_true(list.v[0]->reject);
        assert_int_equal(list.v[0]->rules[SLIM_POLICY_INGRESS].n, 2);
        assert_int_equal(list.v[0]->rules[SLIM_POLICY_EGRESS].n, 1);
        policy_list_clear(&list);
        free(text);
}

static void test_twice(void **state)
{
        struct policy_list list;

        assert_int_equal(
            parse(HEAD "spec: {}\n---\n" HEAD "spec: {}\n---\n" HEAD "spec: {}\n", &list), -EINVAL);
        assert_string_equal(formatted(), "f:6:1: the policy default/a is in this file twice");
}

/* Where the decoder's refusals are: at a value, at a key, at what lacks something. */
static void test_places(void **state)
{
        static const struct {
                const char *text, *says;
        } bad[] = {
            {"a", "f:1:1: this has to be an object, and is a text"},
            {"---\n- 1", "f:2:1: this has to be an object, and is a list"},
            {"kind: 1", "f:1:1: apiVersion is missing"},
            {HEAD, "f:1:1: spec is missing"},
            {HEAD "spec:\n", "f:1:1: spec is missing"},
            {HEAD "spec:\n  podSelektor: {}\n", "f:5:3: \"podSelektor\" is not a field here"},
            {HEAD "spec:\n  podSelector: []\n",
             "f:5:16: podSelector has to be an object, and is a list"},
            {HEAD "spec:\n  ingress:\n  - ports:\n    - port: 80\n      endPort: 79\n",
             "f:8:16: endPort 79 is less than port 80"},
            {HEAD "spec:\n  ingress:\n  - from:\n    - {}\n",
             "f:7:7: a peer is a podSelector, a namespaceSelector or an ipBlock"},
            {HEAD "spec:\n  ingress: [{}, null]\n",
             "f:5:17: this has to be an object, and is nothing"},
            {HEAD "spec:\n  ingress:\n  -\n", "f:6:4: this has to be an object, and is nothing"},
            {HEAD "spec:\n  podSelector:\n    matchLabels: {a: yes}\n",
             "f:6:22: a has to be a text, and is true or false"},
            {HEAD "spec:\n  podSelector:\n    matchLabels: {a: b, 'c d': x}\n",
             "f:6:25: \"c d\" is not a label's key"},
            {HEAD "spec:\n  egress:\n  - to:\n    - ipBlock:\n        cidr: 10.0.0.0/8\n"
                  "        except:\n        - 10.1.0.0/16\n        - 11.0.0.0/16\n",
             "f:11:11: 11.0.0.0/16 is not a part of cidr 10.0.0.0/8"},
            {HEAD "spec: {}\n---\n---\n" HEAD "spec: 1\n",
             "f:10:7: spec has to be an object, and is a number"},
        };
        struct policy_list list;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r = parse(bad[i].text, &list);

                if (r != -EINVAL || strncmp(formatted(), bad[i].says, strlen(bad[i].says)) != 0)
                        fail_msg("%s: %d %s", bad[i].text, r, formatted());
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_scalars),    cmocka_unit_test(test_bad_yaml),
            cmocka_unit_test(test_bounds),     cmocka_unit_test(test_several),
            cmocka_unit_test(test_documented), cmocka_unit_test(test_twice),
            cmocka_unit_test(test_places),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
