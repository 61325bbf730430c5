/* SPDX-License-Identifier: Apache-2.0 */
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
#include "policy/labels.h"

static char problem[LABEL_PROBLEM_MAX];

/* n times a character; the last of several results is overwritten by the next but one. */
static const char *times(char c, size_t n)
{
        static char buf[2][512];
        static unsigned int which;

        which = !which;
        assert_true(n < sizeof(buf[0]));
        memset(buf[which], c, n);
        buf[which][n] = '\0';
        return buf[which];
}

static void test_keys(void **state)
{
        static const char *const good[] = {"a",         "A",   "0",        "app",
                                           "App_1.x-y", "a/b", "x1/y_.-z", "slim.io/kind"};
        static const char *const bad[] = {
            "",    "-a",    "a-",     "_a",   "a.",   ".a",   "a b",    "a/",     "/a", "a/b/c",
            "A/b", "a_b/c", "a..b/c", "a./b", "-a/b", "a-/b", "a.-b/c", "a-.b/c", "ä",  "a\nb"};
        char key[LABEL_KEY_MAX + 8];

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(label_key_is_valid(good[i]));
        assert_false(label_key_is_valid("a.b/C."));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (label_key_is_valid(bad[i]))
                        fail_msg("\"%s\" is taken for a key", bad[i]);
        assert_true(label_key_is_valid(times('a', 63)));
        assert_false(label_key_is_valid(times('a', 64)));
        snprintf(key, sizeof(key), "%s/%s", times('a', 253), times('b', 63));
        assert_true(label_key_is_valid(key));
        snprintf(key, sizeof(key), "%s/b", times('a', 254));
        assert_false(label_key_is_valid(key));
}

static void test_values(void **state)
{
        static const char *const good[] = {"", "a", "A.b-c_D", "0", "1.2.3"};
        static const char *const bad[] = {"-", "a-", ".a", "a b", "a/b", "é", " "};

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(label_value_is_valid(good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(label_value_is_valid(bad[i]));
        assert_true(label_value_is_valid(times('a', 63)));
        assert_false(label_value_is_valid(times('a', 64)));
}

static void test_subdomains(void **state)
{
        assert_true(subdomain_is_valid("a"));
        assert_true(subdomain_is_valid("a-1.b"));
        assert_true(subdomain_is_valid(times('a', 253)));
        assert_false(subdomain_is_valid(times('a', 254)));
        assert_false(subdomain_is_valid(""));
        assert_false(subdomain_is_valid("A"));
        assert_false(subdomain_is_valid("a..b"));
        assert_false(subdomain_is_valid("a."));
        assert_false(subdomain_is_valid(".a"));
        assert_false(subdomain_is_valid("a-.b"));
        assert_false(subdomain_is_valid("a/b"));
}

static void test_set(void **state)
{
        struct labels l = {}, copy;

        assert_int_equal(labels_add_text(&l, "b=2", problem), 0);
        assert_int_equal(labels_add_text(&l, "a=", problem), 0);
        assert_int_equal(labels_add(&l, "example.com/c", "x", problem), 0);
        assert_int_equal(l.n, 3);
        assert_string_equal(l.v[0].key, "a");
        assert_string_equal(l.v[1].key, "b");
        assert_string_equal(labels_get(&l, "a"), "");
        assert_string_equal(labels_get(&l, "b"), "2");
        assert_string_equal(labels_get(&l, "example.com/c"), "x");
        assert_null(labels_get(&l, "c"));
        assert_null(labels_get(&(struct labels){}, "c"));

        assert_int_equal(labels_copy(&l, &copy), 0);
        assert_true(labels_equal(&l, &copy));
        assert_int_equal(labels_add_text(&copy, "d=1", problem), 0);
        assert_false(labels_equal(&l, &copy));
        labels_clear(&copy);
        assert_int_equal(labels_add_text(&copy, "a=", problem), 0);
        assert_int_equal(labels_add_text(&copy, "b=3", problem), 0);
        assert_int_equal(labels_add_text(&copy, "example.com/c=x", problem), 0);
        assert_false(labels_equal(&l, &copy)); /* another value */
        labels_clear(&copy);
        assert_int_equal(labels_add_text(&copy, "a=", problem), 0);
        assert_int_equal(labels_add_text(&copy, "bb=2", problem), 0);
        assert_int_equal(labels_add_text(&copy, "example.com/c=x", problem), 0);
        assert_false(labels_equal(&l, &copy)); /* another key */
        labels_clear(&copy);
        labels_clear(&l);
}

static void test_refusals(void **state)
{
        static const struct {
                const char *text, *says;
                int r;
        } bad[] = {
            {"a", "\"a\" is not a label: it is KEY=VALUE", -EINVAL},
            {"", "it is KEY=VALUE", -EINVAL},
            {"=b", "\"\" is not a label's key", -EINVAL},
            {"a b=c", "\"a b\" is not a label's key", -EINVAL},
            {"a=b c", "\"b c\" is not a label's value", -EINVAL},
            {"a=b=c", "\"b=c\" is not a label's value", -EINVAL},
            {"x=2", "the label \"x\" is given twice", -EEXIST},
        };
        struct labels l = {};
        char text[512];

        assert_int_equal(labels_add_text(&l, "x=1", problem), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                assert_int_equal(labels_add_text(&l, bad[i].text, problem), bad[i].r);
                if (!strstr(problem, bad[i].says))
                        fail_msg("%s: %s", bad[i].text, problem);
        }
        snprintf(text, sizeof(text), "%s=", times('a', LABEL_KEY_MAX + 1));
        assert_int_equal(labels_add_text(&l, text, problem), -EINVAL);
        for (unsigned int i = 1; i < LABELS_MAX; i++) {
                snprintf(text, sizeof(text), "k%u=v", i);
                assert_int_equal(labels_add_text(&l, text, problem), 0);
        }
        assert_int_equal(labels_add_text(&l, "more=v", problem), -E2BIG);
        assert_non_null(strstr(problem, "more than 64"));
        assert_int_equal(l.n, LABELS_MAX);
        labels_clear(&l);
}

static void test_json(void **state)
{
        struct labels l = {}, again;
        json_t *json;

        assert_int_equal(labels_add_text(&l, "b=2", problem), 0);
        assert_int_equal(labels_add_text(&l, "a=1", problem), 0);
        json = labels_to_json(&l);
        assert_int_equal(labels_from_json(json, &again, problem), 0);
        assert_true(labels_equal(&l, &again));
        labels_clear(&again);
        json_object_set_new(json, "c", json_integer(1));
        assert_int_equal(labels_from_json(json, &again, problem), -EINVAL);
        assert_string_equal(problem, "the value of the label \"c\" is not a text");
        json_object_set_new(json, "c", json_stringn("a\0b", 3));
        assert_int_equal(labels_from_json(json, &again, problem), -EINVAL);
        json_object_set_new(json, "c", json_string("?"));
        assert_int_equal(labels_from_json(json, &again, problem), -EINVAL);
        json_decref(json);
        json = json_array();
        assert_int_equal(labels_from_json(json, &again, problem), -EINVAL);
        assert_string_equal(problem, "labels are not an object");
        json_decref(json);
        assert_int_equal(labels_from_json(NULL, &again, problem), 0);
        assert_int_equal(again.n, 0);
        labels_clear(&l);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_keys),       cmocka_unit_test(test_values),
            cmocka_unit_test(test_subdomains), cmocka_unit_test(test_set),
            cmocka_unit_test(test_refusals),   cmocka_unit_test(test_json),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
