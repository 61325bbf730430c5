/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Addresses in programs: v4-mapped construction, the classes that matter to Slim, and the Slim
 * port of a destination.
 */
#include <bpf/bpf_endian.h>

#include "maps.h"

#define V4_MAPPED bpf_htonl(0xffff)

static __always_inline union slim_addr addr_v4(__be32 v4)
{
        union slim_addr a = {.w = {0, 0, V4_MAPPED, v4}};

        return a;
}

static __always_inline union slim_addr addr_v6(__be32 w0, __be32 w1, __be32 w2, __be32 w3)
{
        union slim_addr a = {.w = {w0, w1, w2, w3}};

        return a;
}

static __always_inline bool addr_equal(const union slim_addr *a, const union slim_addr *b)
{
        return !((a->w[0] ^ b->w[0]) | (a->w[1] ^ b->w[1]) | (a->w[2] ^ b->w[2]) |
                 (a->w[3] ^ b->w[3]));
}

static __always_inline bool addr_is_v4(const union slim_addr *a)
{
        return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == V4_MAPPED;
}

/* 0.0.0.0 */
static __always_inline bool addr_is_any4(const union slim_addr *a)
{
        return addr_is_v4(a) && a->w[3] == 0;
}

/* :: */
static __always_inline bool addr_is_any6(const union slim_addr *a)
{
        return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

/* Of an array that has one for each family: is there none? */
static __always_inline bool addr_is_none(const union slim_addr *a)
{
        return addr_is_any6(a);
}

static __always_inline enum slim_family addr_family(const union slim_addr *a)
{
        return addr_is_v4(a) ? SLIM_V4 : SLIM_V6;
}

/* The one of a family. (The verifier sees that it is within the array.) */
static __always_inline const union slim_addr *addr_of(const union slim_addr a[SLIM_FAMILIES],
                                                      enum slim_family family)
{
        return &a[family & 1];
}

/* Does somebody who has these addresses have this one? */
static __always_inline bool addr_is_one_of(const union slim_addr *a,
                                           const union slim_addr of[SLIM_FAMILIES])
{
        return addr_equal(a, addr_of(of, SLIM_V4)) || addr_equal(a, addr_of(of, SLIM_V6));
}

/* fe80::/10 or ff00::/8: means something on one link, or to many, and is never an endpoint's. */
static __always_inline bool addr_is_scoped(const union slim_addr *a)
{
        return (a->w[0] & bpf_htonl(0xffc00000)) == bpf_htonl(0xfe800000) ||
               (a->w[0] & bpf_htonl(0xff000000)) == bpf_htonl(0xff000000);
}

/* 0.0.0.0 or :: */
static __always_inline bool addr_is_any(const union slim_addr *a)
{
        return addr_is_any4(a) || addr_is_any6(a);
}

/* 127.0.0.0/8 or ::1 */
static __always_inline bool addr_is_loopback(const union slim_addr *a)
{
        if (addr_is_v4(a))
                return (a->w[3] & bpf_htonl(0xff000000)) == bpf_htonl(0x7f000000);
        return a->w[0] == 0 && a->w[1] == 0 && a->w[2] == 0 && a->w[3] == bpf_htonl(1);
}

/*
 * The port on the wire for a connection from one endpoint to (another, virtual port): one of
 * port_count, so that each of a host's containers has an ephemeral range of connections to each
 * server, as it would have by its own address.
 */
static __always_inline __u16 slim_port_of(__u32 from, __u32 to, __u16 port)
{
        __u32 h = (from * 0xc2b2ae35U) ^ (to * 0x9e3779b1U) ^ (port * 0x85ebca6bU);

        h ^= h >> 15;
        h *= 0x2c1b3c6dU;
        h ^= h >> 13;
        return config.port_base + (h & (config.port_count - 1));
}

static __always_inline bool is_slim_port(__u16 port)
{
        return (__u16)(port - config.port_base) < config.port_count;
}
