/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Many connections at once: requests as they are due, answers as they come, times of both.
 *
 * A protocol says what a request is and when its answer is there. Everything else is here: a thread
 * has its connections in slots and an epoll instance over them.
 *
 * With a rate the load is open: request number k is due at k / rate, whatever became of those
 * before it, and its time counts from then, also while it waits for a connection that is free. So a
 * stall costs all requests that were due in it. Without a rate each connection has its next request
 * as soon as the last one is answered.
 *
 * A slot is CLOSED until a request needs it (or, kept alive, from the beginning on IDLE),
 * CONNECTING until its socket is writable, BUSY until the protocol has its answer.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "histogram.h"
#include "options.h"

enum slot_state {
        SLOT_CLOSED,
        SLOT_CONNECTING,
        SLOT_IDLE,
        SLOT_BUSY,
};

#define SLOT_HEAD_MAX 1024

struct slot {
        int fd;
        enum slot_state state;
        uint64_t due;    /* when its request was, ns */
        const char *out; /* the request */
        size_t out_len;  /* its length, and how much of it has been sent */
        size_t out_sent; /* */
        uint64_t got;    /* for the protocol: bytes of the answer so far, … */
        uint64_t kind;   /* … of which kind the request was, … */
        void *own;       /* … and what it keeps for this slot */
        size_t head_len; /* */
        char head[SLOT_HEAD_MAX];
};

struct protocol {
        bool close;      /* a connection for each request, which the server closes */
        size_t own_size; /* of slot.own, which is all zero at first */
        /*
         * The slot's next request, whose bytes stay until it is answered. May be empty, with a
         * connection for each: the server speaks first. number: of this thread, from 0.
         */
        const char *(*request)(void *context, struct slot *s, uint64_t number, size_t *ret_len);
        /*
         * What came (n is 0 at the end of the stream). 1: the answer is whole; 0: it is not yet;
         * -EBADMSG or another errno: it is wrong.
         */
        int (*answer)(void *context, struct slot *s, const char *buf, size_t n);
        void *context;
};

struct drive_result {
        uint64_t total; /* requests that were answered */
        double
            connect_rate; /* connections a second, those that are kept alive; 0: there are none */
        double rate;      /* a second, after the first tenth, which is not measured */
        struct histogram times; /* of those that are measured */
};

/*
 * Runs it as the options say (connections, threads, seconds, rate). Returns 0 or a negative errno,
 * and has said then what it was.
 */
int drive(const struct options *o, const struct protocol *p, struct drive_result *ret);
/* The same, and prints the result under a name. */
int drive_and_print(const struct options *o, const struct protocol *p, const char *what);
