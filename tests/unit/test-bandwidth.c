// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <inttypes.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "shared/bandwidth.h"
#include "shared/rpc.h"

static json_t *json(const char *text)
{
        json_t *j = json_loads(text, JSON_DECODE_ANY, NULL);

        assert_non_null(j);
        return j;
}

static void test_rates(void **state)
{
        static const struct {
                const char *text;
                uint64_t rate;
        } good[] = {
            {"1000", 1000},           {"1k", 1000},           {"750k", 750000},
            {"10M", 10000000},        {"1.5G", 1500000000},   {"0.001M", 1000},
            {".5M", 500000},          {"5.M", 5000000},       {"2T", 2000000000000},
            {"1P", 1000000000000000}, {"64Ki", 65536},        {"10Mi", 10485760},
            {"1Gi", 1073741824},      {"1Ti", 1099511627776}, {"1.0000005G", 1000000500},
        };
        static const struct {
                const char *text;
                int error;
        } bad[] = {
            {"", -EINVAL},
            {"k", -EINVAL},
            {".", -EINVAL},
            {"1..5M", -EINVAL},
            {"-1M", -EINVAL},
            {"+1M", -EINVAL},
            {" 1M", -EINVAL},
            {"1M ", -EINVAL},
            {"1 M", -EINVAL},
            {"1m", -EINVAL},
            {"10mbit", -EINVAL},
            {"1e6", -EINVAL},
            {"1K", -EINVAL},
            {"1KM", -EINVAL},
            {"0x10", -EINVAL},
            {"none", -EINVAL},
            {"1E", -EINVAL},
            {"1Pi", -EINVAL},
            {"0", -ERANGE},
            {"999", -ERANGE},
            {"0.9k", -ERANGE},
            {"1.1P", -ERANGE},
            {"2000000G", -ERANGE},
            {"999999999999999999T", -ERANGE},
            {"9999999999999999999", -EINVAL},
        };
        char problem[LIMITS_PROBLEM_MAX];
        uint64_t rate;

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                if (limits_parse_rate(good[i].text, &rate, problem) != 0 || rate != good[i].rate)
                        fail_msg("%s: %" PRIu64, good[i].text, rate);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                problem[0] = '\0';
                if (limits_parse_rate(bad[i].text, &rate, problem) != bad[i].error || !problem[0])
                        fail_msg("took \"%s\"", bad[i].text);
        }
}

static void test_classes(void **state)
{
        static const struct {
                const char *text;
                uint8_t dscp;
        } good[] = {{"0", 0},    {"63", 63}, {"EF", 46}, {"ef", 46}, {"AF11", 10}, {"af43", 38},
                    {"CS7", 56}, {"VA", 44}, {"LE", 1},  {"DF", 0},  {"CS0", 0}};
        static const char *const bad[] = {"",    "64",  "-1",   "AF44", "AF1",
                                          "CS8", "EFF", "0x2e", "none"};
        static const char *const bad_priority[] = {"", "16", "-1", "x", "none"};
        char problem[LIMITS_PROBLEM_MAX];
        uint8_t v;

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                assert_int_equal(limits_parse_dscp(good[i].text, &v, problem), 0);
                assert_int_equal(v, good[i].dscp);
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_int_equal(limits_parse_dscp(bad[i], &v, problem), -EINVAL);
        assert_int_equal(limits_parse_priority("0", &v, problem), 0);
        assert_int_equal(limits_parse_priority("15", &v, problem), 0);
        assert_int_equal(v, 15);
        for (size_t i = 0; i < ARRAY_SIZE(bad_priority); i++)
                assert_int_equal(limits_parse_priority(bad_priority[i], &v, problem), -EINVAL);
}

static void test_json(void **state)
{
        _cleanup_json_ json_t *all =
            json("{\"egress\": 1000, \"ingress\": 1000000000000000, \"dscp\": 0, \"priority\": 0}");
        static const char *const bad[] = {
            "[]",
            "{\"egress\": \"10M\"}",
            "{\"egress\": 1.5}",
            "{\"egress\": 999}",
            "{\"egress\": -1}",
            "{\"ingress\": 1000000000000001}",
            "{\"dscp\": 64}",
            "{\"dscp\": -1}",
            "{\"priority\": 16}",
            "{\"priority\": true}",
            "{\"burst\": 1000}",
        };
        struct limits l = {}, none = {};
        char problem[LIMITS_PROBLEM_MAX];
        _cleanup_json_ json_t *back = NULL;

        assert_int_equal(limits_from_json(NULL, &l, problem), 0);
        assert_true(limits_are_none(&l));
        assert_null(limits_to_json(&l));
        assert_int_equal(limits_from_json(all, &l, problem), 0);
        assert_false(limits_are_none(&l));
        assert_int_equal(l.rate[SLIM_POLICY_EGRESS], 1000);
        assert_int_equal(l.rate[SLIM_POLICY_INGRESS], 1000000000000000);
        assert_true(l.has_dscp && l.has_priority);
        assert_false(limits_equal(&l, &none));
        back = limits_to_json(&l);
        assert_true(json_equal(back, all));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_json_ json_t *j = json(bad[i]);
                struct limits was = l;

                problem[0] = '\0';
                if (limits_from_json(j, &l, problem) >= 0 || !problem[0])
                        fail_msg("took %s", bad[i]);
                assert_true(limits_equal(&l, &was));
        }
}

static void test_change(void **state)
{
        static const struct {
                const char *set, *remove, *after; /* after: NULL is refused */
        } cases[] = {
            {"{}", "[]", "{\"egress\": 5000, \"dscp\": 46}"},
            {"{\"egress\": 6000}", NULL, "{\"egress\": 6000, \"dscp\": 46}"},
            {"{\"ingress\": 6000}", "[\"egress\"]", "{\"ingress\": 6000, \"dscp\": 46}"},
            {NULL, "[\"dscp\", \"priority\"]", "{\"egress\": 5000}"},
            {NULL, "[\"egress\", \"dscp\", \"ingress\"]", "null"},
            {"{\"egress\": 6000}", "[\"egress\"]", NULL},
            {NULL, "[\"burst\"]", NULL},
            {NULL, "[7]", NULL},
            {NULL, "{}", NULL},
            {"[]", NULL, NULL},
            {"{\"egress\": 6000, \"dscp\": 99}", NULL, NULL},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct limits l = {.rate[SLIM_POLICY_EGRESS] = 5000, .has_dscp = true, .dscp = 46};
                struct limits before = l;
                _cleanup_json_ json_t *set = cases[i].set ? json(cases[i].set) : NULL;
                _cleanup_json_ json_t *remove = cases[i].remove ? json(cases[i].remove) : NULL;
                _cleanup_json_ json_t *after = NULL, *is = NULL;
                char problem[LIMITS_PROBLEM_MAX] = "";
                int r = limits_change(&l, set, remove, problem);

                if (!cases[i].after) {
                        if (r >= 0 || !problem[0] || !limits_equal(&l, &before))
                                fail_msg("case %zu was taken", i);
                        continue;
                }
                assert_int_equal(r, 0);
                after = json(cases[i].after);
                is = limits_to_json(&l) ?: json_null();
                if (!json_equal(is, after))
                        fail_msg("case %zu", i);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_rates),
            cmocka_unit_test(test_classes),
            cmocka_unit_test(test_json),
            cmocka_unit_test(test_change),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
