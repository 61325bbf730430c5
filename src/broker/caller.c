/* SPDX-License-Identifier: Apache-2.0 */
#include "caller.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/kcmp.h>
#include <linux/nsfs.h>
#include <linux/seccomp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"

/* Linux 6.9; Debian 12's headers are of 6.1. */
#ifndef PIDFD_THREAD
#define PIDFD_THREAD O_EXCL
#endif

#define STATUS_MAX 65536 /* of /proc/PID/status: the supplementary groups may be many */

bool caller_waits(const struct caller *c)
{
        return ioctl(c->notify_fd, SECCOMP_IOCTL_NOTIF_ID_VALID, &c->id) == 0;
}

/* A number out of /proc/PID/status. */
static int read_status(const struct caller *c, const char *field, int base, uint64_t *ret)
{
        _cleanup_free_ char *text = NULL;
        const char *at;
        char path[32];
        int r;

        snprintf(path, sizeof(path), "%u/status", c->pid);
        r = read_file_at(c->proc_fd, path, STATUS_MAX, &text, NULL);
        if (r < 0)
                return r;
        at = strstr(text, field);
        if (!at)
                return -ENODATA;
        *ret = strtoull(at + strlen(field), NULL, base);
        return 0;
}

/* A pidfd of the thread, or of its process, where that has the same table of descriptors. */
static int open_pidfd(const struct caller *c, int *ret)
{
        uint64_t tgid;
        int fd, r;

        fd = (int)syscall(SYS_pidfd_open, c->pid, PIDFD_THREAD);
        if (fd < 0 && errno == EINVAL) {
                r = read_status(c, "\nTgid:", 10, &tgid);
                if (r < 0)
                        return r;
                if (tgid != c->pid && syscall(SYS_kcmp, c->pid, (pid_t)tgid, KCMP_FILES, 0, 0) > 0)
                        return -EBADF;
                fd = (int)syscall(SYS_pidfd_open, (pid_t)tgid, 0);
        }
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

int caller_fd(const struct caller *c, int fd, int *ret_fd)
{
        _cleanup_close_ int pidfd = -1;
        int copy, r;

        r = open_pidfd(c, &pidfd);
        if (r < 0)
                return r;
        copy = (int)syscall(SYS_pidfd_getfd, pidfd, fd, 0);
        if (copy < 0)
                return -errno;
        *ret_fd = copy;
        return 0;
}

int caller_memory(const struct caller *c, int *ret_fd)
{
        char path[32];
        int fd;

        snprintf(path, sizeof(path), "%u/mem", c->pid);
        fd = openat(c->proc_fd, path, O_RDWR | O_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret_fd = fd;
        return 0;
}

int caller_ids(const struct caller *c, uid_t *ret_uid, gid_t *ret_gid)
{
        char path[16];
        struct stat st;

        /* The directory is always its effective ids'; its files are root's where it has made
         * itself undumpable. */
        snprintf(path, sizeof(path), "%u", c->pid);
        if (fstatat(c->proc_fd, path, &st, 0) < 0)
                return -errno;
        *ret_uid = st.st_uid;
        *ret_gid = st.st_gid;
        return 0;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
        return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

/* cap_capable() of the kernel, for a caller that has or has not the capability where it is. */
static int has_right(int user_fd, bool capable, uid_t uid, int target_fd)
{
        _cleanup_close_ int at = fcntl(target_fd, F_DUPFD_CLOEXEC, 0);
        struct stat own, st;

        if (at < 0 || fstat(user_fd, &own) < 0)
                return -errno;
        for (;;) {
                _cleanup_close_ int parent = -1;
                uid_t owner;

                if (fstat(at, &st) < 0)
                        return -errno;
                if (same_file(&st, &own))
                        return capable ? 0 : -EPERM;
                /* EPERM: this is the initial one, and the caller is in one below it. */
                parent = ioctl(at, NS_GET_PARENT);
                if (parent < 0 || fstat(parent, &st) < 0 || ioctl(at, NS_GET_OWNER_UID, &owner) < 0)
                        return -errno;
                if (same_file(&st, &own) && owner == uid)
                        return 0; /* who made a user namespace may do everything in it */
                close(at);
                at = TAKE_FD(parent);
        }
}

int caller_is_admin(const struct caller *c, int netns_fd, bool host)
{
        _cleanup_close_ int user_fd = -1, target_fd = -1;
        uint64_t capabilities = 0;
        bool capable;
        char path[32];
        uid_t uid = 0;
        gid_t gid;
        int r;

        r = read_status(c, "\nCapEff:", 16, &capabilities);
        if (r < 0)
                return r;
        capable = capabilities & 1ULL << CAP_NET_ADMIN;
        r = caller_ids(c, &uid, &gid);
        if (r < 0)
                return r;
        snprintf(path, sizeof(path), "%u/ns/user", c->pid);
        user_fd = openat(c->proc_fd, path, O_RDONLY | O_CLOEXEC);
        if (user_fd < 0)
                return -errno;
        /* slimd and its brokers are in the initial user namespace. */
        target_fd = host ? open("/proc/self/ns/user", O_RDONLY | O_CLOEXEC)
                         : ioctl(netns_fd, NS_GET_USERNS);
        if (target_fd < 0)
                return -errno;
        return has_right(user_fd, capable, uid, target_fd);
}
