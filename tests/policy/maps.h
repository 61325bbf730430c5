/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The policy maps in memory, filled by a sink, and the verdict that the BPF program would find in
 * them. A step can be made to fail, and be looked at.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <uthash.h>

#include "policy/policy-engine.h"

struct maps_rule {
        struct slim_policy_key key;
        UT_hash_handle hh;
};

struct maps_cidr {
        struct slim_prefix_key key;
        uint32_t id;
        UT_hash_handle hh;
};

struct maps_subject {
        uint32_t identity;
        uint32_t flags;
        UT_hash_handle hh;
};

struct maps {
        struct maps_rule *rules;
        struct maps_cidr *cidrs;
        struct maps_subject *subjects;

        size_t steps;   /* since whoever set it to 0 */
        size_t fail_at; /* the step, from 1 on, that fails with -ENOSPC; 0: none */
        /* After each step. */
        void (*look)(const struct maps *maps, void *userdata);
        void *userdata;
};

/* Its userdata is a struct maps. Fails the test when an entry is put that is there, or one taken
 * away that is not: what the engine emits is exactly what changes. */
extern const struct policy_sink maps_sink;

void maps_clear(struct maps *maps);
size_t maps_entries(const struct maps *maps);
bool maps_have_rule(const struct maps *maps, const struct slim_policy_key *key);
/* Of the longest prefix; 0: none. */
uint32_t maps_cidr(const struct maps *maps, const union slim_addr *addr);
enum slim_policy_verdict maps_verdict(const struct maps *maps,
                                      const struct slim_policy_check *check);
