/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * One container's broker: started, found again, watched, replaced. A plain container has one only
 * when it publishes ports, whose reservations the broker then holds, and does nothing else.
 */
#include "publish.h"
#include "slimd.h"

struct supervisor;

struct supervisor_options {
        const struct endpoint *endpoint; /* stays valid as long as the supervisor */
        const char *cgroup;              /* of the broker: an absolute path */
        int netns_fd;  /* of the container; duplicated; -1: a plain one, which it is not to keep
                          alive */
        int notify_fd; /* duplicated; -1: take it from the broker that runs */
        const struct reservation *reserved; /* for each broker; stays as long as the supervisor */
};

/*
 * Sees to it that there is a broker in the cgroup as long as the container lives: the one that is
 * there already, or a new one. -ENOENT: none runs and there is no notify descriptor to start one
 * with.
 */
int supervisor_new(struct slimd *d, const struct supervisor_options *o, struct supervisor **ret);
/* Takes the reservations of published ports out of the broker that runs. -ENOENT: none does. */
int supervisor_take(const char *cgroup, struct reservation *reserved);
/* Lets go of the broker, which goes on. */
void supervisor_free(struct supervisor *s);
/* 0: none at the moment. */
pid_t supervisor_pid(const struct supervisor *s);
