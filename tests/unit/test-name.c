// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "basic/name.h"

static void test_valid(void **state)
{
        static const char *const good[] = {"a",        "0",         "web",  "web-1",
                                           "web.blue", "a-b.c-d.9", "a--b", "1.2.3.4"};

        for (size_t i = 0; i < ARRAY_SIZE(good); i++)
                if (!name_is_valid(good[i]))
                        fail_msg("\"%s\" was refused", good[i]);
}

static void test_invalid(void **state)
{
        static const char *const bad[] = {"",    ".",   "..",     "-",    "-a",    "a-",
                                          ".a",  "a.",  "a..b",   "A",    "aB",    "a_b",
                                          "a b", "a/b", "../etc", "a\n",  "a\tb",  "\xc3\xa9",
                                          "a:b", "a%b", "a*",     "a\\b", "a\x7f", "a\x01z"};

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (name_is_valid(bad[i]))
                        fail_msg("\"%s\" was taken for a name", bad[i]);
}

/* Every byte in the middle of a name: exactly a-z 0-9 - . pass. */
static void test_alphabet(void **state)
{
        for (int c = 1; c < 256; c++) {
                const char name[] = {'a', (char)c, 'a', '\0'};

                assert_int_equal(name_is_valid(name),
                                 strchr("abcdefghijklmnopqrstuvwxyz0123456789-.", c) != NULL);
        }
}

static void test_length(void **state)
{
        char name[NAME_LEN_MAX + 2];

        memset(name, 'x', sizeof(name));
        name[NAME_LEN_MAX] = '\0';
        assert_true(name_is_valid(name));
        name[NAME_LEN_MAX] = 'x';
        name[NAME_LEN_MAX + 1] = '\0';
        assert_false(name_is_valid(name));
}

static void test_parse_uint(void **state)
{
        uint64_t v;

        assert_int_equal(parse_uint("0", 0, 10, &v), 0);
        assert_int_equal(v, 0);
        assert_int_equal(parse_uint("10", 0, 10, &v), 0);
        assert_int_equal(v, 10);
        assert_int_equal(parse_uint("007", 0, 10, &v), 0);
        assert_int_equal(v, 7);
        assert_int_equal(parse_uint("18446744073709551615", 0, UINT64_MAX, &v), 0);
        assert_true(v == UINT64_MAX);
}

static void test_parse_uint_rejects(void **state)
{
        static const char *const no_number[] = {"",    " 1",  "1 ",  "+1",  "-1", "-0",  "0x10",
                                                "1.0", "1e3", "abc", "1\n", "1k", "\t1", "1,0"};
        static const char *const outside[] = {"0", "1", "101", "18446744073709551616",
                                              "99999999999999999999999999"};
        uint64_t v = 4711;

        for (size_t i = 0; i < ARRAY_SIZE(no_number); i++)
                if (parse_uint(no_number[i], 0, UINT64_MAX, &v) != -EINVAL)
                        fail_msg("\"%s\" was taken for a number", no_number[i]);
        for (size_t i = 0; i < ARRAY_SIZE(outside); i++)
                if (parse_uint(outside[i], 2, 100, &v) != -ERANGE)
                        fail_msg("\"%s\" was taken to be within 2..100", outside[i]);
        assert_int_equal(parse_uint("18446744073709551616", 0, UINT64_MAX, &v), -ERANGE);
        assert_int_equal(v, 4711);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_valid),      cmocka_unit_test(test_invalid),
            cmocka_unit_test(test_alphabet),   cmocka_unit_test(test_length),
            cmocka_unit_test(test_parse_uint), cmocka_unit_test(test_parse_uint_rejects),
        };

        return cmocka_run_group_tests_name("name", tests, NULL, NULL);
}
