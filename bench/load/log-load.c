/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Load for the log broker: producers that append batches of small records, by drive.h, and one
 * consumer, a thread, that fetches all of them.
 *
 * A record says when it was due, whose it is and which one of its producer's; the rest follows from
 * that. So the consumer knows whether each has come, once, in order and whole, and how long it took
 * from being due to being here: that is what the result's times are.
 */
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/log.h"
#include "drive.h"
#include "log-protocol.h"
#include "net.h"
#include "verbs.h"

#define PRODUCERS_MAX 1024
#define POLL_MS       20
#define GRACE         (5 * NS_PER_SEC)

struct record {
        uint64_t due;
        uint32_t producer; /* from 1 on */
        uint32_t number;   /* from 0 on */
        char rest[];
};

struct load {
        const struct options *o;
        atomic_uint producers;
        uint64_t measured_from; /* by when they were due */

        /* The consumer's. */
        int fd;
        pthread_t thread;
        int result;
        atomic_uint_fast64_t
            wanted; /* how many there are, UINT64_MAX until that is known; 0: give up */
        uint64_t offset, received;
        uint32_t next[PRODUCERS_MAX + 1];
        struct histogram times;
        char buf[LOG_MESSAGE_MAX];
};

/* slot.own */
struct producer {
        uint32_t id, number;
        struct log_header header; /* the batch is behind it */
        char batch[];
};

static char fill_of(const struct record *r)
{
        return (char)('a' + (r->producer + r->number) % 26);
}

/* --- producers -------------------------------------------------------------------------------- */

static const char *request(void *context, struct slot *s, uint64_t number, size_t *ret_len)
{
        struct load *l = context;
        struct producer *p = s->own;
        size_t size = l->o->size;

        if (!p->id)
                p->id = atomic_fetch_add(&l->producers, 1) + 1;
        p->header =
            (struct log_header){.length = (uint32_t)(size * l->o->batch), .kind = LOG_APPEND};
        for (uint64_t i = 0; i < l->o->batch; i++) {
                struct record r = {.due = s->due, .producer = p->id, .number = p->number++};
                char *at = p->batch + i * size;

                memcpy(at, &r, sizeof(r));
                memset(at + sizeof(r), fill_of(&r), size - sizeof(r));
        }
        *ret_len = sizeof(p->header) + p->header.length;
        return (const char *)&p->header;
}

static int answer(void *context, struct slot *s, const char *buf, size_t n)
{
        struct log_header header;

        if (n == 0)
                return -ECONNRESET;
        if (n > sizeof(header) + sizeof(uint64_t) - s->got)
                return -EBADMSG;
        memcpy(s->head + s->got, buf, n);
        s->got += n;
        if (s->got < sizeof(header) + sizeof(uint64_t))
                return 0;
        memcpy(&header, s->head, sizeof(header));
        return header.kind == LOG_OFFSET && header.length == sizeof(uint64_t) ? 1 : -EBADMSG;
}

/* --- the consumer ----------------------------------------------------------------------------- */

/* Asks, and returns the length of what comes; 0: nothing, and nothing more is to come. */
static int fetch(struct load *l, uint64_t offset, size_t *ret_len)
{
        struct {
                struct log_header header;
                uint64_t offset;
        } message = {.header = {.length = sizeof(uint64_t), .kind = LOG_FETCH}, .offset = offset};
        struct pollfd poll_fd = {.fd = l->fd, .events = POLLIN};
        uint64_t limit = 0;
        int r = net_send(l->fd, &message, sizeof(message));

        while (r >= 0 && poll(&poll_fd, 1, POLL_MS) <= 0) {
                uint64_t wanted = atomic_load(&l->wanted), now = now_ns();

                if (wanted == 0 || l->received == wanted) {
                        *ret_len = 0;
                        return 0;
                }
                if (wanted != UINT64_MAX && !limit)
                        limit = now + GRACE;
                if (limit && now > limit)
                        return -ETIMEDOUT;
        }
        if (r >= 0)
                r = net_receive(l->fd, &message, sizeof(message));
        if (r < 0)
                return r;
        if (message.header.kind != LOG_DATA || message.header.length > LOG_MESSAGE_MAX ||
            (offset != LOG_END && message.offset != offset))
                return -EBADMSG;
        l->offset = message.offset;
        *ret_len = message.header.length - sizeof(uint64_t);
        return net_receive(l->fd, l->buf, *ret_len);
}

static int take_record(struct load *l, const char *at, uint64_t now)
{
        struct record r;

        memcpy(&r, at, sizeof(r));
        if (r.producer == 0 || r.producer > PRODUCERS_MAX || r.number != l->next[r.producer])
                return -EBADMSG;
        l->next[r.producer]++;
        for (size_t i = sizeof(r); i < l->o->size; i++)
                if (at[i] != fill_of(&r))
                        return -EBADMSG;
        l->received++;
        if (r.due >= l->measured_from)
                histogram_add(&l->times, now > r.due ? now - r.due : 0);
        return 0;
}

/* All whole records of what has come; the rest is fetched again. */
static int take_all(struct load *l, size_t len)
{
        uint64_t now = now_ns();
        size_t size = l->o->size;

        for (size_t at = 0; at + size <= len; at += size) {
                int r = take_record(l, l->buf + at, now);

                if (r < 0)
                        return r;
                l->offset += size;
        }
        return 0;
}

static void *consume(void *argument)
{
        struct load *l = argument;
        size_t len = 1;
        int r = 0;

        while (len > 0 && r >= 0) {
                r = fetch(l, l->offset, &len);
                if (r >= 0)
                        r = take_all(l, len);
        }
        if (r < 0)
                log_error_errno(r, "the consumer, after %llu records: %m",
                                (unsigned long long)l->received);
        l->result = r;
        return NULL;
}

static int start_consumer(struct load *l)
{
        size_t len;
        int r = net_connect(l->o->address, l->o->port, 0, &l->fd);

        if (r >= 0)
                r = net_nodelay(l->fd);
        if (r >= 0)
                r = fetch(l, LOG_END, &len);
        if (r >= 0)
                r = -pthread_create(&l->thread, NULL, consume, l);
        return r < 0 ? log_error_errno(r, "cannot start the consumer: %m") : 0;
}

/* --- both ------------------------------------------------------------------------------------- */

static int run(struct load *l, struct drive_result *appended)
{
        struct options batches = *l->o;
        const struct protocol p = {.own_size = sizeof(struct producer) + l->o->size * l->o->batch,
                                   .request = request,
                                   .answer = answer,
                                   .context = l};
        int r = start_consumer(l);

        if (r < 0)
                return r;
        batches.rate = l->o->rate / l->o->batch;
        l->measured_from = now_ns() + l->o->seconds * NS_PER_SEC / 10;
        r = drive(&batches, &p, appended);
        atomic_store(&l->wanted, r < 0 ? 0 : appended->total * l->o->batch);
        pthread_join(l->thread, NULL);
        return r < 0 ? r : l->result;
}

int run_log(const struct options *o)
{
        _cleanup_free_ struct drive_result *appended = new0(struct drive_result, 1);
        _cleanup_free_ struct load *l = new0(struct load, 1);
        int r;

        if (o->size < sizeof(struct record) || o->size * o->batch > LOG_MESSAGE_MAX ||
            o->connections > PRODUCERS_MAX || (o->rate && o->rate < o->batch))
                return log_error_errno(-EINVAL,
                                       "--size: %zu or more, a batch at most %u bytes, at "
                                       "most %d producers, one batch a second or more",
                                       sizeof(struct record), LOG_MESSAGE_MAX, PRODUCERS_MAX);
        if (!appended || !l)
                return log_error_errno(-ENOMEM, "no memory");
        l->o = o;
        l->fd = -1;
        atomic_store(&l->wanted, UINT64_MAX);
        r = run(l, appended);
        safe_close(l->fd);
        if (r < 0)
                return r;
        printf("{\"what\": \"log\", \"total\": %llu, \"rate\": %.1f, \"append_p50_us\": %.3f, ",
               (unsigned long long)l->received, appended->rate * (double)o->batch,
               histogram_quantile(&appended->times, 0.5) / 1e3);
        histogram_print(&l->times);
        printf("}\n");
        return 0;
}
