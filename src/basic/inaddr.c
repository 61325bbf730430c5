/* SPDX-License-Identifier: Apache-2.0 */
#include "inaddr.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint8_t v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

bool inaddr_is_v4(const union slim_addr *a)
{
        return memcmp(a->b, v4_prefix, sizeof(v4_prefix)) == 0;
}

bool inaddr_is_none(const union slim_addr *a)
{
        return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

enum slim_family inaddr_family(const union slim_addr *a)
{
        return inaddr_is_v4(a) ? SLIM_V4 : SLIM_V6;
}

bool inaddr_is_one_of(const union slim_addr *a, const union slim_addr of[SLIM_FAMILIES])
{
        return !inaddr_is_none(a) && inaddr_equal(a, &of[inaddr_family(a)]);
}

union slim_addr inaddr_from_v4(uint32_t be_addr)
{
        union slim_addr a;

        memcpy(a.b, v4_prefix, sizeof(v4_prefix));
        a.w[3] = be_addr;
        return a;
}

uint32_t inaddr_to_v4(const union slim_addr *a)
{
        return a->w[3];
}

bool inaddr_equal(const union slim_addr *a, const union slim_addr *b)
{
        return memcmp(a, b, sizeof(*a)) == 0;
}

int inaddr_parse(const char *text, union slim_addr *ret)
{
        struct in_addr v4;
        struct in6_addr v6;

        if (inet_pton(AF_INET, text, &v4) == 1) {
                *ret = inaddr_from_v4(v4.s_addr);
                return 0;
        }
        if (inet_pton(AF_INET6, text, &v6) == 1) {
                memcpy(ret->b, &v6, sizeof(ret->b));
                return 0;
        }
        return -EINVAL;
}

static void mask_host_bits(union slim_addr *a, unsigned int bits)
{
        for (unsigned int i = 0; i < sizeof(a->b); i++) {
                if (bits >= 8) {
                        bits -= 8;
                        continue;
                }
                a->b[i] &= (uint8_t)(0xff00U >> bits);
                bits = 0;
        }
}

int inaddr_prefix_parse(const char *text, struct inaddr_prefix *ret)
{
        char addr[INADDR_TEXT_MAX];
        const char *slash = strchr(text, '/');
        struct inaddr_prefix p;
        union slim_addr masked;
        unsigned long bits;
        char *end;
        int r;

        if (!slash || (size_t)(slash - text) >= sizeof(addr) || slash[1] < '0' || slash[1] > '9')
                return -EINVAL;
        memcpy(addr, text, (size_t)(slash - text));
        addr[slash - text] = '\0';
        r = inaddr_parse(addr, &p.addr);
        if (r < 0)
                return r;
        errno = 0;
        bits = strtoul(slash + 1, &end, 10);
        if (errno || *end)
                return -EINVAL;
        if (inaddr_is_v4(&p.addr) && !strchr(addr, ':')) {
                if (bits > 32)
                        return -EINVAL;
                bits += 96;
        } else if (bits > 128) {
                return -EINVAL;
        }
        p.bits = (uint8_t)bits;
        masked = p.addr;
        mask_host_bits(&masked, p.bits);
        if (!inaddr_equal(&masked, &p.addr))
                return -ERANGE;
        *ret = p;
        return 0;
}

const char *inaddr_format(const union slim_addr *a, char *buf)
{
        if (inaddr_is_v4(a))
                inet_ntop(AF_INET, &a->b[12], buf, INADDR_TEXT_MAX);
        else
                inet_ntop(AF_INET6, a->b, buf, INADDR_TEXT_MAX);
        return buf;
}

const char *inaddr_prefix_format(const struct inaddr_prefix *p, char *buf)
{
        size_t len;

        inaddr_format(&p->addr, buf);
        len = strlen(buf);
        snprintf(buf + len, INADDR_TEXT_MAX - len, "/%u", inaddr_prefix_len(p));
        return buf;
}

unsigned int inaddr_prefix_len(const struct inaddr_prefix *p)
{
        return p->bits >= 96 && inaddr_is_v4(&p->addr) ? p->bits - 96U : p->bits;
}

bool inaddr_prefix_contains(const struct inaddr_prefix *p, const union slim_addr *a)
{
        union slim_addr masked = *a;

        mask_host_bits(&masked, p->bits);
        return inaddr_equal(&masked, &p->addr);
}

bool inaddr_prefix_overlaps(const struct inaddr_prefix *a, const struct inaddr_prefix *b)
{
        return a->bits <= b->bits ? inaddr_prefix_contains(a, &b->addr)
                                  : inaddr_prefix_contains(b, &a->addr);
}

union slim_addr inaddr_prefix_nth(const struct inaddr_prefix *p, uint32_t n)
{
        union slim_addr a = p->addr;

        a.w[3] = htonl(ntohl(a.w[3]) + n);
        return a;
}
