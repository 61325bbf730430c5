/* SPDX-License-Identifier: Apache-2.0 */
#include "maps.h"

#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* --- the sink --------------------------------------------------------------------------------- */

static int step(struct maps *maps)
{
        return ++maps->steps == maps->fail_at ? -ENOSPC : 0;
}

static int looked(struct maps *maps)
{
        if (maps->look)
                maps->look(maps, maps->userdata);
        return 0;
}

static struct maps_rule *find_rule(const struct maps *maps, const struct slim_policy_key *key)
{
        struct maps_rule *rule;

        HASH_FIND(hh, maps->rules, key, sizeof(*key), rule);
        return rule;
}

static int put_rule(const struct slim_policy_key *key, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_rule *rule;

        if (step(maps) < 0)
                return -ENOSPC;
        assert_null(find_rule(maps, key));
        rule = calloc(1, sizeof(*rule));
        assert_non_null(rule);
        rule->key = *key;
        HASH_ADD(hh, maps->rules, key, sizeof(rule->key), rule);
        return looked(maps);
}

static int drop_rule(const struct slim_policy_key *key, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_rule *rule = find_rule(maps, key);

        if (step(maps) < 0)
                return -ENOSPC;
        assert_non_null(rule);
        HASH_DEL(maps->rules, rule);
        free(rule);
        return looked(maps);
}

static struct maps_cidr *find_cidr(const struct maps *maps, const struct slim_prefix_key *key)
{
        struct maps_cidr *c;

        HASH_FIND(hh, maps->cidrs, key, sizeof(*key), c);
        return c;
}

static int put_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_cidr *c;

        if (step(maps) < 0)
                return -ENOSPC;
        assert_null(find_cidr(maps, key));
        for (c = maps->cidrs; c; c = c->hh.next)
                assert_int_not_equal(c->id, id);
        assert_true(id > 0 && id < SLIM_POLICY_CIDR);
        c = calloc(1, sizeof(*c));
        assert_non_null(c);
        c->key = *key;
        c->id = id;
        HASH_ADD(hh, maps->cidrs, key, sizeof(c->key), c);
        return looked(maps);
}

static int drop_cidr(const struct slim_prefix_key *key, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_cidr *c = find_cidr(maps, key);

        if (step(maps) < 0)
                return -ENOSPC;
        assert_non_null(c);
        HASH_DEL(maps->cidrs, c);
        free(c);
        return looked(maps);
}

static struct maps_subject *find_subject(const struct maps *maps, uint32_t identity)
{
        struct maps_subject *s;

        HASH_FIND(hh, maps->subjects, &identity, sizeof(identity), s);
        return s;
}

static int put_subject(uint32_t identity, const struct slim_policy_subject *subject, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_subject *s = find_subject(maps, identity);

        if (step(maps) < 0)
                return -ENOSPC;
        assert_true(subject->flags != 0);
        if (!s) {
                s = calloc(1, sizeof(*s));
                assert_non_null(s);
                s->identity = identity;
                HASH_ADD(hh, maps->subjects, identity, sizeof(s->identity), s);
        }
        assert_int_not_equal(s->flags, subject->flags);
        s->flags = subject->flags;
        return looked(maps);
}

static int drop_subject(uint32_t identity, void *userdata)
{
        struct maps *maps = userdata;
        struct maps_subject *s = find_subject(maps, identity);

        if (step(maps) < 0)
                return -ENOSPC;
        assert_non_null(s);
        HASH_DEL(maps->subjects, s);
        free(s);
        return looked(maps);
}

const struct policy_sink maps_sink = {
    .put_rule = put_rule,
    .put_cidr = put_cidr,
    .put_subject = put_subject,
    .drop_subject = drop_subject,
    .drop_cidr = drop_cidr,
    .drop_rule = drop_rule,
};

void maps_clear(struct maps *maps)
{
        struct maps_rule *rule, *next_rule;
        struct maps_cidr *c, *next_c;
        struct maps_subject *s, *next_s;

        HASH_ITER(hh, maps->rules, rule, next_rule)
        {
                HASH_DEL(maps->rules, rule);
                free(rule);
        }
        HASH_ITER(hh, maps->cidrs, c, next_c)
        {
                HASH_DEL(maps->cidrs, c);
                free(c);
        }
        HASH_ITER(hh, maps->subjects, s, next_s)
        {
                HASH_DEL(maps->subjects, s);
                free(s);
        }
        *maps = (struct maps){};
}

size_t maps_entries(const struct maps *maps)
{
        return HASH_COUNT(maps->rules) + HASH_COUNT(maps->cidrs) + HASH_COUNT(maps->subjects);
}

/* --- the verdict ------------------------------------------------------------------------------ */

bool maps_have_rule(const struct maps *maps, const struct slim_policy_key *key)
{
        return find_rule(maps, key) != NULL;
}

/* Any entry that is a prefix of the question: longest or not, they all say the same. */
static bool has_rule(const struct maps *maps, const struct slim_policy_check *c, uint32_t peer)
{
        struct slim_policy_key key;

        memset(&key, 0, sizeof(key));
        key.prefixlen = SLIM_POLICY_BITS_PEER;
        key.subject = c->subject;
        key.peer = peer;
        key.direction = c->direction;
        if (find_rule(maps, &key))
                return true;
        key.protocol = c->protocol;
        for (unsigned int bits = 0; bits <= 16; bits++) {
                key.prefixlen = SLIM_POLICY_BITS_PROTOCOL + bits;
                key.be_port = htons((uint16_t)(c->port & (0xffff0000U >> bits)));
                if (find_rule(maps, &key))
                        return true;
        }
        return false;
}

static bool starts_with(const union slim_addr *addr, const struct slim_prefix_key *key)
{
        for (unsigned int i = 0; i < key->prefixlen; i++)
                if ((addr->b[i / 8] ^ key->addr.b[i / 8]) & (0x80 >> (i % 8)))
                        return false;
        return true;
}

uint32_t maps_cidr(const struct maps *maps, const union slim_addr *addr)
{
        const struct maps_cidr *best = NULL;

        for (const struct maps_cidr *c = maps->cidrs; c; c = c->hh.next)
                if (starts_with(addr, &c->key) && (!best || c->key.prefixlen > best->key.prefixlen))
                        best = c;
        return best ? best->id : 0;
}

enum slim_policy_verdict maps_verdict(const struct maps *maps,
                                      const struct slim_policy_check *check)
{
        const struct maps_subject *s = find_subject(maps, check->subject);
        uint32_t flags = s ? s->flags >> check->direction : 0, cidr;

        if (!(flags & SLIM_POLICY_SELECTED))
                return SLIM_POLICY_ALLOWED;
        if ((check->peer && has_rule(maps, check, check->peer)) || has_rule(maps, check, 0))
                return SLIM_POLICY_ALLOWED;
        cidr = flags & SLIM_POLICY_CIDRS ? maps_cidr(maps, &check->addr) : 0;
        if (cidr && has_rule(maps, check, SLIM_POLICY_CIDR | cidr))
                return SLIM_POLICY_ALLOWED;
        return flags & SLIM_POLICY_REJECTS ? SLIM_POLICY_REJECT : SLIM_POLICY_DROP;
}
