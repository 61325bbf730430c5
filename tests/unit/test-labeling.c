// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/macro.h"
#include "shared/labeling.h"
#include "shared/rpc.h"

static json_t *json(const char *text)
{
        json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);

        assert_non_null(j);
        return j;
}

static void test_check(void **state)
{
        static const struct {
                const char *labels;
                bool of_network;
                const char *problem; /* NULL: they are fine */
        } cases[] = {
            {"{}", false, NULL},
            {"{\"app\": \"web\", \"example.com/tier\": \"\"}", false, NULL},
            {"{\"kubernetes.io/metadata.name\": \"x\"}", false, NULL},
            {"{\"kubernetes.io/metadata.name\": \"x\"}", true, "Slim's own"},
            {"{\"slim.io/kind\": \"host\"}", false, "Slim's own"},
            {"{\"slim.io/host\": \"h1\"}", false, "Slim's own"},
            {"{\"slim.io/anything\": \"\"}", true, "Slim's own"},
            {"{\"slim.iox/kind\": \"host\"}", false, NULL},
            {"{\"-app\": \"web\"}", false, "\"-app\" is not a label's key"},
            {"{\"app\": \"a b\"}", false, "\"a b\" is not a label's value"},
            {"{\"app\": 7}", false, "not a text"},
            {"[]", false, "not an object"},
            {"null", true, "not an object"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_json_ json_t *labels = json(cases[i].labels);
                char problem[LABELING_PROBLEM_MAX] = "";
                int r = labeling_check(labels, cases[i].of_network, problem);

                if (r != (cases[i].problem ? -EINVAL : 0) ||
                    !strstr(problem, cases[i].problem ?: ""))
                        fail_msg("%s: %d, %s", cases[i].labels, r, problem);
        }
        assert_int_equal(labeling_check(NULL, false, NULL), 0);
}

static void test_change(void **state)
{
        static const struct {
                const char *labels, *set, *remove;
                const char *after; /* NULL: refused with … */
                const char *problem;
        } cases[] = {
            {"{\"a\": \"1\"}", "{\"b\": \"2\"}", "[]", "{\"a\": \"1\", \"b\": \"2\"}", NULL},
            {"{\"a\": \"1\"}", "{\"a\": \"2\"}", "[]", "{\"a\": \"2\"}", NULL},
            {"{\"a\": \"1\", \"b\": \"2\"}", "{}", "[\"a\"]", "{\"b\": \"2\"}", NULL},
            {"{\"a\": \"1\"}", "{\"b\": \"\"}", "[\"a\"]", "{\"b\": \"\"}", NULL},
            {"{\"a\": \"1\"}", "{}", "[\"a\"]", "null", NULL},
            {"{\"a\": \"1\"}", "{}", "[\"not.there\"]", "{\"a\": \"1\"}", NULL},
            {"{}", "{}", "[]", "null", NULL},
            {"{}", "{\"a\": \"1\"}", "[\"a\"]", NULL, "both set and removed"},
            {"{}", "{\"slim.io/kind\": \"host\"}", "[]", NULL, "cannot be given"},
            {"{}", "{}", "[\"slim.io/kind\"]", NULL, "cannot be removed"},
            {"{}", "{}", "[\"\"]", NULL, "not a label's key"},
            {"{}", "{}", "[7]", NULL, "no text"},
            {"{}", "{}", "{}", NULL, "not an array"},
            {"{}", "[]", "[]", NULL, "not an object"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                _cleanup_json_ json_t *labels = json(cases[i].labels), *set = json(cases[i].set),
                                      *remove = json(cases[i].remove), *before = json_copy(labels),
                                      *after = NULL, *ret = NULL;
                char problem[LABELING_PROBLEM_MAX] = "";
                int r = labeling_change(labels, set, remove, true, &ret, problem);

                assert_true(json_equal(labels, before));
                if (!cases[i].after) {
                        if (r != -EINVAL || !strstr(problem, cases[i].problem))
                                fail_msg("%zu: %d, %s", i, r, problem);
                        assert_null(ret);
                        continue;
                }
                assert_int_equal(r, 0);
                after = json(cases[i].after);
                assert_true(json_is_null(after) ? !ret : json_equal(ret, after));
        }
}

/* Each is right, and they are more than fit. */
static void test_change_too_many(void **state)
{
        _cleanup_json_ json_t *labels = json_object(), *set = json("{\"one-more\": \"\"}"),
                              *ret = NULL;
        char problem[LABELING_PROBLEM_MAX], key[16];

        for (int i = 0; i < LABELS_MAX; i++) {
                snprintf(key, sizeof(key), "k%d", i);
                json_object_set_new(labels, key, json_string(""));
        }
        assert_int_equal(labeling_check(labels, false, problem), 0);
        assert_int_equal(labeling_change(labels, set, NULL, false, &ret, problem), -E2BIG);
        assert_int_equal(labeling_change(NULL, set, NULL, false, &ret, problem), 0);
        assert_true(json_equal(ret, set));
}

static void test_words(void **state)
{
        _cleanup_json_ json_t *set = json_object(), *remove = json_array(),
                              *want_set = json("{\"app\": \"web\", \"a/b\": \"\"}"),
                              *want_remove = json("[\"tier\", \"example.com/x\"]");
        static const char *const good[] = {"app=web", "tier-", "a/b=", "example.com/x-"};
        static const struct {
                const char *word;
                int r;
                const char *problem;
        } bad[] = {
            {"", -EINVAL, "KEY=VALUE"},     {"-", -EINVAL, "KEY=VALUE"},
            {"app", -EINVAL, "KEY=VALUE"},  {"=web", -EINVAL, "key"},
            {"app=-web", -EINVAL, "value"}, {"app=db", -EEXIST, "given twice"},
            {"a b-", -EINVAL, "key"},       {"slim.io/kind-", -EINVAL, "cannot be removed"},
        };
        char problem[LABELING_PROBLEM_MAX];

        /* No value ends in "-": nobody takes one for the other. */
        assert_int_equal(labeling_change_add(set, remove, "app=web-", problem), -EINVAL);
        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_int_equal(labeling_change_add(set, remove, good[i], problem), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r = labeling_change_add(set, remove, bad[i].word, problem);

                if (r != bad[i].r || !strstr(problem, bad[i].problem))
                        fail_msg("%s: %d, %s", bad[i].word, r, problem);
        }
        assert_true(json_equal(set, want_set));
        assert_true(json_equal(remove, want_remove));
}

static void test_named_ports(void **state)
{
        static const struct {
                const char *text;
                int r;
                const char *problem;
        } bad[] = {
            {"http", -EINVAL, "NAME=NUMBER"},
            {"=80", -EINVAL, "not a port's name"},
            {"HTTP=80", -EINVAL, "not a port's name"},
            {"80=80", -EINVAL, "not a port's name"},
            {"sixteen-letters-x=80", -EINVAL, "not a port's name"},
            {"x=", -EINVAL, "\"\" is not NUMBER"},
            {"x=0", -EINVAL, "65535"},
            {"x=65536", -EINVAL, "65535"},
            {"x=123456789", -EINVAL, "65535"},
            {"x=80/icmp", -EINVAL, "tcp, udp or sctp"},
            {"x=80/", -EINVAL, "tcp, udp or sctp"},
            {"dns=54", -EEXIST, "given twice"},
        };
        _cleanup_json_ json_t *object = NULL,
                              *want = json("{\"http\": \"8080/tcp\", \"dns\": \"53/udp\", "
                                           "\"s\": \"65535/sctp\"}");
        struct named_ports list = {}, back;
        char problem[LABELING_PROBLEM_MAX];

        assert_null(named_ports_to_json(&list));
        assert_int_equal(named_ports_add(&list, "http=8080", problem), 0);
        assert_int_equal(named_ports_add(&list, "dns=53/udp", problem), 0);
        assert_int_equal(named_ports_add(&list, "s=65535/sctp", problem), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                int r = named_ports_add(&list, bad[i].text, problem);

                if (r != bad[i].r || !strstr(problem, bad[i].problem))
                        fail_msg("%s: %d, %s", bad[i].text, r, problem);
        }
        assert_int_equal(list.n, 3);
        object = named_ports_to_json(&list);
        assert_true(json_equal(object, want));
        assert_int_equal(named_ports_from_json(object, &back, problem), 0);
        assert_int_equal(back.n, 3);
        for (size_t i = 0; i < back.n; i++) {
                assert_string_equal(back.v[i].name, list.v[i].name);
                assert_int_equal(back.v[i].port, list.v[i].port);
                assert_int_equal(back.v[i].protocol, list.v[i].protocol);
        }
        assert_int_equal(list.v[1].protocol, IPPROTO_UDP);
}

static void test_named_ports_json_bad(void **state)
{
        static const char *const bad[] = {"[]", "null", "{\"http\": 80}", "{\"http\": \"x\"}",
                                          "{\"Http\": \"80\"}"};
        char problem[LABELING_PROBLEM_MAX], name[16];
        _cleanup_json_ json_t *many = json_object();
        struct named_ports ret = {.n = 7};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_json_ json_t *j = json(bad[i]);

                if (named_ports_from_json(j, &ret, problem) != -EINVAL)
                        fail_msg("took %s", bad[i]);
        }
        for (int i = 0; i <= POLICY_NAMED_PORTS_MAX; i++) {
                snprintf(name, sizeof(name), "p%d", i);
                json_object_set_new(many, name, json_string("80"));
        }
        assert_int_equal(named_ports_from_json(many, &ret, problem), -E2BIG);
        assert_int_equal(ret.n, 7);
        json_object_del(many, "p0");
        assert_int_equal(named_ports_from_json(many, &ret, problem), 0);
        assert_int_equal(ret.n, POLICY_NAMED_PORTS_MAX);
        assert_int_equal(named_ports_from_json(NULL, &ret, problem), 0);
        assert_int_equal(ret.n, 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_check),       cmocka_unit_test(test_change),
            cmocka_unit_test(test_words),       cmocka_unit_test(test_change_too_many),
            cmocka_unit_test(test_named_ports), cmocka_unit_test(test_named_ports_json_bad),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
