/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * From policies and endpoints to the entries of the policy maps (slim-abi.h), kept up to date
 * entry by entry.
 *
 * An identity stands for all endpoints of one network with the same labels and named ports; it has
 * a number of this host's. Identities are what rules are about: an endpoint more of an identity
 * that there is changes no map. An identity with a local endpoint is a subject as well, for which
 * rules are compiled.
 *
 * The operations change what is wanted. policy_engine_flush() tells a sink how to get there from
 * what it was told before, in steps that neither deny nor open anything in passing
 * (policy-flush.c). Whoever uses it keeps this order for the endpoints' own map:
 *
 *   a new endpoint    policy_engine_identity_ref(), flush, and then its entry with the identity
 *   one that ends     its entry goes, then policy_engine_identity_unref(), then flush
 *
 * Numbers are not given to others before a flush has taken the last entry with them away.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "labels.h"
#include "policy.h"

#define POLICY_NAMED_PORTS_MAX 64 /* of one endpoint */

struct named_port {
        char name[PORT_NAME_MAX + 1];
        uint8_t protocol;
        uint16_t port;
};

struct policy_engine;

/* -ENOMEM. The caller frees *ret. */
int policy_engine_new(struct policy_engine **ret);
void policy_engine_free(struct policy_engine *engine);
DEFINE_CLEANUP(struct policy_engine *, policy_engine_free)

/*
 * Adds a policy, or replaces the one of its name in its network. On success it is the engine's
 * (*policy is NULL then). -ENOMEM: nothing happened.
 */
int policy_engine_put(struct policy_engine *engine, struct policy **policy);
/* -ENOENT. */
int policy_engine_drop(struct policy_engine *engine, const char *network, const char *name);
/* NULL: there is none. It is the engine's. */
const struct policy *policy_engine_get(const struct policy_engine *engine, const char *network,
                                       const char *name);

/*
 * The labels of a network, which every network has beside kubernetes.io/metadata.name, its name.
 * -EINVAL: that is no network's name, -E2BIG: with it there are more than LABELS_MAX, -ENOMEM:
 * nothing happened. They are copied. Dropping them leaves the name.
 */
int policy_engine_put_network(struct policy_engine *engine, const char *network,
                              const struct labels *labels);
int policy_engine_drop_network(struct policy_engine *engine, const char *network);

/* What endpoints are told apart by. */
struct policy_identity {
        const char *network;
        struct labels labels;
        size_t n_ports;
        const struct named_port *ports;
        bool is_host; /* the processes of a host; matched as policy_pods_match() says */
        /* The number that it has in maps that were taken over (0: none): it gets this, if it gets
         * a new one and nobody else was given it. */
        uint32_t number;
};

/*
 * One endpoint more of an identity, which is made when there is none. local: it is on this host.
 * *ret_id is its number, from 1 on. Everything is copied. -EINVAL (the network's name, a port, or
 * two ports of one name and protocol), -E2BIG (too many ports), -ENOMEM: nothing happened.
 */
int policy_engine_identity_ref(struct policy_engine *engine, const struct policy_identity *identity,
                               bool local, uint32_t *ret_id);
/* One less; local as it was. -ENOENT: there is none of this number. */
int policy_engine_identity_unref(struct policy_engine *engine, uint32_t id, bool local);

/* The maps. Each function returns 0, or a negative errno, which ends the flush. To put what is
 * there already, and to take away what is not, are no errors. */
struct policy_sink {
        int (*put_rule)(const struct slim_policy_key *key, void *userdata);
        int (*put_cidr)(const struct slim_prefix_key *key, uint32_t id, void *userdata);
        int (*put_subject)(uint32_t identity, const struct slim_policy_subject *subject,
                           void *userdata);
        int (*drop_subject)(uint32_t identity, void *userdata);
        int (*drop_cidr)(const struct slim_prefix_key *key, void *userdata);
        int (*drop_rule)(const struct slim_policy_key *key, void *userdata);
};

/*
 * Emits what changed since the last one. After an error of the sink, which is returned, the engine
 * knows what was done: the next flush goes on from there, to what is wanted by then. -ENOMEM: not
 * everything could be compiled, nothing was emitted, and the next flush tries again.
 */
int policy_engine_flush(struct policy_engine *engine, const struct policy_sink *sink,
                        void *userdata);

/*
 * Taking over maps that an earlier engine filled, and which are in force: before anything else,
 * all their prefixes, then identities (of endpoints, and subjects with their flags), then rules.
 * Then everything that there is, identities with their numbers; a flush, after which the maps
 * allow at least what they have to; whatever else has numbers in it; policy_engine_adopt_end(), and
 * a flush that takes away what nobody wants. What was so before is the same number.
 *
 * -ERANGE: no engine made this. -ENOENT: the prefix of a rule is not there. -EEXIST: two prefixes
 * of one number. Then the entry is not taken over, and is to be deleted. -ENOMEM.
 */
int policy_engine_adopt_cidr(struct policy_engine *engine, const struct slim_prefix_key *key,
                             uint32_t id);
int policy_engine_adopt_identity(struct policy_engine *engine, uint32_t id, uint32_t flags);
int policy_engine_adopt_rule(struct policy_engine *engine, const struct slim_policy_key *key);
int policy_engine_adopt_end(struct policy_engine *engine);

struct policy_engine_stats {
        size_t policies, identities, subjects;
        size_t rules, cidrs; /* entries of the maps that are wanted */
};
void policy_engine_stats(const struct policy_engine *engine, struct policy_engine_stats *ret);

/* --- explaining a verdict --------------------------------------------------------------------- */

struct policy_flow {
        uint32_t subject;                     /* an identity */
        enum slim_policy_direction direction; /* of the subject's */
        uint32_t peer;                        /* an identity; 0: not an endpoint */
        union slim_addr addr;                 /* of the peer */
        uint8_t protocol;                     /* of IP */
        uint16_t port;                        /* that is connected to; 0: the protocol has none */
};

/* The policies are the engine's, and valid until one of them changes. */
struct policy_explanation {
        enum slim_policy_verdict verdict;
        enum slim_policy_direction direction;
        const struct policy *allowed_by; /* NULL: none, or no policy selects it */
        size_t rule;                     /* which of its rules of the direction */
        size_t n_selecting;              /* all that select it, in the order of their names */
        const struct policy **selecting;
};

void policy_explanation_clear(struct policy_explanation *e);
DEFINE_CLEANUP(struct policy_explanation *, policy_explanation_clear)

/* What the policies themselves say, whether it is compiled or not. -ENOENT: an unknown identity;
 * -ENOMEM. The caller clears *ret. */
int policy_engine_explain(const struct policy_engine *engine, const struct policy_flow *flow,
                          struct policy_explanation *ret);
/* A sentence: "allowed by default/web ingress[2]". NULL: no memory. The caller frees it. */
char *policy_explanation_format(const struct policy_explanation *e);
