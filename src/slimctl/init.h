/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * A container's first process (PID 1 inside): sets the container up, waits until slimd has joined
 * it to its network, runs the program, and ends with the program's status.
 */
#include <limits.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>

#include "../basic/macro.h"

struct container_spec {
        const char *hostname;
        bool slim; /* with the seccomp filter */
        char **argv;
        bool pinned;
        cpu_set_t cpus;         /* where the program runs, if pinned */
        char preload[PATH_MAX]; /* libslimsocket.so; "": the program goes without */
        /* As slimctl found them, for the program. */
        sigset_t mask;
        struct sigaction child_action;
};

/*
 * Runs in the new namespaces; channel is the container's end of a Unix stream socket pair whose
 * other end only slimctl holds. It sends one message: {} with the notification descriptor beside
 * it (none without the filter), or {"error": SENTENCE}. Then it waits for {"addresses":
 * [ADDRESS…]}, and runs the program; when slimctl ends without sending one, so does the container.
 */
_noreturn_ void init_main(const struct container_spec *spec, int channel);
