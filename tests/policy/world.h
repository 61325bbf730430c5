/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Worlds at random: a few networks, endpoints in them and policies about them, all out of small
 * sets, so that much of it meets. The same seed makes the same world.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "policy/policy-engine.h"
#include "reference.h"

#define WORLD_ENDPOINTS 14
#define WORLD_NETWORKS  3
#define WORLD_POLICIES  10 /* names in a network */

struct world_endpoint {
        struct reference_endpoint as; /* its labels and ports are owned */
        bool live, local;
        uint32_t id; /* its identity; only while it is live */
};

struct world {
        uint64_t random;
        json_t *policies; /* an array */
        json_t *networks; /* labels by name */
        struct world_endpoint endpoints[WORLD_ENDPOINTS];
        struct policy_engine *engine; /* which is told all of it */
};

/* A flow of two of a world, or of one and an address. */
struct world_flow {
        struct reference_flow as;
        struct slim_policy_check check; /* the same; identities of when it was made */
        size_t subject, peer;           /* endpoints; peer WORLD_ENDPOINTS: an address */
};

/* Of SLIM_SEED in the environment, or a fixed one. Prints it. */
uint64_t world_seed(void);
/* Below n. */
uint32_t world_random(struct world *w, uint32_t n);

/* Without endpoints and policies. */
void world_init(struct world *w, uint64_t seed);
void world_clear(struct world *w);

json_t *world_random_policy(struct world *w);
/* The world's steps: each changes it and tells the engine. */
void world_put_policy(struct world *w);
void world_drop_policy(struct world *w);
void world_put_endpoint(struct world *w);
void world_drop_endpoint(struct world *w);
void world_set_network(struct world *w);
/* One of these. */
void world_change(struct world *w);
/* Until it has about as many policies and endpoints as it can. */
void world_fill(struct world *w);

/* Tells another engine all that there is; ids are the other's identities of the endpoints. */
void world_tell(const struct world *w, struct policy_engine *engine, uint32_t ids[WORLD_ENDPOINTS]);

/* A flow for a subject that is live and local; false: there is none. */
bool world_random_flow(struct world *w, struct world_flow *ret);
/* After identities changed. */
void world_refresh(const struct world *w, struct world_flow *flow);
enum slim_policy_verdict world_verdict(const struct world *w, const struct world_flow *flow);
