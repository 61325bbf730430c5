/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The containers of this host: their devices, cgroups, brokers and end.
 *
 * A container lasts as long as what it is bound to:
 *
 *     a cgroup      whose processes slimd has put there. It ends with the last of them, which the
 *                   kernel tells (cgroup.events), whoever killed it and whether or not a slimd was
 *                   there to see it.
 *     an attachment of a network namespace that a container runtime has made. Who is in it is the
 *                   runtime's business: it ends with local_detach(), or with its namespace where a
 *                   new slimd finds that gone. A node that has booted anew has none of its
 *                   namespaces, and whoever ran in them starts again under the same names and
 *                   addresses: nothing is kept of them, also where the runtime has forgotten to ask
 *                   for their end, and when it asks there is nothing to do.
 *
 * RUN_DIR/endpoints/ID remembers each, so that a new slimd finds the ones that live and clears
 * away what is left of the others.
 */
#include "slimd.h"

#define ATTACHMENT_MAX 512 /* characters of an attachment's id */

/* An attachment, as its runtime knows it. */
struct local_attachment {
        const char *id;
        const char *netns; /* the path of its namespace, where a new slimd looks for it */
};

struct local_request {
        const char *name;
        const char *network;
        union slim_addr addr[SLIM_FAMILIES]; /* none: any, of a family that the network has */
        const struct publications *publish;
        bool ports_held; /* by whoever asks: slimd does not keep them from the host's programs */
        json_t *labels, *ports; /* as in struct endpoint; the caller's */
        struct limits limits;
        bool slim;
        const struct local_attachment *attachment; /* NULL: it is bound to a cgroup, */
        pid_t pid;                                 /* with this first process */
        const char *interface;                     /* its name in the container */
        int netns_fd;                              /* the container's network namespace */
        int notify_fd; /* and its seccomp notifications (slim only; -1 otherwise) */
};

/*
 * Makes a container's endpoint. On failure nothing is left behind, and *ret_error (the caller
 * frees) says in one sentence what is wrong.
 */
int local_add(struct slimd *d, const struct local_request *q, struct endpoint **ret,
              char **ret_error);

/* Ends the container of an attachment. Whether there was one. */
bool local_detach(struct slimd *d, const char *attachment);

/* Takes over the containers that an earlier slimd left, before and after the store is loaded. */
int local_load(struct slimd *d);
void local_adopt_all(struct slimd *d);

/* Puts all of them into the store again, on the present lease. */
int local_republish_all(struct slimd *d);

/* What the store says of one that lives here: its labels and limits may be others now. */
void local_take_changes(struct slimd *d, const struct endpoint *e);
/* Are its limits in force as they are in the store? 0, or why not. */
int local_limits_error(const struct local *l);

/* This host's own address in a network is another one now. */
void local_network_changed(struct slimd *d, const char *network);

struct local *local_find(const struct slimd *d, uint32_t id);
/* NULL: there is no such attachment. */
struct local *local_find_attachment(const struct slimd *d, const char *id);
uint32_t local_ifindex(const struct local *l);
void local_describe(const struct local *l, json_t *endpoint);
pid_t local_broker_pid(const struct local *l); /* 0: none at the moment */
/* The hardware address of the host's end of every container's veth; the other end's is
 * SLIM_CONTAINER_MAC. They meet nobody but each other. */
#define LOCAL_DEVICE_MAC                           \
        {                                          \
                0x02, 0x51, 0x1e, 0x00, 0x00, 0x02 \
        }
/* The destination of its device's route of a family, into a buffer of INADDR_TEXT_MAX: all, or its
 * network where its namespace had a default route when it came. NULL: it has none, or an earlier
 * slimd has made it. */
const char *local_route(const struct local *l, enum slim_family f, char *buf);
/* Its network namespace; stays the container's. -1: it cannot be found. */
int local_netns(const struct local *l);
/* The id of its attachment; NULL: it is bound to a cgroup. */
const char *local_attachment(const struct local *l);
struct local *local_next(const struct slimd *d, const struct local *l); /* NULL: the first */
const struct endpoint *local_endpoint(const struct local *l);
/* Are its published ports in force (publish.h)? */
bool local_is_published(const struct local *l);

/* Forgets them without touching them. */
void local_forget_all(struct slimd *d);
/* Ends and removes them (slimd --teardown). */
void local_remove_all(struct slimd *d);
