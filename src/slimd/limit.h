/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Bandwidth limits and traffic classes of this host's containers, in the kernel: the limiter with a
 * class of HTB for each limit, and the maps that programs find them by (src/bpf/limit.h).
 *
 * The limiter, a veth pair of the host's, and the programs on the underlay device and lo are there
 * while a container here has limits. All of it outlives slimd.
 */
#include "../shared/bandwidth.h"
#include "slimd.h"

/* The limiter's ends: HTB is at the egress of the near one. */
#define LIMITER_NEAR "slim-limit"
#define LIMITER_FAR  "slim-limited"

/*
 * Makes the limiter, unless it is there. On failure there is none, and *ret_error (the caller
 * frees) says in one sentence what is missing.
 */
int limit_prepare(struct slimd *d, char **ret_error);

/* Puts a container's limits into force, in the place of what it had; none: it has none any more.
 * On failure it may have some of them. */
int limit_set(struct slimd *d, uint32_t endpoint, const struct limits *l);

/* Removes the limiter, if it is there for nothing. */
void limit_tidy(struct slimd *d);

/* At a start, when all containers are known that are left: forgets limits of others. */
void limit_prune(struct slimd *d);

/* Removes the limiter with all limits; a teardown needs nothing more. */
void limit_remove(struct slimd *d);
