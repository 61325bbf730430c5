/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The descriptors that slimd gives to a broker.
 */
enum broker_fd {
        BROKER_FD_NOTIFY = 3,    /* seccomp notifications of the container */
        BROKER_FD_SOCKETS = 4,   /* the SK_STORAGE map "sockets" */
        BROKER_FD_NETNS = 5,     /* the container's network namespace */
        BROKER_FD_CALL = 6,      /* memory of BROKER_CALL_SIZE bytes for the call in hand */
        BROKER_FD_PORTS = 7,     /* the map "ports" */
        BROKER_FD_PUBLISHED = 8, /* the map "published" */
        BROKER_FD_USAGE = 9,     /* the map "usage" */
        BROKER_FD_MAX,
};

/* The sockets that reserve published ports, as many as --reserved says, from here on: not behind
 * the others, so that slimds of different versions find them. */
#define BROKER_FD_RESERVED  32
#define BROKER_RESERVED_MAX 256

_Static_assert(BROKER_FD_MAX < BROKER_FD_RESERVED, "the descriptors of a broker overlap");

/*
 * A call that a broker has received is nobody else's to receive. So that it is not left without an
 * answer when the broker is killed, it stands in memory that slimd keeps for the next one.
 * At its end is how many sockets the brokers of this container have made (budget.h).
 */
#define BROKER_CALL_SIZE   4096
#define BROKER_MADE_OFFSET 4088
