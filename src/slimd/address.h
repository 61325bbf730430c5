/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Overlay addresses. A host takes them from blocks of its own, so that two hosts seldom reach for
 * the same one; the store's transaction decides where they do.
 */
#include "slimd.h"

/*
 * An address of the network, which has a prefix of that family, that no endpoint of the model has,
 * out of one of this host's blocks; a further block is claimed when they are full. Not reserved:
 * publishing the endpoint may still meet another's (-EAGAIN there). -ENOSPC: the network is full.
 */
int address_pick(struct slimd *d, const struct network *n, enum slim_family family,
                 union slim_addr *ret);
/* One of each family that the network has, but for those that are there already. */
int address_pick_all(struct slimd *d, const struct network *n, union slim_addr addr[SLIM_FAMILIES]);

/* May an endpoint have it? The first and the last of an IPv4 network are its own name and its
 * broadcast address. */
bool address_is_usable(const struct network *n, const union slim_addr *a);
