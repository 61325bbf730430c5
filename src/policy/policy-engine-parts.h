/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The insides of the engine, for its files.
 *
 *   policy-engine.c   the operations: what there is
 *   policy-compile.c  what is wanted                          writes all but emitted*
 *   policy-flush.c    what is emitted                         writes emitted*, frees entries
 *   policy-explain.c  reads
 *   policy-adopt.c    what an earlier engine emitted          at the beginning, all of it
 *
 * What is wanted of a rule is counted: each (policy, rule, peer) that leads to it is a reference.
 * Everything that may differ from what was emitted is in a list of changes until the next flush,
 * which frees what nobody wants and no map has any more.
 */
/* What there is no memory for is not in the table, and its handle says so: hh.tbl is NULL. */
#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#include "policy-engine.h"

struct network {
        char name[NAME_LEN_MAX + 1];
        struct labels labels; /* its name among them */
        bool has_labels;      /* of a policy_engine_put_network() */
        size_t refs;          /* policies and identities */
        UT_hash_handle hh;    /* by name */
};

struct identity {
        uint32_t id; /* is the first of these, as in struct cidr: a site sorts both by it */
        size_t refs, local_refs;
        size_t uses; /* rules with its number, wanted or not */
        char *key;   /* NULL: adopted, and nobody asked for it yet; it is in no table but by_id */
        struct network *network;
        struct labels labels;
        size_t n_ports;
        struct named_port *ports;
        bool is_host;

        size_t n_selecting[SLIM_POLICY_DIRECTIONS]; /* policies of which it is a subject */
        size_t n_rejecting[SLIM_POLICY_DIRECTIONS];
        size_t n_cidrs[SLIM_POLICY_DIRECTIONS]; /* wanted rules with a prefix */
        uint32_t emitted_flags;                 /* 0: the map of subjects does not have it */

        bool changed;
        struct identity *next_changed;
        UT_hash_handle hh;    /* by key */
        UT_hash_handle by_id; /* by id */
};

/* A prefix that a policy of some subject names. */
struct cidr {
        uint32_t id;
        struct inaddr_prefix prefix;
        size_t refs; /* blocks of policies that are compiled */
        size_t uses; /* rules with its id, wanted or not */
        bool emitted;
        bool changed;
        struct cidr *next_changed;
        UT_hash_handle hh; /* by prefix */
};

struct rule {
        struct slim_policy_key key;
        size_t refs;
        struct identity *subject;
        struct identity *peer; /* NULL: anybody, or … */
        struct cidr *cidr;     /* … who has an address of this prefix */
        bool emitted;
        bool changed;
        struct rule *next_changed;
        UT_hash_handle hh; /* by key */
};

/* A peer of a rule, and who it is. */
struct site {
        const struct policy_rule *rule;
        const struct policy_peer *peer; /* NULL: everybody */
        enum slim_policy_direction direction;
        bool wants_identities; /* they are what `matched` has, otherwise prefixes or nothing */
        size_t n, allocated;
        void **matched; /* struct identity or struct cidr, by their number */
};

struct compiled {
        struct policy *policy;
        struct network *network;
        char key[NAME_LEN_MAX + 1 + POLICY_NAME_MAX + 1]; /* NETWORK/NAME */
        size_t n_subjects, subjects_allocated;            /* none: nothing is compiled */
        struct identity **subjects;
        size_t n_sites;
        struct site *sites;
        UT_hash_handle hh; /* by key */
};

/* Numbers from 1 on, those that are free first. */
struct numbers {
        uint32_t last;
        size_t n, allocated;
        uint32_t *free;
};

struct policy_engine {
        struct network *networks;
        struct compiled *policies;
        struct identity *identities, *identities_by_id;
        struct cidr *cidrs;
        struct rule *rules;
        struct numbers identity_numbers, cidr_numbers;
        struct cidr **adopted_cidrs; /* by id, while maps are taken over */
        size_t n_adopted_cidrs;
        size_t n_subjects, n_wanted_rules;

        struct rule *changed_rules;
        struct cidr *changed_cidrs[129]; /* by the length of the prefix */
        struct identity *changed_identities;
        /* There was no memory for something: what is wanted is not what the maps should have,
         * until all of it is compiled anew. */
        bool incomplete;
};

struct identity *engine_identity(const struct policy_engine *engine, uint32_t id);
/* 0: no memory. To give one back cannot fail. */
uint32_t engine_take_number(struct numbers *numbers);
void engine_give_number(struct numbers *numbers, uint32_t number);

/* An identity is there, and is a peer; it is so no more. */
void compile_peer(struct policy_engine *engine, struct identity *i);
void compile_no_peer(struct policy_engine *engine, struct identity *i);
/* It is on this host, and is a subject; it is so no more. */
void compile_subject(struct policy_engine *engine, struct identity *i);
void compile_no_subject(struct policy_engine *engine, struct identity *i);
/* A policy is there, with its sites; it goes. */
void compile_policy(struct policy_engine *engine, struct compiled *c);
void compile_no_policy(struct policy_engine *engine, struct compiled *c);
/* A network's labels are others than before. */
void compile_network(struct policy_engine *engine, const struct network *n);
/* Everything, anew. -ENOMEM. */
int engine_recompile(struct policy_engine *engine);

uint32_t engine_wanted_flags(const struct identity *i);
/* Does a site's peer mean this identity? (Of a block: never.) */
bool engine_peer_matches(const struct compiled *c, const struct policy_peer *peer,
                         const struct identity *i);
/* What an endpoint has by this name; 0: nothing. */
uint16_t engine_named_port(const struct identity *i, const struct policy_port *port);

/* Once nothing has their number any more. */
void engine_release_identity(struct policy_engine *engine, struct identity *i);
void engine_release_cidr(struct policy_engine *engine, struct cidr *c);
void engine_release_rule(struct policy_engine *engine, struct rule *rule);
