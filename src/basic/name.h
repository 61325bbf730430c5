/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Names of networks, endpoints and hosts, and numbers, as people type them.
 */
#include <stdbool.h>
#include <stdint.h>

#define NAME_LEN_MAX 63

/*
 * 1 to 63 characters of a-z 0-9 - . that begin and end with a letter or digit (an RFC 1123 host
 * name, in lower case). "..", and with it every path trick, is not a name.
 */
bool name_is_valid(const char *name);

/* A decimal number within [min, max], all of the text. -EINVAL: no number. -ERANGE: outside. */
int parse_uint(const char *text, uint64_t min, uint64_t max, uint64_t *ret);
