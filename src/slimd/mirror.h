/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From an entry of the store to the model, the BPF maps and the host's routes.
 */
#include "slimd.h"

/* One entry as it is now (value NULL: deleted). What cannot be used is logged and left out. */
void mirror_apply(struct slimd *d, const struct store_entry *e);

/* Takes out of the maps what the model does not have. */
void mirror_prune(struct slimd *d);

/* Puts an endpoint into the maps; local ones get their device's ifindex. */
int mirror_endpoint(struct slimd *d, const struct endpoint *e);
void mirror_forget_endpoint(struct slimd *d, const struct endpoint *e);

/* Does the model say that it lives on this host? */
bool mirror_is_local(const struct slimd *d, const struct endpoint *e);
