/* SPDX-License-Identifier: Apache-2.0 */
#include "queue.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <sched.h>
#include <stddef.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../basic/fd.h"

/* A queue that was needed this recently is not taken away from its user. */
#define IN_USE_MS 1000

static const struct queue no_queue = {.ours = -1, .theirs = -1, .spare = -1};

static uint64_t now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void queues_init(struct queues *queues, struct pool *pool, int netns_fd)
{
        *queues = (struct queues){.pool = pool, .netns_fd = netns_fd};
        for (size_t i = 0; i < QUEUES_MAX; i++)
                queues->queue[i] = no_queue;
}

static void queue_close(struct queue *q)
{
        safe_close(q->ours);
        safe_close(q->theirs);
        safe_close(q->spare);
        *q = no_queue;
}

void queues_done(struct queues *queues)
{
        for (size_t i = 0; i < QUEUES_MAX; i++)
                queue_close(&queues->queue[i]);
}

/* --- the pair --------------------------------------------------------------------------------- */

struct pair {
        int netns_fd;
        int fds[2];
        int error;
};

/* In a process of its own, see below. The descriptors are the broker's as well. */
static int pair_make(void *userdata)
{
        struct pair *p = userdata;

        if (setns(p->netns_fd, CLONE_NEWNET) < 0 ||
            socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, p->fds) < 0)
                p->error = -errno;
        return 0;
}

/*
 * A pair of the container's namespace, by a process that has ended by the time the container gets
 * it: a Unix socket tells who has made it (SO_PEERPIDFD), and that is not to be the broker.
 */
static int pair_open(int netns_fd, int ret[2])
{
        static char stack[16384] __attribute__((aligned(16)));
        struct pair p = {.netns_fd = netns_fd, .fds = {-1, -1}};
        pid_t pid;

        pid = clone(pair_make, stack + sizeof(stack), CLONE_VM | CLONE_FILES | CLONE_VFORK, &p);
        if (pid < 0)
                return -errno;
        while (waitpid(pid, NULL, __WCLONE) < 0)
                if (errno != EINTR)
                        break;
        if (p.error < 0)
                return p.error;
        memcpy(ret, p.fds, sizeof(p.fds));
        return 0;
}

/* Gives a socket away, and closes it here; -EAGAIN: the queue is full. */
static int queue_send(const struct queue *q, int *fd)
{
        union {
                struct cmsghdr head;
                char room[CMSG_SPACE(sizeof(int))];
        } control = {
            .head = {.cmsg_level = SOL_SOCKET,
                     .cmsg_type = SCM_RIGHTS,
                     .cmsg_len = CMSG_LEN(sizeof(int))},
        };
        struct iovec iov = {.iov_base = &(char){0}, .iov_len = 1};
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };

        memcpy(CMSG_DATA(&control.head), fd, sizeof(*fd));
        if (sendmsg(q->ours, &msg, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
                return -errno;
        *fd = safe_close(*fd);
        return 0;
}

/* A socket of the queue's user. */
static int queue_socket(const struct queues *queues, const struct queue *q)
{
        _cleanup_close_ int fd = pool_make(queues->pool, q->family);

        if (fd < 0)
                return fd;
        if ((q->uid || q->gid) && fchown(fd, q->uid, q->gid) < 0)
                return -errno;
        return TAKE_FD(fd);
}

/* The room for QUEUE_SIZE messages, by what the first one takes. */
static int queue_set_size(const struct queue *q)
{
        int used, room;

        if (ioctl(q->ours, SIOCOUTQ, &used) < 0)
                return -errno;
        room = used * QUEUE_SIZE / 2; /* the kernel doubles it */
        return setsockopt(q->ours, SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) < 0 ? -errno : 0;
}

static int queue_open(const struct queues *queues, struct queue *q)
{
        /* sockopt.bpf.c refuses each option on a Unix socket with an entry: SO_PASSPIDFD would give
         * away the broker with the next message. */
        static const struct slim_socket mark = {.slot = SLIM_NO_SLOT};
        int fds[2] = {-1, -1}, r;

        r = pair_open(queues->netns_fd, fds);
        if (r < 0)
                return r;
        q->ours = fds[0];
        q->theirs = fds[1];
        if (shutdown(q->theirs, SHUT_WR) < 0 || fchown(q->theirs, q->uid, q->gid) < 0 ||
            bpf_map_update_elem(queues->pool->sockets_map, &q->theirs, &mark, BPF_NOEXIST) < 0)
                return -errno;
        q->spare = queue_socket(queues, q);
        if (q->spare < 0)
                return q->spare;
        r = queue_send(q, &q->spare);
        return r < 0 ? r : queue_set_size(q);
}

/* --- all of them ------------------------------------------------------------------------------ */

/* The element for a new queue: a free one, or that of the user who has not needed it for longest.
 */
static struct queue *find_room(struct queues *queues, uint64_t now)
{
        struct queue *oldest = NULL;

        for (size_t i = 0; i < QUEUES_MAX; i++) {
                struct queue *q = &queues->queue[i];

                if (q->ours < 0)
                        return q;
                if (!oldest || q->needed < oldest->needed)
                        oldest = q;
        }
        return now - oldest->needed < IN_USE_MS ? NULL : oldest;
}

static struct queue *find(struct queues *queues, int family, uid_t uid, gid_t gid)
{
        for (size_t i = 0; i < QUEUES_MAX; i++) {
                struct queue *q = &queues->queue[i];

                if (q->ours >= 0 && q->family == family && q->uid == uid && q->gid == gid)
                        return q;
        }
        return NULL;
}

static int ask(struct queues *queues, int family, uid_t uid, gid_t gid)
{
        struct queue *q = find(queues, family, uid, gid);
        uint64_t now = now_ms();
        int fd, r;

        if (!q) {
                q = find_room(queues, now);
                if (!q)
                        return -ENOBUFS;
                queue_close(q);
                q->family = family;
                q->uid = uid;
                q->gid = gid;
                q->serial = ++queues->serial;
                r = queue_open(queues, q);
                if (r < 0) {
                        queue_close(q);
                        return r;
                }
                pool_wake(queues->pool);
        }
        q->needed = now;
        fd = fcntl(q->theirs, F_DUPFD_CLOEXEC, 0);
        return fd < 0 ? -errno : fd;
}

int queues_ask(struct queues *queues, int family, uid_t uid, gid_t gid)
{
        int r;

        pthread_mutex_lock(&queues->pool->lock);
        r = ask(queues, family, uid, gid);
        pthread_mutex_unlock(&queues->pool->lock);
        return r;
}

void queues_poll(const struct queues *queues, struct queues_poll *ret)
{
        ret->n = 0;
        for (size_t i = 0; i < QUEUES_MAX; i++) {
                const struct queue *q = &queues->queue[i];

                if (q->ours < 0 || !q->full)
                        continue;
                ret->fds[ret->n] = (struct pollfd){.fd = q->ours, .events = POLLOUT};
                ret->serial[ret->n++] = q->serial;
        }
}

static void polled_one(struct queue *q, short events)
{
        /* The container can shut its end down, which is everybody's: then they all ask for a new
         * one. */
        if (events & ~POLLOUT) {
                queue_close(q);
                return;
        }
        q->full = false;
        q->needed = now_ms();
}

void queues_polled(struct queues *queues, const struct queues_poll *polled)
{
        for (unsigned int k = 0; k < polled->n; k++)
                for (size_t i = 0; polled->fds[k].revents && i < QUEUES_MAX; i++) {
                        struct queue *q = &queues->queue[i];

                        if (q->ours >= 0 && q->serial == polled->serial[k])
                                polled_one(q, polled->fds[k].revents);
                }
}

bool queues_wanting(const struct queues *queues)
{
        for (size_t i = 0; i < QUEUES_MAX; i++)
                if (queues->queue[i].ours >= 0 && !queues->queue[i].full)
                        return true;
        return false;
}

/* Makes a queue's next socket. False: there is none, or no such queue any more. */
static bool make_spare(struct queues *queues, struct queue *q)
{
        const struct queue was = *q;
        int fd;

        pthread_mutex_unlock(&queues->pool->lock);
        fd = queue_socket(queues, &was);
        pthread_mutex_lock(&queues->pool->lock);
        if (q->ours < 0 || q->serial != was.serial) {
                safe_close(fd);
                return false;
        }
        if (fd < 0) {
                queue_close(q);
                return false;
        }
        q->spare = fd;
        return true;
}

void queues_fill(struct queues *queues)
{
        for (size_t i = 0; i < QUEUES_MAX; i++) {
                struct queue *q = &queues->queue[i];
                int r;

                if (q->ours < 0 || q->full)
                        continue;
                if (q->spare < 0 && !make_spare(queues, q))
                        return;
                r = queue_send(q, &q->spare);
                if (r == -EAGAIN)
                        q->full = true;
                else if (r < 0)
                        queue_close(q);
                return;
        }
}
