/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Options that limit a container's bandwidth: the same of `run` and of `endpoint limit`.
 */
#include "cli.h"

struct limit_options {
        const char *egress, *ingress, *dscp, *priority; /* NULL: not given */
};

/* Entries of an option table. */
#define LIMIT_OPTIONS(o)                                                                        \
        {.name = "egress", .value = &(o)->egress}, {.name = "ingress", .value = &(o)->ingress}, \
            {.name = "dscp", .value = &(o)->dscp},                                              \
        {                                                                                       \
                .name = "priority", .value = &(o)->priority                                     \
        }

/*
 * What they say, as numbers into the object `set`, and into the array `remove` the names of those
 * that are "none"; for a NULL, "none" is no value. -EINVAL, said in one line.
 */
int limit_options_take(const struct cli *cli, const struct limit_options *o, json_t *set,
                       json_t *remove);
