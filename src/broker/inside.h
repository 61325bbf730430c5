/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The broker's view into the container's own network namespace: a socket of each family there, and
 * what the container has set for itself.
 */

struct inside {
        int netns_fd;     /* not its own */
        int socket[2];    /* AF_INET, AF_INET6; a negative errno: it has no such family */
        int somaxconn_fd; /* its /proc/sys/net/core/somaxconn, or -1 */
};

#define INSIDE_NONE                                                    \
        {                                                              \
                .netns_fd = -1, .socket = {-1, -1}, .somaxconn_fd = -1 \
        }

/* Goes into the namespace and comes back. The process is lost if it cannot: then it ends. */
int inside_open(int netns_fd, struct inside *ret);
void inside_close(struct inside *in);

/* The socket that stands for one of a family (anything but AF_INET6 for AF_INET). */
int inside_socket(const struct inside *in, int family);

/* As the kernel cuts a backlog, by the container's own net.core.somaxconn. */
int inside_backlog(const struct inside *in, int backlog);
