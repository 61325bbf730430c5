/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is wanted in the maps.
 *
 * A policy is compiled while it has subjects. Each of its rules' peers is a site, which knows whom
 * it means: identities, or prefixes. Then a policy's rules are, for each subject, each site and
 * each that it means, one for each prefix of ports; apply() counts them up and down, and nothing
 * else does. So each operation touches what it has to do with:
 *
 *   an identity comes or goes     in the sites that mean it, for these policies' subjects
 *   a subject comes or goes       in the policies that select it
 *   a prefix comes or goes        in the blocks that it is a part of
 *   a network's labels change     in the sites with a namespaceSelector, its identities
 *
 * An address has the rules of its longest prefix, out of all that any compiled policy names,
 * exceptions too. Prefixes that contain an address contain its longest one, so that a block means
 * an address when it means that prefix: policy_block_contains().
 */
#include "policy-engine-parts.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

/* --- what changed ----------------------------------------------------------------------------- */

static void rule_changed(struct policy_engine *engine, struct rule *rule)
{
        if (rule->changed)
                return;
        rule->changed = true;
        rule->next_changed = engine->changed_rules;
        engine->changed_rules = rule;
}

static void cidr_changed(struct policy_engine *engine, struct cidr *c)
{
        if (c->changed)
                return;
        c->changed = true;
        c->next_changed = engine->changed_cidrs[c->prefix.bits];
        engine->changed_cidrs[c->prefix.bits] = c;
}

static void identity_changed(struct policy_engine *engine, struct identity *i)
{
        if (i->changed)
                return;
        i->changed = true;
        i->next_changed = engine->changed_identities;
        engine->changed_identities = i;
}

/* --- rules ------------------------------------------------------------------------------------ */

static struct rule *rule_new(struct policy_engine *engine, const struct slim_policy_key *key,
                             struct identity *subject, struct identity *peer, struct cidr *cidr)
{
        _cleanup_free_ struct rule *rule = new0(struct rule, 1);

        if (!rule)
                return NULL;
        rule->key = *key;
        rule->subject = subject;
        rule->peer = peer;
        rule->cidr = cidr;
        HASH_ADD(hh, engine->rules, key, sizeof(rule->key), rule);
        if (!rule->hh.tbl)
                return NULL;
        subject->uses++;
        if (peer)
                peer->uses++;
        if (cidr)
                cidr->uses++;
        return TAKE_PTR(rule);
}

/* One reference more, or one less. */
static void count_rule(struct policy_engine *engine, const struct slim_policy_key *key,
                       struct identity *subject, struct identity *peer, struct cidr *cidr, bool add)
{
        struct rule *rule;

        HASH_FIND(hh, engine->rules, key, sizeof(*key), rule);
        assert(rule || add);
        if (!rule)
                rule = rule_new(engine, key, subject, peer, cidr);
        if (!rule) {
                engine->incomplete = true;
                return;
        }
        if (add ? rule->refs++ > 0 : --rule->refs > 0)
                return;
        rule_changed(engine, rule);
        engine->n_wanted_rules += add ? 1 : -1UL;
        if (!cidr)
                return;
        subject->n_cidrs[key->direction] += add ? 1 : -1UL;
        identity_changed(engine, subject);
}

uint16_t engine_named_port(const struct identity *i, const struct policy_port *port)
{
        for (size_t n = 0; n < i->n_ports; n++)
                if (i->ports[n].protocol == port->protocol &&
                    strcmp(i->ports[n].name, port->name) == 0)
                        return i->ports[n].port;
        return 0;
}

/* The prefixes of ports that a rule's port is for a subject and a peer (NULL: no endpoint). */
static size_t ports_of(const struct site *site, const struct policy_port *port,
                       const struct identity *subject, const struct identity *peer,
                       struct port_prefix ret[PORT_PREFIXES_MAX])
{
        const struct identity *server = site->direction == SLIM_POLICY_INGRESS ? subject : peer;

        if (*port->name) {
                uint16_t number = server ? engine_named_port(server, port) : 0;

                return number ? policy_port_prefixes(number, number, ret) : 0;
        }
        if (!site->peer && peer)
                return 0; /* everybody has these already */
        if (port->first)
                return policy_port_prefixes(port->first, port->last, ret);
        ret[0] = (struct port_prefix){};
        return 1;
}

/*
 * All rules of a site, for a subject and one that the site means: an identity, a prefix, or, with
 * neither, everybody. Nothing once the engine is incomplete.
 */
static void apply(struct policy_engine *engine, const struct site *site, struct identity *subject,
                  struct identity *peer, struct cidr *cidr, bool add)
{
        struct slim_policy_key key = {
            .prefixlen = SLIM_POLICY_BITS_PEER,
            .subject = subject->id,
            .peer = cidr   ? SLIM_POLICY_CIDR | cidr->id
                    : peer ? peer->id
                           : 0,
            .direction = (uint8_t)site->direction,
        };

        if (engine->incomplete)
                return;
        if (site->rule->n_ports == 0)
                count_rule(engine, &key, subject, peer, cidr, add);
        for (size_t i = 0; i < site->rule->n_ports; i++) {
                const struct policy_port *port = &site->rule->ports[i];
                struct port_prefix prefixes[PORT_PREFIXES_MAX];
                size_t n = ports_of(site, port, subject, peer, prefixes);

                for (size_t j = 0; j < n && !engine->incomplete; j++) {
                        key.prefixlen = SLIM_POLICY_BITS_PROTOCOL + prefixes[j].bits;
                        key.protocol = port->protocol;
                        key.be_port = htons(prefixes[j].port);
                        count_rule(engine, &key, subject, peer, cidr, add);
                }
        }
}

static void apply_matched(struct policy_engine *engine, const struct site *site,
                          struct identity *subject, void *matched, bool add)
{
        if (site->wants_identities)
                apply(engine, site, subject, matched, NULL, add);
        else
                apply(engine, site, subject, NULL, matched, add);
}

/* --- sites ------------------------------------------------------------------------------------ */

bool engine_peer_matches(const struct compiled *c, const struct policy_peer *peer,
                         const struct identity *i)
{
        if (peer->is_block)
                return false;
        if (peer->has_namespaces ? !selector_matches(&peer->namespaces, &i->network->labels)
                                 : i->network != c->network)
                return false;
        return policy_pods_match(&peer->pods, &i->labels, i->is_host);
}

static bool has_named_port(const struct policy_rule *rule, const struct identity *i)
{
        for (size_t n = 0; n < rule->n_ports; n++)
                if (*rule->ports[n].name && engine_named_port(i, &rule->ports[n]))
                        return true;
        return false;
}

static bool site_means(const struct compiled *c, const struct site *site, const struct identity *i)
{
        return site->peer ? engine_peer_matches(c, site->peer, i) : has_named_port(site->rule, i);
}

static uint32_t number_of(const void *matched)
{
        return *(const uint32_t *)matched;
}
_Static_assert(offsetof(struct identity, id) == 0 && offsetof(struct cidr, id) == 0,
               "the number comes first");

static size_t matched_place(const struct site *site, const void *what)
{
        size_t low = 0, high = site->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if (number_of(site->matched[middle]) < number_of(what))
                        low = middle + 1;
                else
                        high = middle;
        }
        return low;
}

static bool site_has(const struct site *site, const void *what)
{
        size_t at = matched_place(site, what);

        return at < site->n && site->matched[at] == what;
}

/* From now on the site means this as well. */
static void site_add(struct policy_engine *engine, const struct compiled *c, struct site *site,
                     void *what)
{
        size_t at = matched_place(site, what);

        if (engine->incomplete)
                return;
        if (site->n == site->allocated) {
                size_t more = site->allocated ? 2 * site->allocated : 4;
                void **v = reallocarray(site->matched, more, sizeof(void *));

                if (!v) {
                        engine->incomplete = true;
                        return;
                }
                site->matched = v;
                site->allocated = more;
        }
        memmove(&site->matched[at + 1], &site->matched[at], (site->n - at) * sizeof(void *));
        site->matched[at] = what;
        site->n++;
        for (size_t i = 0; i < c->n_subjects; i++)
                apply_matched(engine, site, c->subjects[i], what, true);
}

/* And no longer, if it did. */
static void site_remove(struct policy_engine *engine, const struct compiled *c, struct site *site,
                        void *what)
{
        size_t at = matched_place(site, what);

        if (at == site->n || site->matched[at] != what)
                return;
        for (size_t i = 0; i < c->n_subjects; i++)
                apply_matched(engine, site, c->subjects[i], what, false);
        site->n--;
        memmove(&site->matched[at], &site->matched[at + 1], (site->n - at) * sizeof(void *));
}

/* --- prefixes --------------------------------------------------------------------------------- */

/* In all that is compiled: does a block mean this prefix? */
static void cidr_appears(struct policy_engine *engine, struct cidr *cidr)
{
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t i = 0; c->n_subjects && i < c->n_sites; i++) {
                        struct site *site = &c->sites[i];

                        if (site->peer && site->peer->is_block &&
                            policy_block_contains(&site->peer->block, &cidr->prefix))
                                site_add(engine, c, site, cidr);
                }
}

static void cidr_disappears(struct policy_engine *engine, struct cidr *cidr)
{
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t i = 0; c->n_subjects && i < c->n_sites; i++)
                        if (!c->sites[i].wants_identities)
                                site_remove(engine, c, &c->sites[i], cidr);
}

static struct cidr *cidr_new(struct policy_engine *engine, const struct inaddr_prefix *prefix)
{
        _cleanup_free_ struct cidr *c = new0(struct cidr, 1);

        if (!c)
                return NULL;
        c->id = engine_take_number(&engine->cidr_numbers);
        if (!c->id)
                return NULL;
        c->prefix.addr = prefix->addr;
        c->prefix.bits = prefix->bits;
        HASH_ADD(hh, engine->cidrs, prefix, sizeof(c->prefix), c);
        if (!c->hh.tbl) {
                engine_give_number(&engine->cidr_numbers, c->id);
                return NULL;
        }
        return TAKE_PTR(c);
}

static struct cidr *cidr_find(const struct policy_engine *engine,
                              const struct inaddr_prefix *prefix)
{
        struct inaddr_prefix key;
        struct cidr *c;

        memset(&key, 0, sizeof(key));
        key.addr = prefix->addr;
        key.bits = prefix->bits;
        HASH_FIND(hh, engine->cidrs, &key, sizeof(key), c);
        return c;
}

static void cidr_count(struct policy_engine *engine, const struct inaddr_prefix *prefix, bool add)
{
        struct cidr *c = cidr_find(engine, prefix);

        if (engine->incomplete)
                return;
        assert(c || add);
        if (!c)
                c = cidr_new(engine, prefix);
        if (!c) {
                engine->incomplete = true;
                return;
        }
        if (add ? c->refs++ > 0 : --c->refs > 0)
                return;
        cidr_changed(engine, c);
        if (add)
                cidr_appears(engine, c);
        else
                cidr_disappears(engine, c);
}

/*
 * A prefix that a policy names. One of IPv6 can have all of IPv4 in it, which the map has as
 * ::ffff:0:0/96, while ::/0 does not mean IPv4: so that no IPv4 address finds it, 0.0.0.0/0 is
 * beside it.
 */
static void cidr_ref(struct policy_engine *engine, const struct inaddr_prefix *prefix, bool add)
{
        static const struct inaddr_prefix all_v4 = {.addr = {.b = {[10] = 0xff, [11] = 0xff}},
                                                    .bits = 96};

        cidr_count(engine, prefix, add);
        if (prefix->bits < 96 && inaddr_prefix_contains(prefix, &all_v4.addr))
                cidr_count(engine, &all_v4, add);
}

static void block_ref(struct policy_engine *engine, const struct policy_block *b, bool add)
{
        cidr_ref(engine, &b->cidr, add);
        for (size_t i = 0; i < b->n_except; i++)
                cidr_ref(engine, &b->except[i], add);
}

/* --- policies --------------------------------------------------------------------------------- */

/* Before its first subject: whom do its sites mean? */
static void activate(struct policy_engine *engine, struct compiled *c)
{
        for (size_t i = 0; i < c->n_sites; i++)
                if (c->sites[i].peer && c->sites[i].peer->is_block)
                        block_ref(engine, &c->sites[i].peer->block, true);
        for (size_t i = 0; i < c->n_sites; i++) {
                struct site *site = &c->sites[i];

                for (struct identity *o = engine->identities; o && site->wants_identities;
                     o = o->hh.next)
                        if (o->refs > 0 && site_means(c, site, o))
                                site_add(engine, c, site, o);
                if (!site->peer || !site->peer->is_block)
                        continue;
                for (struct cidr *o = engine->cidrs; o; o = o->hh.next)
                        if (o->refs > 0 && policy_block_contains(&site->peer->block, &o->prefix))
                                site_add(engine, c, site, o);
        }
}

/* After its last one. */
static void deactivate(struct policy_engine *engine, struct compiled *c)
{
        for (size_t i = 0; i < c->n_sites; i++)
                c->sites[i].n = 0;
        for (size_t i = 0; i < c->n_sites; i++)
                if (c->sites[i].peer && c->sites[i].peer->is_block)
                        block_ref(engine, &c->sites[i].peer->block, false);
}

static void apply_subject(struct policy_engine *engine, struct compiled *c,
                          struct identity *subject, bool add)
{
        for (size_t i = 0; i < c->n_sites; i++) {
                struct site *site = &c->sites[i];

                if (!site->peer)
                        apply(engine, site, subject, NULL, NULL, add);
                for (size_t j = 0; j < site->n; j++)
                        apply_matched(engine, site, subject, site->matched[j], add);
        }
        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                if (c->policy->selects[d]) {
                        subject->n_selecting[d] += add ? 1 : -1UL;
                        if (c->policy->reject)
                                subject->n_rejecting[d] += add ? 1 : -1UL;
                }
        identity_changed(engine, subject);
}

static void add_subject(struct policy_engine *engine, struct compiled *c, struct identity *subject)
{
        if (engine->incomplete)
                return;
        if (c->n_subjects == c->subjects_allocated) {
                size_t more = c->subjects_allocated ? 2 * c->subjects_allocated : 4;
                struct identity **v = reallocarray(c->subjects, more, sizeof(struct identity *));

                if (!v) {
                        engine->incomplete = true;
                        return;
                }
                c->subjects = v;
                c->subjects_allocated = more;
        }
        if (c->n_subjects == 0)
                activate(engine, c);
        apply_subject(engine, c, subject, true);
        c->subjects[c->n_subjects++] = subject;
}

static void remove_subject(struct policy_engine *engine, struct compiled *c, size_t at)
{
        struct identity *subject = c->subjects[at];

        if (engine->incomplete)
                return;
        apply_subject(engine, c, subject, false);
        c->subjects[at] = c->subjects[--c->n_subjects];
        if (c->n_subjects == 0)
                deactivate(engine, c);
}

static bool selects(const struct compiled *c, const struct identity *i)
{
        return c->network == i->network &&
               policy_pods_match(&c->policy->pods, &i->labels, i->is_host);
}

void compile_policy(struct policy_engine *engine, struct compiled *c)
{
        for (struct identity *i = engine->identities; i; i = i->hh.next)
                if (i->local_refs > 0 && selects(c, i))
                        add_subject(engine, c, i);
}

void compile_no_policy(struct policy_engine *engine, struct compiled *c)
{
        while (c->n_subjects > 0 && !engine->incomplete)
                remove_subject(engine, c, c->n_subjects - 1);
}

/* --- peers and subjects -------------------------------------------------------------------------
 */

/* Its first endpoint: it is a peer from now on. */
void compile_peer(struct policy_engine *engine, struct identity *i)
{
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t n = 0; c->n_subjects && n < c->n_sites; n++)
                        if (c->sites[n].wants_identities && site_means(c, &c->sites[n], i))
                                site_add(engine, c, &c->sites[n], i);
}

void compile_no_peer(struct policy_engine *engine, struct identity *i)
{
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t n = 0; c->n_subjects && n < c->n_sites; n++)
                        if (c->sites[n].wants_identities)
                                site_remove(engine, c, &c->sites[n], i);
}

/* Its first endpoint here: it is a subject from now on. */
void compile_subject(struct policy_engine *engine, struct identity *i)
{
        engine->n_subjects++;
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                if (selects(c, i))
                        add_subject(engine, c, i);
}

void compile_no_subject(struct policy_engine *engine, struct identity *i)
{
        engine->n_subjects--;
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t n = 0; n < c->n_subjects; n++)
                        if (c->subjects[n] == i) {
                                remove_subject(engine, c, n);
                                break;
                        }
}

/* The sites that go by networks' labels, and one network's identities. */
static void rematch(struct policy_engine *engine, struct compiled *c, struct site *site,
                    const struct network *n)
{
        for (struct identity *i = engine->identities; i; i = i->hh.next) {
                bool has, means;

                if (i->network != n || i->refs == 0)
                        continue;
                has = site_has(site, i);
                means = engine_peer_matches(c, site->peer, i);
                if (means && !has)
                        site_add(engine, c, site, i);
                else if (has && !means)
                        site_remove(engine, c, site, i);
        }
}

void compile_network(struct policy_engine *engine, const struct network *n)
{
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t i = 0; c->n_subjects && i < c->n_sites; i++)
                        if (c->sites[i].peer && c->sites[i].peer->has_namespaces)
                                rematch(engine, c, &c->sites[i], n);
}

/* --- the whole -------------------------------------------------------------------------------- */

uint32_t engine_wanted_flags(const struct identity *i)
{
        uint32_t flags = 0;

        for (unsigned int d = 0; i->local_refs > 0 && d < SLIM_POLICY_DIRECTIONS; d++) {
                if (i->n_selecting[d] == 0)
                        continue;
                flags |= SLIM_POLICY_SELECTED << d;
                if (i->n_cidrs[d] > 0)
                        flags |= SLIM_POLICY_CIDRS << d;
                if (i->n_rejecting[d] > 0)
                        flags |= SLIM_POLICY_REJECTS << d;
        }
        return flags;
}

int engine_recompile(struct policy_engine *engine)
{
        engine->incomplete = false;
        engine->n_wanted_rules = 0;
        for (struct rule *rule = engine->rules; rule; rule = rule->hh.next) {
                rule->refs = 0;
                rule_changed(engine, rule);
        }
        for (struct cidr *c = engine->cidrs; c; c = c->hh.next) {
                c->refs = 0;
                cidr_changed(engine, c);
        }
        for (struct identity *i = engine->identities; i; i = i->hh.next) {
                memset(i->n_selecting, 0, sizeof(i->n_selecting));
                memset(i->n_rejecting, 0, sizeof(i->n_rejecting));
                memset(i->n_cidrs, 0, sizeof(i->n_cidrs));
                identity_changed(engine, i);
        }
        for (struct compiled *c = engine->policies; c; c = c->hh.next) {
                c->n_subjects = 0;
                for (size_t i = 0; i < c->n_sites; i++)
                        c->sites[i].n = 0;
        }
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                compile_policy(engine, c);
        return engine->incomplete ? -ENOMEM : 0;
}

void engine_release_cidr(struct policy_engine *engine, struct cidr *c)
{
        HASH_DEL(engine->cidrs, c);
        engine_give_number(&engine->cidr_numbers, c->id);
        free(c);
}

void engine_release_rule(struct policy_engine *engine, struct rule *rule)
{
        HASH_DEL(engine->rules, rule);
        rule->subject->uses--;
        if (rule->peer)
                rule->peer->uses--;
        if (rule->cidr)
                rule->cidr->uses--;
        free(rule);
}
