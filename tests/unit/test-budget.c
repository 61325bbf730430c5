// SPDX-License-Identifier: Apache-2.0
/* With a usage map of its own, of the data path's definition; no program counts in it. */
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "abi/slim-abi.h"
#include "broker/budget.h"
#include "slim.skel.h"

#define ENDPOINT 0x01020304U

static struct slim_bpf *skel;
static int map = -1;
static _Atomic uint64_t made;
static struct budget budget;

static void closed(uint64_t n)
{
        const struct slim_usage usage = {.closed = n, .ports = 7, .listeners = 7};
        uint32_t endpoint = ENDPOINT;

        assert_int_equal(bpf_map_update_elem(map, &endpoint, &usage, BPF_ANY), 0);
}

static int setup(void **state)
{
        uint32_t endpoint = ENDPOINT;

        (void)bpf_map_delete_elem(map, &endpoint);
        atomic_store(&made, 0);
        budget_init(&budget, map, endpoint, 10, &made);
        return 0;
}

static void take(unsigned int n)
{
        for (unsigned int i = 0; i < n; i++)
                assert_int_equal(budget_take(&budget), 0);
}

static void test_as_many_as_are_closed(void **state)
{
        closed(0);
        take(10);
        for (int i = 0; i < 3; i++)
                assert_int_equal(budget_take(&budget), -EMFILE);
        closed(1);
        take(1);
        assert_int_equal(budget_take(&budget), -EMFILE);
        closed(11);
        take(10);
        assert_int_equal(budget_take(&budget), -EMFILE);
}

static void test_what_was_not_made(void **state)
{
        closed(0);
        take(10);
        budget_return(&budget);
        take(1);
        assert_int_equal(budget_take(&budget), -EMFILE);
}

/* The next broker goes on with the same memory. */
static void test_another_broker(void **state)
{
        closed(0);
        take(6);
        budget_init(&budget, map, ENDPOINT, 10, &made);
        take(4);
        assert_int_equal(budget_take(&budget), -EMFILE);
        closed(2);
        budget_init(&budget, map, ENDPOINT, 10, &made);
        take(2);
        assert_int_equal(budget_take(&budget), -EMFILE);
}

/* An endpoint that is gone: nothing is known to be closed. */
static void test_no_entry(void **state)
{
        take(10);
        assert_int_equal(budget_take(&budget), -EMFILE);
}

/* More was closed than made: the memory was not there from the beginning. */
static void test_more_closed_than_made(void **state)
{
        closed(100);
        take(10);
        assert_int_equal(atomic_load(&budget.closed), 0);
        take(100);
        assert_int_equal(budget_take(&budget), -EMFILE);
        atomic_store(&made, 5);
        take(20);
}

#define THREADS 4

static void *take_all(void *userdata)
{
        unsigned long *n = userdata;

        for (int i = 0; i < 1000; i++)
                *n += budget_take(&budget) == 0;
        return NULL;
}

static void test_threads(void **state)
{
        unsigned long n[THREADS] = {}, sum = 0;
        pthread_t thread[THREADS];

        closed(0);
        budget.max = 1500;
        for (int i = 0; i < THREADS; i++)
                assert_int_equal(pthread_create(&thread[i], NULL, take_all, &n[i]), 0);
        for (int i = 0; i < THREADS; i++) {
                assert_int_equal(pthread_join(thread[i], NULL), 0);
                sum += n[i];
        }
        assert_int_equal(sum, 1500);
        assert_int_equal(atomic_load(&made), 1500);
}

static int group_setup(void **state)
{
        struct bpf_program *prog;

        skel = slim_bpf__open();
        if (!skel)
                return -1;
        bpf_object__for_each_program(prog, skel->obj)
        {
                bpf_program__set_autoload(prog, false);
        }
        if (slim_bpf__load(skel) < 0)
                return -1;
        map = bpf_map__fd(skel->maps.usage);
        return 0;
}

static int group_teardown(void **state)
{
        slim_bpf__destroy(skel);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup(test_as_many_as_are_closed, setup),
            cmocka_unit_test_setup(test_what_was_not_made, setup),
            cmocka_unit_test_setup(test_another_broker, setup),
            cmocka_unit_test_setup(test_no_entry, setup),
            cmocka_unit_test_setup(test_more_closed_than_made, setup),
            cmocka_unit_test_setup(test_threads, setup),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP cannot make BPF maps: run as root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
