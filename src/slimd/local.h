/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The containers of this host: their devices, cgroups, brokers and end.
 *
 * A container is `up` from local_add() until the last process of its cgroup is gone, which the
 * kernel tells (cgroup.events), whoever killed it and whether or not a slimd was there to see it.
 * RUN_DIR/endpoints/ID remembers each, so that a new slimd finds the ones that live and clears
 * away what is left of the others.
 */
#include "slimd.h"

struct local_request {
        const char *name;
        const char *network;
        union slim_addr addr[SLIM_FAMILIES]; /* none: any, of a family that the network has */
        const struct publications *publish;
        json_t *labels, *ports; /* as in struct endpoint; the caller's */
        struct limits limits;
        bool slim;
        pid_t pid;     /* the container's first process, */
        int netns_fd;  /* its network namespace */
        int notify_fd; /* and seccomp notifications (slim only; -1 otherwise) */
};

/*
 * Makes a container's endpoint. On failure nothing is left behind, and *ret_error (the caller
 * frees) says in one sentence what is wrong.
 */
int local_add(struct slimd *d, const struct local_request *q, struct endpoint **ret,
              char **ret_error);

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
uint32_t local_ifindex(const struct local *l);
void local_describe(const struct local *l, json_t *endpoint);
pid_t local_broker_pid(const struct local *l); /* 0: none at the moment */
/* Its network namespace; stays the container's. */
int local_netns(const struct local *l);
/* The id of the cgroup where its broker's sockets are (what sock_diag calls a socket's cgroup). */
uint64_t local_socket_cgroup(const struct local *l);
struct local *local_next(const struct slimd *d, const struct local *l); /* NULL: the first */
const struct endpoint *local_endpoint(const struct local *l);
/* Are its published ports in force (publish.h)? */
bool local_is_published(const struct local *l);

/* Forgets them without touching them. */
void local_forget_all(struct slimd *d);
/* Ends and removes them (slimd --teardown). */
void local_remove_all(struct slimd *d);
