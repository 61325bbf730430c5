/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * SipHash-2-4 (Aumasson and Bernstein, "SipHash: a fast short-input PRF", 2012) of whole 64-bit
 * words, for programs and for their unit tests. Words are little-endian numbers, as in the paper.
 */
#include <linux/types.h>

#define SIPHASH_ROTL(x, b) (((x) << (b)) | ((x) >> (64 - (b))))

#define SIPHASH_ROUND(v0, v1, v2, v3)           \
        do {                                    \
                v0 += v1;                       \
                v2 += v3;                       \
                v1 = SIPHASH_ROTL(v1, 13) ^ v0; \
                v3 = SIPHASH_ROTL(v3, 16) ^ v2; \
                v0 = SIPHASH_ROTL(v0, 32);      \
                v2 += v1;                       \
                v0 += v3;                       \
                v1 = SIPHASH_ROTL(v1, 17) ^ v2; \
                v3 = SIPHASH_ROTL(v3, 21) ^ v0; \
                v2 = SIPHASH_ROTL(v2, 32);      \
        } while (0)

/* The PRF of n words (n a constant) under a 128-bit key. */
static inline __attribute__((always_inline)) __u64 siphash_words(const __u64 *word, unsigned int n,
                                                                 const __u64 key[2])
{
        __u64 v0 = key[0] ^ 0x736f6d6570736575ULL;
        __u64 v1 = key[1] ^ 0x646f72616e646f6dULL;
        __u64 v2 = key[0] ^ 0x6c7967656e657261ULL;
        __u64 v3 = key[1] ^ 0x7465646279746573ULL;
        __u64 last = (__u64)(n * 8) << 56;

        for (unsigned int i = 0; i < n; i++) {
                v3 ^= word[i];
                SIPHASH_ROUND(v0, v1, v2, v3);
                SIPHASH_ROUND(v0, v1, v2, v3);
                v0 ^= word[i];
        }
        v3 ^= last;
        SIPHASH_ROUND(v0, v1, v2, v3);
        SIPHASH_ROUND(v0, v1, v2, v3);
        v0 ^= last;
        v2 ^= 0xff;
        SIPHASH_ROUND(v0, v1, v2, v3);
        SIPHASH_ROUND(v0, v1, v2, v3);
        SIPHASH_ROUND(v0, v1, v2, v3);
        SIPHASH_ROUND(v0, v1, v2, v3);
        return v0 ^ v1 ^ v2 ^ v3;
}
