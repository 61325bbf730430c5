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

/* Puts an endpoint of the model into the maps; local ones get their device's ifindex. One that is
 * pending is not written before policies are. */
int mirror_endpoint(struct slimd *d, const struct endpoint *e);
void mirror_forget_endpoint(struct slimd *d, const struct endpoint *e);
/* Out of the maps and the model. */
void mirror_drop_endpoint(struct slimd *d, struct endpoint *e);

/* An endpoint has come into the model, or is another one: the next settling writes it. */
void mirror_touch(struct slimd *d, struct endpoint *e);
/*
 * After changes of the model: writes the policies and the pending endpoints into the maps, so that
 * nothing is denied or allowed in passing. What fails is said, and tried again the next time;
 * endpoints whose policies cannot be written stay pending.
 */
int mirror_settle(struct slimd *d);

/* Does the model say that it lives on this host? */
bool mirror_is_local(const struct slimd *d, const struct endpoint *e);
