/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What slimd knows of the cluster: networks, hosts and endpoints as the store has them, and the
 * store's keys and values for each. Nothing here talks to the store or the kernel.
 *
 *     slim/networks/NAME             {"id", "prefix", "block_bits",
 *                                     "prefix6", "block_bits6", "labels"}
 *     slim/hosts/NAME                {"address", "address6"}          on the host's lease
 *     slim/endpoints/ID              {"name", "network", …}           on the host's lease
 *     slim/names/NETWORK/NAME        ID, so that names of containers  on the host's lease
 *                                    are unique
 *     slim/addresses/NETWORK/ADDRESS ID, so that addresses are        on the host's lease
 *     slim/blocks/NETWORK/PREFIX     host that takes addresses there  on the host's lease
 *     slim/counters/network          the last network id
 *
 * Of the members with and without a 6 at least one pair is there: IPv6's and IPv4's.
 *
 *     slim/key                       {"epoch", "key", "next"}: the cluster key of the SYN option,
 *                                    and the next one while there is one
 *     slim/keys/NAME                 the epoch of the next key that a host verifies by
 *                                                                     on the host's lease
 *     slim/policies/NETWORK/NAME     a NetworkPolicy, as policy_to_json() writes it
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>
#include <uthash.h>

#include "../basic/inaddr.h"
#include "../basic/name.h"
#include "../policy/labels.h"
#include "../policy/policy.h"
#include "../shared/bandwidth.h"
#include "../shared/publication.h"

#define STORE_PREFIX          "slim/"
#define STORE_NETWORKS        STORE_PREFIX "networks/"
#define STORE_HOSTS           STORE_PREFIX "hosts/"
#define STORE_ENDPOINTS       STORE_PREFIX "endpoints/"
#define STORE_NAMES           STORE_PREFIX "names/"
#define STORE_ADDRESSES       STORE_PREFIX "addresses/"
#define STORE_BLOCKS          STORE_PREFIX "blocks/"
#define STORE_NETWORK_COUNTER STORE_PREFIX "counters/network"
#define STORE_KEY             STORE_PREFIX "key"
#define STORE_KEYS            STORE_PREFIX "keys/"
#define STORE_POLICIES        STORE_PREFIX "policies/"

struct network {
        char name[NAME_LEN_MAX + 1];
        uint32_t id;
        /* Of each family; bits 0: it has none. */
        struct inaddr_prefix prefix[SLIM_FAMILIES];
        uint8_t block_bits[SLIM_FAMILIES]; /* on the 16 bytes, as in struct inaddr_prefix */
        json_t *labels;                    /* an object of texts; NULL: none */
        UT_hash_handle hh;                 /* by name */
};

struct host {
        char name[NAME_LEN_MAX + 1];
        union slim_addr addr[SLIM_FAMILIES]; /* here and below: as in slim-abi.h */
        UT_hash_handle hh;                   /* by name */
};

struct endpoint {
        uint32_t id;
        uint32_t network_id;
        char name[NAME_LEN_MAX + 1];
        char network[NAME_LEN_MAX + 1];
        char host[NAME_LEN_MAX + 1];
        union slim_addr addr[SLIM_FAMILIES];
        union slim_addr host_addr[SLIM_FAMILIES];
        bool slim;
        bool is_host; /* the host itself, all that is in no container; its name is the host's */
        struct publications publish; /* ports of its host that are its own */
        json_t *labels;              /* an object of texts; NULL: none (a host has no others) */
        json_t *ports;               /* names of its ports, as shared/labeling.h has them */
        struct limits limits;
        /* Of the model's element alone: its number in the policy engine (0: none), which counts it
         * as one of this host or not. */
        uint32_t identity;
        bool identity_local;
        uint32_t replaced; /* the one before it, while the maps still have that; 0: none */
        bool replaced_local;
        bool pending;      /* its entries in the maps are to be written */
        UT_hash_handle hh; /* by id */
};

#define POLICY_KEY_MAX (NAME_LEN_MAX + 1 + POLICY_NAME_MAX + 1)

/* A policy that is in force: what it says, the policy engine has. */
struct known_policy {
        char key[POLICY_KEY_MAX]; /* NETWORK/NAME */
        char network[NAME_LEN_MAX + 1];
        char name[POLICY_NAME_MAX + 1];
        UT_hash_handle hh; /* by key */
};

struct model {
        struct network *networks;
        struct host *hosts;
        struct endpoint *endpoints;
        struct known_policy *policies;
};

/* for (enum slim_family f …) over those that a network has. */
#define network_each_family(n, f)                        \
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) \
                if ((n)->prefix[f].bits)

/*
 * JSON in a value is a reference. A value that is assigned borrows it; a copy has its own. What
 * comes out of network_from_json() and endpoint_from_json() is the caller's, to be cleared or put.
 */
void network_clear(struct network *n);
void endpoint_clear(struct endpoint *e);
struct endpoint endpoint_copy(const struct endpoint *e);
/* All that policies know an endpoint by: a host's labels are what it is. -ENOMEM. The caller clears
 * *ret. */
int endpoint_labels(const struct endpoint *e, struct labels *ret);

void model_clear(struct model *m);

struct network *model_network(const struct model *m, const char *name);
struct host *model_host(const struct model *m, const char *name);
struct endpoint *model_endpoint(const struct model *m, uint32_t id);
/* Of a container: hosts' endpoints are not known by their names. */
struct endpoint *model_endpoint_by_name(const struct model *m, const char *network,
                                        const char *name);
struct endpoint *model_endpoint_by_addr(const struct model *m, uint32_t network_id,
                                        const union slim_addr *addr);
/* What a host itself is in a network, or NULL. */
struct endpoint *model_host_endpoint(const struct model *m, const char *network, const char *host);
/* How many there are, without those of hosts. */
size_t model_containers(const struct model *m);
size_t model_network_endpoints(const struct model *m, const char *network);

/* Adds, or overwrites what has the same key. The value's references are the model's from then on,
 * and given back on failure; an identity stays. The result stays the model's. -ENOMEM. */
int model_put_network(struct model *m, struct network *value, struct network **ret);
int model_put_host(struct model *m, const struct host *value, struct host **ret);
int model_put_endpoint(struct model *m, struct endpoint *value, struct endpoint **ret);
int model_put_policy(struct model *m, const char *network, const char *name);
struct known_policy *model_policy(const struct model *m, const char *key);
size_t model_network_policies(const struct model *m, const char *network);
void model_drop_policy(struct model *m, const char *key); /* also one that is not there */
void model_drop_network(struct model *m, struct network *n);
void model_drop_host(struct model *m, struct host *h);
void model_drop_endpoint(struct model *m, struct endpoint *e);

/* Two sets of addresses, one for each family: are they the same? */
bool addrs_equal(const union slim_addr a[SLIM_FAMILIES], const union slim_addr b[SLIM_FAMILIES]);
/* Writes the text of each into a buffer of INADDR_TEXT_MAX; NULL in ret: there is none. */
void addrs_format(const union slim_addr a[SLIM_FAMILIES], char buf[SLIM_FAMILIES][INADDR_TEXT_MAX],
                  const char *ret[SLIM_FAMILIES]);

/* Values as JSON text (the caller frees) and back. -EBADMSG for what is not one. */
const char *endpoint_kind(const struct endpoint *e);
char *network_to_json(const struct network *n);
int network_from_json(const char *name, const char *text, struct network *ret);
char *host_to_json(const struct host *h);
int host_from_json(const char *name, const char *text, struct host *ret);
char *endpoint_to_json(const struct endpoint *e);
int endpoint_from_json(uint32_t id, const char *text, struct endpoint *ret);
