/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sockets made ahead: TCP sockets of this process's network namespace that already carry the
 * container's identity. maker.h makes them.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"
#include "budget.h"

/*
 * How many of each family wait. A burst takes them and then pays for its own; each costs the host
 * about 2.5 KiB of kernel memory while it waits. docs/performance.md has the measurement, and
 * tools/measure-pool makes it.
 */
#ifndef POOL_SIZE
#define POOL_SIZE 16
#endif

/* Fewer than these, and the pool is filled. */
#define POOL_LOW (POOL_SIZE - POOL_SIZE / 4)

struct pool {
        int sockets_map;
        struct budget *budget; /* how many there may be; not its own */
        struct slim_socket identity;
        uint64_t taken; /* inode number of the socket that was taken last */

        pthread_mutex_t lock; /* of what follows, and of the queues (queue.h) */
        struct pool_family {
                int family;
                int fd[POOL_SIZE];
                uint64_t inode[POOL_SIZE];
                unsigned int n;
                bool low; /* it was, and is not full yet; false also when no socket can be made,
                           * until one is asked for */
        } family[2];
        int wake_fd; /* eventfd of the thread that fills it; -1: there is none */
        bool asleep; /* it waits for that */
};

void pool_init(struct pool *pool, int sockets_map, struct budget *budget,
               const struct slim_socket *identity);
/* Closes what waits. */
void pool_done(struct pool *pool);

/*
 * A socket of family AF_INET or AF_INET6, close-on-exec and blocking, the caller's: one that waits,
 * or a new one. Its negative errno where none can be made, -EMFILE where the container has all that
 * it may have; a socket without identity is never given out.
 */
int pool_take(struct pool *pool, int family);

/* A new socket all the same, however many wait. Needs no lock. */
int pool_make(const struct pool *pool, int family);

/* --- for maker.c, with the lock held ---------------------------------------------------------- */

/* There is something to do for the thread. */
void pool_wake(struct pool *pool);

/* Is a family to be filled? */
bool pool_wanting(const struct pool *pool);

/* Makes one socket, without the lock meanwhile. */
void pool_fill(struct pool *pool);
