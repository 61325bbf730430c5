/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * listen() on a socket of the host's namespace: the kernel's own check at this point, which no
 * program can make, and the container's limit on the backlog.
 */
#include "../abi/slim-abi.h"
#include "caller.h"
#include "inside.h"

struct listen_maps {
        int sockets; /* the SK_STORAGE map */
        int ports;
};

enum {
        LISTEN_NATIVE = 1, /* not a container's socket of ours: the kernel runs the call itself */
};

/*
 * Does the table of bound ports let this socket of owner uid begin to listen? 0; -EADDRINUSE:
 * another one's address overlaps its own and they do not share; -ENOMEM: SLIM_LISTENERS listen
 * there already.
 */
int listen_check(const struct slim_socket *s, const struct slim_port *p, uint32_t uid);

/* Answers listen(fd, backlog) of a caller: 0, or what it fails with, or LISTEN_NATIVE. */
int listen_run(const struct caller *c, const struct listen_maps *maps, const struct inside *in,
               int fd, int backlog);
