/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What Slim needs of a machine, found out by trying it: programs are loaded, maps and devices made,
 * calls notified. Kernel versions are never looked at.
 *
 * Probes leave nothing behind. What they must change to find out, they change in a child process
 * and in namespaces of its own. They work in a process with one thread that reaps its own children.
 */
#include <stdbool.h>
#include <stddef.h>

#define PROBE_DETAIL_MAX 256

struct probe {
        const char *id;
        bool required;      /* Slim does not work without it; otherwise it is advice */
        const char *what;   /* what it is, and what Slim needs it for */
        const char *remedy; /* what to do where it is missing */

        /* 0: it is there. A negative errno: it is not. Either way detail says what was seen ("":
         * nothing). */
        int (*run)(char *detail, size_t size);
};

/* All of them, in the order in which they make sense to a reader. */
const struct probe *probe_list(size_t *ret_n);

/*
 * Runs the required ones up to the first that is missing. 0: all are there. Otherwise what that
 * one answered; *ret is the probe, and detail (PROBE_DETAIL_MAX bytes) its detail. So a daemon
 * refuses in one line: "WHAT is missing (DETAIL): REMEDY".
 */
int probe_required(const struct probe **ret, char *detail);
