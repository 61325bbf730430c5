/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From the store to the model to the BPF maps, and this host's own entries in the store.
 */
#include "slimd.h"

/* Opens the store. make: also one that is not there yet; and sees to it that this host's name is
 * not another's, before anything is made on this host. Says in one line what is wrong. */
int cluster_open(struct slimd *d, bool make);
/* Names this host in the store, makes the cluster key if there is none, loads everything and makes
 * the maps equal to it. Says in one line what is wrong. */
int cluster_start(struct slimd *d);
/* Takes the host's name out of the store again (slimd --teardown). */
int cluster_leave(struct slimd *d);
void cluster_stop(struct slimd *d);

/* Brings the model and the maps up to the store's present state. */
int cluster_sync(struct slimd *d);

/* Puts an endpoint into the maps, or takes it out. Local ones get their device's ifindex. */
int cluster_map_endpoint(struct slimd *d, const struct endpoint *e);

/*
 * Publishes an endpoint of this host under its three keys, all new. -EAGAIN: one of them exists.
 * -ENETUNREACH: its network has gone meanwhile.
 */
int cluster_publish(struct slimd *d, const struct endpoint *e);
/* The same for one that was published before: its keys are put again, unless another has them
 * (-EEXIST). */
int cluster_republish(struct slimd *d, const struct endpoint *e);
int cluster_withdraw(struct slimd *d, const struct endpoint *e);

/* -EEXIST: the name or (named in *ret_other) an overlapping network. */
int cluster_create_network(struct slimd *d, const char *name, const struct inaddr_prefix *prefix,
                           uint8_t block_bits, struct network **ret, const char **ret_other);
/* -ENOENT, -EBUSY: it has endpoints. */
int cluster_remove_network(struct slimd *d, const char *name);
