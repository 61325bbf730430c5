/* SPDX-License-Identifier: Apache-2.0 */
/* Who may administer which network namespace: children in namespaces of their own, asked about. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "broker/caller.h"

struct child {
        pid_t pid;
        int end;      /* its life: it ends when this is closed */
        int netns_fd; /* the network namespace that it is in */
        struct caller caller;
};

/* A child with these ids, and namespaces of its own if unshared says so. */
static struct child start(uid_t uid, gid_t gid, int unshared)
{
        struct child c = {.netns_fd = -1};
        int ready[2], end[2];
        char path[64], byte;

        assert_int_equal(pipe2(ready, O_CLOEXEC), 0);
        assert_int_equal(pipe2(end, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(end[1]);
                if ((gid && setresgid(gid, gid, gid) < 0) ||
                    (uid && setresuid(uid, uid, uid) < 0) || (unshared && unshare(unshared) < 0))
                        _exit(1);
                close(ready[1]);
                (void)!read(end[0], &byte, 1);
                _exit(0);
        }
        close(ready[1]);
        close(end[0]);
        assert_int_equal(read(ready[0], &byte, 1), 0);
        close(ready[0]);
        c.end = end[1];
        snprintf(path, sizeof(path), "/proc/%d/ns/net", c.pid);
        c.netns_fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_true(c.netns_fd >= 0);
        c.caller = (struct caller){.notify_fd = -1,
                                   .proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC),
                                   .pid = (uint32_t)c.pid};
        assert_true(c.caller.proc_fd >= 0);
        return c;
}

static void stop(struct child *c)
{
        int status;

        close(c->end);
        close(c->netns_fd);
        close(c->caller.proc_fd);
        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        assert_int_equal(status, 0);
}

static void test_root_and_user(void **state)
{
        struct child root = start(0, 0, 0), user = start(1234, 567, 0);
        uid_t uid;
        gid_t gid;

        assert_int_equal(caller_is_admin(&root.caller, root.netns_fd, false), 0);
        assert_int_equal(caller_is_admin(&root.caller, root.netns_fd, true), 0);
        assert_int_equal(caller_is_admin(&user.caller, root.netns_fd, false), -EPERM);
        assert_int_equal(caller_is_admin(&user.caller, root.netns_fd, true), -EPERM);
        assert_int_equal(caller_ids(&user.caller, &uid, &gid), 0);
        assert_int_equal(uid, 1234);
        assert_int_equal(gid, 567);
        stop(&user);
        stop(&root);
}

/* The owner of a user namespace, who is in it with all capabilities, and who is above it. */
static void test_user_namespaces(void **state)
{
        struct child root = start(0, 0, 0), user = start(1234, 567, 0), other = start(99, 99, 0);
        struct child inside = start(1234, 567, CLONE_NEWUSER | CLONE_NEWNET);

        /* It may in its own, and nowhere else. */
        assert_int_equal(caller_is_admin(&inside.caller, inside.netns_fd, false), 0);
        assert_int_equal(caller_is_admin(&inside.caller, inside.netns_fd, true), -EPERM);
        assert_int_equal(caller_is_admin(&inside.caller, root.netns_fd, false), -EPERM);
        /* root has the capability above it; its owner needs none; nobody else may. */
        assert_int_equal(caller_is_admin(&root.caller, inside.netns_fd, false), 0);
        assert_int_equal(caller_is_admin(&user.caller, inside.netns_fd, false), 0);
        assert_int_equal(caller_is_admin(&other.caller, inside.netns_fd, false), -EPERM);
        stop(&inside);
        stop(&other);
        stop(&user);
        stop(&root);
}

static void test_gone(void **state)
{
        struct child c = start(0, 0, 0);
        struct caller gone = c.caller;
        int fd, proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        uid_t uid;
        gid_t gid;

        assert_true(proc_fd >= 0);
        gone.proc_fd = proc_fd;
        stop(&c);
        assert_int_equal(caller_fd(&gone, 0, &fd), -ESRCH);
        assert_int_equal(caller_memory(&gone, &fd), -ENOENT);
        assert_int_equal(caller_ids(&gone, &uid, &gid), -ENOENT);
        assert_false(caller_waits(&gone));
        close(proc_fd);
}

/* Descriptors and memory of another process. */
static void test_fd_and_memory(void **state)
{
        static volatile int secret = 4711;
        _cleanup_close_ int copy = -1, memory = -1;
        struct child c = start(0, 0, 0);
        int value = 0, fd;

        assert_int_equal(caller_fd(&c.caller, STDIN_FILENO, &copy), 0);
        assert_int_equal(fcntl(copy, F_GETFD), FD_CLOEXEC);
        assert_int_equal(caller_fd(&c.caller, -1, &fd), -EBADF);
        assert_int_equal(caller_fd(&c.caller, 12345, &fd), -EBADF);
        assert_int_equal(caller_memory(&c.caller, &memory), 0);
        assert_int_equal(pread(memory, &value, sizeof(value), (off_t)(uintptr_t)&secret),
                         sizeof(value));
        assert_int_equal(value, 4711);
        stop(&c);
        /* The memory is that process's and no successor's: it is empty now. */
        assert_int_equal(pread(memory, &value, sizeof(value), (off_t)(uintptr_t)&secret), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_root_and_user),
            cmocka_unit_test(test_user_namespaces),
            cmocka_unit_test(test_gone),
            cmocka_unit_test(test_fd_and_memory),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP needs root\n");
                return 0;
        }
        return cmocka_run_group_tests(tests, NULL, NULL);
}
