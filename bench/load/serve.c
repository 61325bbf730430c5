/* SPDX-License-Identifier: Apache-2.0 */
/* Servers that do as little as there can be beside the network: what is measured is not theirs. */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "net.h"
#include "verbs.h"

/* Until the peer closes or goes away, which is no failure. */
static void echo(int fd)
{
        char buf[65536];
        ssize_t n;

        if (net_nodelay(fd) < 0)
                return;
        while ((n = recv(fd, buf, sizeof(buf), 0)) != 0) {
                if (n < 0 && errno == EINTR)
                        continue;
                if (n < 0 || net_send(fd, buf, (size_t)n) < 0)
                        return;
        }
}

static void nothing(int fd)
{
}

static void greet(int fd)
{
        (void)net_send(fd, "!", 1);
}

static int serve(uint16_t port, void (*handle)(int fd))
{
        _cleanup_close_ int fd = -1;
        int r = net_listen(port, 0, &fd);

        if (r < 0)
                return log_error_errno(r, "cannot listen on port %u: %m", port);
        puts("ready");
        fflush(stdout);
        for (;;) {
                _cleanup_close_ int client = accept4(fd, NULL, NULL, SOCK_CLOEXEC);

                if (client >= 0)
                        handle(client);
                else if (errno != EINTR && errno != ECONNABORTED)
                        return log_error_errno(-errno, "cannot accept on port %u: %m", port);
        }
}

int run_echo(const struct options *o)
{
        return serve(o->port, echo);
}

int run_accept(const struct options *o)
{
        return serve(o->port, nothing);
}

int run_greet(const struct options *o)
{
        return serve(o->port, greet);
}
