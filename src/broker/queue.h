/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Queues of ready sockets for libslimsocket.so (abi/slim-queue.h): one for each family and user
 * that has asked, shared by all processes of that user in the container. One thread answers who
 * asks, and another fills them: the lock is the pool's.
 */
#include <poll.h>
#include <sys/types.h>

#include "pool.h"

/*
 * How many sockets wait in a queue. Whoever empties it pays for its sockets as without it, until
 * the broker has come to fill it: it is woken when less than a quarter is left (unix_writable()
 * of the kernel). docs/performance.md has the measurement, and tools/measure-pool makes it.
 */
#ifndef QUEUE_SIZE
#define QUEUE_SIZE 64
#endif

/* Two families of four users. What all of a container's queues hold is thereby bounded. */
#define QUEUES_MAX 8

struct queue {
        int ours, theirs; /* ends of the pair; -1: this element is free */
        int family;
        uid_t uid;
        gid_t gid;
        int spare;       /* made, and found no room; or -1 */
        bool full;       /* until it is read from */
        uint64_t serial; /* no other has it, nor had */
        uint64_t needed; /* when it was asked for or filled last, in ms (CLOCK_MONOTONIC) */
};

struct queues {
        struct pool *pool; /* how sockets are made */
        int netns_fd;      /* the container's: a queue is a socket of the container's namespace */
        struct queue queue[QUEUES_MAX];
        uint64_t serial;
};

void queues_init(struct queues *queues, struct pool *pool, int netns_fd);
void queues_done(struct queues *queues);

/*
 * A descriptor, the caller's, of the reading end of the queue of a family and user, which is made
 * if there is none. -ENOBUFS where all are in use; or another negative errno.
 * Takes the lock.
 */
int queues_ask(struct queues *queues, int family, uid_t uid, gid_t gid);

/* --- for maker.c, with the lock held ---------------------------------------------------------- */

/* What to wait for without the lock, and of which queues: another may have its descriptor by then.
 */
struct queues_poll {
        struct pollfd fds[QUEUES_MAX];
        uint64_t serial[QUEUES_MAX];
        unsigned int n;
};

/* The full ones. */
void queues_poll(const struct queues *queues, struct queues_poll *ret);

/* Takes what poll() said of them. */
void queues_polled(struct queues *queues, const struct queues_poll *polled);

/* Does one have room? */
bool queues_wanting(const struct queues *queues);

/* Makes one socket, without the lock meanwhile, and puts it into a queue with room. A queue for
 * which none can be made is taken away: who asks for it again is told why. */
void queues_fill(struct queues *queues);
