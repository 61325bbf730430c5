/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Inside of local.h, between its parts:
 *
 *     local.c         the table, the beginning and the end
 *     local-bond.c    what a container is bound to: its cgroup, or an attachment
 *     local-state.c   its file in RUN_DIR/endpoints
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
        char *attachment, *netns;                  /* NULL: it is bound to its cgroup */
        char interface[16];                        /* its device's name in the container */
        struct inaddr_prefix route[SLIM_FAMILIES]; /* in the container's main table, … */
        bool has_route[SLIM_FAMILIES];             /* … as far as this slimd has made it */
        struct reservation reserved;
        bool ports_held; /* by others: reserved is empty */
        bool published;
        int limits_error;              /* why its limits are not in force, or 0 */
        struct supervisor *supervisor; /* NULL for a plain one that publishes nothing */
        sd_event_source *end_source;   /* of its cgroup; NULL for an attachment */
        UT_hash_handle hh;
};

/* --- local.c ---------------------------------------------------------------------------------- */

struct local *local_new(struct slimd *d, const struct endpoint *e);
/* Its broker: the one that runs, or a new one. notify_fd as in supervise.h. */
int local_supervise(struct local *l, int notify_fd);
/* Where what it takes of its share is counted. One that is there has been counting. */
int local_make_usage(const struct local *l);
/* Removes everything of a container, as far as it was made. */
void local_tear_down(struct local *l);

/* --- local-bond.c ----------------------------------------------------------------------------- */

/* a: NULL for a cgroup. */
int local_set_bond(struct local *l, const struct local_attachment *a, const char *interface);
/* Its cgroup, with this process in it, and that of its broker, as far as it has them. */
int local_bind(struct local *l, pid_t pid);
/* Takes it up again after another slimd, and opens its namespace. -ESRCH: it has ended. */
int local_find_bond(struct local *l);
/* Has it ended, which slimd is about to hear of? */
bool local_has_ended(const struct local *l);
/* below: "/" CGROUP_PROGRAM, or "" for all of the container. */
void local_cgroup_path(const struct local *l, const char *below, char ret[PATH_MAX]);

/* --- local-state.c ---------------------------------------------------------------------------- */

int local_state_save(const struct local *l);
/* What its file says it is bound to. -EBADMSG. */
int local_state_attachment(struct local *l, const char *text);
void local_state_remove(const struct slimd *d, uint32_t id);

/* --- local-device.c --------------------------------------------------------------------------- */

/* The veth with all that belongs to it, on both sides. */
int local_make_device(struct local *l);
/* The programs and the map's entry of a veth that is there. */
int local_attach_device(struct local *l);
void local_remove_device(struct local *l);
