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
/* All zero: what an array with an address of each family has where there is none. (:: is nobody's.)
 */
bool inaddr_is_none(const union slim_addr *a);
enum slim_family inaddr_family(const union slim_addr *a);
/* Is it one of the addresses, and not none? */
bool inaddr_is_one_of(const union slim_addr *a, const union slim_addr of[SLIM_FAMILIES]);
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

/* The length within the prefix's own family: 0 to 32 for IPv4. */
unsigned int inaddr_prefix_len(const struct inaddr_prefix *p);
bool inaddr_prefix_contains(const struct inaddr_prefix *p, const union slim_addr *a);
bool inaddr_prefix_overlaps(const struct inaddr_prefix *a, const struct inaddr_prefix *b);
/* The nth address of a prefix (n is added to the last four bytes and must fit the prefix). */
union slim_addr inaddr_prefix_nth(const struct inaddr_prefix *p, uint32_t n);
