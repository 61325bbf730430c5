/* SPDX-License-Identifier: Apache-2.0 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
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
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "shared/rpc.h"

/* --- helpers ---------------------------------------------------------------------------------- */

static unsigned int count_fds(void)
{
        DIR *d = opendir("/proc/self/fd");
        unsigned int n = 0;

        assert_non_null(d);
        while (readdir(d))
                n++;
        closedir(d);
        return n;
}

/* An rpc over one end of a socket pair; the other end stays raw. */
static void make_pair(int flags, struct rpc **ret_rpc, int *ret_raw)
{
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, fds), 0);
        assert_int_equal(rpc_new(fds[0], ret_rpc), 0);
        *ret_raw = fds[1];
}

static void make_rpc_pair(int flags, struct rpc **ret_a, struct rpc **ret_b)
{
        int raw;

        make_pair(flags, ret_a, &raw);
        assert_int_equal(rpc_new(raw, ret_b), 0);
}

static void raw_send(int fd, const char *data, size_t len, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr align;
                char buf[CMSG_SPACE(sizeof(int) * 64)];
        } control = {0};
        struct iovec iov = {(void *)data, len};
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};

        if (n_fds > 0) {
                assert_true(n_fds <= 64);
                control.align.cmsg_level = SOL_SOCKET;
                control.align.cmsg_type = SCM_RIGHTS;
                control.align.cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                memcpy(CMSG_DATA(&control.align), fds, sizeof(int) * n_fds);
                mh.msg_control = &control;
                mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
        }
        if (len > 0)
                assert_int_equal(sendmsg(fd, &mh, MSG_NOSIGNAL), len);
}

static bool same_file(int a, int b)
{
        struct stat sa, sb;

        assert_int_equal(fstat(a, &sa), 0);
        assert_int_equal(fstat(b, &sb), 0);
        return sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Receives a message {"n": n} that has exactly these descriptors. */
static void expect(struct rpc *rpc, json_int_t number, const int *fds, size_t n_fds)
{
        int got[RPC_FDS_MAX];
        size_t n_got = 99;
        json_t *m = NULL;

        assert_int_equal(rpc_receive(rpc, &m, got, &n_got), 1);
        assert_int_equal(json_integer_value(json_object_get(m, "n")), number);
        json_decref(m);
        assert_int_equal(n_got, n_fds);
        for (size_t i = 0; i < n_fds; i++) {
                assert_true(same_file(got[i], fds[i]));
                assert_true(fcntl(got[i], F_GETFD) & FD_CLOEXEC);
                close(got[i]);
        }
}

static void expect_none(struct rpc *rpc)
{
        size_t n = 77;
        int got[RPC_FDS_MAX];
        json_t *m = (json_t *)&n;

        assert_int_equal(rpc_receive(rpc, &m, got, &n), 0);
        assert_ptr_equal(m, &n);
        assert_int_equal(n, 77);
}

/* Receives an error, twice: a broken stream stays broken. */
static void expect_error(struct rpc *rpc, int error)
{
        size_t n = 77;
        int got[RPC_FDS_MAX];
        json_t *m = NULL;

        for (int i = 0; i < 2; i++) {
                assert_int_equal(rpc_receive(rpc, &m, got, &n), error);
                assert_null(m);
                assert_int_equal(n, 77);
        }
}

static void send_number(struct rpc *rpc, json_int_t number, const int *fds, size_t n_fds)
{
        json_t *m = json_pack("{s:I}", "n", number);

        assert_int_equal(rpc_send(rpc, m, fds, n_fds), 0);
        json_decref(m);
}

/* --- messages --------------------------------------------------------------------------------- */

static void test_round_trip(void **state)
{
        struct rpc *a, *b;
        json_t *sent, *got = NULL;

        make_rpc_pair(0, &a, &b);
        sent = json_pack("{s:s, s:{s:s, s:[i,i], s:n}}", "method", "Network.List", "parameters",
                         "text", "blåbär \n \"\x01\"", "list", 1, -2, "null");
        assert_non_null(sent);
        for (int i = 0; i < 3; i++)
                assert_int_equal(rpc_send(a, sent, NULL, 0), 0);
        assert_int_equal(rpc_pending(a), 0);
        for (int i = 0; i < 3; i++) {
                assert_int_equal(rpc_receive(b, &got, NULL, NULL), 1);
                assert_true(json_equal(sent, got));
                json_decref(got);
        }
        send_number(b, 7, NULL, 0);
        expect(a, 7, NULL, 0);
        json_decref(sent);
        rpc_free(a);
        rpc_free(b);
        rpc_free(NULL);
}

static void test_byte_by_byte(void **state)
{
        static const char text[] = "{\"n\": 1}\0 {\"n\":2}\n";
        struct rpc *rpc;
        int raw;

        make_pair(SOCK_NONBLOCK, &rpc, &raw);
        expect_none(rpc);
        for (size_t i = 0; i < sizeof(text); i++) {
                raw_send(raw, text + i, 1, NULL, 0);
                if (text[i] != '\0')
                        expect_none(rpc);
                else
                        expect(rpc, i < 10 ? 1 : 2, NULL, 0);
        }
        expect_none(rpc);
        close(raw);
        expect_error(rpc, -ECONNRESET);
        rpc_free(rpc);
}

/* Whoever polls before each call of rpc_receive() misses nothing. */
static void test_polls_readable(void **state)
{
        struct rpc *a, *b;
        struct pollfd p = {.events = POLLIN};

        make_rpc_pair(SOCK_NONBLOCK, &a, &b);
        p.fd = rpc_fd(b);
        for (int i = 0; i < 5; i++)
                send_number(a, i, NULL, 0);
        for (int i = 0; i < 5; i++) {
                assert_int_equal(poll(&p, 1, 0), 1);
                expect(b, i, NULL, 0);
        }
        assert_int_equal(poll(&p, 1, 0), 0);
        rpc_free(a);
        rpc_free(b);
}

static void test_not_json(void **state)
{
        static const struct {
                const char *text;
                size_t len;
        } bad[] = {
#define BAD(s) {s, sizeof(s)}
            BAD(""),
            BAD("{"),
            BAD("[]"),
            BAD("1"),
            BAD("null"),
            BAD("\"x\""),
            BAD("{} {}"),
            BAD("{\"a\":1,\"a\":2}"),
            BAD("{'a':1}"),
            BAD("{\"\xff\":1}"),
            BAD("{\"a\":\"\\u0000\"}"),
            BAD("\xef\xbb\xbf{}"),
#undef BAD
        };
        unsigned int before = count_fds();

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct rpc *rpc;
                int raw;

                make_pair(0, &rpc, &raw);
                raw_send(raw, bad[i].text, bad[i].len, &raw, 1);
                raw_send(raw, "{}", 3, NULL, 0);
                expect_error(rpc, -EBADMSG);
                close(raw);
                rpc_free(rpc);
        }
        assert_int_equal(count_fds(), before);
}

/* A server can still say what was wrong with what it refused. */
static void test_answer_after_refusal(void **state)
{
        struct rpc *a, *b;

        make_rpc_pair(0, &a, &b);
        assert_int_equal(write(rpc_fd(a), "x", 2), 2);
        expect_error(b, -EBADMSG);
        send_number(b, 1, NULL, 0);
        rpc_free(b);
        expect(a, 1, NULL, 0);
        rpc_free(a);
}

static void test_deep_nesting(void **state)
{
        static char text[1 << 20];
        struct rpc *rpc;
        int raw;
        size_t at = 0;

        make_pair(SOCK_NONBLOCK, &rpc, &raw);
        memset(text, '[', sizeof(text) - 1);
        memcpy(text, "{\"a\":", 5);
        for (;;) {
                json_t *m = NULL;
                ssize_t n = send(raw, text + at, sizeof(text) - at, MSG_NOSIGNAL);
                int r = rpc_receive(rpc, &m, NULL, NULL);

                if (n > 0)
                        at += (size_t)n;
                if (r != 0) {
                        assert_int_equal(r, -EBADMSG);
                        break;
                }
        }
        assert_int_equal(at, sizeof(text));
        close(raw);
        rpc_free(rpc);
}

/* Feeds {"a":"xxx…"} of len bytes through a pair; the answer of rpc_receive(). */
static int feed_long(size_t len, size_t *ret_got)
{
        struct rpc *rpc;
        char *text = malloc(len + 1);
        json_t *m = NULL;
        size_t at = 0;
        int raw, r;

        assert_non_null(text);
        memset(text, 'x', len);
        memcpy(text, "{\"a\":\"", 6);
        memcpy(text + len - 2, "\"}", 3);
        make_pair(SOCK_NONBLOCK, &rpc, &raw);
        do {
                ssize_t n = send(raw, text + at, len + 1 - at, MSG_NOSIGNAL);

                if (n > 0)
                        at += (size_t)n;
                r = rpc_receive(rpc, &m, NULL, NULL);
        } while (r == 0);
        *ret_got = json_string_length(json_object_get(m, "a"));
        if (r == 1) {
                /* The big buffer is gone; the next message does well without. */
                json_decref(m);
                raw_send(raw, "{\"n\":5}", 8, NULL, 0);
                expect(rpc, 5, NULL, 0);
        } else {
                expect_error(rpc, r);
        }
        close(raw);
        rpc_free(rpc);
        free(text);
        return r;
}

static void test_longest(void **state)
{
        size_t got;

        assert_int_equal(feed_long(RPC_MESSAGE_MAX, &got), 1);
        assert_int_equal(got, RPC_MESSAGE_MAX - 8);
        assert_int_equal(feed_long(RPC_MESSAGE_MAX + 1, &got), -E2BIG);
        assert_int_equal(feed_long(4096, &got), 1);
        assert_int_equal(feed_long(4095, &got), 1);
        assert_int_equal(feed_long(4094, &got), 1);
        assert_int_equal(got, 4094 - 8);
}

static void test_send_refuses(void **state)
{
        struct rpc *a, *b;
        json_t *list = json_array(), *big = json_object(), *ok = json_pack("{s:i}", "n", 1);
        char *text = malloc(RPC_MESSAGE_MAX);
        int fds[RPC_FDS_MAX + 1] = {0}, closed;

        make_rpc_pair(SOCK_NONBLOCK, &a, &b);
        closed = dup(0);
        close(closed);
        memset(text, 'x', RPC_MESSAGE_MAX);
        /* {"a":"…"} is 8 bytes more than its text. */
        json_object_set_new(big, "a", json_stringn(text, RPC_MESSAGE_MAX - 7));
        assert_int_equal(rpc_send(a, list, NULL, 0), -EINVAL);
        assert_int_equal(rpc_send(a, NULL, NULL, 0), -EINVAL);
        assert_int_equal(rpc_send(a, ok, fds, RPC_FDS_MAX + 1), -EINVAL);
        assert_int_equal(rpc_send(a, big, NULL, 0), -E2BIG);
        assert_int_equal(rpc_send(a, ok, &closed, 1), -EBADF);
        assert_int_equal(rpc_pending(a), 0);
        expect_none(b);
        /* None of that went out or broke the stream. */
        assert_int_equal(rpc_send(a, ok, NULL, 0), 0);
        expect(b, 1, NULL, 0);
        json_decref(list);
        json_decref(big);
        json_decref(ok);
        free(text);
        rpc_free(a);
        rpc_free(b);
}

/* --- descriptors ------------------------------------------------------------------------------ */

static void make_files(int fds[RPC_FDS_MAX])
{
        for (int i = 0; i < RPC_FDS_MAX; i++) {
                fds[i] = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
                assert_true(fds[i] >= 0);
        }
}

static void close_files(int fds[RPC_FDS_MAX])
{
        for (int i = 0; i < RPC_FDS_MAX; i++)
                close(fds[i]);
}

static void test_fds(void **state)
{
        unsigned int before = count_fds();
        struct rpc *a, *b;
        int files[RPC_FDS_MAX];
        json_t *m = NULL;

        make_files(files);
        make_rpc_pair(0, &a, &b);
        send_number(a, 0, NULL, 0);
        send_number(a, 1, files, RPC_FDS_MAX);
        send_number(a, 2, NULL, 0);
        send_number(a, 3, files + 2, 1);
        send_number(a, 4, files + 1, 2);
        send_number(a, 5, files, RPC_FDS_MAX);
        send_number(a, 6, NULL, 0);
        expect(b, 0, NULL, 0);
        expect(b, 1, files, RPC_FDS_MAX);
        expect(b, 2, NULL, 0);
        expect(b, 3, files + 2, 1);
        expect(b, 4, files + 1, 2);
        assert_int_equal(rpc_receive(b, &m, NULL, NULL), 1); /* closes what came along */
        json_decref(m);
        expect(b, 6, NULL, 0);
        rpc_free(a);
        rpc_free(b);
        close_files(files);
        assert_int_equal(count_fds(), before);
}

/*
 * Message 1 has descriptors, 0 and 2 have none. However the stream is cut, in sends and in reads,
 * they come out with 1.
 */
static void test_fds_belong_to_their_message(void **state)
{
        static const char m0[] = "{\"n\":0}", m1[] = "{\"n\":1}", m2[] = "{\"n\":2}";
        unsigned int before = count_fds();
        int files[RPC_FDS_MAX];
        char rest[sizeof(m1) + sizeof(m2)];

        make_files(files);
        memcpy(rest, m1, sizeof(m1));
        memcpy(rest + sizeof(m1), m2, sizeof(m2));
        for (size_t i = 0; i < sizeof(m0); i++) {
                for (size_t j = 1; j <= sizeof(rest); j++) {
                        for (int early = 0; early < 2; early++) {
                                struct rpc *rpc;
                                int raw;

                                make_pair(SOCK_NONBLOCK, &rpc, &raw);
                                raw_send(raw, m0, i, NULL, 0);
                                if (early) /* the head of message 0 is read on its own */
                                        expect_none(rpc);
                                raw_send(raw, m0 + i, sizeof(m0) - i, NULL, 0);
                                raw_send(raw, rest, j, files, 2);
                                if (early) {
                                        expect(rpc, 0, NULL, 0);
                                        if (j < sizeof(m1))
                                                expect_none(rpc);
                                }
                                raw_send(raw, rest + j, sizeof(rest) - j, NULL, 0);
                                if (!early)
                                        expect(rpc, 0, NULL, 0);
                                expect(rpc, 1, files, 2);
                                expect(rpc, 2, NULL, 0);
                                expect_none(rpc);
                                close(raw);
                                rpc_free(rpc);
                        }
                }
        }
        close_files(files);
        assert_int_equal(count_fds(), before);
}

static void test_too_many_fds(void **state)
{
        unsigned int before = count_fds();
        int fds[64];

        for (size_t n = RPC_FDS_MAX + 1; n <= 64; n += 59) {
                struct rpc *rpc;
                int raw;

                make_pair(0, &rpc, &raw);
                for (size_t i = 0; i < n; i++)
                        fds[i] = raw;
                raw_send(raw, "{}", 3, fds, n);
                expect_error(rpc, -EBADMSG);
                close(raw);
                rpc_free(rpc);
        }
        assert_int_equal(count_fds(), before);
}

static void test_fds_inside_message(void **state)
{
        unsigned int before = count_fds();
        struct rpc *rpc;
        int raw;

        make_pair(SOCK_NONBLOCK, &rpc, &raw);
        raw_send(raw, "{", 1, &raw, 1);
        expect_none(rpc);
        raw_send(raw, "}", 2, &raw, 1);
        expect_error(rpc, -EBADMSG);
        close(raw);
        rpc_free(rpc);
        assert_int_equal(count_fds(), before);
}

/* No number is free for a descriptor: that is no fault of the peer's. */
static void test_no_room_for_fds(void **state)
{
        struct rlimit old, low;
        struct rpc *rpc;
        int raw;

        make_pair(0, &rpc, &raw);
        raw_send(raw, "{}", 3, &raw, 1);
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = old;
        low.rlim_cur = (rlim_t)dup(0);
        close((int)low.rlim_cur);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        expect_error(rpc, -EMFILE);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        close(raw);
        rpc_free(rpc);
}

/* --- a peer that does not read ---------------------------------------------------------------- */

static void test_backlog(void **state)
{
        unsigned int before = count_fds();
        int files[RPC_FDS_MAX], n = 0, received = 0;
        char *text = calloc(1, 50000);
        struct rlimit old, low;
        struct rpc *a, *b;
        size_t pending;
        json_t *m;

        memset(text, 'y', 49999);
        make_rpc_pair(SOCK_NONBLOCK, &a, &b);
        /* Every third has a descriptor of its own, which is closed as soon as it is sent. */
        while (n < 30 || rpc_pending(a) == 0) {
                make_files(files);
                m = json_pack("{s:i, s:s}", "n", n, "text", text);
                assert_int_equal(rpc_send(a, m, files, n % 3 == 0 ? 1 : 0), 0);
                json_decref(m);
                close_files(files);
                n++;
        }
        pending = rpc_pending(a);
        assert_true(pending > 0);
        assert_int_equal(rpc_flush(a), 0);
        assert_int_equal(rpc_pending(a), pending);

        /* With no descriptor left for a copy the message is refused whole. */
        assert_int_equal(getrlimit(RLIMIT_NOFILE, &old), 0);
        low = old;
        low.rlim_cur = (rlim_t)dup(0);
        close((int)low.rlim_cur);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
        m = json_pack("{s:i}", "n", -1);
        assert_int_equal(rpc_send(a, m, (int[]){0}, 1), -EMFILE);
        json_decref(m);
        assert_int_equal(setrlimit(RLIMIT_NOFILE, &old), 0);
        assert_int_equal(rpc_pending(a), pending);

        while (received < n) {
                int got[RPC_FDS_MAX], r;
                size_t n_got;

                r = rpc_receive(b, &m, got, &n_got);
                assert_true(r >= 0);
                if (r == 0) {
                        assert_true(rpc_pending(a) > 0);
                        assert_int_equal(rpc_flush(a), 0);
                        continue;
                }
                assert_int_equal(json_integer_value(json_object_get(m, "n")), received);
                assert_int_equal(json_string_length(json_object_get(m, "text")), 49999);
                json_decref(m);
                assert_int_equal(n_got, received % 3 == 0 ? 1 : 0);
                if (n_got) {
                        int domain, type;
                        socklen_t len = sizeof(domain);

                        assert_int_equal(getsockopt(got[0], SOL_SOCKET, SO_DOMAIN, &domain, &len),
                                         0);
                        assert_int_equal(domain, AF_UNIX);
                        len = sizeof(type);
                        assert_int_equal(getsockopt(got[0], SOL_SOCKET, SO_TYPE, &type, &len), 0);
                        assert_int_equal(type, SOCK_DGRAM);
                        close(got[0]);
                }
                received++;
        }
        assert_int_equal(rpc_pending(a), 0);
        expect_none(b);
        rpc_free(a);
        rpc_free(b);
        free(text);
        assert_int_equal(count_fds(), before);
}

/* What was not sent is freed with its descriptors; what was not received too. */
static void test_free_with_backlog(void **state)
{
        unsigned int before = count_fds();
        struct rpc *a, *b;
        int raw;

        make_rpc_pair(SOCK_NONBLOCK, &a, &b);
        while (rpc_pending(a) < 10000)
                send_number(a, 1, (int[]){0, 1}, 2);
        rpc_free(b);
        assert_int_equal(rpc_flush(a), -EPIPE);
        assert_int_equal(rpc_flush(a), -EPIPE);
        rpc_free(a);
        assert_int_equal(count_fds(), before);

        make_pair(SOCK_NONBLOCK, &a, &raw);
        raw_send(raw, "{\"half\":", 8, (int[]){0, 1}, 2);
        expect_none(a);
        assert_int_equal(count_fds(), before + 4);
        rpc_free(a);
        close(raw);
        assert_int_equal(count_fds(), before);
}

static void test_peer_gone(void **state)
{
        struct rpc *rpc;
        json_t *m = json_object();
        int raw;

        make_pair(0, &rpc, &raw);
        raw_send(raw, "{\"n\":1}\0{\"ha", 12, NULL, 0);
        close(raw);
        assert_int_equal(rpc_send(rpc, m, NULL, 0), -EPIPE); /* and no SIGPIPE */
        expect(rpc, 1, NULL, 0);
        expect_error(rpc, -ECONNRESET);
        json_decref(m);
        rpc_free(rpc);
}

/* --- making one ------------------------------------------------------------------------------- */

static void test_new_refuses(void **state)
{
        unsigned int before = count_fds();
        struct rpc *rpc = NULL;
        int fds[2];

        fds[0] = open("/dev/null", O_RDWR | O_CLOEXEC);
        assert_int_equal(rpc_new(fds[0], &rpc), -ENOTSOCK);
        assert_int_equal(close(fds[0]), 0); /* it stayed ours */
        assert_int_equal(rpc_new(fds[0], &rpc), -EBADF);
        assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, fds), 0);
        assert_int_equal(rpc_new(fds[0], &rpc), -EPROTOTYPE);
        close(fds[0]);
        close(fds[1]);
        fds[0] = socket(AF_INET, SOCK_STREAM, 0);
        assert_int_equal(rpc_new(fds[0], &rpc), -EPROTOTYPE);
        close(fds[0]);
        assert_null(rpc);
        assert_int_equal(count_fds(), before);
}

static void connect_in(const char *dir)
{
        struct sockaddr_un sa = {.sun_family = AF_UNIX, .sun_path = RPC_SOCKET_NAME};
        unsigned int before = count_fds();
        struct rpc *rpc = NULL;
        int listener, conn, cwd, flags;
        char path[512];

        assert_int_equal(rpc_connect(dir, &rpc), -ENOENT);
        /* The listener's own path is short, wherever the directory is. */
        cwd = open(".", O_PATH | O_CLOEXEC);
        assert_int_equal(chdir(dir), 0);
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(listener, (struct sockaddr *)&sa, sizeof(sa)), 0);
        assert_int_equal(fchdir(cwd), 0);
        close(cwd);
        assert_int_equal(rpc_connect(dir, &rpc), -ECONNREFUSED);
        assert_null(rpc);
        assert_int_equal(listen(listener, 1), 0);
        assert_int_equal(rpc_connect(dir, &rpc), 0);
        conn = accept(listener, NULL, NULL);
        raw_send(conn, "{\"n\":3}", 8, NULL, 0);
        expect(rpc, 3, NULL, 0);
        flags = fcntl(rpc_fd(rpc), F_GETFD);
        assert_true(flags & FD_CLOEXEC);
        rpc_free(rpc);
        close(conn);
        close(listener);
        snprintf(path, sizeof(path), "%s/" RPC_SOCKET_NAME, dir);
        unlink(path);
        assert_int_equal(count_fds(), before);
}

/*
 * A directory that goes when the test ends, however it ends: a process of its own waits for the
 * last writer of a pipe to be gone.
 */
struct scratch {
        char dir[32];
        int alive; /* the pipe */
        pid_t remover;
};

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        remove(path);
        return 0;
}

static int scratch_setup(void **state)
{
        static struct scratch s;
        int ends[2];

        strcpy(s.dir, "/tmp/slim-test-rpc-XXXXXX");
        if (!mkdtemp(s.dir) || pipe2(ends, O_CLOEXEC) < 0)
                return -1;
        s.remover = fork();
        if (s.remover == 0) {
                setsid();
                close(ends[1]);
                while (read(ends[0], (char[1]){0}, 1) != 0)
                        ;
                nftw(s.dir, remove_one, 8, FTW_DEPTH | FTW_PHYS);
                _exit(0);
        }
        close(ends[0]);
        s.alive = ends[1];
        *state = &s;
        return s.remover < 0 ? -1 : 0;
}

static int scratch_teardown(void **state)
{
        struct scratch *s = *state;

        close(s->alive);
        return waitpid(s->remover, NULL, 0) == s->remover && access(s->dir, F_OK) < 0 ? 0 : -1;
}

static void test_connect(void **state)
{
        struct scratch *s = *state;
        struct rpc *rpc = NULL;
        char deep[256], file[64];
        int fd;

        connect_in(s->dir);
        snprintf(deep, sizeof(deep), "%s/%0150d", s->dir, 0);
        assert_int_equal(rpc_connect(deep, &rpc), -ENOENT);
        assert_int_equal(mkdir(deep, 0700), 0);
        connect_in(deep);
        snprintf(file, sizeof(file), "%s/file", s->dir);
        fd = open(file, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        assert_true(fd >= 0);
        close(fd);
        assert_int_equal(rpc_connect(file, &rpc), -ENOTDIR);
        assert_null(rpc);
}

/* --- calls ------------------------------------------------------------------------------------ */

struct server {
        int fd;
        const char *answer; /* NULL: hang up */
        bool early;         /* without reading the call */
        char *call;         /* what it read */
        size_t n_fds;
};

static void *serve(void *userdata)
{
        struct server *s = userdata;
        int fds[RPC_FDS_MAX];
        struct rpc *rpc;
        json_t *m = NULL;

        if (rpc_new(s->fd, &rpc) < 0)
                return NULL;
        if (!s->early && rpc_receive(rpc, &m, fds, &s->n_fds) == 1) {
                s->call = json_dumps(m, JSON_COMPACT);
                json_decref(m);
                for (size_t i = 0; i < s->n_fds; i++)
                        close(fds[i]);
        }
        if (s->answer)
                write_full(s->fd, s->answer, strlen(s->answer) + 1);
        rpc_free(rpc);
        return NULL;
}

/* Makes one call of a server that answers so. */
static int call(int flags, struct server *s, json_t *parameters, json_t **ret, char **ret_error)
{
        struct rpc *rpc;
        pthread_t thread;
        int r, on;

        make_pair(0, &rpc, &s->fd);
        on = fcntl(rpc_fd(rpc), F_GETFL);
        assert_int_equal(fcntl(rpc_fd(rpc), F_SETFL, on | flags), 0);
        assert_int_equal(pthread_create(&thread, NULL, serve, s), 0);
        r = rpc_call(rpc, "A.B", parameters, (int[]){0}, parameters ? 1 : 0, ret, ret_error);
        assert_int_equal(pthread_join(thread, NULL), 0);
        rpc_free(rpc);
        return r;
}

static void test_call(void **state)
{
        for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
                json_t *parameters = json_pack("{s:i}", "p", 1), *got = NULL;
                char *error = (char *)"old";
                struct server s = {.answer = "{\"parameters\":{\"x\":2}}"};

                assert_int_equal(call(flags, &s, parameters, &got, &error), 0);
                assert_int_equal(json_integer_value(json_object_get(got, "x")), 2);
                assert_null(error);
                assert_string_equal(s.call, "{\"method\":\"A.B\",\"parameters\":{\"p\":1}}");
                assert_int_equal(s.n_fds, 1);
                assert_int_equal(parameters->refcount, 1);
                assert_int_equal(got->refcount, 1);
                json_decref(got);
                json_decref(parameters);
                free(s.call);

                s = (struct server){.answer = "{\"parameters\":{}}"};
                assert_int_equal(call(flags, &s, NULL, NULL, NULL), 0);
                assert_string_equal(s.call, "{\"method\":\"A.B\",\"parameters\":{}}");
                assert_int_equal(s.n_fds, 0);
                free(s.call);

                got = NULL;
                s = (struct server){.answer = "{\"error\":\"no such thing\",\"errno\":2}"};
                assert_int_equal(call(flags, &s, NULL, &got, &error), -ENOENT);
                assert_string_equal(error, "no such thing");
                assert_null(got);
                free(error);
                free(s.call);
                s.call = NULL;
                assert_int_equal(call(flags, &s, NULL, NULL, NULL), -ENOENT);
                free(s.call);

                error = (char *)"old";
                s = (struct server){.answer = NULL};
                assert_int_equal(call(flags, &s, NULL, &got, &error), -ECONNRESET);
                assert_null(error);
                free(s.call);
        }
}

static void test_call_bad_answers(void **state)
{
        static const char *const bad[] = {
            "{}",
            "{\"parameters\":[]}",
            "{\"parameters\":null}",
            "{\"error\":\"x\"}",
            "{\"errno\":2}",
            "{\"error\":\"x\",\"errno\":0}",
            "{\"error\":\"x\",\"errno\":-2}",
            "{\"error\":\"x\",\"errno\":4096}",
            "{\"error\":\"x\",\"errno\":9223372036854775807}",
            "{\"error\":\"x\",\"errno\":2.0}",
            "{\"error\":\"x\",\"errno\":\"2\"}",
            "{\"error\":2,\"errno\":2}",
            "[]",
            "nonsense",
        };

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                struct server s = {.answer = bad[i]};
                char *error = (char *)"old";
                json_t *got = NULL;

                assert_int_equal(call(0, &s, NULL, &got, &error), -EBADMSG);
                assert_null(got);
                assert_null(error);
                free(s.call);
        }
}

static void test_call_refused_here(void **state)
{
        struct rpc *a, *b;
        char *error = (char *)"old";

        make_rpc_pair(SOCK_NONBLOCK, &a, &b);
        assert_int_equal(rpc_call(a, "\xff", NULL, NULL, 0, NULL, &error), -EINVAL);
        assert_null(error);
        assert_int_equal(rpc_call(a, "A.B", NULL, (int[5]){0}, 5, NULL, &error), -EINVAL);
        expect_none(b);
        rpc_free(a);
        rpc_free(b);
}

/* Larger than any socket buffer: both ways of waiting for room, and a server that will not read. */
static void test_call_big(void **state)
{
        char *text = calloc(1, 4 << 20), *error;
        json_t *parameters, *got;

        memset(text, 'z', (4 << 20) - 1);
        parameters = json_pack("{s:s}", "text", text);
        for (int flags = 0; flags <= O_NONBLOCK; flags += O_NONBLOCK) {
                struct server s = {.answer = "{\"parameters\":{}}"};

                assert_int_equal(call(flags, &s, parameters, &got, &error), 0);
                assert_true(strlen(s.call) > 4 << 20);
                json_decref(got);
                free(s.call);

                s = (struct server){.answer = "{\"error\":\"too long for me\",\"errno\":7}",
                                    .early = true};
                assert_int_equal(call(flags, &s, parameters, &got, &error), -E2BIG);
                assert_string_equal(error, "too long for me");
                free(error);
        }
        json_decref(parameters);
        free(text);
}

static void test_call_timeout(void **state)
{
        struct timeval tv = {.tv_usec = 1000};
        json_t *parameters;
        struct rpc *a, *b;
        char *text;

        make_rpc_pair(0, &a, &b);
        assert_int_equal(setsockopt(rpc_fd(a), SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv)), 0);
        assert_int_equal(setsockopt(rpc_fd(a), SOL_SOCKET, SO_SNDTIMEO, &tv, sizeof(tv)), 0);
        assert_int_equal(rpc_call(a, "A.B", NULL, NULL, 0, NULL, NULL), -ETIMEDOUT);
        text = calloc(1, 4 << 20);
        memset(text, 'z', (4 << 20) - 1);
        parameters = json_pack("{s:s}", "text", text);
        assert_int_equal(rpc_call(a, "A.B", parameters, NULL, 0, NULL, NULL), -ETIMEDOUT);
        json_decref(parameters);
        free(text);
        rpc_free(a);
        rpc_free(b);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_round_trip),
            cmocka_unit_test(test_byte_by_byte),
            cmocka_unit_test(test_polls_readable),
            cmocka_unit_test(test_not_json),
            cmocka_unit_test(test_answer_after_refusal),
            cmocka_unit_test(test_deep_nesting),
            cmocka_unit_test(test_longest),
            cmocka_unit_test(test_send_refuses),
            cmocka_unit_test(test_fds),
            cmocka_unit_test(test_fds_belong_to_their_message),
            cmocka_unit_test(test_too_many_fds),
            cmocka_unit_test(test_fds_inside_message),
            cmocka_unit_test(test_no_room_for_fds),
            cmocka_unit_test(test_backlog),
            cmocka_unit_test(test_free_with_backlog),
            cmocka_unit_test(test_peer_gone),
            cmocka_unit_test(test_new_refuses),
            cmocka_unit_test_setup_teardown(test_connect, scratch_setup, scratch_teardown),
            cmocka_unit_test(test_call),
            cmocka_unit_test(test_call_bad_answers),
            cmocka_unit_test(test_call_refused_here),
            cmocka_unit_test(test_call_big),
            cmocka_unit_test(test_call_timeout),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
