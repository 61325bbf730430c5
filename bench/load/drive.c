/* SPDX-License-Identifier: Apache-2.0 */
#include "drive.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/log.h"
#include "net.h"

#define EVENTS       256
#define BUFFER       (256U << 10)
#define THREADS_MAX  64
#define GRACE        (5 * NS_PER_SEC) /* for the answers that are on their way at the end */
#define CONNECT_TIME (60 * NS_PER_SEC)

struct thread {
        const struct options *o;
        const struct protocol *p;
        pthread_barrier_t *barrier; /* all connections of all threads are there */
        pthread_t id;
        int result;

        int epoll;
        struct slot *slots;
        struct slot **idle; /* a ring of those that are free, so that all have their turns */
        size_t idle_first, idle_count, busy;

        uint64_t connecting;                /* how long that took, ns */
        uint64_t begin, measured_from, end; /* ns */
        uint64_t interval;                  /* between two requests, 0 without a rate */
        uint64_t started, done;
        char *buf, *own;
        struct histogram *times;
};

static void make_idle(struct thread *t, struct slot *s)
{
        size_t n = t->o->connections;

        t->idle[(t->idle_first + t->idle_count++) % n] = s;
}

static struct slot *take_idle(struct thread *t)
{
        struct slot *s = t->idle[t->idle_first];

        t->idle_first = (t->idle_first + 1) % t->o->connections;
        t->idle_count--;
        return s;
}

/* Edge-triggered and for both directions: one epoll_ctl() in a connection's life. */
static int begin_connecting(struct thread *t, struct slot *s)
{
        struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = s};
        uint16_t port = (uint16_t)(t->o->port + (t->o->ports ? t->started % t->o->ports : 0));
        int r = net_connect(t->o->address, port, SOCK_NONBLOCK, &s->fd);

        if (r < 0)
                return log_error_errno(r, "cannot connect: %m");
        if (!t->p->close)
                (void)net_nodelay(s->fd);
        if (epoll_ctl(t->epoll, EPOLL_CTL_ADD, s->fd, &e) < 0)
                return log_error_errno(-errno, "epoll_ctl: %m");
        s->state = SLOT_CONNECTING;
        return 0;
}

static int send_some(struct slot *s)
{
        while (s->out_sent < s->out_len) {
                ssize_t n =
                    send(s->fd, s->out + s->out_sent, s->out_len - s->out_sent, MSG_NOSIGNAL);

                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0 && errno != EINTR)
                        return log_error_errno(-errno, "cannot send: %m");
                if (n > 0)
                        s->out_sent += (size_t)n;
        }
        return 0;
}

static int start_request(struct thread *t, struct slot *s, uint64_t due)
{
        s->due = due;
        s->out = t->p->request(t->p->context, s, t->started++, &s->out_len);
        s->out_sent = 0;
        s->got = 0;
        s->head_len = 0;
        t->busy++;
        if (s->state == SLOT_CLOSED)
                return begin_connecting(t, s);
        s->state = SLOT_BUSY;
        return send_some(s);
}

static void finish_request(struct thread *t, struct slot *s)
{
        uint64_t now = now_ns();

        t->busy--;
        t->done++;
        if (now >= t->measured_from && now < t->end)
                histogram_add(t->times, now - s->due);
        if (t->p->close) {
                s->fd = safe_close(s->fd);
                s->state = SLOT_CLOSED;
        } else {
                s->state = SLOT_IDLE;
        }
        make_idle(t, s);
}

static int receive_some(struct thread *t, struct slot *s)
{
        for (;;) {
                ssize_t n = recv(s->fd, t->buf, BUFFER, 0);
                int r;

                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 && errno == EAGAIN)
                        return 0;
                if (n < 0)
                        return log_error_errno(-errno, "cannot receive: %m");
                r = t->p->answer(t->p->context, s, t->buf, (size_t)n);
                if (r == 0 && n == 0)
                        r = -ECONNRESET;
                if (r < 0)
                        return log_error_errno(
                            r, "request %llu, after %llu bytes of its answer: %m",
                            (unsigned long long)t->done + 1, (unsigned long long)s->got);
                if (r > 0) {
                        finish_request(t, s);
                        return 0;
                }
        }
}

static int finish_connecting(struct slot *s)
{
        int error = 0;
        socklen_t len = sizeof(error);

        if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
                error = errno;
        if (error)
                return log_error_errno(-error, "cannot connect: %m");
        s->state = s->out ? SLOT_BUSY : SLOT_IDLE;
        return 0;
}

static int handle(struct thread *t, struct slot *s, uint32_t events)
{
        int r = 0;

        if (s->state == SLOT_CONNECTING) {
                if (!(events & (EPOLLOUT | EPOLLERR | EPOLLHUP)))
                        return 0;
                r = finish_connecting(s);
        }
        if (r >= 0 && s->state == SLOT_BUSY)
                r = send_some(s);
        if (r >= 0 && s->state == SLOT_BUSY && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)))
                return receive_some(t, s);
        if (r >= 0 && s->state == SLOT_IDLE && (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP)))
                return log_error_errno(-ECONNRESET, "the server ended a connection that was idle");
        return r;
}

/* Waits until something happens or the time comes, and handles it. */
static int wait_until(struct thread *t, uint64_t when)
{
        struct epoll_event events[EVENTS];
        uint64_t now = now_ns(), left = when > now ? when - now : 0;
        struct timespec timeout = {.tv_sec = (time_t)(left / NS_PER_SEC),
                                   .tv_nsec = (long)(left % NS_PER_SEC)};
        int n = epoll_pwait2(t->epoll, events, EVENTS, &timeout, NULL);

        if (n < 0)
                return errno == EINTR ? 0 : log_error_errno(-errno, "epoll_pwait2: %m");
        for (int i = 0; i < n; i++) {
                int r = handle(t, events[i].data.ptr, events[i].events);

                if (r < 0)
                        return r;
        }
        return 0;
}

static int connect_all(struct thread *t)
{
        uint64_t start = now_ns(), limit = start + CONNECT_TIME;

        for (size_t i = 0; i < t->o->connections; i++) {
                struct slot *s = &t->slots[i];
                int r = t->p->close ? 0 : begin_connecting(t, s);

                while (r >= 0 && s->state == SLOT_CONNECTING) {
                        if (now_ns() > limit)
                                return log_error_errno(-ETIMEDOUT, "connection %zu: %m", i + 1);
                        r = wait_until(t, limit);
                }
                if (r < 0)
                        return r;
                make_idle(t, s);
        }
        t->connecting = now_ns() - start;
        return 0;
}

/* When the next request is due. */
static uint64_t next_due(const struct thread *t)
{
        return t->begin + t->started * t->interval;
}

static int run(struct thread *t)
{
        for (;;) {
                uint64_t now = now_ns(), wake;
                int r;

                while (t->idle_count > 0 && now < t->end && (!t->interval || next_due(t) <= now)) {
                        r = start_request(t, take_idle(t), t->interval ? next_due(t) : now);
                        if (r < 0)
                                return r;
                        if (t->interval)
                                now = now_ns();
                }
                if (now < t->end)
                        wake = t->interval && t->idle_count > 0 ? next_due(t) : t->end;
                else if (t->busy == 0)
                        return 0;
                else if (now < t->end + GRACE)
                        wake = t->end + GRACE;
                else
                        return log_error_errno(-ETIMEDOUT, "%zu requests were never answered",
                                               t->busy);
                r = wait_until(t, wake);
                if (r < 0)
                        return r;
        }
}

static void *thread_main(void *argument)
{
        struct thread *t = argument;

        (void)prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
        t->result = connect_all(t);
        pthread_barrier_wait(t->barrier);
        if (t->result >= 0) {
                t->begin = now_ns();
                t->end = t->begin + t->o->seconds * NS_PER_SEC;
                t->measured_from = t->begin + t->o->seconds * NS_PER_SEC / 10;
                t->result = run(t);
        }
        return NULL;
}

static int prepare(struct thread *t)
{
        t->slots = new0(struct slot, t->o->connections);
        t->idle = new0(struct slot *, t->o->connections);
        t->buf = new0(char, BUFFER);
        t->own = new0(char, t->o->connections * t->p->own_size + 1);
        t->times = new0(struct histogram, 1);
        t->epoll = -1;
        if (!t->slots || !t->idle || !t->buf || !t->own || !t->times)
                return log_error_errno(-ENOMEM, "no memory");
        for (size_t i = 0; i < t->o->connections; i++) {
                t->slots[i].fd = -1;
                t->slots[i].own = t->own + i * t->p->own_size;
        }
        t->epoll = epoll_create1(EPOLL_CLOEXEC);
        return t->epoll < 0 ? log_error_errno(-errno, "epoll_create1: %m") : 0;
}

static void release(struct thread *t)
{
        for (size_t i = 0; t->slots && i < t->o->connections; i++)
                safe_close(t->slots[i].fd);
        safe_close(t->epoll);
        free(t->slots);
        free(t->idle);
        free(t->buf);
        free(t->own);
        free(t->times);
}

static void collect(const struct options *o, const struct thread *threads, struct drive_result *ret)
{
        *ret = (struct drive_result){};
        for (uint64_t i = 0; i < o->threads; i++) {
                ret->total += threads[i].done;
                histogram_merge(&ret->times, threads[i].times);
                if (!threads[i].p->close)
                        ret->connect_rate +=
                            (double)o->connections * 1e9 / (double)threads[i].connecting;
        }
        ret->rate = (double)ret->times.count / (0.9 * (double)o->seconds);
}

int drive(const struct options *o, const struct protocol *p, struct drive_result *ret)
{
        struct thread threads[THREADS_MAX] = {};
        pthread_barrier_t barrier;
        struct options of_all = *o;
        uint64_t running = 0;
        int r = 0;

        of_all.threads = o->threads ?: 1;
        net_raise_limit();
        pthread_barrier_init(&barrier, NULL, (unsigned int)of_all.threads);
        for (uint64_t i = 0; i < of_all.threads && r >= 0; i++) {
                threads[i] = (struct thread){.o = &of_all, .p = p, .barrier = &barrier};
                if (o->rate)
                        threads[i].interval = NS_PER_SEC * of_all.threads / o->rate;
                r = prepare(&threads[i]);
        }
        for (; running < of_all.threads && r >= 0; running++) {
                r = -pthread_create(&threads[running].id, NULL, thread_main, &threads[running]);
                if (r < 0) {
                        /* The others wait for it at the barrier: there is no way on. */
                        log_error_errno(r, "cannot start a thread: %m");
                        exit(1);
                }
        }
        for (uint64_t i = 0; i < running; i++) {
                pthread_join(threads[i].id, NULL);
                if (threads[i].result < 0)
                        r = threads[i].result;
        }
        if (r >= 0)
                collect(&of_all, threads, ret);
        for (uint64_t i = 0; i < of_all.threads; i++)
                release(&threads[i]);
        pthread_barrier_destroy(&barrier);
        return r;
}

int drive_and_print(const struct options *o, const struct protocol *p, const char *what)
{
        _cleanup_free_ struct drive_result *result = new0(struct drive_result, 1);
        int r = result ? drive(o, p, result) : log_error_errno(-ENOMEM, "no memory");

        if (r < 0)
                return r;
        printf("{\"what\": \"%s\", \"total\": %llu, \"rate\": %.1f, ", what,
               (unsigned long long)result->total, result->rate);
        if (!p->close)
                printf("\"connect_rate\": %.1f, ", result->connect_rate);
        histogram_print(&result->times);
        printf("}\n");
        return 0;
}
