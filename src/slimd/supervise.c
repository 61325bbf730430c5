/* SPDX-License-Identifier: Apache-2.0 */
#include "supervise.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../broker/broker-fds.h"

/* A broker that died sooner than this after its start is not replaced before it has passed. */
#define RESTART_USEC 500000U

struct supervisor {
        struct slimd *d;
        const struct endpoint *endpoint;
        char *cgroup;
        int netns_fd;
        int notify_fd; /* -1: the broker of a plain container */
        const struct reservation *reserved;
        int call_fd; /* the call that the broker has in hand, for the next one to finish */
        pid_t pid;
        int pidfd;
        uint64_t started; /* CLOCK_MONOTONIC µs */
        sd_event_source *exit_source;
        sd_event_source *restart_source;
};

static int supervisor_watch(struct supervisor *s, pid_t pid, int pidfd);

pid_t supervisor_pid(const struct supervisor *s)
{
        return s->pid;
}

/* In the child: only what is safe between fork and exec. Ends in the broker or in _exit(). */
static void _noreturn_ exec_broker(const struct supervisor *s, const char **argv)
{
        /* In the order of enum broker_fd, and the program itself. */
        const int from[] = {
            s->notify_fd,
            datapath_map_fd(s->d->dp, DATAPATH_SOCKETS),
            s->netns_fd,
            s->call_fd,
            datapath_map_fd(s->d->dp, DATAPATH_PORTS),
            datapath_map_fd(s->d->dp, DATAPATH_PUBLISHED),
            datapath_map_fd(s->d->dp, DATAPATH_USAGE),
            s->d->broker_fd,
        };
        const size_t n_reserved = s->reserved->n, n = ARRAY_SIZE(from) + n_reserved;
        int high[ARRAY_SIZE(from) + BROKER_RESERVED_MAX];
        sigset_t none;

        _Static_assert(PUBLICATION_PORTS_MAX <= BROKER_RESERVED_MAX, "not all reservations fit");
        _Static_assert(ARRAY_SIZE(from) == BROKER_FD_MAX + 1 - BROKER_FD_NOTIFY,
                       "a descriptor of the broker's is missing");

        /* Its own session: what a terminal sends to slimd is not for the brokers. */
        setsid();
        sigemptyset(&none);
        sigprocmask(SIG_SETMASK, &none, NULL);
        /* The cgroup decides which programs its sockets meet: no broker outside of it. */
        if (write_file_at(AT_FDCWD, s->cgroup, "0") < 0)
                _exit(EXIT_FAILURE);
        /* First above all the places where they belong. What is not there leaves its place empty.
         */
        for (size_t i = 0; i < n; i++) {
                int fd = i < ARRAY_SIZE(from) ? from[i] : s->reserved->fd[i - ARRAY_SIZE(from)];

                high[i] = fd < 0 ? -1 : fcntl(fd, F_DUPFD, BROKER_FD_RESERVED + (int)n_reserved);
                if (fd >= 0 && high[i] < 0)
                        _exit(EXIT_FAILURE);
        }
        for (size_t i = 0; i < n; i++) {
                int to = i < ARRAY_SIZE(from) ? BROKER_FD_NOTIFY + (int)i
                                              : BROKER_FD_RESERVED + (int)(i - ARRAY_SIZE(from));

                if (high[i] < 0)
                        (void)close(to);
                else if (dup2(high[i], to) < 0)
                        _exit(EXIT_FAILURE);
        }
        if (syscall(__NR_close_range, BROKER_FD_MAX + 1, BROKER_FD_RESERVED - 1, 0) < 0 ||
            syscall(__NR_close_range, BROKER_FD_RESERVED + n_reserved, ~0U, 0) < 0 ||
            fcntl(BROKER_FD_MAX, F_SETFD, FD_CLOEXEC) < 0)
                _exit(EXIT_FAILURE);
        /* POSIX: the strings are not written to. */
        execveat(BROKER_FD_MAX, "", (char **)(uintptr_t)argv, environ, AT_EMPTY_PATH);
        _exit(EXIT_FAILURE);
}

static int supervisor_start(struct supervisor *s)
{
        char endpoint[16], network[16], reserved[16], sockets[16],
            buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES];
        const char *argv[11 + 2 * SLIM_FAMILIES] = {s->d->opt.broker, "--endpoint",    endpoint,
                                                    "--network",      network,         "--reserved",
                                                    reserved,         "--max-sockets", sockets};
        size_t n = 9;
        _cleanup_close_ int pidfd = -1;
        pid_t pid;
        int r;

        snprintf(endpoint, sizeof(endpoint), "%u", s->endpoint->id);
        snprintf(network, sizeof(network), "%u", s->endpoint->network_id);
        snprintf(reserved, sizeof(reserved), "%zu", s->reserved->n);
        snprintf(sockets, sizeof(sockets), "%u", s->d->opt.max_sockets);
        addrs_format(s->endpoint->addr, buf, addr);
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                if (!addr[f])
                        continue;
                argv[n++] = "--address";
                argv[n++] = addr[f];
        }
        if (!s->endpoint->slim)
                argv[n++] = "--hold";
        pid = fork();
        if (pid < 0)
                return -errno;
        if (pid == 0)
                exec_broker(s, argv);
        pidfd = (int)syscall(__NR_pidfd_open, pid, 0);
        if (pidfd < 0)
                return -errno;
        r = supervisor_watch(s, pid, pidfd);
        if (r < 0)
                return r;
        (void)TAKE_FD(pidfd);
        return 0;
}

static int on_restart(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct supervisor *s = userdata;
        int r;

        s->restart_source = sd_event_source_unref(s->restart_source);
        r = supervisor_start(s);
        if (r < 0)
                log_error_errno(r, "endpoint %s: cannot start a broker: %m", s->endpoint->name);
        return 0;
}

/* The broker is gone: because its container is, or because something killed it. */
static int on_broker_exit(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct supervisor *s = userdata;
        siginfo_t info = {};
        uint64_t now, delay = 0;
        int r;

        /* One that an earlier slimd started is not our child: nothing to reap. */
        (void)waitid(P_PIDFD, (id_t)s->pidfd, &info, WEXITED | WNOHANG);
        s->exit_source = sd_event_source_unref(s->exit_source);
        s->pidfd = safe_close(s->pidfd);
        s->pid = 0;
        if (info.si_code == CLD_EXITED && info.si_status == 0)
                return 0; /* it saw the end of its container */

        sd_event_now(s->d->event, CLOCK_MONOTONIC, &now);
        if (now - s->started < RESTART_USEC)
                delay = RESTART_USEC;
        log_debug("endpoint %s: the broker is gone, starting another", s->endpoint->name);
        r = sd_event_add_time_relative(s->d->event, &s->restart_source, CLOCK_MONOTONIC, delay, 0,
                                       on_restart, s);
        if (r < 0)
                log_error_errno(r, "endpoint %s: cannot replace its broker: %m", s->endpoint->name);
        return 0;
}

static int supervisor_watch(struct supervisor *s, pid_t pid, int pidfd)
{
        int r = sd_event_add_io(s->d->event, &s->exit_source, pidfd, EPOLLIN, on_broker_exit, s);

        if (r < 0)
                return r;
        s->pid = pid;
        s->pidfd = pidfd;
        sd_event_now(s->d->event, CLOCK_MONOTONIC, &s->started);
        return 0;
}

/* The broker that runs in a cgroup (its cgroup.procs): its pid and a pidfd. 0: there is none. */
static int find_broker(const char *procs, pid_t *ret_pid, int *ret_pidfd)
{
        _cleanup_free_ char *pids = NULL;
        long pid;
        int pidfd, r;

        r = read_file_at(AT_FDCWD, procs, 4096, &pids, NULL);
        if (r < 0)
                return r;
        pid = strtol(pids, NULL, 10);
        if (pid <= 0)
                return 0;
        pidfd = (int)syscall(__NR_pidfd_open, (pid_t)pid, 0);
        if (pidfd < 0)
                return errno == ESRCH ? 0 : -errno;
        *ret_pid = (pid_t)pid;
        *ret_pidfd = pidfd;
        return 1;
}

int supervisor_take(const char *cgroup, struct reservation *reserved)
{
        _cleanup_free_ char *procs = NULL;
        _cleanup_close_ int pidfd = -1;
        pid_t pid = 0;
        int r;

        if (asprintf(&procs, "%s/cgroup.procs", cgroup) < 0) {
                procs = NULL;
                return -ENOMEM;
        }
        r = find_broker(procs, &pid, &pidfd);
        if (r <= 0)
                return r == 0 ? -ENOENT : r;
        for (size_t i = 0; i < reserved->n; i++) {
                if (reserved->fd[i] >= 0)
                        continue;
                reserved->fd[i] =
                    (int)syscall(__NR_pidfd_getfd, pidfd, BROKER_FD_RESERVED + (int)i, 0);
                if (reserved->fd[i] < 0)
                        return errno == ESRCH ? -ENOENT : -errno;
        }
        return 0;
}

/* The broker that an earlier slimd started: the cgroup tells who it is, and it has the notify
 * descriptor. 0: there is none. */
static int supervisor_find(struct supervisor *s)
{
        _cleanup_close_ int pidfd = -1;
        pid_t pid = 0;
        int r;

        r = find_broker(s->cgroup, &pid, &pidfd);
        if (r <= 0)
                return r;
        if (s->notify_fd < 0 && s->endpoint->slim) {
                s->notify_fd = (int)syscall(__NR_pidfd_getfd, pidfd, BROKER_FD_NOTIFY, 0);
                if (s->notify_fd < 0)
                        return -errno;
        }
        s->call_fd = (int)syscall(__NR_pidfd_getfd, pidfd, BROKER_FD_CALL, 0);
        if (s->call_fd < 0)
                return -errno;
        r = supervisor_watch(s, pid, pidfd);
        if (r < 0)
                return r;
        (void)TAKE_FD(pidfd);
        return 1;
}

static int make_call_file(struct supervisor *s)
{
        s->call_fd = memfd_create("slim-broker-call", MFD_CLOEXEC);
        if (s->call_fd < 0)
                return -errno;
        return ftruncate(s->call_fd, BROKER_CALL_SIZE) < 0 ? -errno : 0;
}

DEFINE_CLEANUP(struct supervisor *, supervisor_free)

int supervisor_new(struct slimd *d, const struct supervisor_options *o, struct supervisor **ret)
{
        _cleanup_(supervisor_freep) struct supervisor *s = new0(struct supervisor, 1);
        int r;

        if (!s)
                return -ENOMEM;
        *s = (struct supervisor){.d = d,
                                 .endpoint = o->endpoint,
                                 .reserved = o->reserved,
                                 .netns_fd = -1,
                                 .notify_fd = -1,
                                 .call_fd = -1,
                                 .pidfd = -1};
        if (asprintf(&s->cgroup, "%s/cgroup.procs", o->cgroup) < 0) {
                s->cgroup = NULL;
                return -ENOMEM;
        }
        if (o->netns_fd >= 0) {
                s->netns_fd = fcntl(o->netns_fd, F_DUPFD_CLOEXEC, 0);
                if (s->netns_fd < 0)
                        return -errno;
        }
        if (o->notify_fd >= 0) {
                s->notify_fd = fcntl(o->notify_fd, F_DUPFD_CLOEXEC, 0);
                if (s->notify_fd < 0)
                        return -errno;
        }
        r = supervisor_find(s);
        if (r == 0)
                r = s->notify_fd >= 0 || !s->endpoint->slim ? make_call_file(s) : -ENOENT;
        if (r == 0)
                r = supervisor_start(s);
        else if (r == 1)
                r = 0;
        if (r < 0)
                return r;
        *ret = TAKE_PTR(s);
        return 0;
}

void supervisor_free(struct supervisor *s)
{
        sd_event_source_unref(s->exit_source);
        sd_event_source_unref(s->restart_source);
        safe_close(s->pidfd);
        safe_close(s->netns_fd);
        safe_close(s->notify_fd);
        safe_close(s->call_fd);
        free(s->cgroup);
        free(s);
}
