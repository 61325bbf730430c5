/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * IP addresses and prefixes as text and as 16 bytes, IPv4 in its v4-mapped form (::ffff:a.b.c.d).
 */
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"

#define INADDR_TEXT_MAX 64

struct inaddr_prefix {
        union slim_addr addr; /* host bits are zero */
        uint8_t bits;         /* 0..128, counted on the 16 bytes: an IPv4 /24 has 120 */
};

bool inaddr_is_v4(const union slim_addr *a);
union slim_addr inaddr_from_v4(uint32_t be_addr);
/* The IPv4 address in network byte order; only where inaddr_is_v4(). */
uint32_t inaddr_to_v4(const union slim_addr *a);
bool inaddr_equal(const union slim_addr *a, const union slim_addr *b);

/* Parses "10.1.2.3" or "fd00::1". -EINVAL for anything else. */
int inaddr_parse(const char *text, union slim_addr *ret);
/* Parses "10.1.0.0/16" or "fd00::/64". -EINVAL: no prefix; -ERANGE: host bits are set. */
int inaddr_prefix_parse(const char *text, struct inaddr_prefix *ret);

/* Write the text form (IPv4 dotted) into a buffer of INADDR_TEXT_MAX bytes; return the buffer. */
const char *inaddr_format(const union slim_addr *a, char *buf);
const char *inaddr_prefix_format(const struct inaddr_prefix *p, char *buf);

bool inaddr_prefix_contains(const struct inaddr_prefix *p, const union slim_addr *a);
bool inaddr_prefix_overlaps(const struct inaddr_prefix *a, const struct inaddr_prefix *b);
/* The nth address of a prefix (n is added to the last four bytes and must fit the prefix). */
union slim_addr inaddr_prefix_nth(const struct inaddr_prefix *p, uint32_t n);
