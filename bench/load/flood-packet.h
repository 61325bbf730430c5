/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What an outsider may send to a host of the cluster in great numbers: SYNs to its Slim ports,
 * VXLAN, and ICMP errors. Whole IP packets, each another one, with good checksums.
 */
#include <stddef.h>
#include <stdint.h>

#include "basic/inaddr.h"

enum flood_kind {
        FLOOD_NONE,      /* SYNs without an option */
        FLOOD_RANDOM,    /* … with random bytes for options */
        FLOOD_TRUNCATED, /* … with a Slim option that is cut or has a wrong length */
        FLOOD_VALID,     /* … with a Slim option in which all is right but its MAC */
        FLOOD_PLAIN,     /* … as Linux sends them to any server */
        FLOOD_GARBAGE,   /* UDP with random bytes, to a port of VXLAN */
        FLOOD_VXLAN,     /* VXLAN, with a packet of UDP in it that somebody made up */
        FLOOD_ICMP,      /* ICMP errors about connections that are not */
        FLOOD_KIND_MAX,
};

/* The kind of that name, or -EINVAL. */
int flood_kind_find(const char *name);
const char *flood_kind_name(enum flood_kind kind);

struct flood {
        enum flood_kind kind;
        union slim_addr to;
        struct inaddr_prefix from;  /* sources, at random; of the family of `to` */
        struct inaddr_prefix inner; /* FLOOD_VXLAN: both ends of the packet in it, at random */
        uint16_t port, ports;       /* the first destination port, and how many, at random */
        uint32_t client, server;    /* FLOOD_VALID: endpoint ids */
        uint32_t network;           /* FLOOD_VXLAN: the VNI, 24 bits */
};

#define FLOOD_PACKET_MAX 192

/*
 * Writes a packet of at most FLOOD_PACKET_MAX bytes, from its IP header on, and returns its length.
 * *seed is the state of the random numbers, not 0 at the beginning.
 */
size_t flood_packet(const struct flood *f, uint64_t *seed, uint8_t *buf);
