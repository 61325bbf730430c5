/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The seccomp filter of a Slim container: which calls its broker answers.
 *
 *   socket(AF_INET | AF_INET6, SOCK_STREAM with any flags, 0 | IPPROTO_TCP | IPPROTO_MPTCP |
 *   SLIM_QUEUE_PROTOCOL) and listen(), of the machine's own ABI. Sockets made by another ABI
 * (32-bit, x32) stay in the container's own network namespace, and a listen() that passes by is
 * checked less: what the filter misses is slower, never open.
 *
 *   ioctl() with a command about network interfaces, of every ABI of the machine: on a socket of
 *   the host's namespace it would be about the host's, whichever ABI the program calls by.
 *
 *   getsockopt() of netfilter's own options is ENOPROTOOPT: on a host's socket they tell of the
 *   host.
 *
 * Everything else goes on as if there were no filter.
 */
#include <linux/seccomp.h>

enum filter_call {
        FILTER_OTHER,
        FILTER_SOCKET,
        FILTER_LISTEN,
        FILTER_IOCTL,
        FILTER_IOCTL_COMPAT, /* with 32-bit structures */
};

/* Which of them a notification is about. */
enum filter_call filter_call(const struct seccomp_data *data);

/*
 * Puts the filter on the calling thread and on what it starts from then on. It needs
 * CAP_SYS_ADMIN, for it does not set no_new_privs: setuid programs keep working in a container.
 * *ret_notify_fd: the descriptor of the notifications, close-on-exec, the caller's. From here on
 * the notified calls wait until somebody answers them there. -EBUSY: the thread is under a filter
 * with notifications already, as in a container within a Slim container.
 */
int filter_load(int *ret_notify_fd);
