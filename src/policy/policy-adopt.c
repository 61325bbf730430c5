/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Maps that another engine filled, whose process is gone: what is in them counts as emitted, and
 * the numbers in it stay in use for whom they stood for.
 *
 * Of an identity, only its number is in the maps. It is an identity without a key, found by its
 * number alone, until policy_engine_identity_ref() asks for that number with what it stands for.
 * What is adopted is not in the lists of changes, so that a flush takes none of it away, until
 * policy_engine_adopt_end() puts there what nobody wants.
 */
#include "policy-engine-parts.h"

#include <errno.h>
#include <stdlib.h>

#include "../basic/alloc.h"

/* A number past this is not one that an engine gave. */
#define NUMBER_MAX (1U << 22)

/* Nobody is given it, and there is room to give it back. */
static int keep_number(struct numbers *numbers, uint32_t number)
{
        if (number == 0 || number > NUMBER_MAX)
                return -ERANGE;
        if (number > numbers->allocated) {
                size_t more = 64;
                uint32_t *v;

                while (more < number)
                        more *= 2;
                v = reallocarray(numbers->free, more, sizeof(*v));
                if (!v)
                        return -ENOMEM;
                numbers->free = v;
                numbers->allocated = more;
        }
        if (number > numbers->last)
                numbers->last = number;
        return 0;
}

/* An identity of this number, if need be one that nobody knows yet. */
static int identity_by_number(struct policy_engine *engine, uint32_t id, struct identity **ret)
{
        _cleanup_free_ struct identity *new = NULL;
        struct identity *i;
        int r;

        HASH_FIND(by_id, engine->identities_by_id, &id, sizeof(id), i);
        if (!i) {
                r = keep_number(&engine->identity_numbers, id);
                if (r < 0)
                        return r;
                new = new0(struct identity, 1);
                if (!new)
                        return -ENOMEM;
                new->id = id;
                HASH_ADD(by_id, engine->identities_by_id, id, sizeof(new->id), new);
                if (!new->by_id.tbl)
                        return -ENOMEM;
                i = TAKE_PTR(new);
        }
        *ret = i;
        return 0;
}

int policy_engine_adopt_identity(struct policy_engine *engine, uint32_t id, uint32_t flags)
{
        struct identity *i;
        int r;

        r = identity_by_number(engine, id, &i);
        if (r == 0)
                i->emitted_flags |= flags;
        return r;
}

static int remember_cidr(struct policy_engine *engine, struct cidr *c)
{
        if (c->id >= engine->n_adopted_cidrs) {
                size_t more = engine->n_adopted_cidrs ?: 64;
                struct cidr **v;

                while (more <= c->id)
                        more *= 2;
                v = reallocarray(engine->adopted_cidrs, more, sizeof(struct cidr *));
                if (!v)
                        return -ENOMEM;
                for (size_t i = engine->n_adopted_cidrs; i < more; i++)
                        v[i] = NULL;
                engine->adopted_cidrs = v;
                engine->n_adopted_cidrs = more;
        }
        if (engine->adopted_cidrs[c->id])
                return -EEXIST;
        engine->adopted_cidrs[c->id] = c;
        return 0;
}

int policy_engine_adopt_cidr(struct policy_engine *engine, const struct slim_prefix_key *key,
                             uint32_t id)
{
        _cleanup_free_ struct cidr *c = NULL;
        int r;

        if (key->prefixlen > 128)
                return -ERANGE;
        r = keep_number(&engine->cidr_numbers, id);
        if (r < 0)
                return r;
        c = new0(struct cidr, 1);
        if (!c)
                return -ENOMEM;
        c->id = id;
        c->emitted = true;
        c->prefix.addr = key->addr;
        c->prefix.bits = (uint8_t)key->prefixlen;
        r = remember_cidr(engine, c);
        if (r < 0)
                return r;
        HASH_ADD(hh, engine->cidrs, prefix, sizeof(c->prefix), c);
        if (!c->hh.tbl) {
                engine->adopted_cidrs[id] = NULL;
                return -ENOMEM;
        }
        c = NULL;
        return 0;
}

int policy_engine_adopt_rule(struct policy_engine *engine, const struct slim_policy_key *key)
{
        uint32_t number = key->peer & ~SLIM_POLICY_CIDR;
        bool is_cidr = key->peer & SLIM_POLICY_CIDR;
        _cleanup_free_ struct rule *rule = new0(struct rule, 1);
        int r;

        if (!rule)
                return -ENOMEM;
        rule->key = *key;
        rule->emitted = true;
        if (is_cidr) {
                rule->cidr =
                    number < engine->n_adopted_cidrs ? engine->adopted_cidrs[number] : NULL;
                if (!rule->cidr)
                        return -ENOENT;
        }
        r = identity_by_number(engine, key->subject, &rule->subject);
        if (r == 0 && !is_cidr && number)
                r = identity_by_number(engine, number, &rule->peer);
        if (r < 0)
                return r;
        HASH_ADD(hh, engine->rules, key, sizeof(rule->key), rule);
        if (!rule->hh.tbl)
                return -ENOMEM;
        rule->subject->uses++;
        if (rule->peer)
                rule->peer->uses++;
        if (rule->cidr)
                rule->cidr->uses++;
        rule = NULL;
        return 0;
}

/* All that are in use are in `used`, up to the last one. */
static void free_the_others(struct numbers *numbers, const bool *used)
{
        numbers->n = 0;
        for (uint32_t i = 1; i <= numbers->last; i++)
                if (!used[i])
                        numbers->free[numbers->n++] = i;
}

int policy_engine_adopt_end(struct policy_engine *engine)
{
        _cleanup_free_ bool *identities = new0(bool, engine->identity_numbers.last + 1UL),
                            *cidrs = new0(bool, engine->cidr_numbers.last + 1UL);

        if (!identities || !cidrs)
                return -ENOMEM;
        for (struct rule *rule = engine->rules; rule; rule = rule->hh.next)
                if (rule->refs == 0 && !rule->changed) {
                        rule->changed = true;
                        rule->next_changed = engine->changed_rules;
                        engine->changed_rules = rule;
                }
        for (struct cidr *c = engine->cidrs; c; c = c->hh.next) {
                cidrs[c->id] = true;
                if (c->refs == 0 && !c->changed) {
                        c->changed = true;
                        c->next_changed = engine->changed_cidrs[c->prefix.bits];
                        engine->changed_cidrs[c->prefix.bits] = c;
                }
        }
        for (struct identity *i = engine->identities_by_id; i; i = i->by_id.next) {
                identities[i->id] = true;
                if (i->refs == 0 && !i->changed) {
                        i->changed = true;
                        i->next_changed = engine->changed_identities;
                        engine->changed_identities = i;
                }
        }
        free_the_others(&engine->identity_numbers, identities);
        free_the_others(&engine->cidr_numbers, cidrs);
        free(engine->adopted_cidrs);
        engine->adopted_cidrs = NULL;
        engine->n_adopted_cidrs = 0;
        return 0;
}
