/* SPDX-License-Identifier: Apache-2.0 */
/* In a network namespace of its own, which goes with the process. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/inaddr.h"
#include "shared/netlink.h"
#include "shared/sockdiag.h"

#define EVERY_STATE 0xffffU

static int setup(void **state)
{
        struct netlink *nl;
        int r;

        if (unshare(CLONE_NEWNET) < 0 || netlink_open(-1, &nl) < 0)
                return -1;
        r = netlink_link_up(nl, 1);
        netlink_free(nl);
        return r;
}

/* --- helpers ---------------------------------------------------------------------------------- */

static uint64_t cookie_of(int fd)
{
        uint64_t cookie;
        socklen_t len = sizeof(cookie);

        assert_int_equal(getsockopt(fd, SOL_SOCKET, SO_COOKIE, &cookie, &len), 0);
        return cookie;
}

struct search {
        uint64_t cookie;
        struct sockdiag_tcp found;
        unsigned int n, seen;
};

static int search_one(const struct sockdiag_tcp *s, void *userdata)
{
        struct search *search = userdata;

        search->seen++;
        if (s->cookie == search->cookie) {
                search->found = *s;
                search->n++;
        }
        return 0;
}

/* Looks a socket up among those in these states; it must be there just once. */
static struct sockdiag_tcp find(int fd, uint32_t states)
{
        struct search search = {.cookie = cookie_of(fd)};

        assert_int_equal(sockdiag_tcp_each(-1, states, -1, search_one, &search), 0);
        assert_int_equal(search.n, 1);
        return search.found;
}

static bool exists(int fd, uint32_t states)
{
        struct search search = {.cookie = cookie_of(fd)};

        assert_int_equal(sockdiag_tcp_each(-1, states, -1, search_one, &search), 0);
        return search.n > 0;
}

static unsigned int count(uint32_t states)
{
        struct search search = {0};

        assert_int_equal(sockdiag_tcp_each(-1, states, -1, search_one, &search), 0);
        return search.seen;
}

static union slim_addr addr(const char *text)
{
        union slim_addr a;

        assert_int_equal(inaddr_parse(text, &a), 0);
        return a;
}

static socklen_t sockaddr_for(int family, const char *text, uint16_t port,
                              struct sockaddr_storage *ret)
{
        struct sockaddr_in *sin = (struct sockaddr_in *)ret;
        struct sockaddr_in6 *sin6 = (struct sockaddr_in6 *)ret;

        memset(ret, 0, sizeof(*ret));
        ret->ss_family = (sa_family_t)family;
        if (family == AF_INET) {
                assert_int_equal(inet_pton(AF_INET, text, &sin->sin_addr), 1);
                sin->sin_port = htons(port);
                return sizeof(*sin);
        }
        assert_int_equal(inet_pton(AF_INET6, text, &sin6->sin6_addr), 1);
        sin6->sin6_port = htons(port);
        return sizeof(*sin6);
}

static uint16_t local_port(int fd)
{
        union {
                struct sockaddr any;
                struct sockaddr_in in;
                struct sockaddr_in6 in6;
        } sa = {0};
        socklen_t len = sizeof(sa);

        assert_int_equal(getsockname(fd, &sa.any, &len), 0);
        return ntohs(sa.in.sin_port); /* at the same place in both */
}

static int listen_on(int family, const char *text)
{
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_storage sa;
        socklen_t len = sockaddr_for(family, text, 0, &sa);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&sa, len), 0);
        assert_int_equal(listen(fd, 1000), 0);
        return fd;
}

static int connect_to(int family, const char *text, uint16_t port)
{
        int fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        struct sockaddr_storage sa;
        socklen_t len = sockaddr_for(family, text, port, &sa);

        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&sa, len), 0);
        return fd;
}

static void exchange(int from, int to, size_t len)
{
        char buf[4096] = {0};

        assert_true(len <= sizeof(buf));
        assert_int_equal(send(from, buf, len, 0), len);
        assert_int_equal(recv(to, buf, len, MSG_WAITALL), len);
}

/* --- listing ---------------------------------------------------------------------------------- */

static void test_nothing(void **state)
{
        assert_int_equal(count(EVERY_STATE), 0);
}

struct listing {
        int listen_family;
        const char *listen_at;
        int client_family;
        const char *to;   /* as the client says it */
        const char *seen; /* what both ends are then at */
};

static void check_listing(const struct listing *l)
{
        int listener = listen_on(l->listen_family, l->listen_at), client, server;
        uint16_t port = local_port(listener);
        struct sockdiag_tcp s;
        struct stat st;

        client = connect_to(l->client_family, l->to, port);
        server = accept(listener, NULL, NULL);
        assert_true(server >= 0);
        exchange(client, server, 1000);
        exchange(server, client, 3);
        exchange(client, server, 1); /* acknowledges the 3 */

        s = find(listener, 1 << TCP_LISTEN);
        assert_int_equal(s.state, TCP_LISTEN);
        assert_int_equal(s.family, l->listen_family);
        assert_int_equal(s.local_port, port);
        assert_int_equal(s.peer_port, 0);
        assert_true(inaddr_equal(&s.local_addr, &(union slim_addr[]){addr(l->listen_at)}[0]));

        s = find(client, 1 << TCP_ESTABLISHED);
        assert_int_equal(s.state, TCP_ESTABLISHED);
        assert_int_equal(s.family, l->client_family);
        assert_int_equal(s.local_port, local_port(client));
        assert_int_equal(s.peer_port, port);
        assert_true(inaddr_equal(&s.local_addr, &(union slim_addr[]){addr(l->seen)}[0]));
        assert_true(inaddr_equal(&s.peer_addr, &(union slim_addr[]){addr(l->seen)}[0]));
        assert_int_equal(s.uid, getuid());
        assert_int_equal(s.ifindex, 0);
        assert_int_equal(fstat(client, &st), 0);
        assert_int_equal(s.inode, st.st_ino);
        assert_int_equal(s.bytes_received, 3);
        /* The last byte may be on its way, and the kernel counts the SYN. */
        assert_in_range(s.bytes_acked, 1000, 1002);

        s = find(server, 1 << TCP_ESTABLISHED);
        assert_int_equal(s.family, l->listen_family);
        assert_int_equal(s.local_port, port);
        assert_int_equal(s.peer_port, local_port(client));
        assert_int_equal(s.bytes_received, 1001);
        assert_int_equal(s.bytes_acked, 3);

        close(server);
        close(client);
        close(listener);
}

static void test_v4(void **state)
{
        check_listing(&(struct listing){AF_INET, "127.0.0.1", AF_INET, "127.0.0.1", "127.0.0.1"});
}

static void test_v6(void **state)
{
        check_listing(&(struct listing){AF_INET6, "::1", AF_INET6, "::1", "::1"});
}

static void test_dual_stack(void **state)
{
        check_listing(&(struct listing){AF_INET6, "::", AF_INET, "127.0.0.1", "127.0.0.1"});
        check_listing(
            &(struct listing){AF_INET, "0.0.0.0", AF_INET6, "::ffff:127.0.0.1", "127.0.0.1"});
}

static void test_states(void **state)
{
        int listener = listen_on(AF_INET, "127.0.0.1"), client, server;

        client = connect_to(AF_INET, "127.0.0.1", local_port(listener));
        server = accept(listener, NULL, NULL);
        assert_int_equal(count(0), 0);
        assert_int_equal(count(1 << TCP_LISTEN), 1);
        assert_int_equal(count(1 << TCP_ESTABLISHED), 2);
        assert_int_equal(count(1 << TCP_ESTABLISHED | 1 << TCP_LISTEN), 3);
        assert_int_equal(count(EVERY_STATE), 3);
        assert_int_equal(count(1 << TCP_CLOSE_WAIT), 0);

        assert_int_equal(shutdown(client, SHUT_WR), 0);
        assert_int_equal(recv(server, (char[1]){0}, 1, 0), 0);
        assert_int_equal(find(server, EVERY_STATE).state, TCP_CLOSE_WAIT);
        /* Whether its FIN has been acknowledged by now is the other end's affair. */
        assert_in_range(find(client, EVERY_STATE).state, TCP_FIN_WAIT1, TCP_FIN_WAIT2);
        assert_false(exists(server, 1 << TCP_ESTABLISHED));

        /* What is left of a connection has no process, and still a place in the list. */
        close(server);
        assert_int_equal(recv(client, (char[1]){0}, 1, 0), 0);
        close(client);
        assert_int_equal(count(1 << TCP_TIME_WAIT), 1);
        close(listener);
}

/* The cgroup2 directory of this process, or 0. */
static uint64_t own_cgroup(void)
{
        static const char *const mounts[] = {"/sys/fs/cgroup/unified", "/sys/fs/cgroup"};
        _cleanup_free_ char *text = NULL;
        char path[4096];
        char *line;
        struct stat st;

        if (read_file_at(-1, "/proc/self/cgroup", 1 << 16, &text, NULL) < 0)
                return 0;
        line = strncmp(text, "0::/", 4) == 0 ? text : strstr(text, "\n0::/");
        if (!line)
                return 0;
        line = strstr(line, "0::/") + 3;
        line[strcspn(line, "\n")] = '\0';
        for (size_t i = 0; i < 2; i++) {
                snprintf(path, sizeof(path), "%s/cgroup.controllers", mounts[i]);
                if (access(path, F_OK) < 0)
                        continue;
                snprintf(path, sizeof(path), "%s%s", mounts[i], line);
                if (stat(path, &st) == 0)
                        return st.st_ino;
        }
        return 0;
}

static void test_cgroup(void **state)
{
        uint64_t id = own_cgroup();
        int listener;

        if (id == 0) {
                print_message("no cgroup2 of this process to be seen\n");
                skip();
        }
        listener = listen_on(AF_INET, "127.0.0.1");
        assert_int_equal(find(listener, EVERY_STATE).cgroup, id);
        close(listener);
}

static int stop_at_third(const struct sockdiag_tcp *s, void *userdata)
{
        return ++*(int *)userdata == 3 ? -EXDEV : 0;
}

static int answer_seven(const struct sockdiag_tcp *s, void *userdata)
{
        return 7;
}

static void test_many(void **state)
{
        enum { MANY = 400 };
        int listener[2], fds[2][MANY], n = 0;

        listener[0] = listen_on(AF_INET, "127.0.0.1");
        listener[1] = listen_on(AF_INET6, "::1");
        for (int i = 0; i < MANY; i++) {
                fds[0][i] = connect_to(AF_INET, "127.0.0.1", local_port(listener[0]));
                fds[1][i] = connect_to(AF_INET6, "::1", local_port(listener[1]));
        }
        /* Both ends of each, accepted or not. */
        assert_int_equal(count(1 << TCP_ESTABLISHED), 4 * MANY);
        assert_int_equal(count(EVERY_STATE), 4 * MANY + 2);
        for (int i = 0; i < MANY; i += 57) {
                assert_int_equal(find(fds[0][i], EVERY_STATE).local_port, local_port(fds[0][i]));
                assert_int_equal(find(fds[1][i], EVERY_STATE).local_port, local_port(fds[1][i]));
        }
        assert_int_equal(sockdiag_tcp_each(-1, EVERY_STATE, -1, stop_at_third, &n), -EXDEV);
        assert_int_equal(n, 3);
        assert_int_equal(sockdiag_tcp_each(-1, EVERY_STATE, -1, answer_seven, NULL), 7);
        for (int i = 0; i < MANY; i++) {
                close(fds[0][i]);
                close(fds[1][i]);
        }
        close(listener[0]);
        close(listener[1]);
}

/* --- ending ----------------------------------------------------------------------------------- */

static void check_destroy(int listen_family, const char *listen_at, int family, const char *to,
                          const char *device)
{
        int listener = listen_on(listen_family, listen_at), client, server;
        struct sockdiag_tcp s, other;
        char c;

        client = connect_to(family, to, local_port(listener));
        server = accept(listener, NULL, NULL);
        if (device)
                assert_int_equal(setsockopt(server, SOL_SOCKET, SO_BINDTODEVICE, device,
                                            (socklen_t)strlen(device)),
                                 0);
        s = find(server, EVERY_STATE);
        assert_int_equal(s.ifindex, device ? 1 : 0);

        /* Another socket with the same addresses is not meant. */
        other = s;
        other.cookie++;
        assert_int_equal(sockdiag_tcp_destroy(-1, &other), -ENOENT);
        exchange(client, server, 1);

        assert_int_equal(sockdiag_tcp_destroy(-1, &s), 0);
        assert_int_equal(recv(client, &c, 1, 0), -1);
        assert_int_equal(errno, ECONNRESET);
        assert_int_equal(recv(server, &c, 1, 0), -1);
        assert_int_equal(errno, ECONNABORTED);
        assert_int_equal(sockdiag_tcp_destroy(-1, &s), -ENOENT);
        assert_false(exists(server, EVERY_STATE));

        /* A listener too. */
        s = find(listener, EVERY_STATE);
        assert_int_equal(sockdiag_tcp_destroy(-1, &s), 0);
        assert_false(exists(listener, EVERY_STATE));
        assert_int_equal(sockdiag_tcp_destroy(-1, &s), -ENOENT);
        close(client);
        close(server);
        close(listener);
}

static void test_destroy(void **state)
{
        check_destroy(AF_INET, "127.0.0.1", AF_INET, "127.0.0.1", NULL);
        check_destroy(AF_INET6, "::1", AF_INET6, "::1", NULL);
        check_destroy(AF_INET6, "::", AF_INET, "127.0.0.1", NULL);
        check_destroy(AF_INET, "0.0.0.0", AF_INET6, "::ffff:127.0.0.1", NULL);
}

static void test_destroy_bound_to_device(void **state)
{
        check_destroy(AF_INET, "127.0.0.1", AF_INET, "127.0.0.1", "lo");
        check_destroy(AF_INET6, "::1", AF_INET6, "::1", "lo");
}

static void test_destroy_refused(void **state)
{
        int listener = listen_on(AF_INET, "127.0.0.1"), status;
        struct sockdiag_tcp s = find(listener, EVERY_STATE), bad = s;
        pid_t pid;

        bad.family = AF_UNIX;
        assert_int_equal(sockdiag_tcp_destroy(-1, &bad), -EAFNOSUPPORT);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                if (setgid(65534) < 0 || setuid(65534) < 0)
                        _exit(2);
                _exit(sockdiag_tcp_destroy(-1, &s) == -EPERM ? 0 : 1);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        assert_true(exists(listener, 1 << TCP_LISTEN));
        close(listener);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
#define TEST(f) cmocka_unit_test_setup(f, setup)
            TEST(test_nothing),
            TEST(test_v4),
            TEST(test_v6),
            TEST(test_dual_stack),
            TEST(test_states),
            TEST(test_cgroup),
            TEST(test_many),
            TEST(test_destroy),
            TEST(test_destroy_bound_to_device),
            TEST(test_destroy_refused),
#undef TEST
        };

        if (unshare(CLONE_NEWNET) < 0) {
                printf("1..0 # SKIP cannot make a network namespace (%s): run as root\n",
                       strerror(errno));
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
