// SPDX-License-Identifier: Apache-2.0
/*
 * The kernel takes every program. Prints what the verifier had to do for each, and fails well
 * before its limit: other kernels walk more states for the same program.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "harness.h"

#define LOG_STATS 4 /* BPF_LOG_STATS of the kernel */
#define LOG_SIZE  65536

/* The kernel's limit is 1,000,000. */
#define PROCESSED_MAX 500000

static const char *const expected[] = {
    "slim_connect4",       "slim_connect6",     "slim_bind4",        "slim_bind6",
    "slim_getsockname4",   "slim_getsockname6", "slim_getpeername4", "slim_getpeername6",
    "slim_sockops",        "slim_release",      "slim_ingress",      "slim_steer",
    "slim_from_container", "slim_to_container", "slim_from_vxlan",   "slim_to_vxlan",
    "slim_setsockopt",     "slim_getsockopt",   "slim_policy_check", "slim_limit_out",
    "slim_limit_in",       "slim_limited",
};

static char logs[ARRAY_SIZE(expected)][LOG_SIZE];

static size_t index_of(const struct bpf_program *prog)
{
        for (size_t i = 0; i < ARRAY_SIZE(expected); i++)
                if (strcmp(expected[i], bpf_program__name(prog)) == 0)
                        return i;
        fail_msg("%s is not in this test's list", bpf_program__name(prog));
        return 0;
}

static void test_load(void **state)
{
        struct slim_bpf *skel = harness_open();
        struct bpf_program *prog;
        size_t n = 0;
        int r;

        assert_non_null(skel);
        bpf_object__for_each_program(prog, skel->obj)
        {
                assert_int_equal(bpf_program__set_log_level(prog, LOG_STATS), 0);
                assert_int_equal(bpf_program__set_log_buf(prog, logs[index_of(prog)], LOG_SIZE), 0);
                n++;
        }
        assert_int_equal(n, ARRAY_SIZE(expected));
        r = slim_bpf__load(skel);
        bpf_object__for_each_program(prog, skel->obj)
        {
                const char *log = logs[index_of(prog)], *line = strstr(log, "processed ");
                unsigned long processed;

                if (r < 0 && *log && !line)
                        print_error("%s:\n%s\n", bpf_program__name(prog), log);
                if (r < 0)
                        continue;
                assert_non_null(line);
                printf("# %-19s %.*s\n", bpf_program__name(prog), (int)strcspn(line, "\n"), line);
                processed = strtoul(line + strlen("processed "), NULL, 10);
                assert_in_range(processed, 1, PROCESSED_MAX);
                assert_true(bpf_program__fd(prog) >= 0);
        }
        assert_int_equal(r, 0);
        slim_bpf__destroy(skel);
}

/* Two instances stand side by side: nothing in the object is global. */
static void test_twice(void **state)
{
        struct slim_bpf *a = harness_open(), *b = harness_open();

        assert_non_null(a);
        assert_non_null(b);
        assert_int_equal(slim_bpf__load(a), 0);
        assert_int_equal(slim_bpf__load(b), 0);
        slim_bpf__destroy(a);
        slim_bpf__destroy(b);
}

static int quiet(enum libbpf_print_level level, const char *format, va_list args)
{
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_load),
            cmocka_unit_test(test_twice),
        };
        struct slim_bpf *probe;

        libbpf_set_print(quiet);
        probe = harness_open();
        if (probe && slim_bpf__load(probe) == -EPERM) {
                printf("1..0 # SKIP cannot load BPF programs: run as root\n");
                return 0;
        }
        slim_bpf__destroy(probe);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
