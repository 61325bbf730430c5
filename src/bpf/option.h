/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * The TCP option of a Slim SYN: finding it among a segment's options, and its MAC. Knows no maps
 * and no kernel helpers, so that unit tests and the fuzzer run the same code.
 */
#include "../abi/slim-abi.h"
#include "siphash.h"

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define OPTION_BE16(x) ((__be16)__builtin_bswap16(x))
#else
#define OPTION_BE16(x) ((__be16)(x))
#endif

#define TCP_OPTIONS_MAX 40

/* What the MAC covers. Network byte order, no padding. */
struct slim_mac_input {
        struct {
                __be32 client_endpoint;
                __be32 server_endpoint;
                __be16 client_port;
                __be16 server_port;
        } __attribute__((packed)) option;
        __be16 wire_client_port;     /* of the TCP header: ties the option */
        __be16 wire_server_port;     /* to this one connection attempt, */
        union slim_addr client_host; /* so that a copy of it is worth nothing */
        __be32 sequence;             /* for another */
        __u8 zero[3];
        __u8 family; /* enum slim_family of the overlay connection */
};

SLIM_ASSERT_SIZE(struct slim_mac_input, 40);

/* The ExID of an option, and back what a well-formed option's ExID says. */
static inline __attribute__((always_inline)) __be16 slim_option_exid(enum slim_family family)
{
        return family == SLIM_V4 ? OPTION_BE16(SLIM_OPTION_EXID) : OPTION_BE16(SLIM_OPTION_EXID6);
}

static inline __attribute__((always_inline)) enum slim_family slim_option_family(
    const struct slim_option *option)
{
        return option->exid == OPTION_BE16(SLIM_OPTION_EXID) ? SLIM_V4 : SLIM_V6;
}

static inline __attribute__((always_inline)) __be32 slim_option_mac(
    const struct slim_option *option, const union slim_addr *client_host, __be16 wire_client_port,
    __be16 wire_server_port, __be32 sequence, const __u64 key[2])
{
        struct slim_mac_input in = {
            .option.client_endpoint = option->client_endpoint,
            .option.server_endpoint = option->server_endpoint,
            .option.client_port = option->client_port,
            .option.server_port = option->server_port,
            .wire_client_port = wire_client_port,
            .wire_server_port = wire_server_port,
            .client_host = *client_host,
            .sequence = sequence,
            .family = slim_option_family(option),
        };
        __u64 word[sizeof(in) / sizeof(__u64)];

        __builtin_memcpy(word, &in, sizeof(in));
        return (__be32)siphash_words(word, sizeof(word) / sizeof(word[0]), key);
}

enum slim_option_found {
        SLIM_OPTION_ABSENT = -1,    /* well-formed, and not there */
        SLIM_OPTION_MALFORMED = -2, /* a length that is wrong, or the option twice */
};

_Static_assert((SLIM_OPTION_EXID & 1) == 0 && SLIM_OPTION_EXID6 == (SLIM_OPTION_EXID | 1),
               "the two ExIDs differ in their last bit, which slim_option_find() does not look at");

/*
 * The offset of the Slim option, of either family, in a segment's option bytes (RFC 9293,
 * section 3.1: kind, then length but for kinds 0 and 1), or a negative enum slim_option_found.
 * Options of other kinds and of other experiments (RFC 6994) are passed over.
 *
 * buf must be TCP_OPTIONS_MAX bytes long, len of them used. The loop has a constant index at every
 * step, since that is what every verifier follows.
 */
static inline __attribute__((always_inline)) int slim_option_find(const __u8 *buf, unsigned int len)
{
        unsigned int next = 0; /* where the next option begins */
        int found = SLIM_OPTION_ABSENT;

#ifdef __clang__
#pragma clang loop unroll(full)
#endif
        for (unsigned int i = 0; i < TCP_OPTIONS_MAX; i++) {
                __u8 kind, size;

                if (i != next || i >= len)
                        continue;
                kind = buf[i];
                if (kind == 0)
                        break;
                if (kind == 1) {
                        next = i + 1;
                        continue;
                }
                if (i + 1 >= TCP_OPTIONS_MAX || i + 1 >= len)
                        return SLIM_OPTION_MALFORMED;
                size = buf[i + 1];
                if (size < 2 || i + size > len)
                        return SLIM_OPTION_MALFORMED;
                if (kind == SLIM_OPTION_KIND && i + 3 < TCP_OPTIONS_MAX && size >= 4 &&
                    buf[i + 2] == (SLIM_OPTION_EXID >> 8) &&
                    (buf[i + 3] & 0xfe) == (SLIM_OPTION_EXID & 0xff)) {
                        if (size != SLIM_OPTION_LEN || found >= 0)
                                return SLIM_OPTION_MALFORMED;
                        found = (int)i;
                }
                next = i + size;
        }
        return found;
}
