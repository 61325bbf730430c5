/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Network policies: Kubernetes' NetworkPolicy (networking.k8s.io/v1), where a namespace is a Slim
 * network and a pod an endpoint.
 *
 * A policy comes from JSON (policy_from_json()), which is the store's, the API's, or what
 * policy-yaml.h made of a file: there is one decoder. It takes what Kubernetes' API server takes,
 * and refuses what that refuses and every field that it does not know. It is stricter in this:
 *
 *   spec has to be there; an element of a list and a label cannot be null; a prefix with bits set
 * behind its length and an IPv4 prefix in IPv6's notation are refused (as the API server does where
 *   StrictIPCIDRValidation is on); and there are the bounds below.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "../basic/inaddr.h"
#include "../basic/macro.h"
#include "../basic/name.h"
#include "selector.h"

#define POLICY_API_VERSION     "networking.k8s.io/v1"
#define POLICY_KIND            "NetworkPolicy"
#define POLICY_DEFAULT_NETWORK "default"
/* What a refused connection sees: "drop" (nothing, the default) or "reject". */
#define POLICY_DENY_ANNOTATION "slim.io/deny"

#define POLICY_NAME_MAX        253
#define POLICY_ANNOTATIONS_MAX (256U << 10) /* bytes of keys and values, as in Kubernetes */
/*
 * How many entries one policy can take in the maps, for each of its subjects and each identity or
 * prefix that a selector or block stands for: of every rule, its peers (an ipBlock counts as one
 * and one for each exception) times its ports (a range counts as the prefixes that it is made of).
 */
#define POLICY_EXPANDED_MAX 4096

#define PORT_NAME_MAX     15
#define PORT_PREFIXES_MAX 30 /* of the worst range, 1-65534 */

struct policy_port {
        uint8_t protocol;             /* IPPROTO_TCP, IPPROTO_UDP or IPPROTO_SCTP */
        uint16_t first, last;         /* 0: every port, or by name */
        char name[PORT_NAME_MAX + 1]; /* of a port of the endpoint that is connected to */
};

struct policy_block {
        struct inaddr_prefix cidr;
        size_t n_except;
        struct inaddr_prefix *except;
};

struct policy_peer {
        bool is_block;       /* of addresses; otherwise of endpoints … */
        bool has_namespaces; /* … in networks that a selector says, or in the policy's own */
        struct selector namespaces;
        struct selector pods;
        struct policy_block block;
};

/* No peers: everybody. No ports: everything. */
struct policy_rule {
        size_t n_peers;
        struct policy_peer *peers;
        size_t n_ports;
        struct policy_port *ports;
};

struct policy_rules {
        size_t n;
        struct policy_rule *v;
};

struct policy {
        char name[POLICY_NAME_MAX + 1];
        char network[NAME_LEN_MAX + 1];
        bool reject;
        bool selects[SLIM_POLICY_DIRECTIONS]; /* policyTypes: without it the rules have no effect */
        struct selector pods;                 /* whom it is about */
        struct policy_rules rules[SLIM_POLICY_DIRECTIONS];
};

void policy_free(struct policy *p);
DEFINE_CLEANUP(struct policy *, policy_free)

/* "ingress", "egress" */
const char *policy_direction_name(enum slim_policy_direction direction);
/* "TCP", "UDP", "SCTP" or NULL */
const char *policy_protocol_name(uint8_t protocol);

/* 1 to 15 of a-z 0-9 -, a letter among them, no - at an end or beside another (RFC 6335). */
bool policy_port_name_is_valid(const char *name);

/* Ports that share their first `bits` bits (0: all, 16: one). */
struct port_prefix {
        uint16_t port;
        uint8_t bits;
};
/* The prefixes that a range is made of; how many. */
size_t policy_port_prefixes(uint16_t first, uint16_t last,
                            struct port_prefix ret[PORT_PREFIXES_MAX]);
/* What POLICY_EXPANDED_MAX bounds. */
size_t policy_expanded(const struct policy *p);

/* Within one family: ::/0 has no IPv4 address. */
bool policy_prefix_contains(const struct inaddr_prefix *outer, const struct inaddr_prefix *inner);
/* Are the addresses of a prefix in a block? No exception may lie within it. */
bool policy_block_contains(const struct policy_block *b, const struct inaddr_prefix *p);

/*
 * Does a selector of endpoints select one? The processes of a host are an endpoint of a kind that
 * Kubernetes does not have: only what requires slim.io/kind=host selects hosts, and nothing else.
 */
bool policy_pods_match(const struct selector *pods, const struct labels *l, bool is_host);

/* --- JSON ------------------------------------------------------------------------------------- */

#define POLICY_PATH_MAX 256
#define POLICY_TEXT_MAX 384

/* Why something was refused: one line, no control characters. */
struct policy_error {
        unsigned long line, column; /* from 1 on; 0: not of a file */
        char path[POLICY_PATH_MAX]; /* "spec.ingress[0].from"; "" is the whole */
        char text[POLICY_TEXT_MAX]; /* what is wrong */
        const json_t *parent;       /* where it is, for policy-yaml.c: the object or array … */
        size_t index;               /* … and which of its members; parent NULL: the whole */
        bool on_key;                /* a member's name, not its value */
};

/* "FILE:LINE:COLUMN: TEXT", or "PATH: TEXT" for what is of no file. Returns buf. */
const char *policy_error_format(const struct policy_error *e, const char *file, char *buf,
                                size_t size);

/* -EINVAL and *ret_error; -ENOMEM. The caller frees *ret. */
int policy_from_json(const json_t *json, struct policy **ret, struct policy_error *ret_error);
/*
 * The canonical form, a new reference, from which policy_from_json() makes the same policy: two
 * policies are the same when these are equal. NULL: no memory.
 */
json_t *policy_to_json(const struct policy *p);

/* For a line of text: in quotes, cut off after 64 bytes, without control characters. */
#define POLICY_QUOTE_MAX 80
const char *policy_quote(const char *text, size_t len, char buf[POLICY_QUOTE_MAX]);
