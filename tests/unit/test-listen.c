/* SPDX-License-Identifier: Apache-2.0 */
/* May a socket begin to listen? The kernel's rule over tables made by hand; no map is needed. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "broker/listen.h"

#define ADDR SLIM_BIND_REUSE_ADDR
#define PORT SLIM_BIND_REUSE_PORT

#define ANY4 (SLIM_CLAIMS_V4 | SLIM_CLAIMS_ANY)
#define ANY6 (SLIM_CLAIMS_V6 | SLIM_CLAIMS_ANY)
#define BOTH (SLIM_CLAIMS_V4 | SLIM_CLAIMS_V6 | SLIM_CLAIMS_ANY)

static struct slim_port table;

/* A binding of owners sockets of uid 0 that all have the options of flags. */
static void put(unsigned int at, const char *addr, uint8_t claims, uint32_t owners, uint8_t flags,
                uint64_t listeners)
{
        struct slim_binding *b = &table.binding[at];

        *b = (struct slim_binding){
            .owners = owners,
            .reuse_addr = flags & ADDR ? owners : 0,
            .reuse_port = flags & PORT ? owners : 0,
            .same_uid = owners,
            .claims = claims,
            .listeners = listeners,
        };
        assert_int_equal(inaddr_parse(addr, &b->addr), 0);
}

static int check(unsigned int binding, uint8_t flags, uint32_t uid)
{
        struct slim_socket s = {
            .binding = (uint8_t)binding, .bind_flags = flags, .slot = SLIM_NO_SLOT};

        return listen_check(&s, &table, uid);
}

static int setup(void **state)
{
        table = (struct slim_port){};
        return 0;
}

static void test_alone(void **state)
{
        put(3, "10.0.0.1", SLIM_CLAIMS_V4, 1, 0, 0);
        assert_int_equal(check(3, 0, 0), 0);
        assert_int_equal(check(3, 0, 77), 0);
}

static void test_one_address(void **state)
{
        put(0, "0.0.0.0", ANY4, 2, ADDR, 0);
        assert_int_equal(check(0, ADDR, 0), 0); /* nobody listens yet */
        put(0, "0.0.0.0", ANY4, 2, ADDR, 1);
        assert_int_equal(check(0, ADDR, 0), -EADDRINUSE);
        put(0, "0.0.0.0", ANY4, 2, PORT, 1);
        assert_int_equal(check(0, PORT, 0), 0);
        assert_int_equal(check(0, PORT, 5), -EADDRINUSE); /* of another user */
        table.binding[0].same_uid = 1;                    /* one of the two is */
        assert_int_equal(check(0, PORT, 0), -EADDRINUSE);
        put(0, "0.0.0.0", ANY4, 3, ADDR, 1);
        table.binding[0].reuse_port = 2; /* one of three does not share that way */
        assert_int_equal(check(0, ADDR | PORT, 0), -EADDRINUSE);
}

static void test_overlap(void **state)
{
        put(0, "0.0.0.0", ANY4, 1, ADDR, 1);
        put(7, "10.0.0.1", SLIM_CLAIMS_V4, 1, ADDR, 0);
        assert_int_equal(check(7, ADDR, 0), -EADDRINUSE);
        table.binding[0].listeners = 0;
        assert_int_equal(check(7, ADDR, 0), 0);
        assert_int_equal(check(0, ADDR, 0), 0);
        table.binding[7].listeners = 1;
        assert_int_equal(check(0, ADDR, 0), -EADDRINUSE); /* the wildcard, after the nearer one */

        /* Another address is not in the way, nor is another family, nor an element that is free. */
        put(0, "10.0.0.2", SLIM_CLAIMS_V4, 1, 0, 1);
        table.binding[7].listeners = 0;
        assert_int_equal(check(7, ADDR, 0), 0);
        put(0, "::", ANY6, 1, 0, 1);
        assert_int_equal(check(7, ADDR, 0), 0);
        put(0, "::", BOTH, 1, ADDR, 1);
        assert_int_equal(check(7, ADDR, 0), -EADDRINUSE);
        table.binding[0].owners = 0;
        assert_int_equal(check(7, ADDR, 0), 0);
}

static void test_full(void **state)
{
        put(0, "0.0.0.0", ANY4, 65, PORT, ~0ULL);
        assert_int_equal(check(0, PORT, 0), -ENOMEM);
        put(0, "0.0.0.0", ANY4, 65, PORT, ~0ULL ^ 1ULL << 63);
        assert_int_equal(check(0, PORT, 0), 0);
}

static void test_no_such_binding(void **state)
{
        assert_int_equal(check(SLIM_BINDINGS, ADDR, 0), -EADDRINUSE);
        assert_int_equal(check(255, ADDR, 0), -EADDRINUSE);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup(test_alone, setup),
            cmocka_unit_test_setup(test_one_address, setup),
            cmocka_unit_test_setup(test_overlap, setup),
            cmocka_unit_test_setup(test_full, setup),
            cmocka_unit_test_setup(test_no_such_binding, setup),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
