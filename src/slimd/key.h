/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The cluster key, which signs the option of a Slim SYN, and how it is exchanged for another one
 * without a connection that is refused meanwhile:
 *
 *   1. key_rotate() puts the next key into the store, beside the one in force. Each host verifies
 *      by it from then on, and says so in the store (slim/keys/HOST).
 *   2. Whoever sees that all hosts have said so makes it the key in force. Hosts sign by it as they
 *      hear of that, in whatever order, and the key before it still verifies.
 *
 * A host that does not answer holds it up until it does, or its lease has run out.
 */
#include <jansson.h>

#include "slimd.h"

/* Makes the cluster's first key, if there is none. */
int key_make(struct slimd *d);

/* A value of STORE_KEY into the map of keys. */
int key_apply(struct slimd *d, const char *value);

/* What is this host's to do for a rotation that is under way; after each change in the store. */
void key_step(struct slimd *d);

/* -EBUSY: one is under way. */
int key_rotate(struct slimd *d);

/* {"epoch", "rotating", "waiting": hosts that have not said that they have the next one} */
int key_describe(struct slimd *d, json_t **ret);
