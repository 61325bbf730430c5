// SPDX-License-Identifier: Apache-2.0
/* With a sockets map of its own, of the data path's definition; no program is loaded. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "broker/pool.h"
#include "slim.skel.h"

static struct slim_bpf *skel;
static int map = -1;

static struct slim_socket identity(void)
{
        struct slim_socket s = {.endpoint = 0x01020304, .network = 7, .slot = SLIM_NO_SLOT};

        assert_int_equal(inaddr_parse("10.1.0.5", &s.addr[SLIM_V4]), 0);
        return s;
}

/* The lowest free number: the same again as long as nothing was left open. */
static int free_fd(void)
{
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

static int option(int fd, int name)
{
        int v = -1;
        socklen_t len = sizeof(v);

        assert_int_equal(getsockopt(fd, SOL_SOCKET, name, &v, &len), 0);
        return v;
}

/* A fresh TCP socket that carries the identity, as the container is to get it. */
static void check_socket(int fd, int family)
{
        struct slim_socket want = identity(), got;
        struct sockaddr_in6 name = {}; /* in both families the port is at one place */
        socklen_t len = sizeof(name);

        assert_true(fd >= 0);
        assert_int_equal(option(fd, SO_DOMAIN), family);
        assert_int_equal(option(fd, SO_TYPE), SOCK_STREAM);
        assert_int_equal(option(fd, SO_PROTOCOL), IPPROTO_TCP);
        assert_int_equal(fcntl(fd, F_GETFD), FD_CLOEXEC);
        assert_int_equal(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&name, &len), 0);
        assert_int_equal(name.sin6_port, 0);
        assert_int_equal(bpf_map_lookup_elem(map, &fd, &got), 0);
        assert_memory_equal(&got, &want, sizeof(want));
}

static void test_take_from_empty(void **state)
{
        struct slim_socket id = identity();
        int before = free_fd();
        struct pool p;

        pool_init(&p, map, &id);
        assert_false(pool_is_full(&p));
        for (int i = 0; i < 3; i++) {
                _cleanup_close_ int four = pool_take(&p, AF_INET), six = pool_take(&p, AF_INET6);

                check_socket(four, AF_INET);
                check_socket(six, AF_INET6);
        }
        pool_done(&p);
        assert_int_equal(free_fd(), before);
}

static void test_fill(void **state)
{
        struct slim_socket id = identity();
        int before = free_fd(), made = 0, full;
        struct pool p;

        pool_init(&p, map, &id);
        while (!pool_is_full(&p)) {
                assert_int_equal(pool_add(&p), 0);
                assert_in_range(++made, 1, 2 * POOL_SIZE);
        }
        assert_int_equal(made, 2 * POOL_SIZE);
        full = free_fd();
        assert_int_equal(full, before + 2 * POOL_SIZE);
        /* A full one takes no more. */
        assert_int_equal(pool_add(&p), 0);
        assert_int_equal(free_fd(), full);

        /* Those that wait are given out, and each once: no new descriptor is made for it. */
        for (int i = 0; i < POOL_SIZE; i++) {
                int fd = pool_take(&p, AF_INET6);

                check_socket(fd, AF_INET6);
                assert_in_range(fd, before, full - 1);
                close(fd);
                assert_false(pool_is_full(&p));
        }
        {
                /* A burst beyond what waits is served too, also while the other family is full. */
                _cleanup_close_ int extra = pool_take(&p, AF_INET6);

                check_socket(extra, AF_INET6);
        }
        for (int i = 0; i < POOL_SIZE; i++)
                assert_int_equal(pool_add(&p), 0);
        assert_true(pool_is_full(&p));
        pool_done(&p);
        assert_int_equal(free_fd(), before);
        pool_done(&p);
}

static void test_families(void **state)
{
        static const int others[] = {AF_UNSPEC, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, -1, 4711};
        struct slim_socket id = identity();
        int before = free_fd();
        struct pool p;

        pool_init(&p, map, &id);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                assert_int_equal(pool_take(&p, others[i]), -EAFNOSUPPORT);
        pool_done(&p);
        assert_int_equal(free_fd(), before);
}

/* A socket that could not be given its identity is closed, not given out. */
static void test_no_identity(void **state)
{
        struct slim_socket id = identity();
        int before = free_fd();
        struct pool p;

        pool_init(&p, -1, &id);
        assert_int_equal(pool_take(&p, AF_INET), -EBADF);
        assert_int_equal(pool_add(&p), -EBADF);
        assert_false(pool_is_full(&p));
        pool_done(&p);
        assert_int_equal(free_fd(), before);
}

/* No descriptors left: the errno is the caller's to pass on; afterwards all is as it was. */
static void test_no_descriptors(void **state)
{
        struct slim_socket id = identity();
        struct rlimit old, now;
        struct pool p;
        int last;

        pool_init(&p, map, &id);
        assert_int_equal(pool_add(&p), 0);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        now = old;
        now.rlim_cur = (rlim_t)free_fd();
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
        last = pool_take(&p, AF_INET); /* waited */
        assert_true(last >= 0);
        assert_int_equal(pool_take(&p, AF_INET6), -EMFILE);
        assert_int_equal(pool_add(&p), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        check_socket(last, AF_INET);
        close(last);
        last = pool_take(&p, AF_INET6);
        check_socket(last, AF_INET6);
        close(last);
        pool_done(&p);
}

static int setup(void **state)
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
        map = bpf_map__fd(skel->maps.sockets);
        return 0;
}

static int teardown(void **state)
{
        slim_bpf__destroy(skel);
        return 0;
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_take_from_empty), cmocka_unit_test(test_fill),
            cmocka_unit_test(test_families),        cmocka_unit_test(test_no_identity),
            cmocka_unit_test(test_no_descriptors),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP cannot make BPF maps: run as root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, setup, teardown);
}
