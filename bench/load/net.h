/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Sockets and the clock, as all load generators use them. Functions return 0 or a negative errno.
 */
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#define NS_PER_SEC 1000000000ULL

static inline uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * NS_PER_SEC + (uint64_t)t.tv_nsec;
}

/* A listener on all addresses; the caller closes it. flags: SOCK_NONBLOCK or 0. */
int net_listen(uint16_t port, int flags, int *ret_fd);
/* A connection; the caller closes it. With SOCK_NONBLOCK it may not be one yet. */
int net_connect(const char *address, uint16_t port, int flags, int *ret_fd);
int net_nodelay(int fd);
/* Of a blocking socket: all of a buffer, or an error. -ECONNRESET: the peer has closed. */
int net_send(int fd, const void *buf, size_t len);
int net_receive(int fd, void *buf, size_t len);
/* As many descriptors as this process may have. */
void net_raise_limit(void);
