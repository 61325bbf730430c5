/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A program that plays tricks with its own socket() calls, for test_attack.py:
 *
 *   attack HOW ADDRESS PORT
 *
 *   plainly     no trick
 *   errno       a seccomp filter of its own answers socket() with EXDEV
 *   trace       … has it traced, and nobody traces
 *   notify      … has it notified, to nobody
 *   listener    … to a listener of its own
 *   arguments   a tracer makes another call into this one when it begins
 *   result      a tracer gives another descriptor as its result when it ends
 *
 * Prints what came of socket() and of connect() to that address: "filter ERRNO", "socket ERRNO",
 * "connect ERRNO" or "connected". The exit status is 0 unless it could not do its trick.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <netinet/in.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

/* Not IPPROTO_TCP's 0: the tracer knows its call by it, and the kernel would refuse it. */
#define MARK 0x7a

static int say(const char *what)
{
        printf("%s %s\n", what, strerrorname_np(errno));
        return 0;
}

static int attempt(int fd, const struct sockaddr_in *to)
{
        if (fd < 0)
                return say("socket");
        if (connect(fd, (const struct sockaddr *)to, sizeof(*to)) < 0)
                return say("connect");
        puts("connected");
        return 0;
}

/* --- filters of its own ----------------------------------------------------------------------- */

static int install(unsigned int action, unsigned long flags)
{
        struct sock_filter code[] = {
            BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
            BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_socket, 0, 1),
            BPF_STMT(BPF_RET | BPF_K, action),
            BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
        };
        struct sock_fprog prog = {.len = sizeof(code) / sizeof(*code), .filter = code};

        if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
                return -1;
        return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &prog);
}

static int filtered(const char *how, const struct sockaddr_in *to)
{
        static const struct {
                const char *how;
                unsigned int action;
                unsigned long flags;
        } filters[] = {
            {"errno", SECCOMP_RET_ERRNO | EXDEV, 0},
            {"trace", SECCOMP_RET_TRACE, 0},
            {"notify", SECCOMP_RET_USER_NOTIF, 0},
            {"listener", SECCOMP_RET_USER_NOTIF, SECCOMP_FILTER_FLAG_NEW_LISTENER},
        };

        for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
                if (strcmp(how, filters[i].how) != 0)
                        continue;
                if (install(filters[i].action, filters[i].flags) < 0)
                        return say("filter");
                if (filters[i].flags) {
                        puts("filter listens");
                        return 0;
                }
                return attempt(socket(AF_INET, SOCK_STREAM, 0), to);
        }
        return EXIT_FAILURE;
}

/* --- a tracer --------------------------------------------------------------------------------- */

#if defined(__x86_64__)

static int registers(pid_t pid, int request, struct user_regs_struct *regs)
{
        struct iovec iov = {.iov_base = regs, .iov_len = sizeof(*regs)};

        return ptrace(request, pid, (void *)1 /* NT_PRSTATUS */, &iov) < 0 ? -1 : 0;
}

/* At the marked call: what the child asks the kernel for is not what it asked its tracer for. */
static void change_arguments(struct user_regs_struct *regs)
{
        regs->rdi = AF_INET;
        regs->rsi = SOCK_STREAM;
        regs->rdx = 0;
}

static int trace(pid_t child, int change_result)
{
        struct user_regs_struct regs;
        int status, entered = 0;

        if (waitpid(child, &status, 0) < 0 || !WIFSTOPPED(status) ||
            ptrace(PTRACE_SETOPTIONS, child, NULL, (void *)PTRACE_O_TRACESYSGOOD) < 0)
                return EXIT_FAILURE;
        for (;;) {
                if (ptrace(PTRACE_SYSCALL, child, NULL, NULL) < 0 || waitpid(child, &status, 0) < 0)
                        return EXIT_FAILURE;
                if (WIFEXITED(status))
                        return WEXITSTATUS(status);
                if (!WIFSTOPPED(status) || WSTOPSIG(status) != (SIGTRAP | 0x80))
                        continue;
                if (registers(child, PTRACE_GETREGSET, &regs) < 0)
                        return EXIT_FAILURE;
                if (regs.orig_rax != SYS_socket || (!entered && regs.rdx != MARK))
                        continue;
                if (!entered)
                        change_arguments(&regs);
                else if (change_result && (long)regs.rax >= 0)
                        regs.rax = STDERR_FILENO; /* a descriptor of the child's own */
                entered = !entered;
                if (registers(child, PTRACE_SETREGSET, &regs) < 0)
                        return EXIT_FAILURE;
        }
}

static int traced(const char *how, const struct sockaddr_in *to)
{
        pid_t child = fork();

        if (child < 0)
                return EXIT_FAILURE;
        if (child == 0) {
                if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) < 0)
                        _exit(EXIT_FAILURE);
                raise(SIGSTOP);
                attempt((int)syscall(SYS_socket, AF_UNIX, SOCK_DGRAM, MARK), to);
                fflush(stdout);
                _exit(EXIT_SUCCESS);
        }
        return trace(child, strcmp(how, "result") == 0);
}

#else

static int traced(const char *how, const struct sockaddr_in *to)
{
        return EXIT_FAILURE;
}

#endif

int main(int argc, char **argv)
{
        struct sockaddr_in to = {.sin_family = AF_INET};

        if (argc != 4 || inet_pton(AF_INET, argv[2], &to.sin_addr) != 1)
                return EXIT_FAILURE;
        to.sin_port = htons((unsigned short)strtoul(argv[3], NULL, 10));
        if (strcmp(argv[1], "plainly") == 0)
                return attempt(socket(AF_INET, SOCK_STREAM, 0), &to);
        if (strcmp(argv[1], "arguments") == 0 || strcmp(argv[1], "result") == 0)
                return traced(argv[1], &to);
        return filtered(argv[1], &to);
}
