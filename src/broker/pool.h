/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sockets made ahead: TCP sockets of this process's network namespace that already carry the
 * container's identity.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"

/*
 * How many of each family wait. A burst takes them and then pays for its own; each costs the host
 * about 2.5 KiB of kernel memory while it waits. docs/performance.md has the measurement, and
 * tools/measure-pool makes it.
 */
#ifndef POOL_SIZE
#define POOL_SIZE 16
#endif

struct pool {
        int sockets_map;
        struct slim_socket identity;
        struct pool_family {
                int family;
                int fd[POOL_SIZE];
                uint64_t inode[POOL_SIZE];
                unsigned int n;
        } family[2];
        uint64_t taken; /* inode number of the socket that was taken last */
};

void pool_init(struct pool *pool, int sockets_map, const struct slim_socket *identity);
void pool_done(struct pool *pool);

/*
 * A socket of family AF_INET or AF_INET6, close-on-exec and blocking, the caller's: one that waits,
 * or a new one. Its negative errno where none can be made; a socket without identity is never
 * given out.
 */
int pool_take(struct pool *pool, int family);

/* A new socket all the same, however many wait. */
int pool_make(const struct pool *pool, int family);

bool pool_is_full(const struct pool *pool);

/* Makes one socket, if one is missing. 0, or the negative errno of the failure. */
int pool_add(struct pool *pool);
