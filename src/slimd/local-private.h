/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Inside of local.h, between its parts:
 *
 *     local.c         the table, the cgroup, the state file, the beginning and the end
 *     local-device.c  the veth, its addresses and routes
 *     local-adopt.c   a new slimd takes over what an earlier one left
 */
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

#include "local.h"
#include "publish.h"

struct supervisor;

struct local {
        uint32_t id;
        struct slimd *d;
        struct endpoint e;
        char device[16];
        uint32_t ifindex;
        int netns_fd;
        struct reservation reserved;
        bool published;
        int limits_error;              /* why its limits are not in force, or 0 */
        struct supervisor *supervisor; /* NULL for a plain one that publishes nothing */
        sd_event_source *end_source;
        UT_hash_handle hh;
};

/* --- local.c ---------------------------------------------------------------------------------- */

struct local *local_new(struct slimd *d, const struct endpoint *e);
/* below: "/" CGROUP_PROGRAM, or "" for all of the container. */
void local_cgroup_path(const struct local *l, const char *below, char ret[PATH_MAX]);
/* Is a process left in the container's cgroup? */
bool local_is_populated(const struct local *l);
/* A process of it, 0 when there is none. */
pid_t local_first_pid(const struct local *l);
/* From then on its end tears it down. */
int local_watch_end(struct local *l);
/* Its broker: the one that runs, or a new one. notify_fd as in supervise.h. */
int local_supervise(struct local *l, int notify_fd);
/* Where what it takes of its share is counted. One that is there has been counting. */
int local_make_usage(const struct local *l);
int local_state_save(const struct local *l);
/* Removes everything of a container, as far as it was made. */
void local_tear_down(struct local *l);

/* --- local-device.c --------------------------------------------------------------------------- */

/* The veth with all that belongs to it, on both sides. */
int local_make_device(struct local *l);
/* The programs and the map's entry of a veth that is there. */
int local_attach_device(struct local *l);
void local_remove_device(struct local *l);
