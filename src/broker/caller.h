/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The thread that waits for the answer to a notification: its ids, descriptors, memory, rights.
 *
 * It is named by a number, which is another thread's once it has died. So whatever is opened here
 * is looked at only after caller_waits() has said that it waits still; from then on the descriptor
 * stands for it, whatever becomes of the number.
 */
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct caller {
        int notify_fd;
        int proc_fd; /* /proc of the broker's own PID namespace */
        uint64_t id; /* of the notification */
        uint32_t pid;
};

bool caller_waits(const struct caller *c);

/*
 * A copy of one of its descriptors, the broker's own, close-on-exec. -EBADF: it has no such one, or
 * only an O_PATH one, or its table cannot be reached: before Linux 6.9 that of a thread is found
 * by its process alone, which some other thread may have left or not share.
 */
int caller_fd(const struct caller *c, int fd, int *ret_fd);

/* Its memory, for pread() and pwrite() at its addresses; the broker's own. */
int caller_memory(const struct caller *c, int *ret_fd);

/* Effective user and group id, which its new files have. */
int caller_ids(const struct caller *c, uid_t *ret_uid, gid_t *ret_gid);

/*
 * Has it CAP_NET_ADMIN over a network namespace, as ns_capable() of the kernel decides it, and
 * (host) over those of the initial user namespace, as capable() does? 0, or -EPERM, or the errno
 * of what could not be found out.
 */
int caller_is_admin(const struct caller *c, int netns_fd, bool host);
