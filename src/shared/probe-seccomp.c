/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Probes of seccomp notifications: a child puts Slim's own filter on itself, calls socket(), and is
 * answered as a broker would answer.
 */
#include <errno.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "filter.h"
#include "probe-parts.h"
#include "rpc.h"

/* Newer than the headers of Debian 12. */
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif

int probe_notify(char *detail, size_t size)
{
        struct seccomp_notif_sizes sizes;
        __u32 action = SECCOMP_RET_USER_NOTIF;

        if (syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) < 0)
                return probe_say(detail, size, -errno, "SECCOMP_GET_ACTION_AVAIL: %m");
        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
                return probe_say(detail, size, -errno, "SECCOMP_GET_NOTIF_SIZES: %m");
        return 0;
}

/* A process under the filter that calls socket() once. */
struct caller {
        pid_t pid;
        int notify_fd;
};

static void caller_clear(struct caller *c)
{
        /* Unanswered, its call now fails, and it ends. */
        c->notify_fd = safe_close(c->notify_fd);
        if (c->pid > 0)
                while (waitpid(c->pid, NULL, 0) < 0 && errno == EINTR)
                        ;
        c->pid = 0;
}

_noreturn_ static void caller_main(int channel_fd)
{
        _cleanup_json_ json_t *report = json_object();
        struct rpc *channel;
        int fd = -1, r;

        if (rpc_new(channel_fd, &channel) < 0)
                _exit(1);
        r = filter_load(&fd);
        json_object_set_new(report, "errno", json_integer(-r));
        if (rpc_send(channel, report, &fd, r < 0 ? 0 : 1) < 0 || r < 0)
                _exit(1);
        safe_close(fd);
        fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        _exit(fd < 0);
}

static int caller_start(struct caller *ret, char *detail, size_t size)
{
        _cleanup_(caller_clear) struct caller c = {.notify_fd = -1};
        _cleanup_(rpc_freep) struct rpc *channel = NULL;
        _cleanup_json_ json_t *report = NULL;
        int pair[2], fds[RPC_FDS_MAX], r;
        size_t n = 0;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return probe_say(detail, size, -errno, "cannot make a socket pair: %m");
        c.pid = fork();
        if (c.pid == 0) {
                safe_close(pair[0]);
                caller_main(pair[1]);
        }
        r = c.pid < 0 ? -errno : rpc_new(pair[0], &channel);
        safe_close(pair[1]);
        if (r < 0) {
                safe_close(pair[0]);
                return probe_say(detail, size, r, "cannot start a process: %m");
        }
        r = rpc_receive(channel, &report, fds, &n);
        if (r < 0)
                return probe_say(detail, size, r, "the process under the filter: %m");
        for (size_t i = 0; i < n; i++)
                if (i == 0)
                        c.notify_fd = fds[i];
                else
                        safe_close(fds[i]);
        if (c.notify_fd < 0)
                return probe_say(detail, size,
                                 -(int)json_integer_value(json_object_get(report, "errno")) ?: -EIO,
                                 "cannot load the filter: %m");
        *ret = c;
        c = (struct caller){.notify_fd = -1};
        return 0;
}

/* Takes the notification and answers it with a descriptor, the call's result. */
static int answer(int notify_fd, char *detail, size_t size)
{
        _cleanup_free_ struct seccomp_notif *n = NULL;
        struct pollfd p = {.fd = notify_fd, .events = POLLIN};
        struct seccomp_notif_addfd add = {};
        struct seccomp_notif_resp *resp;
        _cleanup_free_ void *resp_memory = NULL;
        struct seccomp_notif_sizes sizes;
        int r;

        if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
                return probe_say(detail, size, -errno, "SECCOMP_GET_NOTIF_SIZES: %m");
        n = calloc(1, sizes.seccomp_notif > sizeof(*n) ? sizes.seccomp_notif : sizeof(*n));
        if (!n)
                return probe_say(detail, size, -ENOMEM, "%m");
        do {
                r = poll(&p, 1, -1);
        } while (r < 0 && errno == EINTR);
        if (r < 0 || !(p.revents & POLLIN))
                return probe_say(detail, size, -ESRCH, "no notification came");
        if (ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_RECV, n) < 0)
                return probe_say(detail, size, -errno, "SECCOMP_IOCTL_NOTIF_RECV: %m");
        add.id = n->id;
        add.srcfd = (__u32)notify_fd; /* any descriptor will do */
        r = ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &add);
        if (r < 0)
                return probe_say(detail, size, -errno, "SECCOMP_IOCTL_NOTIF_ADDFD: %m");
        resp_memory = calloc(1, sizes.seccomp_notif_resp > sizeof(*resp) ? sizes.seccomp_notif_resp
                                                                         : sizeof(*resp));
        resp = resp_memory;
        if (!resp)
                return probe_say(detail, size, -ENOMEM, "%m");
        resp->id = n->id;
        resp->val = r;
        if (ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_SEND, resp) < 0)
                return probe_say(detail, size, -errno, "SECCOMP_IOCTL_NOTIF_SEND: %m");
        return 0;
}

int probe_addfd(char *detail, size_t size)
{
        _cleanup_(caller_clear) struct caller c = {.notify_fd = -1};
        int r, status;

        r = caller_start(&c, detail, size);
        if (r < 0)
                return r;
        r = answer(c.notify_fd, detail, size);
        if (r < 0)
                return r;
        do {
                r = waitpid(c.pid, &status, 0);
        } while (r < 0 && errno == EINTR);
        c.pid = 0;
        if (r < 0 || status != 0)
                return probe_say(detail, size, -EIO, "the call did not get the descriptor");
        return 0;
}

int probe_sync_wake_up(char *detail, size_t size)
{
        _cleanup_(caller_clear) struct caller c = {.notify_fd = -1};
        int r;

        r = caller_start(&c, detail, size);
        if (r < 0)
                return r;
        if (ioctl(c.notify_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) <
            0)
                return probe_say(detail, size, -errno, "SECCOMP_IOCTL_NOTIF_SET_FLAGS: %m");
        return 0;
}
