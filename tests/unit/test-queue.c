// SPDX-License-Identifier: Apache-2.0
/* With a sockets map of the data path's definition; no program is loaded. */
#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <bpf/bpf.h>
#include <bpf/libbpf.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/inaddr.h"
#include "broker/maker.h"
#include "broker/queue.h"
#include "slim.skel.h"

static struct slim_bpf *skel;
static struct slim_socket identity;
static struct pool pool;
static struct budget budget;
static _Atomic uint64_t made;
static struct queues queues;
static int netns_fd = -1, before;

/* The lowest free number: the same again as long as nothing was left open. */
static int free_fd(void)
{
        int fd = open("/dev/null", O_RDONLY | O_CLOEXEC);

        assert_true(fd >= 0);
        close(fd);
        return fd;
}

/* As the broker's thread does, when nobody takes any. */
static void run(void)
{
        struct queues_poll p;
        unsigned int rounds = 0;

        pthread_mutex_lock(&pool.lock);
        do {
                while (queues_wanting(&queues)) {
                        queues_fill(&queues);
                        assert_in_range(++rounds, 1, 100000);
                }
                queues_poll(&queues, &p);
                poll(p.fds, p.n, 0);
                queues_polled(&queues, &p);
        } while (queues_wanting(&queues));
        pthread_mutex_unlock(&pool.lock);
}

static int ask(int family, uid_t uid, gid_t gid)
{
        int fd = queues_ask(&queues, family, uid, gid);

        if (fd >= 0)
                run();
        return fd;
}

/* A socket out of a queue, or the negative errno, or 0 at its end. */
static int take(int queue)
{
        union {
                struct cmsghdr head;
                char room[CMSG_SPACE(sizeof(int))];
        } control;
        char byte;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        ssize_t n = recvmsg(queue, &msg, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
        int fd;

        if (n <= 0)
                return n < 0 ? -errno : 0;
        assert_int_equal(n, 1);
        assert_int_equal(msg.msg_flags & ~MSG_CMSG_CLOEXEC, 0);
        assert_int_equal(control.head.cmsg_type, SCM_RIGHTS);
        memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
        return fd;
}

static void check_socket(int fd, int family, uid_t uid, gid_t gid)
{
        struct slim_socket got;
        socklen_t len = sizeof(int);
        struct stat st;
        int v = -1;

        assert_true(fd > 0);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &v, &len), 0);
        assert_int_equal(v, family);
        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_PROTOCOL, &v, &len), 0);
        assert_int_equal(v, IPPROTO_TCP);
        assert_int_equal(bpf_map_lookup_elem(pool.sockets_map, &fd, &got), 0);
        assert_memory_equal(&got, &identity, sizeof(got));
        assert_int_equal(fstat(fd, &st), 0);
        assert_int_equal(st.st_uid, uid);
        assert_int_equal(st.st_gid, gid);
}

static unsigned int drain(int queue, int family, uid_t uid, gid_t gid)
{
        unsigned int n = 0;
        int fd;

        while ((fd = take(queue)) > 0) {
                check_socket(fd, family, uid, gid);
                close(fd);
                n++;
        }
        return n;
}

static void test_full_and_filled_again(void **state)
{
        int q = ask(AF_INET, 0, 0), n = 0;

        assert_true(q >= 0);
        assert_int_equal(fcntl(q, F_GETFD), FD_CLOEXEC);
        /* As many as it is to have, and not one more. */
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE);
        assert_int_equal(take(q), -EAGAIN);
        run();
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE);
        run();
        /* It is left alone until less than a quarter is left. */
        for (; n < QUEUE_SIZE * 3 / 4; n++) {
                _cleanup_close_ int fd = take(q);

                check_socket(fd, AF_INET, 0, 0);
                run();
        }
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE - n);
        run();
        for (n = 0; n < QUEUE_SIZE * 3 / 4 + 1; n++) {
                _cleanup_close_ int fd = take(q);

                check_socket(fd, AF_INET, 0, 0);
        }
        run();
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE);
        close(q);
}

static void test_users_and_families(void **state)
{
        int root = ask(AF_INET, 0, 0), again = ask(AF_INET, 0, 0), six = ask(AF_INET6, 0, 0);
        int user = ask(AF_INET, 1000, 100), group = ask(AF_INET, 1000, 200);
        struct stat st;

        /* One user's processes share: what one takes the other does not get. */
        assert_int_equal(drain(root, AF_INET, 0, 0), QUEUE_SIZE);
        assert_int_equal(take(again), -EAGAIN);
        assert_int_equal(drain(six, AF_INET6, 0, 0), QUEUE_SIZE);
        assert_int_equal(drain(user, AF_INET, 1000, 100), QUEUE_SIZE);
        assert_int_equal(drain(group, AF_INET, 1000, 200), QUEUE_SIZE);
        assert_int_equal(fstat(user, &st), 0);
        assert_int_equal(st.st_uid, 1000);
        assert_int_equal(st.st_gid, 100);
        close(root);
        close(again);
        close(six);
        close(user);
        close(group);
}

/* It is a socket of the container, and nobody there can send or learn by it who has made it. */
static void test_what_the_reader_has(void **state)
{
        int q = ask(AF_INET, 0, 0), own, pidfd;
        struct slim_socket mark;
        struct stat ns, container;
        struct ucred cred;
        socklen_t len = sizeof(cred);

        assert_int_equal(send(q, "x", 1, MSG_NOSIGNAL), -1);
        assert_int_equal(errno, EPIPE);
        own = ioctl(q, SIOCGSKNS);
        assert_true(own >= 0);
        assert_int_equal(fstat(own, &ns), 0);
        assert_int_equal(fstat(netns_fd, &container), 0);
        assert_int_equal(ns.st_ino, container.st_ino);
        close(own);
        /* Its maker has ended: there is no process of that number, or another one. */
        assert_int_equal(getsockopt(q, SOL_SOCKET, SO_PEERCRED, &cred, &len), 0);
        assert_int_not_equal(cred.pid, getpid());
        len = sizeof(pidfd);
        if (getsockopt(q, SOL_SOCKET, 77 /* SO_PEERPIDFD */, &pidfd, &len) == 0) {
                assert_int_equal(syscall(SYS_pidfd_send_signal, pidfd, 0, NULL, 0), -1);
                assert_int_equal(errno, ESRCH);
                close(pidfd);
        }
        /* sockopt.bpf.c knows it by an entry without an endpoint. */
        assert_int_equal(bpf_map_lookup_elem(pool.sockets_map, &q, &mark), 0);
        assert_int_equal(mark.endpoint, 0);
        close(q);
}

static void test_shut_down_by_the_reader(void **state)
{
        int q = ask(AF_INET, 0, 0), other;

        assert_int_equal(shutdown(q, SHUT_RD), 0);
        run();
        other = ask(AF_INET, 0, 0);
        assert_int_equal(drain(other, AF_INET, 0, 0), QUEUE_SIZE);
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE);
        assert_int_equal(take(q), 0);
        close(q);
        close(other);
}

static void test_more_users_than_queues(void **state)
{
        int q[QUEUES_MAX], last;

        for (uid_t uid = 0; uid < QUEUES_MAX; uid++) {
                q[uid] = ask(AF_INET, uid, 0);
                assert_true(q[uid] >= 0);
        }
        /* All are needed. */
        assert_int_equal(ask(AF_INET, 100, 0), -ENOBUFS);
        assert_int_equal(ask(AF_INET6, 0, 0), -ENOBUFS);
        /* The one that is not needed any more ends; what is in it can still be had. */
        for (int i = 0; i < QUEUES_MAX; i++)
                queues.queue[i].needed -= i == 3 ? 5000 : i == 5 ? 2000 : 0;
        last = ask(AF_INET6, 100, 0);
        assert_int_equal(drain(last, AF_INET6, 100, 0), QUEUE_SIZE);
        for (uid_t uid = 0; uid < QUEUES_MAX; uid++) {
                assert_int_equal(drain(q[uid], AF_INET, uid, 0), QUEUE_SIZE);
                assert_int_equal(take(q[uid]), uid == 3 ? 0 : -EAGAIN);
                close(q[uid]);
        }
        close(last);
}

/* A queue that cannot be filled ends, and who asks hears why. */
static void test_no_sockets(void **state)
{
        int q = ask(AF_INET, 0, 0), map = pool.sockets_map, fd;

        pool.sockets_map = -1;
        for (int i = 0; i < QUEUE_SIZE; i++) {
                fd = take(q);
                assert_true(fd > 0);
                close(fd);
        }
        run();
        /* One was made already. */
        fd = take(q);
        assert_true(fd > 0);
        close(fd);
        assert_int_equal(take(q), 0);
        assert_int_equal(queues_ask(&queues, AF_INET, 0, 0), -EBADF);
        pool.sockets_map = map;
        fd = ask(AF_INET, 0, 0);
        assert_int_equal(drain(fd, AF_INET, 0, 0), QUEUE_SIZE);
        close(fd);
        close(q);
}

static void test_no_descriptors(void **state)
{
        struct rlimit old, now;
        int q, r;

        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        for (int room = 0; room < 4; room++) {
                now = old;
                now.rlim_cur = (rlim_t)free_fd() + (rlim_t)room;
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &now), 0);
                r = queues_ask(&queues, AF_INET, 0, 0);
                assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
                if (r >= 0)
                        close(r);
                else
                        assert_int_equal(r, -EMFILE);
                assert_true(room >= 3 || r < 0);
        }
        q = ask(AF_INET, 0, 0);
        assert_int_equal(drain(q, AF_INET, 0, 0), QUEUE_SIZE);
        close(q);
}

static void test_no_namespace(void **state)
{
        int right = queues.netns_fd;

        queues.netns_fd = -1;
        assert_int_equal(queues_ask(&queues, AF_INET, 0, 0), -EBADF);
        queues.netns_fd = right;
}

static int setup(void **state)
{
        before = free_fd();
        queues_init(&queues, &pool, netns_fd);
        return 0;
}

static int teardown(void **state)
{
        queues_done(&queues);
        assert_int_equal(free_fd(), before);
        return 0;
}

/* A namespace that stands for the container's. */
static int namespace_open(void)
{
        int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC), other;

        if (own < 0 || unshare(CLONE_NEWNET) < 0)
                return -1;
        other = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        if (setns(own, CLONE_NEWNET) < 0)
                return -1;
        close(own);
        return other;
}

/* The thread fills what is emptied, while more users ask than there are queues. */
static void test_thread(void **state)
{
        static struct maker maker;
        unsigned int got = 0;
        int fd;

        assert_int_equal(maker_start(&maker, &pool, &queues), 0);
        for (unsigned int i = 0; i < 200; i++) {
                uid_t uid = 1000 + i % (QUEUES_MAX + 2);
                int q = queues_ask(&queues, AF_INET, uid, 100);

                if (q == -ENOBUFS) {
                        /* Nobody's is taken away that is in use. */
                        pthread_mutex_lock(&pool.lock);
                        for (size_t k = 0; k < QUEUES_MAX; k++)
                                queues.queue[k].needed = 0;
                        pthread_mutex_unlock(&pool.lock);
                        continue;
                }
                assert_true(q >= 0);
                for (unsigned int n = 0, tries = 0; n < QUEUE_SIZE; tries++) {
                        fd = take(q);
                        if (fd == -EAGAIN) {
                                assert_in_range(tries, 0, 10000);
                                usleep(100);
                                continue;
                        }
                        check_socket(fd, AF_INET, uid, 100);
                        close(fd);
                        n++;
                        got++;
                }
                close(q);
        }
        assert_true(got > 100 * QUEUE_SIZE);
        maker_stop(&maker);
}

static int group_setup(void **state)
{
        struct bpf_program *prog;

        skel = slim_bpf__open();
        netns_fd = namespace_open();
        if (!skel || netns_fd < 0)
                return -1;
        bpf_object__for_each_program(prog, skel->obj)
        {
                bpf_program__set_autoload(prog, false);
        }
        if (slim_bpf__load(skel) < 0)
                return -1;
        identity =
            (struct slim_socket){.endpoint = 9, .network = 7, .slot = SLIM_NO_SLOT, .counted = 1};
        budget_init(&budget, bpf_map__fd(skel->maps.usage), 9, UINT32_MAX, &made);
        pool_init(&pool, bpf_map__fd(skel->maps.sockets), &budget, &identity);
        return 0;
}

static int group_teardown(void **state)
{
        pool_done(&pool);
        close(netns_fd);
        slim_bpf__destroy(skel);
        return 0;
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
        static const struct CMUnitTest tests[] = {
            TEST(test_full_and_filled_again),
            TEST(test_users_and_families),
            TEST(test_what_the_reader_has),
            TEST(test_shut_down_by_the_reader),
            TEST(test_more_users_than_queues),
            TEST(test_no_sockets),
            TEST(test_no_descriptors),
            TEST(test_no_namespace),
            TEST(test_thread),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP cannot make BPF maps: run as root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, group_setup, group_teardown);
}
