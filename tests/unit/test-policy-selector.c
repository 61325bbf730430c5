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
#include "policy/selector.h"

/* "a=1 b=2" */
static struct labels labels_of(const char *text)
{
        char problem[LABEL_PROBLEM_MAX], copy[128], *save = NULL;
        struct labels l = {};

        strcpy(copy, text);
        for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
                assert_int_equal(labels_add_text(&l, t, problem), 0);
        return l;
}

static bool matches(const struct selector *s, const char *text)
{
        struct labels l = labels_of(text);
        bool yes = selector_matches(s, &l);

        labels_clear(&l);
        return yes;
}

static void test_names(void **state)
{
        static const char *const names[] = {"In", "NotIn", "Exists", "DoesNotExist"};

        for (unsigned int i = 0; i < SELECTOR_OPERATOR_MAX; i++) {
                assert_string_equal(selector_operator_name((enum selector_operator)i), names[i]);
                assert_int_equal(selector_operator_by_name(names[i]), i);
        }
        assert_int_equal(selector_operator_by_name("in"), SELECTOR_OPERATOR_MAX);
        assert_int_equal(selector_operator_by_name(""), SELECTOR_OPERATOR_MAX);
}

static void test_operators(void **state)
{
        static const char *const values[] = {"2", "1", "2"};
        static const struct {
                enum selector_operator op;
                bool one, three, none;
        } cases[] = {
            {SELECTOR_IN, true, false, false},
            {SELECTOR_NOT_IN, false, true, true},
            {SELECTOR_EXISTS, true, true, false},
            {SELECTOR_DOES_NOT_EXIST, false, false, true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct selector s = {};
                bool listed = cases[i].op == SELECTOR_IN || cases[i].op == SELECTOR_NOT_IN;

                assert_int_equal(selector_add(&s, "k", cases[i].op, values, listed ? 3 : 0), 0);
                assert_int_equal(s.v[0].n_values, listed ? 2 : 0); /* each once */
                assert_int_equal(matches(&s, "a=9 k=1 z=9"), cases[i].one);
                assert_int_equal(matches(&s, "k=3"), cases[i].three);
                assert_int_equal(matches(&s, "a=1 z=2"), cases[i].none);
                assert_int_equal(matches(&s, ""), cases[i].none);
                selector_clear(&s);
        }
}

/* What the compiler makes of a value that no operator is. */
static void test_no_operator(void **state)
{
        struct requirement r = {.key = (char *)"k", .op = SELECTOR_OPERATOR_MAX};
        struct selector s = {1, &r};

        assert_false(matches(&s, "k=1"));
}

static void test_all(void **state)
{
        static const char *const one[] = {"1"};
        struct selector s = {};

        assert_true(matches(&s, ""));
        assert_true(matches(&s, "a=1"));
        assert_int_equal(selector_add(&s, "b", SELECTOR_EXISTS, NULL, 0), 0);
        assert_int_equal(selector_add(&s, "a", SELECTOR_IN, one, 1), 0);
        assert_true(matches(&s, "a=1 b=x"));
        assert_false(matches(&s, "a=1"));
        assert_false(matches(&s, "a=2 b=x"));
        selector_clear(&s);
}

/* In whatever order they come, they are in one. */
static void test_sorted(void **state)
{
        static const char *const v1[] = {"1"}, *const v2[] = {"2"}, *const v12[] = {"2", "1"};
        struct selector s = {};

        assert_int_equal(selector_add(&s, "k", SELECTOR_EXISTS, NULL, 0), 0);
        assert_int_equal(selector_add(&s, "k", SELECTOR_IN, v2, 1), 0);
        assert_int_equal(selector_add(&s, "k", SELECTOR_IN, v12, 2), 0);
        assert_int_equal(selector_add(&s, "k", SELECTOR_IN, v1, 1), 0);
        assert_int_equal(selector_add(&s, "k", SELECTOR_NOT_IN, v1, 1), 0);
        assert_int_equal(selector_add(&s, "a", SELECTOR_EXISTS, NULL, 0), 0);
        assert_string_equal(s.v[0].key, "a");
        assert_int_equal(s.v[1].op, SELECTOR_IN);
        assert_int_equal(s.v[1].n_values, 1);
        assert_int_equal(s.v[2].n_values, 2);
        assert_string_equal(s.v[3].values[0], "2");
        assert_int_equal(s.v[4].op, SELECTOR_NOT_IN);
        assert_int_equal(s.v[5].op, SELECTOR_EXISTS);
        selector_clear(&s);
}

static void test_requires(void **state)
{
        static const char *const host[] = {"host"}, *const two[] = {"host", "x"};
        struct selector s = {};

        assert_false(selector_requires(&s, "kind", "host"));
        assert_int_equal(selector_add(&s, "kind", SELECTOR_IN, two, 2), 0);
        assert_int_equal(selector_add(&s, "kind", SELECTOR_EXISTS, NULL, 0), 0);
        assert_int_equal(selector_add(&s, "kind", SELECTOR_NOT_IN, host, 1), 0);
        assert_int_equal(selector_add(&s, "other", SELECTOR_IN, host, 1), 0);
        assert_false(selector_requires(&s, "kind", "host"));
        assert_int_equal(selector_add(&s, "kind", SELECTOR_IN, host, 1), 0);
        assert_true(selector_requires(&s, "kind", "host"));
        assert_false(selector_requires(&s, "kind", "x"));
        selector_clear(&s);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_names),       cmocka_unit_test(test_operators),
            cmocka_unit_test(test_no_operator), cmocka_unit_test(test_all),
            cmocka_unit_test(test_sorted),      cmocka_unit_test(test_requires),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
