/* SPDX-License-Identifier: Apache-2.0 */
#include "maker.h"

#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "../basic/fd.h"

/* Until somebody takes a socket. With the lock held, but for the waiting itself. */
static void wait_for_work(struct maker *maker)
{
        struct pool *pool = maker->pool;
        struct pollfd p[1 + QUEUES_MAX] = {{.fd = pool->wake_fd, .events = POLLIN}};
        struct queues_poll queues;
        uint64_t times;
        int r;

        queues_poll(maker->queues, &queues);
        memcpy(p + 1, queues.fds, queues.n * sizeof(*p));
        pool->asleep = true;
        pthread_mutex_unlock(&pool->lock);
        r = poll(p, 1 + queues.n, -1);
        pthread_mutex_lock(&pool->lock);
        pool->asleep = false;
        if (r < 0)
                return;
        if (p->revents && read(pool->wake_fd, &times, sizeof(times)) < 0)
                return;
        memcpy(queues.fds, p + 1, queues.n * sizeof(*p));
        queues_polled(maker->queues, &queues);
}

static void *run(void *userdata)
{
        struct maker *maker = userdata;

        pthread_mutex_lock(&maker->pool->lock);
        while (!maker->ends)
                if (pool_wanting(maker->pool))
                        pool_fill(maker->pool);
                else if (queues_wanting(maker->queues))
                        queues_fill(maker->queues);
                else
                        wait_for_work(maker);
        pthread_mutex_unlock(&maker->pool->lock);
        return NULL;
}

int maker_start(struct maker *maker, struct pool *pool, struct queues *queues)
{
        int r;

        *maker = (struct maker){.pool = pool, .queues = queues};
        pool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (pool->wake_fd < 0)
                return -errno;
        r = pthread_create(&maker->thread, NULL, run, maker);
        if (r)
                pool->wake_fd = safe_close(pool->wake_fd);
        return -r;
}

void maker_stop(struct maker *maker)
{
        struct pool *pool = maker->pool;

        if (!pool || pool->wake_fd < 0)
                return;
        pthread_mutex_lock(&pool->lock);
        maker->ends = true;
        pool_wake(pool);
        pthread_mutex_unlock(&pool->lock);
        pthread_join(maker->thread, NULL);
        pool->wake_fd = safe_close(pool->wake_fd);
}
