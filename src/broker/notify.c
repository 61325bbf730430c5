/* SPDX-License-Identifier: Apache-2.0 */
#include "notify.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "../abi/slim-queue.h"
#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../shared/filter.h"
#include "broker-fds.h"
#include "caller.h"
#include "inside.h"
#include "interface.h"
#include "listen.h"
#include "maker.h"
#include "queue.h"

/* Linux 6.6; Debian 12's headers are of 6.1. */
#ifndef SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP
#define SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP (1UL << 0)
#endif
#ifndef SECCOMP_IOCTL_NOTIF_SET_FLAGS
#define SECCOMP_IOCTL_NOTIF_SET_FLAGS SECCOMP_IOW(4, __u64)
#endif

#define SOCKET_TYPE_MASK 0xf

/*
 * One call after another, each within this time of the last answer, and the broker stays on their
 * core for the next ones too, …
 */
#define HOT_NS    500000
#define HOT_AFTER 4
/* … until it has to look where they are by now. */
#define HOT_CALLS 64

/* What is in the memory for the call in hand; it outlives this process. */
struct in_hand {
        uint64_t socket_id; /* the call whose caller is being given a socket, */
        uint64_t socket;    /* and that one's inode number: it may have it already, */
        uint64_t done_id;   /* the call that is done, but perhaps not answered yet, */
        int32_t value;      /* and its answer: a descriptor that the caller has already, or 0, */
        int32_t error;      /* or a negative errno */
        struct seccomp_notif call; /* may be longer */
};

/* A thread that has called, by its number, and its directory in /proc; -1: none. */
struct known {
        uint32_t pid;
        int fd;
};

#define KNOWN_MAX 8

struct loop {
        struct known known[KNOWN_MAX];
        int notify_fd;
        int proc_fd;
        dev_t netns_dev;
        ino_t netns_ino;
        struct pool *pool;
        struct queues queues;
        struct inside inside;
        struct listen_maps maps;
        struct in_hand *in_hand;
        struct seccomp_notif *call; /* in_hand->call, of the size that this kernel wants */
        size_t call_size;
        struct seccomp_notif_resp *answer;
        size_t answer_size;
        bool sync;         /* a call brings this process to the caller's core */
        cpu_set_t cpus;    /* where it may be */
        bool stays;        /* it is where the caller was, and only there */
        unsigned int hot;  /* calls that came close behind one another */
        uint64_t answered; /* when the last one was answered, in ns */
};

/* A caller's directory in /proc, kept for its next call. */
static int caller_dir(struct loop *l)
{
        uint32_t pid = l->call->pid;
        struct known *k = &l->known[pid % ARRAY_SIZE(l->known)];
        char path[16];

        if (k->pid == pid && k->fd >= 0)
                return k->fd;
        k->fd = safe_close(k->fd);
        snprintf(path, sizeof(path), "%u", pid);
        k->fd = openat(l->proc_fd, path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        k->pid = pid;
        return k->fd < 0 ? -errno : k->fd;
}

/*
 * Is the caller in the container's own namespace? One that it unshared keeps its own sockets. And
 * whose are the files that it makes?
 *
 * The directory may be of an earlier thread of this number: then nothing is in it any more, and
 * another look finds the caller's own. Where something is in it, that thread lives, and is the
 * caller, who has had the number since it called. A failure means that the caller is gone; then the
 * answer goes nowhere.
 */
static bool in_container_netns(struct loop *l, uid_t *ret_uid, gid_t *ret_gid)
{
        struct known *k = &l->known[l->call->pid % ARRAY_SIZE(l->known)];
        struct stat st, own;

        if (caller_dir(l) < 0)
                return false;
        if (fstatat(k->fd, "ns/net", &st, 0) < 0) {
                k->fd = safe_close(k->fd);
                if (caller_dir(l) < 0 || fstatat(k->fd, "ns/net", &st, 0) < 0)
                        return false;
        }
        if (st.st_dev != l->netns_dev || st.st_ino != l->netns_ino)
                return false;
        /* The directory is always of the effective ids, whatever its files are (caller_ids()). */
        if (fstat(k->fd, &own) < 0)
                return false;
        *ret_uid = own.st_uid;
        *ret_gid = own.st_gid;
        return true;
}

static struct caller caller_of(const struct loop *l)
{
        return (struct caller){.notify_fd = l->notify_fd,
                               .proc_fd = l->proc_fd,
                               .id = l->call->id,
                               .pid = l->call->pid};
}

static int answer(const struct loop *l, int value, int error, uint32_t flags)
{
        memset(l->answer, 0, l->answer_size);
        l->answer->id = l->call->id;
        l->answer->val = value;
        l->answer->error = error;
        l->answer->flags = flags;
        if (ioctl(l->notify_fd, SECCOMP_IOCTL_NOTIF_SEND, l->answer) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

/* Answers a call that has had its effect: from here on nobody has it a second time. */
static int answer_done(const struct loop *l, int value, int error)
{
        l->in_hand->value = value;
        l->in_hand->error = error;
        l->in_hand->done_id = l->call->id;
        return answer(l, value, error, 0);
}

/* Lets the kernel run the call as it stands. Its arguments are numbers: nothing can change them. */
static int answer_continue(const struct loop *l)
{
        return answer(l, 0, 0, SECCOMP_USER_NOTIF_FLAG_CONTINUE);
}

static uint64_t now_ns(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

/* The core that the caller was on when it called (proc(5), "processor"), or a negative errno. */
static int caller_core(struct loop *l)
{
        _cleanup_free_ char *stat = NULL;
        int dir = caller_dir(l), r;
        char *field;
        long core;

        r = dir < 0 ? dir : read_file_at(dir, "stat", 4096, &stat, NULL);
        if (r < 0)
                return r;
        /* Field 39. The second, in parentheses, may have anything in it. */
        field = strrchr(stat, ')');
        for (int i = 2; field && i < 39; i++)
                field = strchr(field + 1, ' ');
        core = field ? strtol(field, NULL, 10) : -1;
        return core >= 0 && core < CPU_SETSIZE && CPU_ISSET(core, &l->cpus) ? (int)core : -EXDEV;
}

static int run_on(const struct loop *l, const cpu_set_t *cpus)
{
        if (sched_setaffinity(0, sizeof(*cpus), cpus) < 0)
                return log_debug_errno(-errno, "cannot choose a core: %m, ignoring");
        return 0;
}

/*
 * Keeps this thread where the caller is. A call brings it there
 * (SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP), not always; and in the middle of ADDFD, where the two wait
 * for each other, the scheduler may take an idle core to be better: then each waits for a core to
 * be woken.
 */
static void stay(struct loop *l)
{
        int core = -1;
        cpu_set_t one;

        if (!l->sync || l->stays)
                return;
        if (l->hot >= HOT_AFTER)
                core = caller_core(l);
        if (core < 0)
                core = sched_getcpu();
        if (core < 0)
                return;
        CPU_ZERO(&one);
        CPU_SET(core, &one);
        l->stays = run_on(l, &one) == 0;
}

/* Where the next call is to find this thread: here, for a while, if it follows closely. */
static void stay_or_go(struct loop *l)
{
        if (!l->stays)
                return;
        if (l->hot >= HOT_AFTER)
                l->stays = l->hot % HOT_CALLS != 0; /* time to look where the caller is by now */
        else
                l->stays = run_on(l, &l->cpus) < 0;
}

/*
 * Puts a descriptor into the caller's table, closes it here, and only then lets the call return:
 * who closes a socket afterwards closes the last reference, so that its port is free and its FIN
 * sent at once. (SECCOMP_ADDFD_FLAG_SEND would wake the caller first, and with the answer 0 when
 * the broker is killed meanwhile.) No signal comes between the two steps and leaves a descriptor
 * that nobody knows of: see filter_load().
 */
static int hand_out(struct loop *l, int *fd, uint32_t flags)
{
        struct seccomp_notif_addfd addfd = {
            .id = l->call->id,
            .srcfd = (uint32_t)*fd,
            .newfd_flags = flags,
        };
        int r, error;

        stay(l);
        r = ioctl(l->notify_fd, SECCOMP_IOCTL_NOTIF_ADDFD, &addfd);
        error = r < 0 ? -errno : 0;
        stay_or_go(l);
        if (error)
                /* ENOENT: the caller died. Else its own table has no room (EMFILE). */
                return error == -ENOENT ? 0 : answer(l, 0, error, 0);
        *fd = safe_close(*fd);
        return answer_done(l, r, 0);
}

static int run_socket(struct loop *l)
{
        int family = (int)l->call->data.args[0], type = (int)l->call->data.args[1];
        _cleanup_close_ int fd = -1;
        uid_t uid;
        gid_t gid;

        if ((type & SOCKET_TYPE_MASK) != SOCK_STREAM ||
            (type & ~(SOCKET_TYPE_MASK | SOCK_CLOEXEC | SOCK_NONBLOCK)) ||
            !in_container_netns(l, &uid, &gid))
                return answer_continue(l);
        if ((int)l->call->data.args[2] == SLIM_QUEUE_PROTOCOL) {
                fd = queues_ask(&l->queues, family, uid, gid);
                /* After a broker's end it is not looked for: a second one does no harm. */
                return fd < 0 ? answer(l, 0, fd, 0) : hand_out(l, &fd, O_CLOEXEC);
        }
        fd = pool_take(l->pool, family);
        if (fd < 0)
                return answer(l, 0, fd, 0);
        /* A socket belongs to who made it (fstat(), SO_REUSEPORT, firewalls): that is the caller.
         * One of the broker's own is root's. */
        if ((uid || gid) && fchown(fd, uid, gid) < 0)
                return answer(l, 0, -errno, 0);
        if ((type & SOCK_NONBLOCK) && fcntl(fd, F_SETFL, O_RDWR | O_NONBLOCK) < 0)
                return answer(l, 0, -errno, 0);
        l->in_hand->socket = l->pool->taken;
        l->in_hand->socket_id = l->call->id;
        return hand_out(l, &fd, type & SOCK_CLOEXEC ? O_CLOEXEC : 0);
}

static int run_listen(const struct loop *l, const struct caller *c)
{
        const struct seccomp_data *data = &l->call->data;
        int r;

        r = listen_run(c, &l->maps, &l->inside, (int)data->args[0], (int)data->args[1]);
        return r == LISTEN_NATIVE ? answer_continue(l) : answer_done(l, 0, r);
}

static int run_interface(struct loop *l, const struct caller *c, bool compat)
{
        const struct seccomp_data *data = &l->call->data;
        const struct interface_call call = {
            .fd = (int)data->args[0],
            .command = (uint32_t)data->args[1],
            .argument = compat ? (uint32_t)data->args[2] : data->args[2],
            .compat = compat,
        };
        _cleanup_close_ int fd = -1;
        int r;

        r = interface_run(c, &l->inside, l->maps.sockets, &call, &fd);
        /* Not found again after a broker's end, as it is like any other of its namespace: it would
         * be given twice. */
        if (fd >= 0)
                return hand_out(l, &fd, O_CLOEXEC);
        return r < 0 ? answer_done(l, 0, r) : answer_done(l, r, 0);
}

static int handle(struct loop *l)
{
        const struct caller c = caller_of(l);

        switch (filter_call(&l->call->data)) {
        case FILTER_SOCKET:
                return run_socket(l);
        case FILTER_LISTEN:
                return run_listen(l, &c);
        case FILTER_IOCTL:
                return run_interface(l, &c, false);
        case FILTER_IOCTL_COMPAT:
                return run_interface(l, &c, true);
        case FILTER_OTHER:
                break;
        }
        /* Of a filter that is not ours: it has no reason to be here, and to be let through. */
        return answer(l, 0, -ENOSYS, 0);
}

/* Receives straight into that memory: from the moment on that a call is ours, it is there. */
static int receive(const struct loop *l)
{
        memset(l->call, 0, l->call_size);
        return ioctl(l->notify_fd, SECCOMP_IOCTL_NOTIF_RECV, l->call) < 0 ? -errno : 0;
}

/* Does the caller have the socket that an earlier broker was giving it? 1, and its descriptor. */
static int find_given(const struct loop *l, int *ret)
{
        char path[32], link[64], want[64];
        struct dirent *entry;
        int fd, found = 0;
        DIR *dir;

        if (l->in_hand->socket_id != l->call->id)
                return 0;
        snprintf(want, sizeof(want), "socket:[%llu]", (unsigned long long)l->in_hand->socket);
        snprintf(path, sizeof(path), "%u/fd", l->call->pid);
        fd = openat(l->proc_fd, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        dir = fdopendir(fd);
        if (!dir) {
                safe_close(fd);
                return -ENOMEM;
        }
        while (!found && (entry = readdir(dir))) {
                ssize_t n = readlinkat(dirfd(dir), entry->d_name, link, sizeof(link) - 1);

                if (n < 0)
                        continue;
                link[n] = '\0';
                if (strcmp(link, want) == 0) {
                        *ret = (int)strtol(entry->d_name, NULL, 10);
                        found = 1;
                }
        }
        closedir(dir);
        return found;
}

/* Answers the call that a broker before this one had in hand. If it did, or if the caller has died,
 * the kernel knows of no such call, and all of this has no effect. */
static void finish(struct loop *l)
{
        int r = 0, fd = -1;

        if (!l->call->id)
                return;
        if (ioctl(l->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &l->call->id) < 0)
                return;
        if (l->in_hand->done_id == l->call->id)
                r = answer(l, l->in_hand->value, l->in_hand->error, 0);
        else if (find_given(l, &fd) > 0)
                r = answer_done(l, fd, 0);
        else
                r = handle(l);
        if (r < 0)
                log_warning_errno(r, "cannot finish a call: %m, ignoring");
}

static int loop_run(struct loop *l)
{
        finish(l);
        for (;;) {
                struct pollfd p = {.fd = l->notify_fd, .events = POLLIN};
                int r;

                if (poll(&p, 1, -1) < 0) {
                        if (errno == EINTR)
                                continue;
                        return -errno;
                }
                if (!(p.revents & POLLIN)) {
                        if (p.revents & POLLHUP)
                                return 0; /* nobody is left who could call */
                        return -EBADF;
                }
                l->hot = now_ns() - l->answered < HOT_NS ? l->hot + 1 : 0;
                r = receive(l);
                if (r == -ENOENT || r == -EINTR)
                        continue; /* the caller died meanwhile */
                if (r < 0)
                        return r;
                r = handle(l);
                if (r < 0)
                        log_warning_errno(r, "cannot answer a call: %m, ignoring");
                l->answered = now_ns();
        }
}

int notify_loop(int notify_fd, int netns_fd, void *memory, int ports_map, struct pool *pool)
{
        _cleanup_free_ struct seccomp_notif_resp *resp = NULL;
        _cleanup_close_ int proc_fd = -1;
        struct seccomp_notif_sizes sizes;
        struct in_hand *in_hand = memory;
        struct maker maker = {};
        struct stat st;
        int r;

        if (syscall(__NR_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes) < 0)
                return -errno;
        if (fstat(netns_fd, &st) < 0)
                return -errno;
        proc_fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (proc_fd < 0)
                return -errno;

        struct loop l = {
            .notify_fd = notify_fd,
            .proc_fd = proc_fd,
            .netns_dev = st.st_dev,
            .netns_ino = st.st_ino,
            .pool = pool,
            .inside = INSIDE_NONE,
            .maps = {.sockets = pool->sockets_map, .ports = ports_map},
            .call_size = sizes.seccomp_notif > sizeof(struct seccomp_notif)
                             ? sizes.seccomp_notif
                             : sizeof(struct seccomp_notif),
            .answer_size =
                sizes.seccomp_notif_resp > sizeof(*resp) ? sizes.seccomp_notif_resp : sizeof(*resp),
        };

        for (size_t i = 0; i < ARRAY_SIZE(l.known); i++)
                l.known[i].fd = -1;
        r = interface_setup();
        if (r == 0)
                r = inside_open(netns_fd, &l.inside);
        queues_init(&l.queues, pool, netns_fd);
        if (r < 0)
                return r;
        if (offsetof(struct in_hand, call) + l.call_size > BROKER_MADE_OFFSET)
                return -E2BIG;
        resp = calloc(1, l.answer_size);
        if (!resp)
                return -ENOMEM;
        l.answer = resp;
        l.in_hand = in_hand;
        l.call = &in_hand->call;

        /* Caller and broker take turns, so they belong on one core. Kernels before 6.6 refuse. */
        if (ioctl(notify_fd, SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP) < 0)
                log_debug_errno(-errno, "no synchronous wake-up: %m, ignoring");
        else
                l.sync = sched_getaffinity(0, sizeof(l.cpus), &l.cpus) == 0;
        /* From here on the queues are the other thread's too. */
        r = maker_start(&maker, pool, &l.queues);
        if (r < 0)
                log_warning_errno(r, "cannot make sockets ahead: %m, ignoring");
        r = loop_run(&l);
        maker_stop(&maker);
        inside_close(&l.inside);
        queues_done(&l.queues);
        for (size_t i = 0; i < ARRAY_SIZE(l.known); i++)
                safe_close(l.known[i].fd);
        return r;
}
