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
#include "policy/policy.h"

static struct inaddr_prefix prefix(const char *text)
{
        struct inaddr_prefix p;

        assert_int_equal(inaddr_prefix_parse(text, &p), 0);
        return p;
}

static bool covered(const struct port_prefix *v, size_t n, uint32_t port)
{
        for (size_t i = 0; i < n; i++)
                if ((port & (0xffff0000U >> v[i].bits)) == v[i].port)
                        return true;
        return false;
}

static void check_range(uint16_t first, uint16_t last, size_t expected)
{
        struct port_prefix v[PORT_PREFIXES_MAX];
        size_t n = policy_port_prefixes(first, last, v);

        assert_int_equal(n, expected);
        for (uint32_t port = 0; port <= UINT16_MAX; port++)
                assert_int_equal(covered(v, n, port), port >= first && port <= last);
}

static void test_ports(void **state)
{
        check_range(80, 80, 1);
        check_range(65535, 65535, 1);
        check_range(0, 65535, 1);
        check_range(1, 65535, 16);
        check_range(1, 65534, PORT_PREFIXES_MAX);
        check_range(1000, 2000, 8);
        check_range(32768, 65535, 1);
        check_range(1024, 65535, 6);
}

static void test_prefixes(void **state)
{
        static const struct {
                const char *outer, *inner;
                bool contains;
        } cases[] = {
            {"10.0.0.0/8", "10.1.0.0/16", true},  {"10.0.0.0/8", "10.0.0.0/8", true},
            {"10.1.0.0/16", "10.0.0.0/8", false}, {"10.0.0.0/8", "11.0.0.0/16", false},
            {"0.0.0.0/0", "10.0.0.0/8", true},    {"::/0", "fd00::/8", true},
            {"::/0", "10.0.0.0/8", false},        {"::/0", "0.0.0.0/0", false},
            {"0.0.0.0/0", "::/0", false},         {"::/64", "10.0.0.1/32", false},
            {"::/64", "::1/128", true},           {"fd00::/8", "10.0.0.0/8", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct inaddr_prefix outer = prefix(cases[i].outer), inner = prefix(cases[i].inner);

                if (policy_prefix_contains(&outer, &inner) != cases[i].contains)
                        fail_msg("%s in %s", cases[i].inner, cases[i].outer);
        }
}

static void test_block(void **state)
{
        struct inaddr_prefix except[] = {prefix("10.1.0.0/16"), prefix("10.2.0.0/16")};
        struct policy_block b = {prefix("10.0.0.0/8"), ARRAY_SIZE(except), except};
        struct inaddr_prefix p = prefix("10.3.0.0/16");

        assert_true(policy_block_contains(&b, &p));
        assert_true(policy_block_contains(&b, &b.cidr));
        assert_false(policy_block_contains(&b, &except[1]));
        p = prefix("10.1.2.3/32");
        assert_false(policy_block_contains(&b, &p));
        p = prefix("11.0.0.0/8");
        assert_false(policy_block_contains(&b, &p));
}

static void test_expanded(void **state)
{
        struct inaddr_prefix except[2] = {};
        struct policy_peer peers[] = {
            {.is_block = true, .block = {.n_except = 2, .except = except}},
            {.is_block = false},
        };
        struct policy_port ports[] = {
            {.protocol = IPPROTO_TCP, .first = 1, .last = 65534},
            {.protocol = IPPROTO_TCP, .name = "web"},
            {.protocol = IPPROTO_UDP},
        };
        struct policy_rule rules[] = {{2, peers, 3, ports}, {0, NULL, 3, ports}, {}};
        struct policy p = {.rules = {{1, rules}, {3, rules}}};

        assert_int_equal(policy_expanded(&p), 4 * 32 + 4 * 32 + 32 + 1);
        assert_int_equal(policy_expanded(&(struct policy){}), 0);
}

static void test_port_names(void **state)
{
        static const char *const good[] = {"a", "http", "x-1", "1-x", "abcdefghijklmno"};
        static const char *const bad[] = {"",  "1",   "-a",  "a-",  "a--b",
                                          "A", "a_b", "a.b", "443", "abcdefghijklmnop"};

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                assert_true(policy_port_name_is_valid(good[i]));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                assert_false(policy_port_name_is_valid(bad[i]));
}

/* A host is selected by what asks for one, and a container by all else. */
static void test_pods(void **state)
{
        static const char *const host[] = {"host"};
        char problem[LABEL_PROBLEM_MAX];
        struct selector all = {}, hosts = {};
        struct labels l = {};

        assert_int_equal(labels_add_text(&l, "slim.io/kind=host", problem), 0);
        assert_int_equal(selector_add(&hosts, "slim.io/kind", SELECTOR_IN, host, 1), 0);
        assert_true(policy_pods_match(&hosts, &l, true));
        assert_false(policy_pods_match(&all, &l, true));
        assert_false(policy_pods_match(&hosts, &l, false)); /* who only says so */
        assert_true(policy_pods_match(&all, &l, false));
        assert_int_equal(selector_add(&hosts, "other", SELECTOR_EXISTS, NULL, 0), 0);
        assert_false(policy_pods_match(&hosts, &l, true));
        selector_clear(&hosts);
        labels_clear(&l);
}

static void test_names(void **state)
{
        assert_string_equal(policy_protocol_name(IPPROTO_TCP), "TCP");
        assert_string_equal(policy_protocol_name(IPPROTO_UDP), "UDP");
        assert_string_equal(policy_protocol_name(IPPROTO_SCTP), "SCTP");
        assert_null(policy_protocol_name(IPPROTO_ICMP));
        assert_string_equal(policy_direction_name(SLIM_POLICY_INGRESS), "ingress");
        assert_string_equal(policy_direction_name(SLIM_POLICY_EGRESS), "egress");
}

static void test_errors(void **state)
{
        struct policy_error e = {.line = 12, .column = 3, .path = "spec.x", .text = "it is so"};
        char buf[128], quoted[POLICY_QUOTE_MAX], long_text[200];

        assert_string_equal(policy_error_format(&e, "a.yaml", buf, sizeof(buf)),
                            "a.yaml:12:3: it is so");
        e.line = 0;
        assert_string_equal(policy_error_format(&e, NULL, buf, sizeof(buf)), "spec.x: it is so");
        e.path[0] = '\0';
        assert_string_equal(policy_error_format(&e, NULL, buf, sizeof(buf)), "it is so");

        assert_string_equal(policy_quote("a\nb\x7f", 4, quoted), "\"a?b?\"");
        memset(long_text, 'x', sizeof(long_text));
        policy_quote(long_text, sizeof(long_text), quoted);
        assert_int_equal(strlen(quoted), 1 + 64 + strlen("…\""));
        memcpy(long_text + 63, "ä", 2); /* across the end */
        policy_quote(long_text, sizeof(long_text), quoted);
        assert_int_equal(strlen(quoted), 1 + 63 + strlen("…\""));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_ports),      cmocka_unit_test(test_prefixes),
            cmocka_unit_test(test_block),      cmocka_unit_test(test_expanded),
            cmocka_unit_test(test_port_names), cmocka_unit_test(test_pods),
            cmocka_unit_test(test_names),      cmocka_unit_test(test_errors),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
