/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

static struct histogram h, other;

static int clear(void **state)
{
        memset(&h, 0, sizeof(h));
        memset(&other, 0, sizeof(other));
        return 0;
}

static void assert_near(double value, double expected)
{
        if (fabs(value - expected) > expected / 500)
                fail_msg("%f is not near %f", value, expected);
}

static void test_nothing(void **state)
{
        assert_true(histogram_quantile(&h, 0.5) == 0);
        assert_true(histogram_mean(&h) == 0);
}

static void test_one(void **state)
{
        /* Of each size: below the first octave, at its borders, far above. */
        static const uint64_t values[] = {
            0,      1,       1023,      1024,    1025,       2047,        2048,
            123456, 1000000, 999999999, 1 << 20, 1ULL << 32, 3000000000U, 3599000000000U};

        for (size_t i = 0; i < sizeof(values) / sizeof(*values); i++) {
                clear(NULL);
                histogram_add(&h, values[i]);
                assert_near(histogram_quantile(&h, 0), (double)values[i]);
                assert_near(histogram_quantile(&h, 1), (double)values[i]);
                assert_true(histogram_mean(&h) == (double)values[i]);
                assert_true(h.max == values[i]);
        }
}

static void test_quantiles(void **state)
{
        for (uint64_t i = 1; i <= 100000; i++)
                histogram_add(&h, i * 10);
        assert_near(histogram_quantile(&h, 0.5), 500000);
        assert_near(histogram_quantile(&h, 0.99), 990000);
        assert_near(histogram_quantile(&h, 0.999), 999000);
        assert_near(histogram_mean(&h), 500005);
}

static void test_order_of_buckets(void **state)
{
        /* What is larger is never in an earlier bucket. */
        double before = -1;

        for (uint64_t ns = 0; ns < 1ULL << 40; ns += 1 + ns / 300) {
                clear(NULL);
                histogram_add(&h, ns);
                assert_true(histogram_quantile(&h, 0.5) >= before);
                before = histogram_quantile(&h, 0.5);
        }
}

static void test_merge(void **state)
{
        for (uint64_t i = 0; i < 100; i++) {
                histogram_add(&h, 1000);
                histogram_add(&other, 9000);
        }
        histogram_add(&other, 9000);
        histogram_merge(&h, &other);
        assert_int_equal(h.count, 201);
        assert_int_equal(h.max, 9000);
        assert_near(histogram_quantile(&h, 0.49), 1000);
        assert_near(histogram_quantile(&h, 0.5), 9000);
}

static void test_too_long(void **state)
{
        histogram_add(&h, UINT64_MAX / 2); /* more than there are buckets for: the last one */
        assert_true(histogram_quantile(&h, 0.5) > 3600e9);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup(test_nothing, clear),
            cmocka_unit_test_setup(test_one, clear),
            cmocka_unit_test_setup(test_quantiles, clear),
            cmocka_unit_test_setup(test_order_of_buckets, clear),
            cmocka_unit_test_setup(test_merge, clear),
            cmocka_unit_test_setup(test_too_long, clear),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
