/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The filter in a child process. The parent is its broker and answers every socket() with a
 * descriptor that no socket() of the child's own could have given: of /dev/null; and everything
 * else with an error that no kernel has for it. So the child knows whether its call was notified.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/macro.h"
#include "shared/filter.h"
#include "shared/rpc.h"

#define UPPER_HALF (0xabcdUL << 32)

struct call {
        unsigned long domain, type, protocol;
        bool notified;
};

/* No listen() or ioctl() of the kernel's fails with this. */
#define ANSWER EUCLEAN

/* Exit statuses of the child: 100 and more, the call's number, when that call went wrong. */
#define STATUS_BAD_CALL 100

static bool is_answer(int fd)
{
        struct stat st;

        return fstat(fd, &st) == 0 && S_ISCHR(st.st_mode);
}

/* Runs in the child. -1: all as expected, otherwise the number of the call that was not. */
static int make_calls(const struct call *calls, size_t n)
{
        for (size_t i = 0; i < n; i++) {
                int fd =
                    (int)syscall(SYS_socket, calls[i].domain, calls[i].type, calls[i].protocol);

                /* A call that is not notified may fail: not every kernel has every protocol. */
                if (is_answer(fd) != calls[i].notified)
                        return (int)i;
                safe_close(fd);
        }
        return -1;
}

struct child {
        pid_t pid;
        int notify_fd;
};

/* A child that has the filter and waits with `run` until its notify descriptor has been passed. */
static struct child child_start(int (*run)(void *userdata), void *userdata)
{
        struct child c = {};
        struct rpc *channel;
        json_t *message;
        int pair[2], fds[RPC_FDS_MAX];
        size_t n = 0;

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                int fd, r;

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(pair[0]);
                message = json_object();
                r = filter_load(&fd);
                if (r < 0 || rpc_new(pair[1], &channel) < 0 ||
                    rpc_send(channel, message, &fd, 1) < 0)
                        _exit(99);
                rpc_free(channel);
                close(fd);
                _exit(run(userdata));
        }
        close(pair[1]);
        assert_int_equal(rpc_new(pair[0], &channel), 0);
        assert_int_equal(rpc_receive(channel, &message, fds, &n), 1);
        assert_int_equal(n, 1);
        c.notify_fd = fds[0];
        json_decref(message);
        rpc_free(channel);
        return c;
}

/* Answers notifications until the child is gone. Returns how many, and its exit status. */
static unsigned int child_serve(struct child *c, int *ret_status)
{
        int null = open("/dev/null", O_RDWR | O_CLOEXEC), status;
        unsigned int answered = 0;

        assert_true(null >= 0);
        for (;;) {
                struct pollfd p = {.fd = c->notify_fd, .events = POLLIN};
                struct seccomp_notif_addfd add = {.flags = SECCOMP_ADDFD_FLAG_SEND};
                struct {
                        struct seccomp_notif n;
                        char more[256]; /* what a newer kernel may add */
                } notif = {};

                if (poll(&p, 1, -1) < 0 || !(p.revents & POLLIN))
                        break; /* POLLHUP: nobody has the filter any more */
                if (ioctl(c->notify_fd, SECCOMP_IOCTL_NOTIF_RECV, &notif) < 0)
                        continue;
                if (filter_call(&notif.n.data) != FILTER_SOCKET) {
                        struct {
                                struct seccomp_notif_resp r;
                                char more[256];
                        } resp = {.r = {.id = notif.n.id, .error = -ANSWER}};

                        assert_int_not_equal(filter_call(&notif.n.data), FILTER_OTHER);
                        assert_int_equal(ioctl(c->notify_fd, SECCOMP_IOCTL_NOTIF_SEND, &resp), 0);
                        answered++;
                        continue;
                }
                add.id = notif.n.id;
                add.srcfd = (uint32_t)null;
                assert_true(ioctl(c->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add) >= 0);
                answered++;
        }
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_true(WIFEXITED(status));
        *ret_status = WEXITSTATUS(status);
        close(null);
        close(c->notify_fd);
        return answered;
}

static const struct call calls[] = {
    /* Slim's own: both families, with flags, with either protocol. */
    {AF_INET, SOCK_STREAM, 0, true},
    {AF_INET, SOCK_STREAM, IPPROTO_TCP, true},
    {AF_INET6, SOCK_STREAM, 0, true},
    {AF_INET6, SOCK_STREAM, IPPROTO_TCP, true},
    {AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0, true},
    {AF_INET6, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, IPPROTO_TCP, true},
    {AF_INET, SOCK_STREAM, IPPROTO_MPTCP, true},
    {AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, IPPROTO_MPTCP, true},
    /* The kernel takes ints: what stands in the upper half of a register is nobody's. */
    {UPPER_HALF | AF_INET, SOCK_STREAM, 0, true},
    {AF_INET, UPPER_HALF | SOCK_STREAM, UPPER_HALF | IPPROTO_TCP, true},
    /* Another type. */
    {AF_INET, SOCK_DGRAM, 0, false},
    {AF_INET6, SOCK_DGRAM, 0, false},
    {AF_INET, SOCK_RAW, IPPROTO_TCP, false},
    {AF_INET, SOCK_SEQPACKET, 0, false},
    {AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, IPPROTO_UDP, false},
    /* Another protocol. */
    {AF_INET, SOCK_DGRAM, IPPROTO_MPTCP, false},
    {AF_INET, SOCK_STREAM, IPPROTO_SCTP, false},
    {AF_INET, SOCK_STREAM, 256 /* 0, if only a byte counted */, false},
    /* Another family. */
    {AF_UNIX, SOCK_STREAM, 0, false},
    {AF_NETLINK, SOCK_RAW, 0, false},
    {AF_UNSPEC, SOCK_STREAM, 0, false},
    {AF_INET | 0x100, SOCK_STREAM, 0, false},
};

static int run_calls(void *userdata)
{
        int bad = make_calls(calls, ARRAY_SIZE(calls));

        return bad < 0 ? 0 : STATUS_BAD_CALL + bad;
}

static void test_which_calls_are_notified(void **state)
{
        struct child c = child_start(run_calls, NULL);
        unsigned int expected = 0;
        int status;

        for (size_t i = 0; i < ARRAY_SIZE(calls); i++)
                expected += calls[i].notified;
        assert_int_equal(child_serve(&c, &status), expected);
        assert_int_equal(status, 0);
}

/* --- listen() and ioctl() --------------------------------------------------------------------- */

static const struct ioctl_range {
        unsigned long first, last;
        bool notified;
} ioctl_ranges[] = {
    {0x5400, 0x54ff, false}, /* terminals; FIONREAD, FIONBIO, TIOCOUTQ */
    {0x8800, 0x8907, false}, /* FIOSETOWN, SIOCSPGRP, SIOCATMARK, SIOCGSTAMP… */
    {0x8908, 0x894a, true},
    {0x894b, 0x894b, false}, /* SIOCOUTQNSD */
    {0x894c, 0x897f, true},
    {0x8980, 0x89df, true},
    {0x89e0, 0x89ef, false}, /* SIOCPROTOPRIVATE */
    {0x89f0, 0x89ff, true},
    {0x8a00, 0x8aff, false},
    {0x8b00, 0x8bff, true}, /* wireless */
    {0x8c00, 0x8c0f, false},
    {0x80108906, 0x80108907, false}, /* SIOCGSTAMP_NEW, SIOCGSTAMPNS_NEW */
    {0x18933, 0x18933, false},
    {UPPER_HALF | 0x8933, UPPER_HALF | 0x8933, true}, /* the kernel takes an int */
};

static int run_ioctls(void *userdata)
{
        for (size_t i = 0; i < ARRAY_SIZE(ioctl_ranges); i++)
                for (unsigned long n = ioctl_ranges[i].first; n <= ioctl_ranges[i].last; n++) {
                        long r = syscall(SYS_ioctl, -1, n, NULL);

                        if (r != -1 || (errno == ANSWER) != ioctl_ranges[i].notified)
                                return STATUS_BAD_CALL + (int)i;
                }
        return 0;
}

static void test_which_ioctls_are_notified(void **state)
{
        struct child c = child_start(run_ioctls, NULL);
        unsigned int expected = 0;
        int status;

        for (size_t i = 0; i < ARRAY_SIZE(ioctl_ranges); i++)
                if (ioctl_ranges[i].notified)
                        expected +=
                            (unsigned int)(ioctl_ranges[i].last - ioctl_ranges[i].first + 1);
        assert_int_equal(child_serve(&c, &status), expected);
        assert_int_equal(status, 0);
}

static int run_listen(void *userdata)
{
        return syscall(SYS_listen, -1, 5) == -1 && errno == ANSWER ? 0 : 1;
}

static void test_listen_is_notified(void **state)
{
        struct child c = child_start(run_listen, NULL);
        int status;

        assert_int_equal(child_serve(&c, &status), 1);
        assert_int_equal(status, 0);
}

/* The filter goes with fork(), threads and exec(), and does not take setuid programs' powers. */
static void *thread_call(void *userdata)
{
        int fd = socket(AF_INET, SOCK_STREAM, 0);

        *(bool *)userdata = is_answer(fd);
        safe_close(fd);
        return NULL;
}

static int run_inherited(void *userdata)
{
        bool answered = false;
        pthread_t thread;
        int status;
        pid_t pid;

        if (prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) != 0)
                return 1;
        if (pthread_create(&thread, NULL, thread_call, &answered) != 0 ||
            pthread_join(thread, NULL) != 0 || !answered)
                return 2;
        pid = fork();
        if (pid == 0) {
                thread_call(&answered);
                _exit(!answered);
        }
        if (waitpid(pid, &status, 0) != pid || status != 0)
                return 3;
        return 0;
}

static void test_inherited(void **state)
{
        struct child c = child_start(run_inherited, NULL);
        int status;

        assert_int_equal(child_serve(&c, &status), 2);
        assert_int_equal(status, 0);
}

#ifdef __x86_64__
/* The other ABIs of the machine: their socket() goes by, and is the container's own. */
static int run_foreign_abi(void *userdata)
{
        long fd, nr = SYS_socket | 0x40000000 /* __X32_SYSCALL_BIT */;

        fd = syscall(nr, AF_INET, SOCK_STREAM, 0);
        if (fd >= 0 && is_answer((int)fd))
                return 1;
        /* socket() of i386 has number 359; its arguments are in ebx, ecx, edx. */
        __asm__ volatile("int $0x80"
                         : "=a"(fd)
                         : "a"(359L), "b"((long)AF_INET), "c"((long)SOCK_STREAM), "d"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        if (fd >= 0 && is_answer((int)fd))
                return 2;
        /* But an interface ioctl() is notified, for it may be on a socket of the host's. */
        __asm__ volatile("int $0x80"
                         : "=a"(fd)
                         : "a"(54L), "b"(-1L), "c"(0x8933L), "d"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        if (fd != -ANSWER && fd != -ENOSYS)
                return 4;
        *(bool *)userdata = fd == -ANSWER;
        __asm__ volatile("int $0x80"
                         : "=a"(fd)
                         : "a"(54L), "b"(-1L), "c"(0x5401L), "d"(0L)
                         : "memory", "r8", "r9", "r10", "r11");
        if (fd == -ANSWER)
                return 5;
        /* The same for x32, where the kernel has it: the filter comes before the kernel's look. */
        fd = syscall(514 | 0x40000000, -1, 0x8933, 0);
        if (fd != -1 || errno != ANSWER)
                return 6;
        /* And the filter is there all the same. */
        fd = socket(AF_INET, SOCK_STREAM, 0);
        return is_answer((int)fd) ? 0 : 3;
}

static void test_foreign_abi(void **state)
{
        bool *has_i386 = mmap(NULL, sizeof(*has_i386), PROT_READ | PROT_WRITE,
                              MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct child c;
        unsigned int answered;
        int status;

        assert_ptr_not_equal(has_i386, MAP_FAILED);
        c = child_start(run_foreign_abi, has_i386);
        answered = child_serve(&c, &status);
        assert_int_equal(answered, *has_i386 ? 3 : 2);
        munmap(has_i386, sizeof(*has_i386));
        assert_int_equal(status, 0);
}
#endif

/* getsockopt() of netfilter's options ends at the filter. A descriptor that is no socket tells: the
 * kernel itself would say ENOTSOCK. */
static const struct {
        unsigned long level, option;
        bool refused;
} netfilter[] = {
    {IPPROTO_IP, 64, true},
    {IPPROTO_IP, 80 /* SO_ORIGINAL_DST */, true},
    {IPPROTO_IP, 128, true},
    {IPPROTO_IP, 1153, true},
    {IPPROTO_IP, UPPER_HALF | 80, true},
    {UPPER_HALF | IPPROTO_IP, 80, true},
    {IPPROTO_IP, 0xffffffff, true},
    {IPPROTO_IPV6, 64, true},
    {IPPROTO_IPV6, 65, true},
    {IPPROTO_IPV6, UPPER_HALF | 68, true},
    {IPPROTO_IPV6, 69, true},
    {IPPROTO_IPV6, 80, true},
    {IPPROTO_IP, IP_TTL, false},
    {IPPROTO_IP, 63, false},
    {IPPROTO_IPV6, IPV6_TCLASS, false},
    {IPPROTO_IPV6, 66, false},
    {IPPROTO_IPV6, IPV6_FREEBIND, false},
    {SOL_SOCKET, SO_TYPE, false},
    {SOL_SOCKET, 80, false},
    {IPPROTO_TCP, 80, false},
};

static int run_netfilter(void *userdata)
{
        int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

        for (size_t i = 0; i < ARRAY_SIZE(netfilter); i++) {
                char value[64];
                socklen_t n = sizeof(value);
                long r = syscall(SYS_getsockopt, null, netfilter[i].level, netfilter[i].option,
                                 value, &n);

                if (r != -1 || errno != (netfilter[i].refused ? ENOPROTOOPT : ENOTSOCK))
                        return STATUS_BAD_CALL + (int)i;
        }
        return 0;
}

static void test_netfilter_is_refused(void **state)
{
        struct child c = child_start(run_netfilter, NULL);
        int status;

        assert_int_equal(child_serve(&c, &status), 0);
        assert_int_equal(status, 0);
}

static int run_second(void *userdata)
{
        int fd;

        return filter_load(&fd) == -EBUSY ? 0 : 1;
}

static void test_second_filter_is_refused(void **state)
{
        struct child c = child_start(run_second, NULL);
        int status;

        assert_int_equal(child_serve(&c, &status), 0);
        assert_int_equal(status, 0);
}

/* No copy of the descriptor stays behind, which would keep notifications unanswered for good. */
static void test_close_on_exec_and_no_other_descriptor(void **state)
{
        int status;
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int before = dup(STDIN_FILENO), fd, after;

                close(before);
                if (filter_load(&fd) < 0)
                        _exit(1);
                if (fcntl(fd, F_GETFD) != FD_CLOEXEC)
                        _exit(2);
                close(fd);
                after = dup(STDIN_FILENO);
                _exit(before == after ? 0 : 3);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_which_calls_are_notified),
            cmocka_unit_test(test_which_ioctls_are_notified),
            cmocka_unit_test(test_listen_is_notified),
            cmocka_unit_test(test_inherited),
#ifdef __x86_64__
            cmocka_unit_test(test_foreign_abi),
#endif
            cmocka_unit_test(test_netfilter_is_refused),
            cmocka_unit_test(test_second_filter_is_refused),
            cmocka_unit_test(test_close_on_exec_and_no_other_descriptor),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP needs root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
