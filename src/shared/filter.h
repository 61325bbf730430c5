/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The seccomp filter of a Slim container: which socket() calls its broker answers, and which
 * getsockopt() calls nobody does (netfilter's: ENOPROTOOPT).
 *
 * Notified are socket(AF_INET | AF_INET6, SOCK_STREAM with any flags, 0 | IPPROTO_TCP) of the
 * machine's own ABI. Everything else goes on as if there were no filter; so does what comes by
 * another ABI (32-bit, x32), whose sockets stay in the container's own network namespace. What the
 * filter misses is slower, never open.
 */

/*
 * Puts the filter on the calling thread and on what it starts from then on. It needs
 * CAP_SYS_ADMIN, for it does not set no_new_privs: setuid programs keep working in a container.
 * *ret_notify_fd: the descriptor of the notifications, close-on-exec, the caller's. From here on
 * the notified calls wait until somebody answers them there. -EBUSY: the thread is under a filter
 * with notifications already, as in a container within a Slim container.
 */
int filter_load(int *ret_notify_fd);
