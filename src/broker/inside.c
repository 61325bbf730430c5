/* SPDX-License-Identifier: Apache-2.0 */
#include "inside.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../basic/fd.h"

static int open_socket(int family)
{
        int fd = socket(family, SOCK_DGRAM | SOCK_CLOEXEC, 0);

        return fd < 0 ? -errno : fd;
}

int inside_open(int netns_fd, struct inside *ret)
{
        _cleanup_close_ int own = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
        struct inside in = INSIDE_NONE;

        if (own < 0)
                return -errno;
        if (setns(netns_fd, CLONE_NEWNET) < 0)
                return -errno;
        in.netns_fd = netns_fd;
        in.socket[0] = open_socket(AF_INET);
        in.socket[1] = open_socket(AF_INET6);
        /* Which namespace a file below /proc/sys/net is of is decided when it is opened. */
        in.somaxconn_fd = open("/proc/sys/net/core/somaxconn", O_RDONLY | O_CLOEXEC);
        if (setns(own, CLONE_NEWNET) < 0)
                abort(); /* a broker that makes sockets in the container serves nobody */
        *ret = in;
        return 0;
}

void inside_close(struct inside *in)
{
        in->socket[0] = safe_close(in->socket[0]);
        in->socket[1] = safe_close(in->socket[1]);
        in->somaxconn_fd = safe_close(in->somaxconn_fd);
}

int inside_socket(const struct inside *in, int family)
{
        return in->socket[family == AF_INET6];
}

int inside_backlog(const struct inside *in, int backlog)
{
        char text[32] = "";
        long most;

        if (in->somaxconn_fd < 0 || pread(in->somaxconn_fd, text, sizeof(text) - 1, 0) <= 0)
                return backlog;
        most = strtol(text, NULL, 10);
        /* __sys_listen() compares without a sign: -1 is the most there can be. */
        return most >= 0 && (unsigned int)backlog > (unsigned long)most ? (int)most : backlog;
}
