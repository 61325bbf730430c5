/* SPDX-License-Identifier: Apache-2.0 */
#include "histogram.h"

#include <stdio.h>

#define HALF (HISTOGRAM_SUB / 2)

static size_t bucket_of(uint64_t ns)
{
        size_t octave = 0, at;

        /* Halved until it is below HISTOGRAM_SUB; what is left is then in the upper half. */
        while (ns >= HISTOGRAM_SUB) {
                ns >>= 1;
                octave++;
        }
        if (octave == 0)
                return ns;
        at = HISTOGRAM_SUB + (octave - 1) * HALF + (ns - HALF);
        return at < HISTOGRAM_BUCKETS ? at : HISTOGRAM_BUCKETS - 1;
}

/* The middle of a bucket. */
static double value_of(size_t at)
{
        uint64_t octave, low;

        if (at < HISTOGRAM_SUB)
                return (double)at;
        octave = (at - HISTOGRAM_SUB) / HALF + 1;
        low = ((at - HISTOGRAM_SUB) % HALF + HALF) << octave;
        return (double)low + (double)(1ULL << octave) / 2;
}

void histogram_add(struct histogram *h, uint64_t ns)
{
        h->count++;
        h->sum += ns;
        if (ns > h->max)
                h->max = ns;
        h->bucket[bucket_of(ns)]++;
}

void histogram_merge(struct histogram *to, const struct histogram *from)
{
        to->count += from->count;
        to->sum += from->sum;
        if (from->max > to->max)
                to->max = from->max;
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++)
                to->bucket[i] += from->bucket[i];
}

double histogram_quantile(const struct histogram *h, double share)
{
        uint64_t wanted = (uint64_t)(share * (double)h->count), seen = 0;

        if (h->count == 0)
                return 0;
        if (wanted >= h->count)
                wanted = h->count - 1;
        for (size_t i = 0; i < HISTOGRAM_BUCKETS; i++) {
                seen += h->bucket[i];
                if (seen > wanted)
                        return value_of(i);
        }
        return (double)h->max;
}

double histogram_mean(const struct histogram *h)
{
        return h->count ? (double)h->sum / (double)h->count : 0;
}

void histogram_print(const struct histogram *h)
{
        printf("\"count\": %llu, \"mean_us\": %.3f, \"p50_us\": %.3f, \"p99_us\": %.3f, "
               "\"p999_us\": %.3f, \"max_us\": %.3f",
               (unsigned long long)h->count, histogram_mean(h) / 1e3,
               histogram_quantile(h, 0.5) / 1e3, histogram_quantile(h, 0.99) / 1e3,
               histogram_quantile(h, 0.999) / 1e3, (double)h->max / 1e3);
}
