/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the option's code is compared with: the same answers, worked out byte by byte from the
 * documents and not from the code under test.
 *
 *   reference_siphash()  SipHash-2-4 of any number of bytes
 *   reference_mac()      the MAC of a Slim SYN, its input laid out byte by byte
 *   reference_option()   a Slim option as it is on the wire
 *   reference_find()     where it is among a segment's options
 *
 * Numbers are in host byte order; addresses are 16 bytes as on the wire.
 */
#include <stdint.h>
#include <string.h>

struct reference_syn {
        uint32_t client_endpoint;
        uint32_t server_endpoint;
        uint16_t client_port; /* virtual */
        uint16_t server_port;
        uint16_t wire_client_port; /* of the TCP header */
        uint16_t wire_server_port;
        uint8_t client_host[16];
        uint32_t sequence;
        uint32_t six; /* 1: an overlay connection of IPv6; 0: of IPv4 */
};

static inline uint64_t reference_rotl(uint64_t x, int b)
{
        return x << b | x >> (64 - b);
}

static inline void reference_sipround(uint64_t v[4])
{
        v[0] += v[1];
        v[1] = reference_rotl(v[1], 13);
        v[1] ^= v[0];
        v[0] = reference_rotl(v[0], 32);
        v[2] += v[3];
        v[3] = reference_rotl(v[3], 16);
        v[3] ^= v[2];
        v[0] += v[3];
        v[3] = reference_rotl(v[3], 21);
        v[3] ^= v[0];
        v[2] += v[1];
        v[1] = reference_rotl(v[1], 17);
        v[1] ^= v[2];
        v[2] = reference_rotl(v[2], 32);
}

static inline uint64_t reference_le64(const uint8_t *b)
{
        uint64_t x = 0;

        for (int i = 7; i >= 0; i--)
                x = x << 8 | b[i];
        return x;
}

/* Section 2 of the paper, "SipHash: a fast short-input PRF". */
static inline uint64_t reference_siphash(const uint8_t key[16], const uint8_t *in, size_t len)
{
        uint64_t k0 = reference_le64(key), k1 = reference_le64(key + 8);
        /* "somepseudorandomlygeneratedbytes" */
        uint64_t v[4] = {k0 ^ 0x736f6d6570736575, k1 ^ 0x646f72616e646f6d, k0 ^ 0x6c7967656e657261,
                         k1 ^ 0x7465646279746573};
        size_t blocks = len / 8 + 1;

        for (size_t i = 0; i < blocks; i++) {
                uint8_t block[8] = {0};
                size_t have = len - i * 8;
                uint64_t m;

                memcpy(block, in + i * 8, have < 8 ? have : 8);
                if (i == blocks - 1)
                        block[7] = (uint8_t)len;
                m = reference_le64(block);
                v[3] ^= m;
                reference_sipround(v);
                reference_sipround(v);
                v[0] ^= m;
        }
        v[2] ^= 0xff;
        for (int i = 0; i < 4; i++)
                reference_sipround(v);
        return v[0] ^ v[1] ^ v[2] ^ v[3];
}

static inline uint8_t *reference_put16(uint8_t *at, uint16_t v)
{
        *at++ = (uint8_t)(v >> 8);
        *at++ = (uint8_t)v;
        return at;
}

static inline uint8_t *reference_put32(uint8_t *at, uint32_t v)
{
        return reference_put16(reference_put16(at, (uint16_t)(v >> 16)), (uint16_t)v);
}

/* The four bytes of the MAC as they are in the option: the hash's lowest, lowest first. */
static inline void reference_mac(const struct reference_syn *s, const uint8_t key[16],
                                 uint8_t ret_mac[4])
{
        uint8_t in[40] = {0}, *at = in;
        uint64_t hash;

        at = reference_put32(at, s->client_endpoint);
        at = reference_put32(at, s->server_endpoint);
        at = reference_put16(at, s->client_port);
        at = reference_put16(at, s->server_port);
        at = reference_put16(at, s->wire_client_port);
        at = reference_put16(at, s->wire_server_port);
        memcpy(at, s->client_host, 16);
        at = reference_put32(at + 16, s->sequence);
        reference_put32(at, s->six);
        hash = reference_siphash(key, in, sizeof(in));
        for (int i = 0; i < 4; i++)
                ret_mac[i] = (uint8_t)(hash >> (8 * i));
}

#define REFERENCE_OPTION_LEN 20

static inline void reference_option(const struct reference_syn *s, const uint8_t key[16],
                                    uint8_t ret[REFERENCE_OPTION_LEN])
{
        uint8_t *at = ret;

        *at++ = 254;
        *at++ = REFERENCE_OPTION_LEN;
        at = reference_put16(at, s->six ? 0x511f : 0x511e);
        at = reference_put32(at, s->client_endpoint);
        at = reference_put16(at, s->client_port);
        at = reference_put16(at, s->server_port);
        at = reference_put32(at, s->server_endpoint);
        reference_mac(s, key, at);
}

enum {
        REFERENCE_ABSENT = -1,
        REFERENCE_MALFORMED = -2,
};

/*
 * RFC 9293, section 3.1, and RFC 6994: walks from one option to the next. An option that is longer
 * than what is left, or shorter than itself, makes the whole malformed, and so does a Slim option
 * of another length or a second one; nothing behind "end of options" counts.
 */
static inline int reference_find(const uint8_t *options, size_t len)
{
        const uint8_t *at = options, *end = options + len, *slim = NULL;

        while (at < end && *at != 0) {
                size_t size, left = (size_t)(end - at);

                if (*at == 1) {
                        at++;
                        continue;
                }
                if (left < 2)
                        return REFERENCE_MALFORMED;
                size = at[1];
                if (size < 2 || size > left)
                        return REFERENCE_MALFORMED;
                if (at[0] == 254 && size >= 4 && at[2] == 0x51 &&
                    (at[3] == 0x1e || at[3] == 0x1f)) {
                        if (slim || size != REFERENCE_OPTION_LEN)
                                return REFERENCE_MALFORMED;
                        slim = at;
                }
                at += size;
        }
        return slim ? (int)(slim - options) : REFERENCE_ABSENT;
}
