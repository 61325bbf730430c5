/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Framing, and which message a descriptor belongs to.
 *
 * One read of a Unix stream may return the bytes of several sends: the kernel stops only *after* a
 * send that had descriptors. So a read can hold the end of one message and the start of the next,
 * and its descriptors do not say beside which byte they came. Hence no read here crosses the end of
 * a message: the bytes are first looked at (MSG_PEEK), then taken up to and including the NUL. What
 * comes with them is this message's, or, where part of the message was there already, is
 * beside no first byte and refused.
 *
 * This also means that no message ever waits unseen in a buffer of ours: as long as one can be
 * received, the descriptor polls readable.
 *
 * In the other direction every message is a send of its own, so that its descriptors are attached
 * to its own first byte.
 */
#include "rpc.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"

/* The receive buffer starts with this, and does not stay larger than KEEP between messages. */
#define BUFFER_START 4096U
#define BUFFER_KEEP  (64U << 10)

/* A message on its way out. Until its first byte is sent it holds copies of its descriptors. */
struct frame {
        struct frame *next;
        size_t len, sent;
        int fds[RPC_FDS_MAX];
        size_t n_fds;
        char data[]; /* len bytes, the NUL included */
};

struct rpc {
        int fd;

        /* The part of one message that has arrived: no NUL in it. */
        char *buf;
        size_t len, size;
        int fds[RPC_FDS_MAX];
        size_t n_fds;
        int receive_error; /* the stream is no longer at a message: say so every time */

        struct frame *out, **out_tail;
        size_t pending;
        int send_error; /* a message was cut short: nothing that follows would be understood */
};

static void close_fds(int *fds, size_t *n_fds)
{
        for (size_t i = 0; i < *n_fds; i++)
                fds[i] = safe_close(fds[i]);
        *n_fds = 0;
}

static void frame_free(struct frame *f)
{
        close_fds(f->fds, &f->n_fds);
        free(f);
}
DEFINE_CLEANUP(struct frame *, frame_free)

int rpc_new(int fd, struct rpc **ret)
{
        int domain, type, r;
        socklen_t len;
        struct rpc *rpc;

        len = sizeof(domain);
        r = getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &len);
        if (r < 0)
                return -errno;
        len = sizeof(type);
        r = getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len);
        if (r < 0)
                return -errno;
        if (domain != AF_UNIX || type != SOCK_STREAM)
                return -EPROTOTYPE;

        rpc = new0(struct rpc, 1);
        if (!rpc)
                return -ENOMEM;
        rpc->fd = fd;
        rpc->out_tail = &rpc->out;
        *ret = rpc;
        return 0;
}

/* As an address, a path has room for 107 bytes; a longer one goes by way of its directory. */
static int socket_address(const char *run_dir, struct sockaddr_un *ret, int *ret_dir)
{
        _cleanup_close_ int dir = -1;
        struct sockaddr_un sa = {.sun_family = AF_UNIX};
        int n;

        n = snprintf(sa.sun_path, sizeof(sa.sun_path), "%s/" RPC_SOCKET_NAME, run_dir);
        if (n < 0)
                return -EINVAL;
        if ((size_t)n >= sizeof(sa.sun_path)) {
                dir = open(run_dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
                if (dir < 0)
                        return -errno;
                snprintf(sa.sun_path, sizeof(sa.sun_path), "/proc/self/fd/%d/" RPC_SOCKET_NAME,
                         dir);
        }
        *ret = sa;
        *ret_dir = TAKE_FD(dir);
        return 0;
}

int rpc_connect(const char *run_dir, struct rpc **ret)
{
        _cleanup_close_ int fd = -1, dir = -1;
        struct sockaddr_un sa;
        int r;

        r = socket_address(run_dir, &sa, &dir);
        if (r < 0)
                return r;
        fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        do {
                r = connect(fd, (struct sockaddr *)&sa, sizeof(sa)) < 0 ? -errno : 0;
        } while (r == -EINTR);
        if (r < 0)
                return log_debug_errno(r, "cannot connect to %s/" RPC_SOCKET_NAME ": %m", run_dir);
        r = rpc_new(fd, ret);
        if (r < 0)
                return r;
        TAKE_FD(fd);
        return 0;
}

void rpc_free(struct rpc *rpc)
{
        if (!rpc)
                return;
        while (rpc->out) {
                struct frame *f = rpc->out;

                rpc->out = f->next;
                frame_free(f);
        }
        close_fds(rpc->fds, &rpc->n_fds);
        safe_close(rpc->fd);
        free(rpc->buf);
        free(rpc);
}

int rpc_fd(const struct rpc *rpc)
{
        return rpc->fd;
}

/* --- sending ---------------------------------------------------------------------------------- */

static int frame_new(const json_t *message, struct frame **ret)
{
        _cleanup_(frame_freep) struct frame *f = NULL;
        size_t len;

        if (!json_is_object(message))
                return -EINVAL;
        len = json_dumpb(message, NULL, 0, JSON_COMPACT);
        if (len == 0)
                return -EINVAL;
        if (len > RPC_MESSAGE_MAX)
                return -E2BIG;
        f = calloc(1, sizeof(*f) + len + 1);
        if (!f)
                return -ENOMEM;
        if (json_dumpb(message, f->data, len, JSON_COMPACT) != len)
                return -ENOMEM; /* the size was right a moment ago */
        f->len = len + 1;
        *ret = TAKE_PTR(f);
        return 0;
}

/* Sends what the peer takes of one message; fds go with its first byte. -EAGAIN: not all of it. */
static int frame_send(int fd, struct frame *f, const int *fds, size_t n_fds)
{
        union {
                struct cmsghdr align;
                char buf[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
        } control;

        while (f->sent < f->len) {
                struct iovec iov = {f->data + f->sent, f->len - f->sent};
                struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
                ssize_t n;

                if (f->sent == 0 && n_fds > 0) {
                        struct cmsghdr *c = &control.align;

                        memset(&control, 0, sizeof(control));
                        c->cmsg_level = SOL_SOCKET;
                        c->cmsg_type = SCM_RIGHTS;
                        c->cmsg_len = CMSG_LEN(sizeof(int) * n_fds);
                        memcpy(CMSG_DATA(c), fds, sizeof(int) * n_fds);
                        mh.msg_control = &control;
                        mh.msg_controllen = CMSG_SPACE(sizeof(int) * n_fds);
                }
                n = sendmsg(fd, &mh, MSG_NOSIGNAL);
                if (n < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                f->sent += (size_t)n;
        }
        return 0;
}

int rpc_flush(struct rpc *rpc)
{
        if (rpc->send_error < 0)
                return rpc->send_error;
        while (rpc->out) {
                struct frame *f = rpc->out;
                size_t before = f->sent;
                int r;

                r = frame_send(rpc->fd, f, f->fds, f->n_fds);
                rpc->pending -= f->sent - before;
                if (f->sent > 0)
                        close_fds(f->fds, &f->n_fds);
                if (r == -EAGAIN)
                        return 0;
                if (r < 0)
                        return rpc->send_error = r;
                rpc->out = f->next;
                if (!rpc->out)
                        rpc->out_tail = &rpc->out;
                frame_free(f);
        }
        return 0;
}

int rpc_send(struct rpc *rpc, const json_t *message, const int *fds, size_t n_fds)
{
        _cleanup_(frame_freep) struct frame *f = NULL;
        int r;

        if (n_fds > RPC_FDS_MAX)
                return -EINVAL;
        r = frame_new(message, &f);
        if (r < 0)
                return r;
        r = rpc_flush(rpc);
        if (r < 0)
                return r;
        if (!rpc->out) {
                r = frame_send(rpc->fd, f, fds, n_fds);
                if (r < 0 && r != -EAGAIN) {
                        if (f->sent > 0)
                                rpc->send_error = r;
                        return r;
                }
                if (r == 0)
                        return 0;
        }

        /* The caller may close its descriptors before they are sent. */
        while (f->sent == 0 && f->n_fds < n_fds) {
                int copy = fcntl(fds[f->n_fds], F_DUPFD_CLOEXEC, 0);

                if (copy < 0)
                        return -errno;
                f->fds[f->n_fds++] = copy;
        }
        rpc->pending += f->len - f->sent;
        *rpc->out_tail = f;
        rpc->out_tail = &f->next;
        TAKE_PTR(f);
        return 0;
}

size_t rpc_pending(const struct rpc *rpc)
{
        return rpc->pending;
}

/* --- receiving -------------------------------------------------------------------------------- */

/* Makes room for at least one more byte, within the length of a message and its NUL. */
static int buffer_reserve(struct rpc *rpc)
{
        size_t size;
        char *bigger;

        if (rpc->len < rpc->size)
                return 0;
        if (rpc->len > RPC_MESSAGE_MAX)
                return -E2BIG;
        size = rpc->size ? rpc->size * 2 : BUFFER_START;
        if (size > RPC_MESSAGE_MAX + 1)
                size = RPC_MESSAGE_MAX + 1;
        bigger = realloc(rpc->buf, size);
        if (!bigger)
                return -ENOMEM;
        rpc->buf = bigger;
        rpc->size = size;
        return 0;
}

static ssize_t receive_some(int fd, struct msghdr *mh, int flags)
{
        for (;;) {
                ssize_t n = recvmsg(fd, mh, flags);

                if (n > 0)
                        return n;
                if (n == 0)
                        return -ECONNRESET;
                if (errno != EINTR)
                        return -errno;
        }
}

/* Takes over the descriptors of one read. -EBADMSG: too many, or not beside a first byte. */
static int take_fds(struct rpc *rpc, struct msghdr *mh)
{
        bool truncated = mh->msg_flags & MSG_CTRUNC, stray = false;

        for (struct cmsghdr *c = CMSG_FIRSTHDR(mh); c; c = CMSG_NXTHDR(mh, c)) {
                size_t n;

                if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
                        continue;
                n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
                for (size_t i = 0; i < n; i++) {
                        int fd;

                        memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
                        if (rpc->len > 0 || rpc->n_fds == RPC_FDS_MAX) {
                                safe_close(fd);
                                stray = true;
                        } else {
                                rpc->fds[rpc->n_fds++] = fd;
                        }
                }
        }
        if (stray)
                return log_debug_errno(-EBADMSG, "descriptors inside a message");
        /* The kernel cuts off what has no room; with room left it had no number to give. */
        if (truncated && rpc->n_fds < RPC_FDS_MAX)
                return log_debug_errno(-EMFILE, "cannot take the descriptors of a message: %m");
        if (truncated)
                return log_debug_errno(-EBADMSG, "more than %d descriptors with a message",
                                       RPC_FDS_MAX);
        return 0;
}

/* One read. 1: the buffer holds a whole message, its NUL included. 0: not yet. */
static int receive_part(struct rpc *rpc)
{
        union {
                struct cmsghdr align;
                char buf[CMSG_SPACE(sizeof(int) * RPC_FDS_MAX)];
        } control;
        struct iovec iov;
        struct msghdr mh = {.msg_iov = &iov, .msg_iovlen = 1};
        const char *nul;
        ssize_t n;
        int r;

        r = buffer_reserve(rpc);
        if (r < 0)
                return r;
        iov = (struct iovec){rpc->buf + rpc->len, rpc->size - rpc->len};
        n = receive_some(rpc->fd, &mh, MSG_PEEK);
        if (n < 0)
                return (int)n;
        nul = memchr(iov.iov_base, '\0', (size_t)n);
        iov.iov_len = nul ? (size_t)(nul - (char *)iov.iov_base) + 1 : (size_t)n;
        mh = (struct msghdr){.msg_iov = &iov,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof(control)};
        n = receive_some(rpc->fd, &mh, MSG_CMSG_CLOEXEC);
        if (n < 0)
                return (int)n;
        r = take_fds(rpc, &mh);
        if (r < 0)
                return r;
        rpc->len += (size_t)n;
        return rpc->buf[rpc->len - 1] == '\0';
}

static int decode(const char *text, size_t len, json_t **ret)
{
        _cleanup_json_ json_t *message = NULL;
        json_error_t error;

        message = json_loadb(text, len, JSON_REJECT_DUPLICATES, &error);
        if (!message)
                return log_debug_errno(-EBADMSG, "not JSON at byte %d: %s", error.position,
                                       error.text);
        if (!json_is_object(message))
                return log_debug_errno(-EBADMSG, "a message that is not a JSON object");
        *ret = TAKE_PTR(message);
        return 0;
}

static void buffer_reset(struct rpc *rpc)
{
        rpc->len = 0;
        if (rpc->size > BUFFER_KEEP) {
                free(rpc->buf);
                rpc->buf = NULL;
                rpc->size = 0;
        }
}

int rpc_receive(struct rpc *rpc, json_t **ret, int fds[RPC_FDS_MAX], size_t *ret_n_fds)
{
        json_t *message = NULL;
        int r;

        if (rpc->receive_error < 0)
                return rpc->receive_error;
        do {
                r = receive_part(rpc);
        } while (r == 0);
        if (r == -EAGAIN)
                return 0;
        if (r == -ENOMEM)
                return r; /* nothing was taken from the stream */
        if (r > 0) {
                r = decode(rpc->buf, rpc->len - 1, &message);
                buffer_reset(rpc);
        }
        if (r < 0) {
                close_fds(rpc->fds, &rpc->n_fds);
                return rpc->receive_error = r;
        }

        if (fds) {
                memcpy(fds, rpc->fds, sizeof(int) * rpc->n_fds);
                *ret_n_fds = rpc->n_fds;
                rpc->n_fds = 0;
        } else {
                close_fds(rpc->fds, &rpc->n_fds);
        }
        *ret = message;
        return 1;
}

/* --- calls ------------------------------------------------------------------------------------ */

/*
 * Waits where the socket does not do so itself. A blocking socket that says EAGAIN has a timeout of
 * its own (SO_RCVTIMEO, SO_SNDTIMEO), and it is over.
 */
static int wait_for(struct rpc *rpc, short events)
{
        struct pollfd p = {.fd = rpc->fd, .events = events};
        int flags = fcntl(rpc->fd, F_GETFL);

        if (flags < 0)
                return -errno;
        if (!(flags & O_NONBLOCK))
                return -ETIMEDOUT;
        while (poll(&p, 1, -1) < 0)
                if (errno != EINTR)
                        return -errno;
        return 0;
}

static int send_all(struct rpc *rpc, const json_t *message, const int *fds, size_t n_fds)
{
        int r = rpc_send(rpc, message, fds, n_fds);

        while (r == 0 && rpc_pending(rpc) > 0) {
                r = wait_for(rpc, POLLOUT);
                if (r == 0)
                        r = rpc_flush(rpc);
        }
        return r;
}

static int receive_answer(struct rpc *rpc, json_t **ret)
{
        for (;;) {
                int r = rpc_receive(rpc, ret, NULL, NULL);

                if (r > 0)
                        return 0;
                if (r < 0)
                        return r;
                r = wait_for(rpc, POLLIN);
                if (r < 0)
                        return r;
        }
}

/* Splits an answer into parameters or an error. */
static int read_answer(json_t *answer, json_t **ret, char **ret_error)
{
        const json_t *sentence = json_object_get(answer, "error");
        const json_t *number = json_object_get(answer, "errno");
        json_t *parameters = json_object_get(answer, "parameters");
        char *copy;

        if (!sentence && !number) {
                if (!json_is_object(parameters))
                        return log_debug_errno(-EBADMSG, "an answer without parameters");
                if (ret)
                        *ret = json_incref(parameters);
                return 0;
        }
        /* 4095 is the kernel's MAX_ERRNO. */
        if (!json_is_string(sentence) || !json_is_integer(number) ||
            json_integer_value(number) < 1 || json_integer_value(number) > 4095)
                return log_debug_errno(-EBADMSG, "an error answer without a sentence or errno");
        if (ret_error) {
                copy = strdup(json_string_value(sentence));
                if (!copy)
                        return -ENOMEM;
                *ret_error = copy;
        }
        return -(int)json_integer_value(number);
}

int rpc_call(struct rpc *rpc, const char *method, json_t *parameters, const int *fds, size_t n_fds,
             json_t **ret, char **ret_error)
{
        _cleanup_json_ json_t *message = NULL, *answer = NULL;
        int r, sent;

        if (ret_error)
                *ret_error = NULL;
        message = parameters ? json_pack("{s:s, s:O}", "method", method, "parameters", parameters)
                             : json_pack("{s:s, s:{}}", "method", method, "parameters");
        if (!message)
                return -EINVAL; /* the method's name is not UTF-8 */
        sent = send_all(rpc, message, fds, n_fds);
        if (sent < 0 && sent != -EPIPE && sent != -ECONNRESET)
                return sent;
        /* Who hangs up on a call that is still being sent may have said why. */
        r = receive_answer(rpc, &answer);
        if (r < 0)
                return r;
        return read_answer(answer, ret, ret_error);
}
