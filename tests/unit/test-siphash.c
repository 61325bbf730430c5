// SPDX-License-Identifier: Apache-2.0
/* The header that the BPF programs use, compiled for this machine. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../bpf/reference.h"
#include "basic/macro.h"
#include "bpf/siphash.h"

#define WORDS_MAX 16

static uint64_t rng = 0x9e3779b97f4a7c15;

/* xorshift64*: the same bytes in every run. */
static uint64_t rnd(void)
{
        rng ^= rng >> 12;
        rng ^= rng << 25;
        rng ^= rng >> 27;
        return rng * 0x2545f4914f6cdd1d;
}

/* siphash_words() wants a constant number; n is one of 0..WORDS_MAX. */
static uint64_t hash_words(const uint8_t *in, unsigned int n, const uint8_t key[16])
{
        __u64 word[WORDS_MAX], k[2] = {reference_le64(key), reference_le64(key + 8)};

        for (unsigned int i = 0; i < n; i++)
                word[i] = reference_le64(in + (size_t)i * 8);
        return siphash_words(word, n, k);
}

/*
 * The published results (vectors_sip64 of the reference implementation): key 00 01 … 0f, input
 * 00 01 02 …; those whose length is whole words, by the number of words.
 */
static const uint64_t published[] = {
    0x726fdb47dd0e0e31, 0x93f5f5799a932462, 0x3f2acc7f57c29bdb, 0xb8ad50c6f649af94,
    0x7127512f72f27cce, 0x0e3ea96b5304a7d0, 0xe612a3cb9ecba951, 0xb78dbfaf3a8d83bd,
};

static void sequence(uint8_t *to, size_t n)
{
        for (size_t i = 0; i < n; i++)
                to[i] = (uint8_t)i;
}

static void test_published(void **state)
{
        uint8_t key[16], in[64];

        sequence(key, sizeof(key));
        sequence(in, sizeof(in));
        for (unsigned int i = 0; i < ARRAY_SIZE(published); i++)
                assert_true(hash_words(in, i, key) == published[i]);
}

/* The reference is right itself: the same vectors, and the paper's own (appendix A, 15 bytes). */
static void test_reference(void **state)
{
        uint8_t key[16], in[64];

        sequence(key, sizeof(key));
        sequence(in, sizeof(in));
        for (size_t i = 0; i < ARRAY_SIZE(published); i++)
                assert_true(reference_siphash(key, in, i * 8) == published[i]);
        assert_true(reference_siphash(key, in, 15) == 0xa129ca6149be45e5);
}

static void test_random(void **state)
{
        for (int round = 0; round < 20000; round++) {
                uint8_t key[16], in[(size_t)WORDS_MAX * 8];
                unsigned int n = (unsigned int)(rnd() % (WORDS_MAX + 1));

                for (size_t i = 0; i < sizeof(key); i++)
                        key[i] = (uint8_t)(rnd() >> 32);
                for (size_t i = 0; i < sizeof(in); i++)
                        in[i] = (uint8_t)(rnd() >> 32);
                assert_true(hash_words(in, n, key) == reference_siphash(key, in, (size_t)n * 8));
        }
}

/* Each bit of the key and of the input matters to both halves of the result. */
static void test_every_bit(void **state)
{
        uint8_t key[16], in[40];
        uint64_t whole;

        sequence(key, sizeof(key));
        sequence(in, sizeof(in));
        whole = hash_words(in, 5, key);
        for (unsigned int bit = 0; bit < 8 * sizeof(key); bit++) {
                uint64_t other;

                key[bit / 8] ^= (uint8_t)(1U << bit % 8);
                other = hash_words(in, 5, key) ^ whole;
                assert_true((uint32_t)other != 0 && other >> 32 != 0);
                key[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
        for (unsigned int bit = 0; bit < 8 * sizeof(in); bit++) {
                uint64_t other;

                in[bit / 8] ^= (uint8_t)(1U << bit % 8);
                other = hash_words(in, 5, key) ^ whole;
                assert_true((uint32_t)other != 0 && other >> 32 != 0);
                in[bit / 8] ^= (uint8_t)(1U << bit % 8);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_published),
            cmocka_unit_test(test_reference),
            cmocka_unit_test(test_random),
            cmocka_unit_test(test_every_bit),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
