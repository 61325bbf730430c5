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
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "broker/maker.h"
#include "broker/pool.h"
#include "slim.skel.h"

static struct slim_bpf *skel;
static int map = -1;
static struct budget budget;
static _Atomic uint64_t made;

static struct slim_socket identity(void)
{
        struct slim_socket s = {
            .endpoint = 0x01020304, .network = 7, .slot = SLIM_NO_SLOT, .counted = 1};

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

/* Without a thread that fills it. */
static void test_take_from_empty(void **state)
{
        struct slim_socket id = identity();
        int before = free_fd();
        struct pool p;

        pool_init(&p, map, &budget, &id);
        for (int i = 0; i < 3; i++) {
                _cleanup_close_ int four = pool_take(&p, AF_INET), six = pool_take(&p, AF_INET6);

                check_socket(four, AF_INET);
                check_socket(six, AF_INET6);
        }
        pool_done(&p);
        assert_int_equal(free_fd(), before);
}

/* How many wait, of a family by its place. */
static unsigned int waiting(struct pool *p, unsigned int i)
{
        unsigned int n;

        pthread_mutex_lock(&p->lock);
        n = p->family[i].n;
        pthread_mutex_unlock(&p->lock);
        return n;
}

static void wait_for(struct pool *p, unsigned int n)
{
        for (int i = 0; waiting(p, 0) < n || waiting(p, 1) < n; i++) {
                assert_in_range(i, 0, 10000);
                usleep(1000);
        }
}

/* A pool with its thread, and no queues. */
struct made {
        struct pool pool;
        struct queues none;
        struct maker maker;
};

static void made_start_with(struct made *m, int sockets_map, struct budget *b)
{
        struct slim_socket id = identity();

        pool_init(&m->pool, sockets_map, b, &id);
        queues_init(&m->none, &m->pool, -1);
        assert_int_equal(maker_start(&m->maker, &m->pool, &m->none), 0);
}

static void made_start(struct made *m, int sockets_map)
{
        made_start_with(m, sockets_map, &budget);
}

static void made_stop(struct made *m)
{
        maker_stop(&m->maker);
        maker_stop(&m->maker);
        queues_done(&m->none);
        pool_done(&m->pool);
}

static void test_fill(void **state)
{
        int before = free_fd();
        struct made m;

        made_start(&m, map);
        wait_for(&m.pool, POOL_SIZE);
        /* And the descriptor that it is woken by. */
        assert_int_equal(free_fd(), before + 2 * POOL_SIZE + 1);

        /* Those that wait are given out, and each once: no new descriptor is made for it. */
        for (int i = 0; i < POOL_SIZE - POOL_LOW; i++) {
                int fd = pool_take(&m.pool, AF_INET6);
                struct stat st;

                check_socket(fd, AF_INET6);
                assert_int_equal(fstat(fd, &st), 0);
                assert_int_equal(m.pool.taken, st.st_ino);
                assert_in_range(fd, before, before + 2 * POOL_SIZE);
                close(fd);
        }
        assert_int_equal(waiting(&m.pool, 1), POOL_LOW);
        assert_int_equal(waiting(&m.pool, 0), POOL_SIZE);

        /* A burst beyond what waits is served too, and then there are enough again. */
        for (int i = 0; i < 5 * POOL_SIZE; i++) {
                int fd = pool_take(&m.pool, AF_INET6);

                check_socket(fd, AF_INET6);
                close(fd);
        }
        wait_for(&m.pool, POOL_LOW);
        made_stop(&m);
        assert_int_equal(free_fd(), before);
}

/* It ends in the middle of its work, too, and leaves nothing. */
static void test_end(void **state)
{
        int before = free_fd();
        struct made m;

        for (int i = 0; i < 200; i++) {
                made_start(&m, map);
                usleep((useconds_t)i);
                made_stop(&m);
                assert_int_equal(free_fd(), before);
        }
}

static void test_families(void **state)
{
        static const int others[] = {AF_UNSPEC, AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, -1, 4711};
        struct slim_socket id = identity();
        int before = free_fd();
        struct pool p;

        pool_init(&p, map, &budget, &id);
        for (size_t i = 0; i < ARRAY_SIZE(others); i++)
                assert_int_equal(pool_take(&p, others[i]), -EAFNOSUPPORT);
        pool_done(&p);
        assert_int_equal(free_fd(), before);
}

/* It tries each family once, and then waits until somebody asks for one. */
static void wait_failed(struct pool *p)
{
        bool low = true;

        for (int i = 0; low; i++) {
                assert_in_range(i, 0, 10000);
                usleep(1000);
                pthread_mutex_lock(&p->lock);
                low = pool_wanting(p);
                pthread_mutex_unlock(&p->lock);
        }
}

/* A socket that could not be given its identity is closed, not given out. */
static void test_no_identity(void **state)
{
        int before = free_fd();
        struct made m;

        made_start(&m, -1);
        wait_failed(&m.pool);
        assert_int_equal(pool_take(&m.pool, AF_INET), -EBADF);
        assert_int_equal(waiting(&m.pool, 0), 0);
        made_stop(&m);
        assert_int_equal(free_fd(), before);
}

/* No descriptors left: the errno is the caller's to pass on; afterwards all is as it was. */
static void test_no_descriptors(void **state)
{
        struct rlimit old, now;
        struct made m;
        int last, before = free_fd();

        made_start(&m, map);
        wait_for(&m.pool, POOL_SIZE);
        for (int i = 0; i < 2; i++)
                close(pool_take(&m.pool, AF_INET));
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        now = old;
        now.rlim_cur = 0;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
        for (int i = 0; i < POOL_SIZE - 2; i++) /* waited */
                close(pool_take(&m.pool, AF_INET));
        wait_failed(&m.pool);
        assert_int_equal(pool_take(&m.pool, AF_INET), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        /* Whoever asks has the thread try again. */
        last = pool_take(&m.pool, AF_INET);
        check_socket(last, AF_INET);
        close(last);
        wait_for(&m.pool, POOL_LOW);
        made_stop(&m);
        assert_int_equal(free_fd(), before);
}

/* The container's bound: what waits is counted, and what could not be made is not. */
static void test_no_more(void **state)
{
        int before = free_fd(), last;
        _Atomic uint64_t own = 0;
        struct budget few;
        struct made m;

        budget_init(&few, bpf_map__fd(skel->maps.usage), 1, 2ULL * POOL_SIZE, &own);
        made_start_with(&m, map, &few);
        wait_for(&m.pool, POOL_SIZE);
        assert_int_equal(own, 2 * POOL_SIZE);
        for (int i = 0; i < POOL_SIZE; i++)
                close(pool_take(&m.pool, AF_INET));
        wait_failed(&m.pool);
        /* No program runs that would count what was closed. */
        assert_int_equal(pool_take(&m.pool, AF_INET), -EMFILE);
        last = pool_take(&m.pool, AF_INET6);
        check_socket(last, AF_INET6);
        close(last);
        made_stop(&m);
        assert_int_equal(own, 2 * POOL_SIZE);

        made_start_with(&m, -1, &few);
        few.max = 3ULL * POOL_SIZE;
        wait_failed(&m.pool);
        assert_int_equal(pool_take(&m.pool, AF_INET), -EBADF);
        made_stop(&m);
        assert_int_equal(own, 2 * POOL_SIZE);
        assert_int_equal(free_fd(), before);
}

/* No thread, for want of a descriptor: its pool does without. */
static void test_no_thread(void **state)
{
        struct slim_socket id = identity();
        struct rlimit old, now;
        struct maker m;
        struct pool p;
        int fd;

        pool_init(&p, map, &budget, &id);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        now = old;
        now.rlim_cur = 0;
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
        assert_int_equal(maker_start(&m, &p, NULL), -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        fd = pool_take(&p, AF_INET);
        check_socket(fd, AF_INET);
        close(fd);
        maker_stop(&m);
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
        budget_init(&budget, bpf_map__fd(skel->maps.usage), 0x01020304, UINT32_MAX, &made);
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
            cmocka_unit_test(test_take_from_empty),
            cmocka_unit_test(test_fill),
            cmocka_unit_test(test_end),
            cmocka_unit_test(test_families),
            cmocka_unit_test(test_no_identity),
            cmocka_unit_test(test_no_descriptors),
            cmocka_unit_test(test_no_more),
            cmocka_unit_test(test_no_thread),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP cannot make BPF maps: run as root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, setup, teardown);
}
