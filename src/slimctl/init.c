/* SPDX-License-Identifier: Apache-2.0 */
/*
 * States: setting up → reported → running → gone. Before "running" there is no program and no
 * process but this one, and every failure is told to slimctl as a sentence. From then on this
 * process has no descriptor but 0, 1 and 2, so that the container holds nothing of slimctl's, and
 * it learns of everything by signals, all of which it blocks and takes one at a time.
 *
 * It cannot outlive slimctl: the kernel kills it then (PR_SET_PDEATHSIG), and all of the container
 * with it. If slimctl died before that was asked for, the channel is at its end, since nobody
 * else has slimctl's side of it.
 */
#include "init.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/filter.h"
#include "../shared/netlink.h"
#include "../shared/rpc.h"
#include "forward.h"
#include "hosts.h"

/* The loopback device is the first of every network namespace (LOOPBACK_IFINDEX in the kernel). */
#define LOOPBACK_IFINDEX 1

#define PROBLEM_MAX 256

/* Exit statuses of what cannot be run, as a shell has them. */
#define EXIT_NOT_EXECUTABLE 126
#define EXIT_NOT_FOUND      127

static int problem_set(char *problem, int r, const char *format, ...) _printf_(3, 4);

static int problem_set(char *problem, int r, const char *format, ...)
{
        va_list ap;

        errno = -r;
        va_start(ap, format);
        vsnprintf(problem, PROBLEM_MAX, format, ap);
        va_end(ap);
        return r;
}

/* --- setting up ------------------------------------------------------------------------------- */

static int set_up_mounts(char *problem)
{
        static const struct {
                const char *type, *where;
                bool optional; /* not every kernel and file system has the place for it */
        } mounts[] = {
            {"proc", "/proc", false},
            {"sysfs", "/sys", false},
            {"mqueue", "/dev/mqueue", true},
        };
        struct stat st;

        /* What is mounted outside later appears here; what is mounted here stays here. */
        if (mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
                return problem_set(problem, -errno, "cannot separate the container's mounts: %m");
        for (size_t i = 0; i < ARRAY_SIZE(mounts); i++) {
                if (mounts[i].optional && stat(mounts[i].where, &st) < 0)
                        continue;
                if (mount(mounts[i].type, mounts[i].where, mounts[i].type,
                          MS_NOSUID | MS_NODEV | MS_NOEXEC, NULL) < 0)
                        return problem_set(problem, -errno, "cannot mount %s on %s: %m",
                                           mounts[i].type, mounts[i].where);
        }
        return 0;
}

static int set_up_loopback(char *problem)
{
        _cleanup_(netlink_freep) struct netlink *nl = NULL;
        int r;

        r = netlink_open(-1, &nl);
        if (r >= 0)
                r = netlink_link_up(nl, LOOPBACK_IFINDEX);
        if (r < 0)
                return problem_set(problem, r, "cannot bring the container's loopback up: %m");
        return 0;
}

static int set_up(const struct container_spec *spec, char *problem, int *ret_notify_fd)
{
        int r;

        r = set_up_mounts(problem);
        if (r < 0)
                return r;
        if (sethostname(spec->hostname, strlen(spec->hostname)) < 0)
                return problem_set(problem, -errno, "cannot set the host name: %m");
        r = set_up_loopback(problem);
        if (r < 0)
                return r;
        if (!spec->slim)
                return 0;
        /* Last: from here on nothing in this container gets a TCP socket but by its broker. */
        r = filter_load(ret_notify_fd);
        if (r == -EBUSY)
                return problem_set(problem, r,
                                   "slimctl runs under a seccomp filter with notifications, and "
                                   "there can be only one: use --plain, or run it outside of "
                                   "that container");
        if (r < 0)
                return problem_set(problem, r, "cannot load the seccomp filter: %m");
        return 0;
}

/* Tells slimctl how it went, and waits for its word: the container's addresses. */
static int report_and_wait(struct rpc *channel, int error, const char *problem, int notify_fd,
                           json_t **ret_word)
{
        _cleanup_json_ json_t *report = json_object();
        int r;

        if (error < 0)
                json_object_set_new(report, "error", json_string(problem));
        r = rpc_send(channel, report, &notify_fd, notify_fd >= 0 ? 1 : 0);
        if (r < 0 || error < 0)
                return r < 0 ? r : error;
        return rpc_receive(channel, ret_word, NULL, NULL);
}

/* --- the program ------------------------------------------------------------------------------ */

/* Behind what the caller preloads: those libraries see each call, as they would without this one.
 */
static int set_preload(const char *library)
{
        const char *others = getenv("LD_PRELOAD");
        char all[2 * PATH_MAX];

        if (!library[0])
                return 0;
        if (snprintf(all, sizeof(all), "%s%s%s", others ?: "", others && others[0] ? ":" : "",
                     library) >= (int)sizeof(all))
                return -E2BIG;
        return setenv("LD_PRELOAD", all, 1) < 0 ? -errno : 0;
}

_noreturn_ static void program_main(const struct container_spec *spec)
{
        int r;

        r = set_preload(spec->preload);
        if (r < 0)
                log_warning_errno(r, "cannot preload %s: %m, ignoring", spec->preload);

        if (spec->pinned && sched_setaffinity(0, sizeof(spec->cpus), &spec->cpus) < 0) {
                log_error_errno(-errno, "cannot pin the program to --cpus: %m");
                _exit(EXIT_FAILURE);
        }
        sigaction(SIGCHLD, &spec->child_action, NULL);
        sigprocmask(SIG_SETMASK, &spec->mask, NULL);
        execvp(spec->argv[0], spec->argv);
        r = -errno;
        log_error_errno(r, "cannot run \"%s\": %m", spec->argv[0]);
        _exit(r == -ENOENT ? EXIT_NOT_FOUND : EXIT_NOT_EXECUTABLE);
}

/* Takes every process that has ended; true once the program is among them. */
static bool reap(pid_t program, int *ret_status)
{
        bool ended = false;
        int status;
        pid_t pid;

        while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
                if (pid != program)
                        continue;
                *ret_status = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
                ended = true;
        }
        return ended;
}

static int supervise(pid_t program)
{
        sigset_t signals;
        int status = 0;

        forward_signals(&signals);
        sigaddset(&signals, SIGCHLD);
        for (;;) {
                siginfo_t info;
                int sig = sigwaitinfo(&signals, &info);

                if (sig < 0)
                        continue; /* EINTR: stopped and continued */
                if (sig == SIGCHLD) {
                        if (reap(program, &status))
                                return status;
                } else if (forward_wanted(sig, info.si_code, false)) {
                        kill(program, sig);
                }
        }
}

void init_main(const struct container_spec *spec, int channel_fd)
{
        struct rpc *channel;
        json_t *word = NULL;
        char problem[PROBLEM_MAX] = "";
        int notify_fd = -1, r;
        sigset_t all;
        pid_t program;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, "slim-init");
        sigfillset(&all);
        sigprocmask(SIG_BLOCK, &all, NULL);
        /* slimctl's own descriptors, its side of the channel among them. */
        if (dup2(channel_fd, 3) < 0 || close_range(4, ~0U, 0) < 0)
                _exit(EXIT_FAILURE);
        r = rpc_new(3, &channel);
        if (r < 0)
                _exit(EXIT_FAILURE);

        r = set_up(spec, problem, &notify_fd);
        r = report_and_wait(channel, r, problem, notify_fd, &word);
        if (r <= 0)
                _exit(EXIT_FAILURE);
        r = hosts_mount(spec->hostname, json_object_get(word, "addresses"));
        if (r < 0)
                log_warning_errno(r, "the container's name is not in its /etc/hosts: %m, ignoring");
        json_decref(word);
        rpc_free(channel);
        close_range(3, ~0U, 0);

        program = fork();
        if (program < 0) {
                log_error_errno(-errno, "cannot start the program: %m");
                _exit(EXIT_FAILURE);
        }
        if (program == 0)
                program_main(spec);
        _exit(supervise(program));
}
