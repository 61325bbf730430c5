/* SPDX-License-Identifier: Apache-2.0 */
/*
 * libslimsocket.so: socket() without a round trip to the broker, for programs that preload it.
 *
 * A process that makes more than one TCP socket asks the broker for a queue (abi/slim-queue.h), and
 * takes the next ones out of it. Whatever is unusual goes to the kernel, hence to the broker: the
 * library is never needed. It has to be safe in whatever program it comes into:
 *
 *   fork()          what is known of the queue lies in a page that the kernel wipes in the child,
 * so that a child asks for itself. It closes the queue of its parent when it first makes a socket.
 *   vfork(), clone  the memory is shared, the descriptors may not be: see below.
 *   exec            the queue is close-on-exec.
 *   closefrom()     before each use the queue is recognised by its inode number; a number that is
 *                   another file now is forgotten and not touched.
 *   setuid()        … and by its owner: sockets belong to the user that makes them.
 *   unshare(NEWNET) and setns() end the use of the queue, which is the container's. (This and
 *                   socket() is all that the library replaces. A clone() with CLONE_NEWNET is a
 *                   fork: its child asks, and is refused.)
 *   threads         there is one queue descriptor, once it is there it is replaced and never
 *   and signals     closed, and no lock is taken.
 *   other preloads  whose socket() comes after this one is called for everything.
 *
 * It needs no library and calls the kernel by itself, so that it runs with every C library, and
 * before that is set up.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sched.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "../abi/slim-queue.h"

#define PUBLIC __attribute__((visibility("default")))

#define TYPE_MASK  0xf
#define TYPE_FLAGS (SOCK_CLOEXEC | SOCK_NONBLOCK)

/* A process that makes one socket would only pay for the queue. */
#define SOCKETS_BEFORE 1

/* How many sockets to make after a refusal before asking again. */
#define SOCKETS_AFTER_REFUSAL 64

/* Out of the way of programs that count on low numbers. */
#define QUEUE_FD_MIN 200

/* A queue by its descriptor and inode number; 0: none. */
typedef uint64_t queue_t;

struct process {
        queue_t queue[2]; /* of AF_INET, of AF_INET6 */
        uint32_t known;   /* 0: the page was wiped */
        uint32_t asking;  /* a thread is */
        uint32_t wait;    /* sockets until the broker may be asked (again) */
        uint32_t never;   /* it is not there */
};

static struct process *process;
static queue_t inherited[2]; /* the same queues, in memory that a child keeps */
static uint32_t made;        /* sockets, until there is a struct process */
static uint32_t elsewhere;   /* not in the container's namespace any more */

static int (*next_socket)(int, int, int);
static bool others; /* … is another preloaded library's, which is to see every call */

/* Where there are none (a C library that has them elsewhere), it goes without. */
#pragma weak dlsym
#pragma weak dladdr

/* --- the kernel ------------------------------------------------------------------------------- */

/* What the kernel returns: negative errnos. */
static long call(long nr, long a, long b, long c, long d)
{
#if defined(__x86_64__)
        register long r10 __asm__("r10") = d;
        long r;

        __asm__ volatile("syscall"
                         : "=a"(r)
                         : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10)
                         : "rcx", "r11", "memory");
        return r;
#elif defined(__aarch64__)
        register long x8 __asm__("x8") = nr;
        register long x0 __asm__("x0") = a;
        register long x1 __asm__("x1") = b;
        register long x2 __asm__("x2") = c;
        register long x3 __asm__("x3") = d;

        __asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
        return x0;
#else
#error "the system calls of this architecture are missing"
#endif
}

static int result(long r)
{
        if (r >= 0)
                return (int)r;
        errno = (int)-r;
        return -1;
}

static void *map_page(void)
{
        long r;
#if defined(__x86_64__)
        register long r10 __asm__("r10") = MAP_PRIVATE | MAP_ANONYMOUS;
        register long r8 __asm__("r8") = -1;
        register long r9 __asm__("r9") = 0;

        __asm__ volatile("syscall"
                         : "=a"(r)
                         : "a"(SYS_mmap), "D"(0), "S"(sizeof(struct process)),
                           "d"(PROT_READ | PROT_WRITE), "r"(r10), "r"(r8), "r"(r9)
                         : "rcx", "r11", "memory");
#elif defined(__aarch64__)
        register long x8 __asm__("x8") = SYS_mmap;
        register long x0 __asm__("x0") = 0;
        register long x1 __asm__("x1") = sizeof(struct process);
        register long x2 __asm__("x2") = PROT_READ | PROT_WRITE;
        register long x3 __asm__("x3") = MAP_PRIVATE | MAP_ANONYMOUS;
        register long x4 __asm__("x4") = -1;
        register long x5 __asm__("x5") = 0;

        __asm__ volatile("svc 0"
                         : "+r"(x0)
                         : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
                         : "memory");
        r = x0;
#endif
        return r < 0 && r > -4096 ? NULL : (void *)r;
}

/* --- queues ----------------------------------------------------------------------------------- */

static queue_t queue_of(int fd, uint64_t inode)
{
        return inode << 32 | (uint32_t)fd;
}

static int queue_fd(queue_t q)
{
        return (int)(uint32_t)q;
}

/* Inode numbers of sockets have 32 bits, and no other kind of file that can be open is a socket. */
static bool queue_is_open(queue_t q, struct stat *ret)
{
        ret->st_mode = 0;
        return q && call(SYS_fstat, queue_fd(q), (long)ret, 0, 0) == 0 && S_ISSOCK(ret->st_mode) &&
               (uint32_t)ret->st_ino == q >> 32;
}

/*
 * This process's page, or NULL where there can be none. It is found wiped by the first thread of a
 * child that comes here, which alone may close what the child has of its parent's.
 */
static struct process *process_get(void)
{
        struct process *p = __atomic_load_n(&process, __ATOMIC_ACQUIRE), *none = NULL;
        uint32_t zero = 0;
        struct stat st;

        if (!p) {
                p = map_page();
                if (!p)
                        return NULL;
                if (call(SYS_madvise, (long)p, sizeof(*p), MADV_WIPEONFORK, 0) < 0 ||
                    !__atomic_compare_exchange_n(&process, &none, p, false, __ATOMIC_ACQ_REL,
                                                 __ATOMIC_ACQUIRE)) {
                        call(SYS_munmap, (long)p, sizeof(*p), 0, 0);
                        p = none;
                        if (!p)
                                return NULL;
                }
        }
        if (__atomic_load_n(&p->known, __ATOMIC_ACQUIRE) ||
            !__atomic_compare_exchange_n(&p->known, &zero, 1, false, __ATOMIC_ACQ_REL,
                                         __ATOMIC_ACQUIRE))
                return p;
        for (int i = 0; i < 2; i++) {
                queue_t q = __atomic_exchange_n(&inherited[i], 0, __ATOMIC_ACQ_REL);

                if (queue_is_open(q, &st))
                        call(SYS_close, queue_fd(q), 0, 0, 0);
        }
        return p;
}

/*
 * Puts a new queue where the last one was: another thread that is just about to read from that
 * number finds a queue there, whichever it is.
 */
static queue_t queue_place(int i, int fd)
{
        queue_t last = __atomic_load_n(&inherited[i], __ATOMIC_ACQUIRE), q;
        struct stat st;
        long at;

        if (queue_is_open(last, &st)) {
                at = call(SYS_dup3, fd, queue_fd(last), O_CLOEXEC, 0);
        } else {
                at = call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, QUEUE_FD_MIN, 0);
                if (at == -EINVAL) /* RLIMIT_NOFILE is lower */
                        at = call(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3, 0);
        }
        call(SYS_close, fd, 0, 0, 0);
        st.st_ino = 0;
        if (at < 0 || call(SYS_fstat, at, (long)&st, 0, 0) < 0)
                return 0;
        q = queue_of((int)at, st.st_ino);
        __atomic_store_n(&inherited[i], q, __ATOMIC_RELEASE);
        return q;
}

/* Asks the broker, unless another thread does. */
static void ask(struct process *p, int i, int family)
{
        long fd;

        if (__atomic_exchange_n(&p->asking, 1, __ATOMIC_ACQ_REL))
                return;
        fd = call(SYS_socket, family, SOCK_STREAM | SOCK_CLOEXEC, SLIM_QUEUE_PROTOCOL, 0);
        if (fd >= 0)
                __atomic_store_n(&p->queue[i], queue_place(i, (int)fd), __ATOMIC_RELEASE);
        else if (fd == -ENOBUFS || fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM)
                __atomic_store_n(&p->wait, SOCKETS_AFTER_REFUSAL, __ATOMIC_RELEASE);
        else
                __atomic_store_n(&p->never, 1, __ATOMIC_RELEASE);
        __atomic_store_n(&p->asking, 0, __ATOMIC_RELEASE);
}

/*
 * Does another message follow in the queue? The broker sends one only when it has closed what it
 * sent before. And once it has hung up, it may still be about to.
 */
static bool queue_has_more(queue_t q)
{
        struct pollfd p = {.fd = queue_fd(q), .events = POLLIN};
#ifdef SYS_poll
        long n = call(SYS_poll, (long)&p, 1, 0, 0);
#else
        struct timespec none = {0};
        long n = call(SYS_ppoll, (long)&p, 1, (long)&none, 0);
#endif

        return n == 1 && p.revents == POLLIN;
}

/*
 * One socket out of the queue, as of this process; -1: there is none, or no queue any more.
 *
 * The last one in the queue is given back: the broker may not have closed its own descriptor of it
 * yet, and until then the program's close() would not free the port and send the FIN.
 */
static int queue_take(struct process *p, int i, int flags)
{
        queue_t q = __atomic_load_n(&p->queue[i], __ATOMIC_ACQUIRE);
        union {
                struct cmsghdr head;
                char room[CMSG_SPACE(sizeof(int))];
        } control;
        char byte;
        struct iovec iov = {.iov_base = &byte, .iov_len = 1};
        struct msghdr msg = {
            .msg_iov = &iov,
            .msg_iovlen = 1,
            .msg_control = &control,
            .msg_controllen = sizeof(control),
        };
        struct stat st;
        long n;
        int fd;

        if (!queue_is_open(q, &st) || st.st_uid != (uid_t)call(SYS_geteuid, 0, 0, 0, 0) ||
            st.st_gid != (gid_t)call(SYS_getegid, 0, 0, 0, 0)) {
                __atomic_compare_exchange_n(&p->queue[i], &q, 0, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE);
                return -1;
        }
        n = call(SYS_recvmsg, queue_fd(q), (long)&msg,
                 MSG_DONTWAIT | (flags & SOCK_CLOEXEC ? MSG_CMSG_CLOEXEC : 0), 0);
        if (n == 0) /* the broker has ended, or needs it for another user */
                __atomic_compare_exchange_n(&p->queue[i], &q, 0, false, __ATOMIC_ACQ_REL,
                                            __ATOMIC_ACQUIRE);
        /* No descriptor: the table is full, which is the kernel's to say. */
        if (n <= 0 || msg.msg_controllen < CMSG_LEN(sizeof(int)) ||
            control.head.cmsg_level != SOL_SOCKET || control.head.cmsg_type != SCM_RIGHTS)
                return -1;
        __builtin_memcpy(&fd, CMSG_DATA(&control.head), sizeof(fd));
        if (!queue_has_more(q)) {
                call(SYS_close, fd, 0, 0, 0);
                return -1;
        }
        if (flags & SOCK_NONBLOCK)
                call(SYS_fcntl, fd, F_SETFL, O_RDWR | O_NONBLOCK, 0);
        return fd;
}

static int take(int family, int flags)
{
        int i = family == AF_INET6;
        struct process *p;
        uint32_t wait;

        if (__atomic_load_n(&elsewhere, __ATOMIC_ACQUIRE))
                return -1;
        if (!__atomic_load_n(&process, __ATOMIC_ACQUIRE) &&
            __atomic_fetch_add(&made, 1, __ATOMIC_RELAXED) < SOCKETS_BEFORE)
                return -1;
        p = process_get();
        if (!p || __atomic_load_n(&p->never, __ATOMIC_ACQUIRE))
                return -1;
        if (!__atomic_load_n(&p->queue[i], __ATOMIC_ACQUIRE)) {
                /* Threads that meet here may lose a step of this count. */
                wait = __atomic_load_n(&p->wait, __ATOMIC_RELAXED);
                if (wait) {
                        __atomic_store_n(&p->wait, wait - 1, __ATOMIC_RELAXED);
                        return -1;
                }
                ask(p, i, family);
        }
        return queue_take(p, i, flags);
}

/* --- what programs call ----------------------------------------------------------------------- */

/*
 * A signal that comes before the broker has received a call ends it with EINTR, if its handler is
 * without SA_RESTART (wait_for_completion_interruptible() in the kernel's seccomp.c). No program
 * expects that of socket().
 */
static int ask_kernel(int domain, int type, int protocol)
{
        int r;

        do
                r = next_socket ? next_socket(domain, type, protocol)
                                : result(call(SYS_socket, domain, type, protocol, 0));
        while (r < 0 && errno == EINTR);
        return r;
}

PUBLIC int socket(int domain, int type, int protocol)
{
        int fd;

        if ((domain == AF_INET || domain == AF_INET6) && (type & TYPE_MASK) == SOCK_STREAM &&
            !(type & ~(TYPE_MASK | TYPE_FLAGS)) &&
            (protocol == 0 || protocol == IPPROTO_TCP || protocol == IPPROTO_MPTCP) && !others) {
                fd = take(domain, type & TYPE_FLAGS);
                if (fd >= 0)
                        return fd;
        }
        return ask_kernel(domain, type, protocol);
}

PUBLIC int unshare(int flags)
{
        int r = result(call(SYS_unshare, flags, 0, 0, 0));

        if (r == 0 && (flags & CLONE_NEWNET))
                __atomic_store_n(&elsewhere, 1, __ATOMIC_RELEASE);
        return r;
}

PUBLIC int setns(int fd, int type)
{
        int r = result(call(SYS_setns, fd, type, 0, 0));

        if (r == 0 && (type == 0 || (type & CLONE_NEWNET)))
                __atomic_store_n(&elsewhere, 1, __ATOMIC_RELEASE);
        return r;
}

/* Is there another socket() behind this one, and is it the C library's? */
static __attribute__((constructor)) void find_next(void)
{
        Dl_info next, libc;

        if (!dlsym)
                return;
        next_socket = (int (*)(int, int, int))dlsym(RTLD_NEXT, "socket");
        others = next_socket && dladdr && dladdr((const void *)next_socket, &next) &&
                 dladdr(dlsym(RTLD_NEXT, "__errno_location"), &libc) &&
                 next.dli_fbase != libc.dli_fbase;
}
