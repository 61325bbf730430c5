/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The policy engine (../policy/policy-engine.h) in slimd: told of networks, policies and endpoints,
 * and its rules written into the BPF maps. mirror.c calls it, in the order that the engine asks
 * for: new identities, flush, the endpoints' entries, old identities, flush (mirror_settle()).
 */
#include "../policy/policy-engine.h"
#include "slimd.h"

/* Makes the engine, which takes over the maps of an earlier slimd as they are. Says what is wrong.
 */
int policy_start(struct slimd *d);
void policy_stop(struct slimd *d);

/* A network's labels; without a network of that name in the model it has none. */
int policy_network_changed(struct slimd *d, const char *network);

/*
 * A value of the store under NETWORK/NAME (NULL: deleted), into the engine and the model. What
 * cannot be used is said in one line, and the policy of that name stays as it is.
 */
int policy_apply(struct slimd *d, const char *key, const char *value);
/* Those of an old model that the new one does not have are dropped. */
void policy_drop_missing(struct slimd *d, const struct model *old);

/* An endpoint's identity as the model has it: a new one is counted, the old one is e->replaced. */
int policy_identify(struct slimd *d, struct endpoint *e);
/* Before the first endpoint of those that are pending: who keeps the number that it had? */
void policy_match_numbers(struct slimd *d);
/* The maps have the new identity; or (policy_forget()) no entry of the endpoint at all. */
void policy_identified(struct slimd *d, struct endpoint *e);
void policy_forget(struct slimd *d, struct endpoint *e);

/* Writes what changed. What fails is said once, in d->policy_error, and gone on with next time. */
int policy_flush(struct slimd *d);
/* The maps have nothing any more that is not the model's: what an earlier slimd left goes. */
int policy_taken_over(struct slimd *d);
