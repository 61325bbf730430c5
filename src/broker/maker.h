/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The thread that makes sockets ahead, for the pool and for the queues, on whatever core is free:
 * who takes one does not wait for the next.
 */
#include <pthread.h>

#include "pool.h"
#include "queue.h"

struct maker {
        struct pool *pool;
        struct queues *queues;
        pthread_t thread;
        bool ends;
};

/* Starts the thread. Without it sockets are made when they are asked for, and queues stay empty. */
int maker_start(struct maker *maker, struct pool *pool, struct queues *queues);

/* Ends it, if it was started. */
void maker_stop(struct maker *maker);
