/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The descriptors that slimd gives to a broker.
 */
enum broker_fd {
        BROKER_FD_NOTIFY = 3,  /* seccomp notifications of the container */
        BROKER_FD_SOCKETS = 4, /* the SK_STORAGE map "sockets" */
        BROKER_FD_NETNS = 5,   /* the container's network namespace */
        BROKER_FD_MAX,
};
