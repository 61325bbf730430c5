/* SPDX-License-Identifier: Apache-2.0 */
/*
 * From what the maps have to what is wanted, one entry at a time, while packets are judged by
 * what is there after each. Two things hold at every step:
 *
 *   (1) a flow that is allowed before and after the flush is allowed in between, and
 *   (2) one that is denied before and after is denied in between.
 *
 * "Before" is what was emitted, whatever that is: after a failed flush, something halfway.
 *
 * A verdict is: open, when the subject is not selected; otherwise allowed when one of two parts
 * allows it, the rules of the peer and of anybody, or the rules of the prefix that is the longest
 * for the address. Everything in the rules allows, so that to add a rule can only open and to take
 * one away can only close. A prefix is not like that: with it, addresses go from the rules of one
 * prefix to those of another.
 *
 *   1  drop  rules of prefixes that the map does not have: left by a failed flush, unreachable
 *   2  subjects: directions that will not be selected are opened; what stays selected looks for
 *            prefixes if it did or will
 *   3  put   rules of identities and of anybody; rules of prefixes that the map does not have
 *   4  put   prefixes, the longer ones first
 *   5  put   rules of prefixes that the map had before
 *   6  drop  rules of prefixes that stay
 *   7  drop  prefixes, the shorter ones first
 *   8  subjects: all that they will be; directions are closed here
 *   9  drop  all other rules
 *  10  drop  subjects without endpoints here
 *
 * Why. In a direction that is selected before and after:
 *
 * - The part of peers and anybody has, from 3 to 9, the rules of before and of after together. So
 *   it allows what one of them does (1), and denies what both deny (2).
 *
 * - An address changes its prefix once, if at all, and from that of before to that of after: new
 *   prefixes come the longer first, so that an address in two of them never has the shorter; old
 *   ones go the shorter first, so that one in two of them never falls back on the shorter. And each
 *   time, the rules of the prefix that it leaves are at most those of before (nothing is put on a
 *   prefix that goes, and on one that stays only in 5, when all new prefixes are there), and those
 *   of the prefix that it comes to are exactly those of after (a new one's are put in 3, and before
 *   that it had none, by 1; one that stays has lost its old rules in 6).
 *
 *   So the part of prefixes is, for an address that moves, that of before and then that of after;
 *   for one that stays, that of before until 5, both together until 6, and then that of after. It
 *   never allows what neither does: (2). What it loses, in 4, 6 or 7, it loses when whatever allows
 *   the flow after is there: the rules of peers since 3, those of the prefix that the address comes
 *   to, or stays with, since 3 or 5: (1).
 *
 * Putting all rules first and dropping all last, as one would think, breaks (2): 10.0.0.0/8 with
 * the exception 10.1.0.0/16, as a new rule for 10.0.0.0/8 when that prefix is there and the
 * exception is not, opens 10.1.0.0/16 until the exception's prefix comes (hence 3 and 5). Taken
 * back, with the exception's prefix going first, it opens again (hence 6, 7 and their order).
 *
 * A direction that opens is open from 2 on, before anything that it lost could be missed. One that
 * closes does so at 8, when all that it will allow is there and prefixes are as they will be. A
 * subject without endpoints here has no flows to speak of; it goes last, after its rules, so that
 * whatever still comes is denied.
 *
 * What this does not cover: a verdict is up to five lookups, and one that is under way while steps
 * pass may find an address's prefix as it was and the prefix's rules as they are. That is a packet
 * within microseconds of the change, judged by neither of the two.
 */
#include "policy-engine-parts.h"

#include <errno.h>

struct flush {
        struct policy_engine *engine;
        const struct policy_sink *sink;
        void *userdata;
};

/* --- rules ------------------------------------------------------------------------------------ */

static int put_rule(const struct flush *f, struct rule *rule)
{
        int r = f->sink->put_rule(&rule->key, f->userdata);

        if (r == 0)
                rule->emitted = true;
        return r;
}

static int drop_rule(const struct flush *f, struct rule *rule)
{
        int r = f->sink->drop_rule(&rule->key, f->userdata);

        if (r == 0)
                rule->emitted = false;
        return r;
}

/* The steps' conditions on a rule that is there and not wanted, or the other way round. */
static bool is_of_missing_prefix(const struct rule *rule)
{
        return rule->cidr && !rule->cidr->emitted;
}

static bool is_of_staying_prefix(const struct rule *rule)
{
        return rule->cidr && rule->cidr->refs > 0;
}

static bool is_reached_at_once(const struct rule *rule)
{
        return !rule->cidr || !rule->cidr->emitted;
}

static bool is_any(const struct rule *rule)
{
        return true;
}

static int put_rules(const struct flush *f, bool (*condition)(const struct rule *rule))
{
        int r = 0;

        for (struct rule *rule = f->engine->changed_rules; rule && r == 0;
             rule = rule->next_changed)
                if (rule->refs > 0 && !rule->emitted && condition(rule))
                        r = put_rule(f, rule);
        return r;
}

static int drop_rules(const struct flush *f, bool (*condition)(const struct rule *rule))
{
        int r = 0;

        for (struct rule *rule = f->engine->changed_rules; rule && r == 0;
             rule = rule->next_changed)
                if (rule->refs == 0 && rule->emitted && condition(rule))
                        r = drop_rule(f, rule);
        return r;
}

/* --- prefixes --------------------------------------------------------------------------------- */

static struct slim_prefix_key cidr_key(const struct cidr *c)
{
        return (struct slim_prefix_key){.prefixlen = c->prefix.bits, .addr = c->prefix.addr};
}

static int put_cidrs(const struct flush *f)
{
        int r = 0;

        for (unsigned int bits = 129; bits-- > 0;)
                for (struct cidr *c = f->engine->changed_cidrs[bits]; c && r == 0;
                     c = c->next_changed) {
                        struct slim_prefix_key key = cidr_key(c);

                        if (c->refs == 0 || c->emitted)
                                continue;
                        r = f->sink->put_cidr(&key, c->id, f->userdata);
                        if (r == 0)
                                c->emitted = true;
                }
        return r;
}

static int drop_cidrs(const struct flush *f)
{
        int r = 0;

        for (unsigned int bits = 0; bits < 129; bits++)
                for (struct cidr *c = f->engine->changed_cidrs[bits]; c && r == 0;
                     c = c->next_changed) {
                        struct slim_prefix_key key = cidr_key(c);

                        if (c->refs > 0 || !c->emitted)
                                continue;
                        r = f->sink->drop_cidr(&key, f->userdata);
                        if (r == 0)
                                c->emitted = false;
                }
        return r;
}

/* --- subjects --------------------------------------------------------------------------------- */

static int set_subject(const struct flush *f, struct identity *i, uint32_t flags)
{
        struct slim_policy_subject subject = {flags};
        int r;

        if (flags == i->emitted_flags)
                return 0;
        r = flags ? f->sink->put_subject(i->id, &subject, f->userdata)
                  : f->sink->drop_subject(i->id, f->userdata);
        if (r == 0)
                i->emitted_flags = flags;
        return r;
}

/* What is both now and later: a direction that opens is open at once, one that closes not yet. */
static uint32_t relaxed_flags(const struct identity *i)
{
        uint32_t now = i->emitted_flags, later = engine_wanted_flags(i), flags = 0;

        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                if ((now & later) & (SLIM_POLICY_SELECTED << d))
                        flags |= (now & ((SLIM_POLICY_SELECTED | SLIM_POLICY_REJECTS) << d)) |
                                 ((now | later) & (SLIM_POLICY_CIDRS << d));
        return flags;
}

static int relax_subjects(const struct flush *f)
{
        int r = 0;

        for (struct identity *i = f->engine->changed_identities; i && r == 0; i = i->next_changed)
                if (i->local_refs > 0)
                        r = set_subject(f, i, relaxed_flags(i));
        return r;
}

static int put_subjects(const struct flush *f)
{
        int r = 0;

        for (struct identity *i = f->engine->changed_identities; i && r == 0; i = i->next_changed)
                if (i->local_refs > 0)
                        r = set_subject(f, i, engine_wanted_flags(i));
        return r;
}

static int drop_subjects(const struct flush *f)
{
        int r = 0;

        for (struct identity *i = f->engine->changed_identities; i && r == 0; i = i->next_changed)
                if (i->local_refs == 0)
                        r = set_subject(f, i, 0);
        return r;
}

/* --- the whole -------------------------------------------------------------------------------- */

static int emit(const struct flush *f)
{
        int r;

        r = drop_rules(f, is_of_missing_prefix);
        if (r == 0)
                r = relax_subjects(f);
        if (r == 0)
                r = put_rules(f, is_reached_at_once);
        if (r == 0)
                r = put_cidrs(f);
        if (r == 0)
                r = put_rules(f, is_any);
        if (r == 0)
                r = drop_rules(f, is_of_staying_prefix);
        if (r == 0)
                r = drop_cidrs(f);
        if (r == 0)
                r = put_subjects(f);
        if (r == 0)
                r = drop_rules(f, is_any);
        if (r == 0)
                r = drop_subjects(f);
        return r;
}

/* All is as wanted: what is not wanted goes, and its numbers with it. Rules first, which use them.
 */
static void forget_changes(struct policy_engine *engine)
{
        struct rule *rule;
        struct cidr *c;
        struct identity *i;

        while ((rule = engine->changed_rules)) {
                engine->changed_rules = rule->next_changed;
                rule->changed = false;
                if (rule->refs == 0)
                        engine_release_rule(engine, rule);
        }
        for (unsigned int bits = 0; bits < 129; bits++)
                while ((c = engine->changed_cidrs[bits])) {
                        engine->changed_cidrs[bits] = c->next_changed;
                        c->changed = false;
                        if (c->refs == 0 && c->uses == 0)
                                engine_release_cidr(engine, c);
                }
        while ((i = engine->changed_identities)) {
                engine->changed_identities = i->next_changed;
                i->changed = false;
                if (i->refs == 0 && i->uses == 0)
                        engine_release_identity(engine, i);
        }
}

int policy_engine_flush(struct policy_engine *engine, const struct policy_sink *sink,
                        void *userdata)
{
        const struct flush f = {engine, sink, userdata};
        int r;

        r = engine->incomplete ? engine_recompile(engine) : 0;
        if (r == 0)
                r = emit(&f);
        if (r == 0)
                forget_changes(engine);
        return r;
}
