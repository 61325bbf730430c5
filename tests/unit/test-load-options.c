/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "basic/macro.h"

static int nothing(const struct options *o)
{
        return 0;
}

static const struct verb verbs[] = {
    {"serve", true, "", {}, nothing, ""},
    {"many", true, "ports", {.ports = 7}, nothing, ""},
    {"ask", false, "count rate size path close", {.count = 5, .path = "/"}, nothing, ""},
    {"flood", false, "kind from client network", {.kind = "none", .family6 = true}, nothing, ""},
    {},
};

#define WORDS_MAX 16

static int parse(const char *line, const struct verb **ret_verb, struct options *ret, char *problem)
{
        /* The options point into it, until the next line. */
        static char buf[256];
        char *save = NULL, *argv[WORDS_MAX];
        int argc = 0;

        assert_true(strlen(line) < sizeof(buf));
        strcpy(buf, line);
        for (char *w = strtok_r(buf, " ", &save); w && argc < WORDS_MAX;
             w = strtok_r(NULL, " ", &save))
                argv[argc++] = w;
        memset(problem, 0, OPTIONS_PROBLEM_MAX);
        return options_parse(verbs, argc, argv, ret_verb, ret, problem);
}

static void test_what_is_given(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const struct verb *verb = NULL;
        struct options o;

        assert_int_equal(parse("ask 10.0.0.1 80 --count 9 --close --path /a", &verb, &o, problem),
                         0);
        assert_ptr_equal(verb, &verbs[2]);
        assert_string_equal(o.address, "10.0.0.1");
        assert_int_equal(o.port, 80);
        assert_int_equal(o.count, 9);
        assert_string_equal(o.path, "/a");
        assert_true(o.close);
}

static void test_defaults(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const struct verb *verb = NULL;
        struct options o;

        assert_int_equal(parse("ask 10.0.0.1 80", &verb, &o, problem), 0);
        assert_int_equal(o.count, 5);
        assert_int_equal(o.rate, 0);
        assert_string_equal(o.path, "/");
        assert_false(o.close);
        assert_int_equal(parse("many --ports 3 1", &verb, &o, problem), 0);
        assert_int_equal(o.ports, 3);
        assert_int_equal(o.port, 1);
        assert_null(o.address);
        assert_int_equal(parse("serve 65535", &verb, &o, problem), 0);
        assert_ptr_equal(verb, &verbs[0]);
        assert_int_equal(o.port, 65535);
}

static void test_a_flood(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const struct verb *verb = NULL;
        struct options o;

        assert_int_equal(parse("flood 2001:db8::1 61440 --kind valid --from 2001:db8:1::/48 "
                               "--client 4294967295",
                               &verb, &o, problem),
                         0);
        assert_string_equal(o.address, "2001:db8::1");
        assert_string_equal(o.kind, "valid");
        assert_string_equal(o.from, "2001:db8:1::/48");
        assert_int_equal(o.client, UINT32_MAX);
        assert_int_equal(parse("flood 10.0.0.1 1", &verb, &o, problem), 0);
        assert_string_equal(o.kind, "none");
        assert_null(o.from);
}

static void test_what_is_wrong(void **state)
{
        static const char *const lines[][2] = {
            {"", "a verb is missing"},
            {"sing 80", "there is no verb \"sing\""},
            {"serve", "serve takes PORT"},
            {"serve 80 81", "serve takes no \"81\""},
            {"serve 0", "\"0\" is no port"},
            {"serve 65536", "\"65536\" is no port"},
            {"serve 8o", "\"8o\" is no port"},
            {"serve 80 --count 1", "serve takes no \"--count\""},
            {"serve --", "serve takes no \"--\""},
            {"ask 80", "ask takes ADDRESS PORT"},
            {"ask localhost 80", "\"localhost\" is no IPv4 address"},
            {"ask ::1 80", "\"::1\" is no IPv4 address"},
            {"ask 10.0.0.1 80 --count", "--count needs a value"},
            {"ask 10.0.0.1 80 --count 0", "--count: \"0\" is no number from 1 to 10000000"},
            {"ask 10.0.0.1 80 --count -1", "--count: \"-1\" is no number from 1 to 10000000"},
            {"ask 10.0.0.1 80 --coun 1", "ask takes no \"--coun\""},
            {"ask 10.0.0.1 80 --path x", "--path: \"x\" is no path"},
            {"ask 10.0.0.1 80 -c", "ask takes no \"-c\""},
            {"ask 10.0.0.1 80 --from 10.0.0.0/8", "ask takes no \"--from\""},
            {"flood ::g 80", "\"::g\" is no address"},
            {"flood ::1 80 --kind vali", "--kind: \"vali\" is no kind of flood"},
            {"flood ::1 80 --from 10.0.0.1/8", "--from: \"10.0.0.1/8\" is no prefix of addresses"},
            {"flood ::1 80 --client 4294967296",
             "--client: \"4294967296\" is no number from 0 to 4294967295"},
            {"flood ::1 80 --network 16777216",
             "--network: \"16777216\" is no number from 0 to 16777215"},
        };
        char problem[OPTIONS_PROBLEM_MAX];
        const struct verb *verb;
        struct options o;

        for (size_t i = 0; i < ARRAY_SIZE(lines); i++) {
                assert_int_equal(parse(lines[i][0], &verb, &o, problem), -EINVAL);
                assert_string_equal(problem, lines[i][1]);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_what_is_given),
            cmocka_unit_test(test_defaults),
            cmocka_unit_test(test_a_flood),
            cmocka_unit_test(test_what_is_wrong),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
