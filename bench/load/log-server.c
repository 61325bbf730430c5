/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A log broker in the manner of Kafka's, with one partition in memory: a ring that producers append
 * to and a consumer reads. A thread for each connection; `lock` guards the log's fields. Bytes
 * between tail and head stay what they are while the lock is not held, since only the consumer
 * moves the tail.
 */
#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "basic/log.h"
#include "log-protocol.h"
#include "net.h"
#include "verbs.h"

#define RING (64U << 20)

static struct {
        pthread_mutex_t lock;
        pthread_cond_t more;  /* head has moved */
        pthread_cond_t space; /* tail has moved */
        uint64_t head, tail;  /* offsets of the log's end, and of what is still kept */
        uint64_t consumer;    /* the number of the one there is, 0: nobody */
        uint64_t consumers;   /* how many there have been */
        char *ring;
} the_log = {.lock = PTHREAD_MUTEX_INITIALIZER,
             .more = PTHREAD_COND_INITIALIZER,
             .space = PTHREAD_COND_INITIALIZER};

/* What a thread knows of its connection. */
struct peer {
        int fd;
        uint64_t consumer; /* its number, 0: a producer */
        char buf[LOG_MESSAGE_MAX];
};

static void copy_in(const char *data, size_t len)
{
        size_t at = the_log.head % RING, first = len < RING - at ? len : RING - at;

        memcpy(the_log.ring + at, data, first);
        memcpy(the_log.ring, data + first, len - first);
}

static int append(struct peer *p, size_t len)
{
        struct {
                struct log_header header;
                uint64_t offset;
        } answer = {.header = {.length = sizeof(uint64_t), .kind = LOG_OFFSET}};

        pthread_mutex_lock(&the_log.lock);
        while (the_log.head + len - the_log.tail > RING)
                pthread_cond_wait(&the_log.space, &the_log.lock);
        copy_in(p->buf, len);
        the_log.head += len;
        if (!the_log.consumer)
                the_log.tail = the_log.head;
        answer.offset = the_log.head;
        pthread_cond_broadcast(&the_log.more);
        pthread_mutex_unlock(&the_log.lock);
        return net_send(p->fd, &answer, sizeof(answer));
}

/* Is it the consumer, and the offset one that is kept? With the lock held. */
static bool may_read(const struct peer *p, uint64_t offset)
{
        return p->consumer && the_log.consumer == p->consumer && offset >= the_log.tail &&
               offset <= the_log.head;
}

/*
 * The offset is acknowledged: all before it may go. Waits for something behind it. How much; 0: it
 * is not this client's to read, or no longer.
 */
static size_t wait_for(const struct peer *p, uint64_t offset)
{
        uint64_t there = 0;

        pthread_mutex_lock(&the_log.lock);
        if (may_read(p, offset)) {
                the_log.tail = offset;
                pthread_cond_broadcast(&the_log.space);
        }
        while (may_read(p, offset) && (there = the_log.head - offset) == 0)
                pthread_cond_wait(&the_log.more, &the_log.lock);
        pthread_mutex_unlock(&the_log.lock);
        return there < LOG_MESSAGE_MAX - sizeof(uint64_t) ? there
                                                          : LOG_MESSAGE_MAX - sizeof(uint64_t);
}

static uint64_t become_consumer(struct peer *p)
{
        uint64_t end;

        pthread_mutex_lock(&the_log.lock);
        p->consumer = the_log.consumer = ++the_log.consumers;
        end = the_log.tail = the_log.head;
        pthread_cond_broadcast(&the_log.space);
        pthread_cond_broadcast(&the_log.more);
        pthread_mutex_unlock(&the_log.lock);
        return end;
}

static int fetch(struct peer *p, uint64_t offset)
{
        struct {
                struct log_header header;
                uint64_t offset;
        } answer = {.header = {.kind = LOG_DATA}, .offset = offset};
        size_t len = 0, at, first;
        int r;

        if (offset == LOG_END) {
                answer.offset = become_consumer(p);
        } else {
                len = wait_for(p, offset);
                if (len == 0)
                        return -ECANCELED;
        }
        answer.header.length = (uint32_t)(sizeof(uint64_t) + len);
        at = answer.offset % RING;
        first = len < RING - at ? len : RING - at;
        r = net_send(p->fd, &answer, sizeof(answer));
        if (r >= 0)
                r = net_send(p->fd, the_log.ring + at, first);
        if (r >= 0)
                r = net_send(p->fd, the_log.ring, len - first);
        return r;
}

static int handle(struct peer *p)
{
        struct log_header header;
        uint64_t offset;
        int r = net_receive(p->fd, &header, sizeof(header));

        if (r < 0)
                return r;
        if (header.length == 0 || header.length > LOG_MESSAGE_MAX)
                return -EBADMSG;
        r = net_receive(p->fd, p->buf, header.length);
        if (r < 0)
                return r;
        if (header.kind == LOG_APPEND)
                return append(p, header.length);
        if (header.kind != LOG_FETCH || header.length != sizeof(offset))
                return -EBADMSG;
        memcpy(&offset, p->buf, sizeof(offset));
        return fetch(p, offset);
}

/* A connection, to its end; that is how each of them ends, and no failure. */
static void *peer_main(void *argument)
{
        struct peer *p = argument;

        (void)net_nodelay(p->fd);
        while (handle(p) >= 0)
                ;
        pthread_mutex_lock(&the_log.lock);
        if (p->consumer && the_log.consumer == p->consumer) {
                the_log.consumer = 0;
                the_log.tail = the_log.head;
                pthread_cond_broadcast(&the_log.space);
        }
        pthread_mutex_unlock(&the_log.lock);
        safe_close(p->fd);
        free(p);
        return NULL;
}

/* Gives the connection to a thread of its own. */
static int start_peer(int fd)
{
        struct peer *p = new0(struct peer, 1);
        pthread_t id;
        int r = -ENOMEM;

        if (p) {
                p->fd = fd;
                r = -pthread_create(&id, NULL, peer_main, p);
        }
        if (r < 0) {
                free(p);
                safe_close(fd);
                return log_error_errno(r, "cannot start a thread: %m");
        }
        pthread_detach(id);
        return 0;
}

int run_log_server(const struct options *o)
{
        _cleanup_close_ int fd = -1;
        int r = net_listen(o->port, 0, &fd);

        if (r < 0)
                return log_error_errno(r, "cannot listen on port %u: %m", o->port);
        the_log.ring = new0(char, RING);
        if (!the_log.ring)
                return log_error_errno(-ENOMEM, "no memory");
        puts("ready");
        fflush(stdout);
        for (;;) {
                int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

                if (client < 0 && errno != EINTR && errno != ECONNABORTED)
                        return log_error_errno(-errno, "cannot accept on port %u: %m", o->port);
                if (client >= 0) {
                        r = start_peer(client);
                        if (r < 0)
                                return r;
                }
        }
}
