/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <linux/net_tstamp.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bpf/bpf.h>

#include "../basic/fd.h"

void pool_init(struct pool *pool, int sockets_map, struct budget *budget,
               const struct slim_socket *identity)
{
        *pool = (struct pool){
            .sockets_map = sockets_map,
            .budget = budget,
            .identity = *identity,
            .lock = PTHREAD_MUTEX_INITIALIZER,
            .family = {{.family = AF_INET, .low = true}, {.family = AF_INET6, .low = true}},
            .wake_fd = -1,
        };
        pool->identity.counted = 1;
}

void pool_done(struct pool *pool)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++)
                while (pool->family[i].n > 0)
                        safe_close(pool->family[i].fd[--pool->family[i].n]);
}

/*
 * What lets the programs choose a socket's local end when it connects or listens, and not before:
 * bind() takes no host port (it has been given a virtual one), and a connection to a plain
 * container may have the overlay address as its source. (SOL_IP's are those of IPv6 sockets too.)
 */
static int set_local_end(int fd)
{
        static const int options[] = {IP_BIND_ADDRESS_NO_PORT, IP_TRANSPARENT};
        const int on = 1;

        for (size_t i = 0; i < ARRAY_SIZE(options); i++)
                if (setsockopt(fd, SOL_IP, options[i], &on, sizeof(on)) < 0)
                        return -errno;
        return 0;
}

/*
 * A time stamp of a sent packet comes back alone. By default the whole packet comes with it, host
 * addresses and all; and a program can ask for one with a message, which no BPF program sees.
 */
static int set_timestamping(int fd)
{
        const int only = SOF_TIMESTAMPING_OPT_TSONLY;

        return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPING, &only, sizeof(only)) < 0 ? -errno : 0;
}

/* A socket with its identity, or the errno: the two are never apart. From then on its end is
 * counted. */
static int make(const struct pool *pool, int family)
{
        _cleanup_close_ int fd = -1;
        int r;

        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        r = set_local_end(fd);
        if (r < 0)
                return r;
        r = set_timestamping(fd);
        if (r < 0)
                return r;
        if (bpf_map_update_elem(pool->sockets_map, &fd, &pool->identity, BPF_NOEXIST) < 0)
                return -errno;
        return TAKE_FD(fd);
}

int pool_make(const struct pool *pool, int family)
{
        int r = budget_take(pool->budget), fd;

        if (r < 0)
                return r;
        fd = make(pool, family);
        if (fd < 0)
                budget_return(pool->budget);
        return fd;
}

/* … and its inode number. */
static int socket_new(const struct pool *pool, int family, uint64_t *ret_inode)
{
        _cleanup_close_ int fd = pool_make(pool, family);
        struct stat st;

        if (fd < 0)
                return fd;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret_inode = st.st_ino;
        return TAKE_FD(fd);
}

/* --- filling it --------------------------------------------------------------------------------
 */

static struct pool_family *find_low(struct pool *pool)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++)
                if (pool->family[i].low)
                        return &pool->family[i];
        return NULL;
}

bool pool_wanting(const struct pool *pool)
{
        return pool->family[0].low || pool->family[1].low;
}

void pool_fill(struct pool *pool)
{
        struct pool_family *f = find_low(pool);
        uint64_t inode = 0;
        int fd;

        if (!f)
                return;
        /* Whoever takes one meanwhile asks anew. */
        f->low = false;
        pthread_mutex_unlock(&pool->lock);
        fd = socket_new(pool, f->family, &inode);
        pthread_mutex_lock(&pool->lock);
        if (fd < 0)
                return;
        /* Nobody else adds to it. */
        f->fd[f->n] = fd;
        f->inode[f->n++] = inode;
        f->low = f->n < POOL_SIZE;
}

void pool_wake(struct pool *pool)
{
        static const uint64_t one = 1;

        if (!pool->asleep || write(pool->wake_fd, &one, sizeof(one)) < 0)
                return;
        pool->asleep = false;
}

/* --- taking one --------------------------------------------------------------------------------
 */

/* One that waits, or -1. */
static int take(struct pool *pool, struct pool_family *f)
{
        int fd = -1;

        pthread_mutex_lock(&pool->lock);
        if (f->n > 0) {
                pool->taken = f->inode[--f->n];
                fd = f->fd[f->n];
        }
        if (f->n < POOL_LOW) {
                f->low = true;
                pool_wake(pool);
        }
        pthread_mutex_unlock(&pool->lock);
        return fd;
}

int pool_take(struct pool *pool, int family)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++) {
                struct pool_family *f = &pool->family[i];
                int fd;

                if (f->family != family)
                        continue;
                fd = take(pool, f);
                return fd < 0 ? socket_new(pool, family, &pool->taken) : fd;
        }
        return -EAFNOSUPPORT;
}
