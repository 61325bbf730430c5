/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Times by their size: log-linear buckets, exact below 1024 ns and to a thousandth above.
 */
#include <stddef.h>
#include <stdint.h>

#define HISTOGRAM_SUB     1024 /* buckets of the first 1024 ns; every further octave has half of it */
#define HISTOGRAM_OCTAVES 32   /* up to about an hour */
#define HISTOGRAM_BUCKETS (HISTOGRAM_SUB + HISTOGRAM_OCTAVES * (HISTOGRAM_SUB / 2))

struct histogram {
        uint64_t count;
        uint64_t sum; /* ns */
        uint64_t max;
        uint32_t bucket[HISTOGRAM_BUCKETS];
};

void histogram_add(struct histogram *h, uint64_t ns);
/* Adds all of one to another. */
void histogram_merge(struct histogram *to, const struct histogram *from);
/* The time that a share of them (0 to 1) does not exceed, in ns; 0 when there are none. */
double histogram_quantile(const struct histogram *h, double share);
double histogram_mean(const struct histogram *h);
/* Prints count, mean, p50, p99, p99.9 and max as members of a JSON object, in microseconds. */
void histogram_print(const struct histogram *h);
