/* SPDX-License-Identifier: Apache-2.0 */
#include "container.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sched.h>
#include <poll.h>
#include <stdio.h>
#include <sys/pidfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "forward.h"

#define NAMESPACES (CLONE_NEWNET | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWUTS | CLONE_NEWIPC)

static int wrap(int *fd, struct rpc **ret)
{
        int r = rpc_new(*fd, ret);

        if (r >= 0)
                TAKE_FD(*fd);
        return r;
}

/* Takes the report of the first process, and the notification descriptor with it. */
static int take_report(const struct container_spec *spec, struct container *c)
{
        _cleanup_json_ json_t *report = NULL;
        int fds[RPC_FDS_MAX];
        const char *problem;
        size_t n_fds = 0;
        int r;

        r = rpc_receive(c->channel, &report, fds, &n_fds);
        if (r < 0)
                return log_error_errno(r, "the container ended while it was set up: %m");
        if (n_fds > 0)
                c->notify_fd = fds[0];
        for (size_t i = 1; i < n_fds; i++)
                safe_close(fds[i]);
        problem = json_string_value(json_object_get(report, "error"));
        if (problem) {
                log_error("%s", problem);
                return -EIO;
        }
        if (spec->slim != (n_fds == 1))
                return log_error_errno(-EPROTO,
                                       "the container's first process sent %zu "
                                       "descriptors",
                                       n_fds);
        return 0;
}

int container_start(const struct container_spec *spec, struct container *ret)
{
        _cleanup_(container_clear) struct container c = CONTAINER_NONE;
        _cleanup_close_ int ours = -1, theirs = -1;
        struct clone_args args = {
            .flags = NAMESPACES | CLONE_PIDFD,
            .pidfd = (uint64_t)(uintptr_t)&c.pidfd,
            .exit_signal = SIGCHLD,
        };
        int pair[2], r;
        char path[64];
        long pid;

        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0)
                return log_error_errno(-errno, "cannot make a socket pair: %m");
        ours = pair[0];
        theirs = pair[1];

        pid = syscall(SYS_clone3, &args, sizeof(args));
        if (pid < 0)
                return log_error_errno(-errno, "cannot make a container's namespaces: %m%s",
                                       errno == EPERM ? ": run slimctl as root" : "");
        if (pid == 0)
                init_main(spec, theirs);
        c.pid = (pid_t)pid;
        theirs = safe_close(theirs);

        r = wrap(&ours, &c.channel);
        if (r < 0)
                return log_error_errno(r, "cannot talk to the container: %m");
        r = take_report(spec, &c);
        if (r < 0)
                return r;
        /* Now that it waits for us; a process that has failed has no namespace any more. */
        snprintf(path, sizeof(path), "/proc/%d/ns/net", c.pid);
        c.netns_fd = open(path, O_RDONLY | O_CLOEXEC);
        if (c.netns_fd < 0)
                return log_error_errno(-errno, "cannot open the container's %s: %m", path);
        *ret = c;
        c = (struct container)CONTAINER_NONE;
        return 0;
}

int container_go(struct container *c, const struct container_addresses *addresses)
{
        _cleanup_json_ json_t *word = json_pack("{s:[]}", "addresses");
        int r;

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (addresses->text[f][0])
                        json_array_append_new(json_object_get(word, "addresses"),
                                              json_string(addresses->text[f]));

        if (!word)
                return log_error_errno(-ENOMEM, "cannot start the program: %m");
        c->netns_fd = safe_close(c->netns_fd);
        c->notify_fd = safe_close(c->notify_fd);
        r = rpc_send(c->channel, word, NULL, 0);
        if (r < 0)
                return log_error_errno(r, "the container ended before its program ran: %m");
        rpc_free(TAKE_PTR(c->channel));
        return 0;
}

/* Stops slimctl as the program stops, unless its process group is one that cannot (an orphan). */
static void stop_as_well(void)
{
        sigset_t stop;

        sigemptyset(&stop);
        sigaddset(&stop, SIGTSTP);
        raise(SIGTSTP);
        sigprocmask(SIG_UNBLOCK, &stop, NULL);
        sigprocmask(SIG_BLOCK, &stop, NULL);
}

static void take_signal(const struct container *c, int fd)
{
        bool leader = getsid(0) == getpid();
        struct signalfd_siginfo info;

        if (read(fd, &info, sizeof(info)) != sizeof(info))
                return;
        if (forward_wanted((int)info.ssi_signo, info.ssi_code, leader))
                pidfd_send_signal(c->pidfd, (int)info.ssi_signo, NULL, 0);
        if (info.ssi_signo == SIGTSTP)
                stop_as_well();
}

int container_wait(struct container *c, int *ret)
{
        _cleanup_close_ int fd = -1;
        sigset_t signals;
        siginfo_t info;

        forward_signals(&signals);
        fd = signalfd(-1, &signals, SFD_CLOEXEC | SFD_NONBLOCK);
        if (fd < 0)
                return log_error_errno(-errno, "cannot take signals: %m");
        for (;;) {
                struct pollfd polls[] = {
                    {.fd = fd, .events = POLLIN},
                    {.fd = c->pidfd, .events = POLLIN},
                };

                if (poll(polls, ARRAY_SIZE(polls), -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return log_error_errno(-errno, "cannot wait for the container: %m");
                }
                if (polls[0].revents)
                        take_signal(c, fd);
                if (polls[1].revents)
                        break;
        }
        if (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED) < 0)
                return log_error_errno(-errno, "cannot wait for the container: %m");
        c->pid = 0;
        *ret = info.si_code == CLD_EXITED ? info.si_status : 128 + info.si_status;
        return 0;
}

void container_clear(struct container *c)
{
        siginfo_t info;

        if (c->pid > 0) {
                pidfd_send_signal(c->pidfd, SIGKILL, NULL, 0);
                while (waitid(P_PIDFD, (id_t)c->pidfd, &info, WEXITED) < 0 && errno == EINTR)
                        ;
                c->pid = 0;
        }
        rpc_free(c->channel);
        c->channel = NULL;
        c->pidfd = safe_close(c->pidfd);
        c->netns_fd = safe_close(c->netns_fd);
        c->notify_fd = safe_close(c->notify_fd);
}
