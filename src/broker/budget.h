/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * How many of a broker's sockets are open at a time, and no more than the container may have: those
 * that wait to be taken among them.
 *
 * It is what was made less what was closed. The broker counts what it makes; release.bpf.c counts
 * what is closed, whoever closes it, and is asked only when there would be too many without it. So
 * neither costs a system call while a container is far from its bound.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

struct budget {
        int usage_map;
        uint32_t endpoint;
        uint64_t max;

        /* How many were made, in memory that outlives this broker. One that is killed while it
         * makes a socket may leave that one counted for good. */
        _Atomic uint64_t *made;
        _Atomic uint64_t closed; /* when the map was asked last */
        atomic_bool told;        /* that there are too many, to the log */
};

/* made: the caller's, and there as long as the budget. */
void budget_init(struct budget *b, int usage_map, uint32_t endpoint, uint64_t max,
                 _Atomic uint64_t *made);

/*
 * May one more be made? 0, and it is counted; or -EMFILE. Thread-safe, as the next one is.
 * EMFILE and not ENOBUFS, since programs know what to do: to close what they need no more, and
 * wait.
 */
int budget_take(struct budget *b);
/* It was not made after all. */
void budget_return(struct budget *b);
