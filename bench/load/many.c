/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Servers of many connections, on many ports, in one thread with epoll.
 *
 * What epoll holds for a descriptor is the descriptor and, above it, whether it is a listener. They
 * say "ready N ports, T us" on standard output: how long socket(), bind() and listen() took for
 * all.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "net.h"
#include "verbs.h"

#define EVENTS   256
#define LISTENER (1ULL << 32)

static int add(int epoll, int fd, uint64_t mark)
{
        struct epoll_event e = {.events = EPOLLIN, .data.u64 = mark | (uint32_t)fd};

        return epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &e) < 0 ? -errno : 0;
}

/* The listeners stay open for as long as the program lives. */
static int listen_all(const struct options *o, int epoll)
{
        uint64_t start = now_ns();

        for (uint64_t i = 0; i < o->ports; i++) {
                uint16_t port = (uint16_t)(o->port + i);
                int fd, r = net_listen(port, SOCK_NONBLOCK, &fd);

                if (r >= 0)
                        r = add(epoll, fd, LISTENER);
                if (r < 0)
                        return log_error_errno(r, "cannot listen on port %u: %m", port);
        }
        printf("ready %llu ports, %.1f us\n", (unsigned long long)o->ports,
               (double)(now_ns() - start) / 1e3);
        fflush(stdout);
        return 0;
}

/* Sends back what is there. False: the connection is at its end. */
static bool echo(int fd)
{
        char buf[4096];
        ssize_t n = recv(fd, buf, sizeof(buf), MSG_DONTWAIT);

        if (n < 0)
                return errno == EAGAIN || errno == EINTR;
        return n > 0 && net_send(fd, buf, (size_t)n) >= 0;
}

static int take(int listener, int epoll, bool with_echo)
{
        _cleanup_close_ int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        int r;

        if (fd < 0)
                return errno == EAGAIN || errno == EINTR || errno == ECONNABORTED ? 0 : -errno;
        if (!with_echo) {
                (void)net_send(fd, "!", 1);
                return 0;
        }
        (void)net_nodelay(fd);
        r = add(epoll, fd, 0);
        if (r >= 0)
                (void)TAKE_FD(fd);
        return r;
}

static int serve(const struct options *o, bool with_echo)
{
        _cleanup_close_ int epoll = epoll_create1(EPOLL_CLOEXEC);
        struct epoll_event events[EVENTS];
        int r;

        if (epoll < 0)
                return log_error_errno(-errno, "epoll_create1: %m");
        if (o->port + o->ports > 65536)
                return log_error_errno(-EINVAL, "--ports: there is no port above 65535");
        net_raise_limit();
        r = listen_all(o, epoll);
        if (r < 0)
                return r;
        for (;;) {
                int n = epoll_wait(epoll, events, EVENTS, -1);

                if (n < 0 && errno != EINTR)
                        return log_error_errno(-errno, "epoll_wait: %m");
                for (int i = 0; i < n; i++) {
                        int fd = (int)(uint32_t)events[i].data.u64;

                        if (events[i].data.u64 & LISTENER) {
                                r = take(fd, epoll, with_echo);
                                if (r < 0)
                                        return log_error_errno(r, "cannot accept: %m");
                        } else if (!echo(fd)) {
                                safe_close(fd);
                        }
                }
        }
}

int run_echo_many(const struct options *o)
{
        return serve(o, true);
}

int run_greet_many(const struct options *o)
{
        return serve(o, false);
}
