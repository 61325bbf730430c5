/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * The queue of ready sockets, between libslimsocket.so and slim-broker.
 *
 * socket(AF_INET or AF_INET6, SOCK_STREAM | SOCK_CLOEXEC, SLIM_QUEUE_PROTOCOL) in a Slim container
 * is the reading end of a queue of TCP sockets of that family: an AF_UNIX socket of type
 * SOCK_SEQPACKET that has one byte and one descriptor (SCM_RIGHTS) in each message. They belong to
 * the effective user and group of the caller, and so does the queue's own inode. ENOBUFS: not now,
 * but perhaps later. Elsewhere the kernel says EINVAL, since it has no such protocol.
 *
 * At its end (recvmsg() says 0) the queue has been taken back, and another may be asked for.
 */
#define SLIM_QUEUE_PROTOCOL 0x511e
