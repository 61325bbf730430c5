/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "slimctl/cpus.h"

static void check(const char *text, size_t n, const int *expected)
{
        cpu_set_t cpus;

        assert_int_equal(cpus_parse(text, &cpus), 0);
        assert_int_equal(CPU_COUNT(&cpus), n);
        for (size_t i = 0; i < n; i++)
                assert_true(CPU_ISSET(expected[i], &cpus));
}

static void test_good(void **state)
{
        check("0", 1, (int[]){0});
        check("0-1", 2, (int[]){0, 1});
        check("0,3", 2, (int[]){0, 3});
        check("7,0-2,2", 4, (int[]){0, 1, 2, 7});
        check("5-5", 1, (int[]){5});
        check("1023", 1, (int[]){1023});
}

static void test_bad(void **state)
{
        static const char *const bad[] = {"",    ",",   "0,",    ",0", "-1", "0-", "1-0",  "a",
                                          "0x1", "0 1", "0-1-2", "+1", " 1", "1 ", "0,,1", "1.5"};
        cpu_set_t cpus;

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++)
                assert_int_equal(cpus_parse(bad[i], &cpus), -EINVAL);
        assert_int_equal(cpus_parse("1024", &cpus), -ERANGE);
        assert_int_equal(cpus_parse("0-1024", &cpus), -ERANGE);
        assert_int_equal(cpus_parse("99999999999999999999999", &cpus), -ERANGE);
}

static void test_offline(void **state)
{
        cpu_set_t cpus;

        /* Where this runs is online; a number that no machine of 1023 processors has is not. */
        CPU_ZERO(&cpus);
        CPU_SET(sched_getcpu(), &cpus);
        assert_int_equal(cpus_first_offline(&cpus), -1);
        CPU_SET(1023, &cpus);
        assert_int_equal(cpus_first_offline(&cpus), 1023);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_good),
            cmocka_unit_test(test_bad),
            cmocka_unit_test(test_offline),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
