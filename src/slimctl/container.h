/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A container as slimctl holds it: started, described to slimd, let go, waited for.
 */
#include <sys/types.h>

#include "../basic/inaddr.h"
#include "init.h"

struct container {
        pid_t pid; /* of its first process; 0: none */
        int pidfd;
        int netns_fd;
        int notify_fd; /* -1 without the filter */
        struct rpc *channel;
};

#define CONTAINER_NONE                                       \
        {                                                    \
                .pidfd = -1, .netns_fd = -1, .notify_fd = -1 \
        }

/*
 * Makes the namespaces and what is in them. The program does not run yet. Failures are said in one
 * line. The container is killed and its remains are taken by container_clear().
 */
int container_start(const struct container_spec *spec, struct container *ret);

/* Overlay addresses as text; "": none of that family. */
struct container_addresses {
        char text[SLIM_FAMILIES][INADDR_TEXT_MAX];
};

/* Runs the program, at these overlay addresses, and gives up every descriptor that only slimd
 * needs. Said in one line. */
int container_go(struct container *c, const struct container_addresses *addresses);

/*
 * Waits for the end, forwarding signals, which the caller has blocked (forward_signals()). *ret:
 * the status to exit with. Said in one line.
 */
int container_wait(struct container *c, int *ret);

void container_clear(struct container *c);
