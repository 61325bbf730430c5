/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * For tests that write their policies and endpoints out. JSON has ' for ", so that it can be read.
 */
#include "maps.h"
#include "policy/policy-engine.h"

/* From a spec alone; in the network "default" unless the name is "NETWORK/NAME". The caller frees
 * it. */
struct policy *policy_of(const char *name, const char *spec);
void put_policy(struct policy_engine *engine, const char *name, const char *spec);

/* An endpoint: its network, labels as "a=1 b=2" and named ports as "web=80/TCP dns=53/UDP". */
uint32_t ref_identity(struct policy_engine *engine, const char *network, const char *labels,
                      const char *ports, bool local);
/* A host's processes: slim.io/kind=host, slim.io/host=NAME. */
uint32_t ref_host(struct policy_engine *engine, const char *network, const char *name, bool local);
void put_network(struct policy_engine *engine, const char *network, const char *labels);

/* Flushes, and returns the number of steps. */
size_t flush(struct policy_engine *engine, struct maps *maps);
/* In TCP: may (peer, 0: none; at an address) connect to the subject's port, or the other way? */
bool may_enter(const struct maps *maps, uint32_t subject, uint32_t peer, const char *addr,
               uint16_t port);
bool may_leave(const struct maps *maps, uint32_t subject, uint32_t peer, const char *addr,
               uint16_t port);
