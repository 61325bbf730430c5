/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Containers without a slimd: a child process plays slimctl, and what the program prints comes back
 * through a pipe whose only writers are that child and the container. So the end of the pipe's data
 * means that both are gone, and nothing here waits for a time to pass.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/fd.h"
#include "basic/log.h"
#include "slimctl/container.h"
#include "slimctl/forward.h"

#define TEXT_MAX 8192

/* How far the child goes before it stops on its own. */
enum how {
        HOW_RUN,     /* to the end of the program */
        HOW_NO_GO,   /* the container is set up, and slimctl waits for ever */
        HOW_GIVE_UP, /* the container is set up, and slimctl gives it up, as when slimd refuses */
};

struct slimctl {
        pid_t pid;
        int out; /* what the program and slimctl print */
};

_noreturn_ static void child_main(struct container_spec *spec, enum how how)
{
        struct sigaction dfl = {.sa_handler = SIG_DFL};
        const struct container_addresses addresses = {{[SLIM_V4] = "10.77.0.2"}};
        struct container c = CONTAINER_NONE;
        sigset_t signals;
        int status;

        prctl(PR_SET_PDEATHSIG, SIGKILL);
        log_setup("slimctl");
        sigprocmask(SIG_SETMASK, NULL, &spec->mask);
        sigaction(SIGCHLD, &dfl, &spec->child_action);
        if (container_start(spec, &c) < 0)
                _exit(1);
        if (spec->slim != (c.notify_fd >= 0))
                _exit(201);
        if (how == HOW_GIVE_UP) {
                container_clear(&c);
                _exit(c.pid == 0 && c.pidfd < 0 && c.netns_fd < 0 ? 0 : 202);
        }
        if (how == HOW_NO_GO) {
                write_full(STDOUT_FILENO, "ready\n", 6);
                for (;;)
                        pause();
        }
        forward_signals(&signals);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        if (container_go(&c, &addresses) < 0 || container_wait(&c, &status) < 0)
                _exit(1);
        if (c.notify_fd >= 0 || c.netns_fd >= 0 || c.channel)
                _exit(203);
        container_clear(&c);
        _exit(status);
}

static struct slimctl start_spec(struct container_spec *spec, enum how how)
{
        struct slimctl s;
        int fds[2];

        spec->hostname = "box.test";
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s.pid = fork();
        assert_true(s.pid >= 0);
        if (s.pid == 0) {
                dup2(fds[1], STDOUT_FILENO);
                dup2(fds[1], STDERR_FILENO);
                child_main(spec, how);
        }
        close(fds[1]);
        s.out = fds[0];
        return s;
}

static struct slimctl start(enum how how, char **argv)
{
        struct container_spec spec = {.argv = argv};

        return start_spec(&spec, how);
}

#define PROGRAM(...) ((char **)(const char *[]){__VA_ARGS__, NULL})
#define SHELL(text)  PROGRAM("/bin/sh", "-c", (text))

/* Reads up to a line end, or to the end (""). */
static const char *read_line(struct slimctl *s)
{
        static char text[TEXT_MAX];
        size_t n = 0;

        while (n < sizeof(text) - 1 && read(s->out, text + n, 1) == 1)
                if (text[n++] == '\n')
                        break;
        text[n] = '\0';
        return text;
}

static int exit_status(struct slimctl *s)
{
        int status;

        close(s->out);
        assert_int_equal(waitpid(s->pid, &status, 0), s->pid);
        assert_true(WIFEXITED(status));
        return WEXITSTATUS(status);
}

/* Reads all output, to the end of slimctl and its container, and returns the exit status. */
static int finish(struct slimctl *s, char text[TEXT_MAX])
{
        size_t n = 0;
        ssize_t r;

        while (n < TEXT_MAX - 1 && (r = read(s->out, text + n, TEXT_MAX - 1 - n)) > 0)
                n += (size_t)r;
        text[n] = '\0';
        return exit_status(s);
}

static void test_status(void **state)
{
        static const struct {
                const char *argv[4];
                int status;
                const char *output;
        } cases[] = {
            {{"/bin/true"}, 0, ""},
            {{"sh", "-c", "exit 7"}, 7, ""},
            {{"sh", "-c", "kill -9 $$"}, 128 + SIGKILL, ""},
            {{"sh", "-c", "kill -TERM $$"}, 128 + SIGTERM, ""},
            {{"/nonexistent/x"},
             127,
             "slimctl: cannot run \"/nonexistent/x\": No such file or directory\n"},
            {{"no-such-program-anywhere"},
             127,
             "slimctl: cannot run \"no-such-program-anywhere\": No such file or directory\n"},
            {{"/etc/passwd"}, 126, "slimctl: cannot run \"/etc/passwd\": Permission denied\n"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct slimctl s = start(HOW_RUN, (char **)cases[i].argv);
                char text[TEXT_MAX];

                assert_int_equal(finish(&s, text), cases[i].status);
                assert_string_equal(text, cases[i].output);
        }
}

static void test_inside(void **state)
{
        struct slimctl s;
        char text[TEXT_MAX];

        setenv("SLIM_TEST_WORD", "passed on", 1);
        s = start(HOW_RUN,
                  SHELL("echo $$ $(hostname) $SLIM_TEST_WORD; ls /proc/1/fd; ls /proc/$$/fd; "
                        "ls /sys/class/net; cat /sys/class/net/lo/flags; pwd; "
                        "cat /proc/1/comm; grep Seccomp: /proc/1/status"));
        assert_int_equal(finish(&s, text), 0);
        assert_string_equal(text, "2 box.test passed on\n0\n1\n2\n0\n1\n2\nlo\n0x9\n/\nslim-init\n"
                                  "Seccomp:\t0\n");
}

/* Everything in it is filtered, with no new privileges allowed, and nobody has the descriptor. */
static void test_slim(void **state)
{
        struct container_spec spec = {
            .argv = SHELL("ls /proc/1/fd; grep -h -E '^(NoNewPrivs|Seccomp):' /proc/1/status "
                          "/proc/$$/status"),
            .slim = true,
        };
        struct slimctl s = start_spec(&spec, HOW_RUN);
        char text[TEXT_MAX];

        assert_int_equal(finish(&s, text), 0);
        assert_string_equal(text, "0\n1\n2\nNoNewPrivs:\t0\nSeccomp:\t2\n"
                                  "NoNewPrivs:\t0\nSeccomp:\t2\n");
}

/* Not a shell, which changes its own signals. */
static void test_signals_restored(void **state)
{
        struct slimctl s;
        char text[TEXT_MAX];
        sigset_t mask, old;

        sigemptyset(&mask);
        sigaddset(&mask, SIGUSR2);
        sigprocmask(SIG_BLOCK, &mask, &old);
        signal(SIGCHLD, SIG_IGN);
        signal(SIGHUP, SIG_IGN);
        s = start(HOW_RUN, PROGRAM("grep", "-E", "SigBlk|SigIgn", "/proc/self/status"));
        signal(SIGCHLD, SIG_DFL);
        signal(SIGHUP, SIG_DFL);
        sigprocmask(SIG_SETMASK, &old, NULL);
        assert_int_equal(finish(&s, text), 0);
        assert_string_equal(text, "SigBlk:\t0000000000000800\nSigIgn:\t0000000000010001\n");
}

static void test_pinned(void **state)
{
        struct container_spec spec = {.argv = SHELL("grep -h Cpus_allowed_list /proc/$$/status"),
                                      .pinned = true};
        int cpu = sched_getcpu();
        struct slimctl s;
        char text[TEXT_MAX], expected[64];

        CPU_SET(cpu, &spec.cpus);
        s = start_spec(&spec, HOW_RUN);
        assert_int_equal(finish(&s, text), 0);
        snprintf(expected, sizeof(expected), "Cpus_allowed_list:\t%d\n", cpu);
        assert_string_equal(text, expected);
}

/* Prints a word for each signal; the pipe in `wait` keeps it from ending by itself. */
#define TRAPS                                                                             \
        "for s in HUP INT QUIT USR1 USR2 TERM WINCH CONT; do trap \"echo $s\" $s; done; " \
        "echo ready; while :; do sleep 1000 & wait; kill $! 2>/dev/null; done"

static void test_forwarding(void **state)
{
        static const struct {
                int signal;
                const char *word;
        } signals[] = {{SIGHUP, "HUP\n"},   {SIGINT, "INT\n"},    {SIGQUIT, "QUIT\n"},
                       {SIGUSR1, "USR1\n"}, {SIGUSR2, "USR2\n"},  {SIGTERM, "TERM\n"},
                       {SIGCONT, "CONT\n"}, {SIGWINCH, "WINCH\n"}};
        struct slimctl s = start(HOW_RUN, SHELL(TRAPS));
        char text[TEXT_MAX];

        assert_string_equal(read_line(&s), "ready\n");
        for (size_t i = 0; i < ARRAY_SIZE(signals); i++) {
                assert_int_equal(kill(s.pid, signals[i].signal), 0);
                assert_string_equal(read_line(&s), signals[i].word);
        }
        /* The end of slimctl that nobody can forward takes the whole container along. */
        assert_int_equal(kill(s.pid, SIGKILL), 0);
        assert_int_equal(read(s.out, text, sizeof(text)), 0);
        assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
        close(s.out);
}

static void test_default_action(void **state)
{
        struct slimctl s = start(HOW_RUN, SHELL("echo ready; exec sleep 1000"));
        char text[TEXT_MAX];

        assert_string_equal(read_line(&s), "ready\n");
        assert_int_equal(kill(s.pid, SIGTERM), 0);
        assert_int_equal(finish(&s, text), 128 + SIGTERM);
}

static void test_stop_and_continue(void **state)
{
        struct slimctl s;
        siginfo_t info;
        char text[TEXT_MAX];

        /* In a process group whose leader's parent is in another one of the session: not orphaned.
         */
        s = start(HOW_RUN, SHELL("trap 'echo stopping; trap - TSTP; kill -TSTP $$' TSTP; "
                                 "trap 'echo CONT; exit 5' CONT; echo ready; while :; do "
                                 "sleep 1000 & wait; done"));
        setpgid(s.pid, s.pid);
        assert_string_equal(read_line(&s), "ready\n");
        assert_int_equal(kill(s.pid, SIGTSTP), 0);
        assert_int_equal(waitid(P_PID, (id_t)s.pid, &info, WSTOPPED), 0);
        assert_int_equal(info.si_code, CLD_STOPPED);
        assert_string_equal(read_line(&s), "stopping\n");
        assert_int_equal(kill(s.pid, SIGCONT), 0);
        assert_int_equal(finish(&s, text), 5);
        assert_string_equal(text, "CONT\n");
}

/* What the terminal sends reaches the program once, not a second time by way of slimctl. */
static void test_terminal(void **state)
{
        struct container_spec spec = {.argv = SHELL(TRAPS), .hostname = "box.test"};
        struct slimctl s;
        const char *line;

        s.pid = forkpty(&s.out, NULL, NULL, NULL);
        assert_true(s.pid >= 0);
        if (s.pid == 0)
                child_main(&spec, HOW_RUN);
        assert_string_equal(read_line(&s), "ready\r\n");
        assert_int_equal(write(s.out, "\003", 1), 1);
        line = read_line(&s); /* with the terminal's echo of ^C */
        assert_non_null(strstr(line, "INT\r\n"));
        assert_int_equal(kill(s.pid, SIGUSR1), 0);
        assert_string_equal(read_line(&s), "USR1\r\n");
        assert_int_equal(kill(s.pid, SIGINT), 0);
        assert_string_equal(read_line(&s), "INT\r\n");
        kill(s.pid, SIGKILL);
        assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
        close(s.out);
}

/* An orphan's parent is the first process of the container: it would stay a zombie. */
static void test_orphans_are_reaped(void **state)
{
        struct slimctl s = start(HOW_RUN, SHELL("orphan=$(sh -c 'sleep 0 >/dev/null & echo $!'); "
                                                "while [ -e /proc/$orphan ]; do sleep 0.01; done; "
                                                "echo reaped"));
        char text[TEXT_MAX];

        assert_int_equal(finish(&s, text), 0);
        assert_string_equal(text, "reaped\n");
}

/* What the program leaves running ends with it. */
static void test_rest_ends_with_the_program(void **state)
{
        struct slimctl s = start(HOW_RUN, SHELL("trap '' HUP TERM; sleep 1000 & exit 3"));
        char text[TEXT_MAX];

        assert_int_equal(finish(&s, text), 3);
}

static void test_program_waits_for_go(void **state)
{
        struct slimctl s = start(HOW_NO_GO, SHELL("echo it runs"));
        char text[TEXT_MAX];

        assert_string_equal(read_line(&s), "ready\n");
        kill(s.pid, SIGKILL);
        assert_int_equal(read(s.out, text, sizeof(text)), 0);
        assert_int_equal(waitpid(s.pid, NULL, 0), s.pid);
        close(s.out);
}

static void test_give_up(void **state)
{
        struct slimctl s = start(HOW_GIVE_UP, SHELL("echo it runs"));
        char text[TEXT_MAX];

        assert_int_equal(finish(&s, text), 0);
        assert_string_equal(text, "");
}

/* What the container cannot be given is said in a line. */
static void test_failure_is_told(void **state)
{
        struct container_spec spec = {.argv = PROGRAM("true")};
        char text[TEXT_MAX], name[128];
        struct slimctl s;
        int fds[2];

        memset(name, 'x', sizeof(name) - 1);
        name[sizeof(name) - 1] = '\0';
        spec.hostname = name; /* longer than the kernel takes */
        assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
        s.pid = fork();
        if (s.pid == 0) {
                dup2(fds[1], STDERR_FILENO);
                child_main(&spec, HOW_RUN);
        }
        close(fds[1]);
        s.out = fds[0];
        assert_int_equal(finish(&s, text), 1);
        assert_string_equal(text, "slimctl: cannot set the host name: Invalid argument\n");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_status),
            cmocka_unit_test(test_inside),
            cmocka_unit_test(test_slim),
            cmocka_unit_test(test_signals_restored),
            cmocka_unit_test(test_pinned),
            cmocka_unit_test(test_forwarding),
            cmocka_unit_test(test_default_action),
            cmocka_unit_test(test_stop_and_continue),
            cmocka_unit_test(test_terminal),
            cmocka_unit_test(test_orphans_are_reaped),
            cmocka_unit_test(test_rest_ends_with_the_program),
            cmocka_unit_test(test_program_waits_for_go),
            cmocka_unit_test(test_give_up),
            cmocka_unit_test(test_failure_is_told),
        };

        if (geteuid() != 0) {
                printf("1..0 # SKIP needs root\n");
                return 0;
        }
        /* The containers start here, and their pwd is compared. */
        if (chdir("/") < 0)
                return 1;
        /* What a test runner may have left ignored or blocked: also the two signals that glibc
         * keeps to itself, hence the bare call (the kernel's structure of it, all zero, is
         * SIG_DFL). */
        for (int sig = 1; sig <= 64; sig++)
                syscall(SYS_rt_sigaction, sig, &(unsigned long[4]){0}, NULL, 8);
        sigprocmask(SIG_SETMASK, &(sigset_t){}, NULL);
        return cmocka_run_group_tests(tests, NULL, NULL);
}
