/* SPDX-License-Identifier: Apache-2.0 */
#include "pool.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include <bpf/bpf.h>

#include "../basic/fd.h"

void pool_init(struct pool *pool, int sockets_map, const struct slim_socket *identity)
{
        *pool = (struct pool){
            .sockets_map = sockets_map,
            .identity = *identity,
            .family = {{.family = AF_INET}, {.family = AF_INET6}},
        };
}

void pool_done(struct pool *pool)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++)
                while (pool->family[i].n > 0)
                        safe_close(pool->family[i].fd[--pool->family[i].n]);
}

/* A socket with its identity, or the errno: the two are never apart. */
static int socket_new(const struct pool *pool, int family, uint64_t *ret_inode)
{
        _cleanup_close_ int fd = -1;
        struct stat st;

        fd = socket(family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        if (fd < 0)
                return -errno;
        if (bpf_map_update_elem(pool->sockets_map, &fd, &pool->identity, BPF_NOEXIST) < 0)
                return -errno;
        if (fstat(fd, &st) < 0)
                return -errno;
        *ret_inode = st.st_ino;
        return TAKE_FD(fd);
}

int pool_take(struct pool *pool, int family)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++) {
                struct pool_family *f = &pool->family[i];

                if (f->family != family)
                        continue;
                if (f->n == 0)
                        return socket_new(pool, family, &pool->taken);
                pool->taken = f->inode[--f->n];
                return f->fd[f->n];
        }
        return -EAFNOSUPPORT;
}

bool pool_is_full(const struct pool *pool)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++)
                if (pool->family[i].n < POOL_SIZE)
                        return false;
        return true;
}

int pool_add(struct pool *pool)
{
        for (size_t i = 0; i < ARRAY_SIZE(pool->family); i++) {
                struct pool_family *f = &pool->family[i];
                int fd;

                if (f->n == POOL_SIZE)
                        continue;
                fd = socket_new(pool, f->family, &f->inode[f->n]);
                if (fd < 0)
                        return fd;
                f->fd[f->n++] = fd;
                return 0;
        }
        return 0;
}
