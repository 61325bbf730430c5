/* SPDX-License-Identifier: Apache-2.0 */
#include "name.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "../basic/macro.h"

#define HASH_LEN 9 /* - and eight digits */

/* FNV-1a of 64 bits, from one text to the next. */
static uint64_t hash(uint64_t h, const char *text)
{
        for (; *text; text++)
                h = (h ^ (unsigned char)*text) * 0x100000001b3ULL;
        return h;
}

static char valid(char c)
{
        if (c >= 'A' && c <= 'Z')
                return (char)(c - 'A' + 'a');
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' ? c : '-';
}

static bool is_inner(char c)
{
        return c == '-' || c == '.';
}

void cni_endpoint_name(const char *container, const char *interface, char ret[NAME_LEN_MAX + 1])
{
        bool first = strcmp(interface, "eth0") == 0;
        const char *const part[] = {container, first ? "" : "-", first ? "" : interface};
        uint64_t h = 0xcbf29ce484222325ULL;
        bool changed = false;
        size_t n = 0;

        for (size_t i = 0; i < ARRAY_SIZE(part); i++) {
                h = hash(h, part[i]);
                for (const char *p = part[i]; *p; p++) {
                        char c = valid(*p);

                        if (c == '.' && n > 0 && ret[n - 1] == '.')
                                c = '-';
                        changed |= c != *p || n == NAME_LEN_MAX || (n == 0 && is_inner(c));
                        if (n < NAME_LEN_MAX && (n > 0 || !is_inner(c)))
                                ret[n++] = c;
                }
        }
        if (n > 0 && is_inner(ret[n - 1]))
                changed = true;
        if (changed && n > NAME_LEN_MAX - HASH_LEN)
                n = NAME_LEN_MAX - HASH_LEN;
        while (n > 0 && is_inner(ret[n - 1]))
                n--;
        ret[n] = '\0';
        if (changed || n == 0)
                snprintf(ret + n, NAME_LEN_MAX + 1 - n, "%s%08" PRIx32, n ? "-" : "",
                         (uint32_t)(h ^ h >> 32));
}
