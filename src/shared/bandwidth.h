/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bandwidth limits and the traffic class of a container, as people and JSON write them.
 *
 * A rate is bits a second, of frames as an Ethernet device counts them, and is written as
 * Kubernetes writes quantities: 750k, 10M, 1.5G, 64Mi. In JSON it is a number. All members of the
 * JSON object may be missing:
 *
 *     {"egress": 10000000, "ingress": 50000000, "dscp": 46, "priority": 6}
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"

/* What Kubernetes takes for a bandwidth (pkg/util/bandwidth). */
#define LIMITS_RATE_MIN 1000ULL
#define LIMITS_RATE_MAX 1000000000000000ULL

#define LIMITS_PRIORITY_MAX 15 /* TC_PRIO_MAX */
#define LIMITS_PROBLEM_MAX  160

/* All zero: none. */
struct limits {
        uint64_t rate[SLIM_POLICY_DIRECTIONS]; /* 0: no limit */
        bool has_dscp, has_priority;
        uint8_t dscp;     /* 0 to 63 */
        uint8_t priority; /* 0 to 15 */
};

bool limits_are_none(const struct limits *l);
bool limits_equal(const struct limits *a, const struct limits *b);

/* -EINVAL, -ERANGE: `problem`, a buffer of LIMITS_PROBLEM_MAX bytes, has what is wrong, to follow
 * the quoted text. */
int limits_parse_rate(const char *text, uint64_t *ret, char *problem);
/* A number, or a name: EF, VA, LE, CS0 to CS7, AF11 to AF43, DF (RFC 2474, 2597, 3246, 5865,
 * 8622). */
int limits_parse_dscp(const char *text, uint8_t *ret, char *problem);
int limits_parse_priority(const char *text, uint8_t *ret, char *problem);

/* A new reference, NULL for none or without memory. */
json_t *limits_to_json(const struct limits *l);
/* NULL (not given) is none. -EINVAL, -ERANGE: `problem` is a sentence. */
int limits_from_json(const json_t *object, struct limits *ret, char *problem);
/* What is after a change: the members of `set` replaced, those that `remove` (an array) names taken
 * away; either may be NULL. As limits_from_json(), and -EINVAL for a member in both. */
int limits_change(struct limits *l, const json_t *set, const json_t *remove, char *problem);
