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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

/* --- numbers ---------------------------------------------------------------------------------- */

/* Room to give all of them back is made beforehand, since that must not fail. 0: no memory. */
static uint32_t take_number(struct numbers *numbers)
{
        if (numbers->n > 0)
                return numbers->free[--numbers->n];
        if (numbers->last == numbers->allocated) {
                size_t more = numbers->allocated ? 2 * numbers->allocated : 64;
                uint32_t *v = reallocarray(numbers->free, more, sizeof(*v));

                if (!v)
                        return 0;
                numbers->free = v;
                numbers->allocated = more;
        }
        return ++numbers->last;
}

static void give_number(struct numbers *numbers, uint32_t number)
{
        numbers->free[numbers->n++] = number;
}

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

/* --- networks --------------------------------------------------------------------------------- */

static void network_free(struct network *n)
{
        labels_clear(&n->labels);
        free(n);
}
DEFINE_CLEANUP(struct network *, network_free)

/* Its labels as they are for selectors: the name is what it is, whatever is given. */
static int network_labels(const char *name, const struct labels *given, struct labels *ret)
{
        _cleanup_(labels_clearp) struct labels *owned = &(struct labels){};
        char problem[LABEL_PROBLEM_MAX];
        int r;

        r = labels_add(owned, LABEL_NETWORK_NAME, name, problem);
        for (size_t i = 0; r == 0 && given && i < given->n; i++)
                if (strcmp(given->v[i].key, LABEL_NETWORK_NAME) != 0)
                        r = labels_add(owned, given->v[i].key, given->v[i].value, problem);
        if (r < 0)
                return r;
        *ret = *TAKE_PTR(owned);
        return 0;
}

/* Finds or makes it. *ret stays the engine's: network_unref() gives the reference back. */
static int network_ref(struct policy_engine *engine, const char *name, struct network **ret)
{
        _cleanup_(network_freep) struct network *new = NULL;
        struct network *n;
        int r;

        if (!name_is_valid(name))
                return -EINVAL;
        HASH_FIND_STR(engine->networks, name, n);
        if (!n) {
                new = new0(struct network, 1);
                if (!new)
                        return -ENOMEM;
                strcpy(new->name, name);
                r = network_labels(name, NULL, &new->labels);
                if (r < 0)
                        return r;
                HASH_ADD_STR(engine->networks, name, new);
                if (!new->hh.tbl)
                        return -ENOMEM;
                n = TAKE_PTR(new);
        }
        n->refs++;
        *ret = n;
        return 0;
}

static void network_unref(struct policy_engine *engine, struct network *n)
{
        if (--n->refs > 0 || n->has_labels)
                return;
        HASH_DEL(engine->networks, n);
        network_free(n);
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

static size_t matched_place(const struct site *site, const void *what)
{
        size_t low = 0, high = site->n;

        while (low < high) {
                size_t middle = low + (high - low) / 2;

                if ((uintptr_t)site->matched[middle] < (uintptr_t)what)
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
        c->id = take_number(&engine->cidr_numbers);
        if (!c->id)
                return NULL;
        c->prefix.addr = prefix->addr;
        c->prefix.bits = prefix->bits;
        HASH_ADD(hh, engine->cidrs, prefix, sizeof(c->prefix), c);
        if (!c->hh.tbl) {
                give_number(&engine->cidr_numbers, c->id);
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

static void add_subjects(struct policy_engine *engine, struct compiled *c)
{
        for (struct identity *i = engine->identities; i; i = i->hh.next)
                if (i->local_refs > 0 && selects(c, i))
                        add_subject(engine, c, i);
}

static void remove_subjects(struct policy_engine *engine, struct compiled *c)
{
        while (c->n_subjects > 0 && !engine->incomplete)
                remove_subject(engine, c, c->n_subjects - 1);
}

static void sites_free(struct site *sites, size_t n)
{
        for (size_t i = 0; i < n; i++)
                free(sites[i].matched);
        free(sites);
}

static void compiled_free(struct compiled *c)
{
        sites_free(c->sites, c->n_sites);
        free(c->subjects);
        if (c->policy)
                policy_free(c->policy);
        free(c);
}
DEFINE_CLEANUP(struct compiled *, compiled_free)

/* Everybody and a name of a port: on the way out that is a port of the peer's. */
static bool names_ports_of_peers(const struct policy_rule *rule,
                                 enum slim_policy_direction direction)
{
        for (size_t i = 0; direction == SLIM_POLICY_EGRESS && i < rule->n_ports; i++)
                if (*rule->ports[i].name)
                        return true;
        return false;
}

static struct site *add_sites(struct site *at, const struct policy_rule *rule,
                              enum slim_policy_direction direction)
{
        for (size_t i = 0; i < rule->n_peers; i++)
                *at++ = (struct site){
                    .rule = rule,
                    .peer = &rule->peers[i],
                    .direction = direction,
                    .wants_identities = !rule->peers[i].is_block,
                };
        if (rule->n_peers == 0)
                *at++ = (struct site){
                    .rule = rule,
                    .direction = direction,
                    .wants_identities = names_ports_of_peers(rule, direction),
                };
        return at;
}

/* The sites of the directions that it selects. -ENOMEM. */
static int make_sites(const struct policy *p, struct site **ret, size_t *ret_n)
{
        struct site *sites, *at;
        size_t n = 0;

        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                for (size_t i = 0; i < p->rules[d].n; i++)
                        n += p->rules[d].v[i].n_peers + 1;
        sites = new0(struct site, n + 1);
        if (!sites)
                return -ENOMEM;
        at = sites;
        for (unsigned int d = 0; d < SLIM_POLICY_DIRECTIONS; d++)
                for (size_t i = 0; p->selects[d] && i < p->rules[d].n; i++)
                        at = add_sites(at, &p->rules[d].v[i], (enum slim_policy_direction)d);
        *ret = sites;
        *ret_n = (size_t)(at - sites);
        return 0;
}

static struct compiled *find_policy(const struct policy_engine *engine, const char *network,
                                    const char *name)
{
        char key[sizeof(((struct compiled *)0)->key)];
        struct compiled *c = NULL;

        if ((size_t)snprintf(key, sizeof(key), "%s/%s", network, name) < sizeof(key))
                HASH_FIND_STR(engine->policies, key, c);
        return c;
}

/* A place in the table for a policy of a new name. */
static int compiled_new(struct policy_engine *engine, const struct policy *p, struct compiled **ret)
{
        _cleanup_(compiled_freep) struct compiled *c = new0(struct compiled, 1);
        int r;

        if (!c)
                return -ENOMEM;
        snprintf(c->key, sizeof(c->key), "%s/%s", p->network, p->name);
        r = network_ref(engine, p->network, &c->network);
        if (r < 0)
                return r;
        HASH_ADD_STR(engine->policies, key, c);
        if (!c->hh.tbl) {
                network_unref(engine, c->network);
                return -ENOMEM;
        }
        *ret = TAKE_PTR(c);
        return 0;
}

int policy_engine_put(struct policy_engine *engine, struct policy **policy)
{
        struct compiled *c = find_policy(engine, (*policy)->network, (*policy)->name);
        struct site *sites;
        size_t n_sites;
        int r;

        r = make_sites(*policy, &sites, &n_sites);
        if (r < 0)
                return r;
        if (!c)
                r = compiled_new(engine, *policy, &c);
        if (r < 0) {
                free(sites);
                return r;
        }
        remove_subjects(engine, c);
        c->n_subjects = 0;
        sites_free(c->sites, c->n_sites);
        if (c->policy)
                policy_free(c->policy);
        c->policy = TAKE_PTR(*policy);
        c->sites = sites;
        c->n_sites = n_sites;
        add_subjects(engine, c);
        return 0;
}

int policy_engine_drop(struct policy_engine *engine, const char *network, const char *name)
{
        struct compiled *c = find_policy(engine, network, name);

        if (!c)
                return -ENOENT;
        remove_subjects(engine, c);
        HASH_DEL(engine->policies, c);
        network_unref(engine, c->network);
        compiled_free(c);
        return 0;
}

const struct policy *policy_engine_get(const struct policy_engine *engine, const char *network,
                                       const char *name)
{
        const struct compiled *c = find_policy(engine, network, name);

        return c ? c->policy : NULL;
}

/* --- labels of networks ----------------------------------------------------------------------- */

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

static void set_labels(struct policy_engine *engine, struct network *n, struct labels *labels)
{
        bool same = labels_equal(&n->labels, labels);

        labels_clear(&n->labels);
        n->labels = *labels;
        for (struct compiled *c = engine->policies; c && !same; c = c->hh.next)
                for (size_t i = 0; c->n_subjects && i < c->n_sites; i++)
                        if (c->sites[i].peer && c->sites[i].peer->has_namespaces)
                                rematch(engine, c, &c->sites[i], n);
}

int policy_engine_put_network(struct policy_engine *engine, const char *network,
                              const struct labels *labels)
{
        struct labels all = {};
        struct network *n;
        int r;

        r = network_labels(network, labels, &all);
        if (r < 0)
                return r;
        r = network_ref(engine, network, &n);
        if (r < 0) {
                labels_clear(&all);
                return r;
        }
        n->has_labels = true;
        set_labels(engine, n, &all);
        network_unref(engine, n);
        return 0;
}

int policy_engine_drop_network(struct policy_engine *engine, const char *network)
{
        struct labels own = {};
        struct network *n;
        int r;

        r = network_labels(network, NULL, &own);
        if (r < 0)
                return r;
        r = network_ref(engine, network, &n);
        if (r < 0) {
                labels_clear(&own);
                return r;
        }
        n->has_labels = false;
        set_labels(engine, n, &own);
        network_unref(engine, n);
        return 0;
}

/* --- identities ------------------------------------------------------------------------------- */

struct identity *engine_identity(const struct policy_engine *engine, uint32_t id)
{
        struct identity *i;

        HASH_FIND(by_id, engine->identities_by_id, &id, sizeof(id), i);
        return i && i->refs > 0 ? i : NULL;
}

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

static int compare_ports(const void *a, const void *b)
{
        const struct named_port *x = a, *y = b;
        int order = strcmp(x->name, y->name);

        return order ? order : (x->protocol > y->protocol) - (x->protocol < y->protocol);
}

/* A copy, in an order that only depends on what they are. */
static int sort_ports(const struct policy_identity *from, struct named_port **ret)
{
        _cleanup_free_ struct named_port *ports = new0(struct named_port, from->n_ports + 1);

        if (!ports)
                return -ENOMEM;
        if (from->n_ports > POLICY_NAMED_PORTS_MAX)
                return -E2BIG;
        for (size_t i = 0; i < from->n_ports; i++) {
                if (!policy_port_name_is_valid(from->ports[i].name) || !from->ports[i].port ||
                    !policy_protocol_name(from->ports[i].protocol))
                        return -EINVAL;
                strcpy(ports[i].name, from->ports[i].name);
                ports[i].protocol = from->ports[i].protocol;
                ports[i].port = from->ports[i].port;
        }
        qsort(ports, from->n_ports, sizeof(*ports), compare_ports);
        for (size_t i = 1; i < from->n_ports; i++)
                if (compare_ports(&ports[i - 1], &ports[i]) == 0)
                        return -EINVAL;
        *ret = TAKE_PTR(ports);
        return 0;
}

/* A text for all that makes an identity. No name, label or port has a line's end in it. */
static char *identity_key(const char *network, const struct labels *labels,
                          const struct named_port *ports, size_t n_ports, bool is_host)
{
        char *key = NULL;
        size_t size;
        FILE *f = open_memstream(&key, &size);

        if (!f)
                return NULL;
        fprintf(f, "%s\n%d\n", network, is_host);
        for (size_t i = 0; i < labels->n; i++)
                fprintf(f, "%s=%s\n", labels->v[i].key, labels->v[i].value);
        for (size_t i = 0; i < n_ports; i++)
                fprintf(f, "%s:%u:%u\n", ports[i].name, ports[i].protocol, ports[i].port);
        if (fclose(f) == 0)
                return key;
        free(key);
        return NULL;
}

static void identity_free(struct identity *i)
{
        labels_clear(&i->labels);
        free(i->ports);
        free(i->key);
        free(i);
}
DEFINE_CLEANUP(struct identity *, identity_free)

/* In both tables, with a number. On failure in neither. */
static int identity_insert(struct policy_engine *engine, struct identity *i, const char *network)
{
        int r;

        i->id = take_number(&engine->identity_numbers);
        if (!i->id)
                return -ENOMEM;
        r = network_ref(engine, network, &i->network);
        if (r == 0) {
                HASH_ADD_KEYPTR(hh, engine->identities, i->key, strlen(i->key), i);
                if (i->hh.tbl) {
                        HASH_ADD(by_id, engine->identities_by_id, id, sizeof(i->id), i);
                        if (i->by_id.tbl)
                                return 0;
                        HASH_DEL(engine->identities, i);
                }
                network_unref(engine, i->network);
                r = -ENOMEM;
        }
        give_number(&engine->identity_numbers, i->id);
        return r;
}

/* Of one that was adopted, and that is somebody from now on. -ENOENT: there is none. */
static int identity_claim(struct policy_engine *engine, const struct policy_identity *from,
                          char **key, struct named_port **ports, struct identity **ret)
{
        _cleanup_(labels_clearp) struct labels *labels = &(struct labels){};
        struct network *network;
        struct identity *i;
        int r;

        HASH_FIND(by_id, engine->identities_by_id, &from->number, sizeof(from->number), i);
        if (!i || i->key)
                return -ENOENT;
        r = labels_copy(&from->labels, labels);
        if (r < 0)
                return r;
        r = network_ref(engine, from->network, &network);
        if (r < 0)
                return r;
        HASH_ADD_KEYPTR(hh, engine->identities, *key, strlen(*key), i);
        if (!i->hh.tbl) {
                network_unref(engine, network);
                return -ENOMEM;
        }
        i->network = network;
        i->labels = *TAKE_PTR(labels);
        i->n_ports = from->n_ports;
        i->is_host = from->is_host;
        i->ports = TAKE_PTR(*ports);
        i->key = TAKE_PTR(*key);
        *ret = i;
        return 0;
}

static int identity_new(struct policy_engine *engine, const struct policy_identity *from,
                        char **key, struct named_port **ports, struct identity **ret)
{
        _cleanup_(identity_freep) struct identity *i = NULL;
        int r;

        r = identity_claim(engine, from, key, ports, ret);
        if (r != -ENOENT)
                return r;
        i = new0(struct identity, 1);

        if (!i)
                return -ENOMEM;
        r = labels_copy(&from->labels, &i->labels);
        if (r < 0)
                return r;
        i->n_ports = from->n_ports;
        i->is_host = from->is_host;
        i->ports = TAKE_PTR(*ports);
        i->key = TAKE_PTR(*key);
        r = identity_insert(engine, i, from->network);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(i);
        return 0;
}

/* Its first endpoint: it is a peer from now on. */
static void identity_appears(struct policy_engine *engine, struct identity *i)
{
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t n = 0; c->n_subjects && n < c->n_sites; n++)
                        if (c->sites[n].wants_identities && site_means(c, &c->sites[n], i))
                                site_add(engine, c, &c->sites[n], i);
}

static void identity_disappears(struct policy_engine *engine, struct identity *i)
{
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                for (size_t n = 0; c->n_subjects && n < c->n_sites; n++)
                        if (c->sites[n].wants_identities)
                                site_remove(engine, c, &c->sites[n], i);
}

/* Its first endpoint here: it is a subject from now on. */
static void subject_appears(struct policy_engine *engine, struct identity *i)
{
        engine->n_subjects++;
        identity_changed(engine, i);
        for (struct compiled *c = engine->policies; c; c = c->hh.next)
                if (selects(c, i))
                        add_subject(engine, c, i);
}

static void subject_disappears(struct policy_engine *engine, struct identity *i)
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

int policy_engine_identity_ref(struct policy_engine *engine, const struct policy_identity *identity,
                               bool local, uint32_t *ret_id)
{
        _cleanup_free_ struct named_port *ports = NULL;
        _cleanup_free_ char *key = NULL;
        struct identity *i;
        int r;

        r = sort_ports(identity, &ports);
        if (r < 0)
                return r;
        key = identity_key(identity->network, &identity->labels, ports, identity->n_ports,
                           identity->is_host);
        if (!key)
                return -ENOMEM;
        HASH_FIND_STR(engine->identities, key, i);
        if (!i) {
                r = identity_new(engine, identity, &key, &ports, &i);
                if (r < 0)
                        return r;
        }
        /* First as a peer: what it is compiled for as a subject looks for all that there are. */
        if (i->refs++ == 0)
                identity_appears(engine, i);
        if (local && i->local_refs++ == 0)
                subject_appears(engine, i);
        *ret_id = i->id;
        return 0;
}

int policy_engine_identity_unref(struct policy_engine *engine, uint32_t id, bool local)
{
        struct identity *i = engine_identity(engine, id);

        if (!i || (local && i->local_refs == 0))
                return -ENOENT;
        if (local && --i->local_refs == 0)
                subject_disappears(engine, i);
        if (--i->refs == 0)
                identity_disappears(engine, i);
        return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

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
                add_subjects(engine, c);
        return engine->incomplete ? -ENOMEM : 0;
}

void engine_release_identity(struct policy_engine *engine, struct identity *i)
{
        if (i->key) {
                HASH_DEL(engine->identities, i);
                network_unref(engine, i->network);
        }
        HASH_DELETE(by_id, engine->identities_by_id, i);
        give_number(&engine->identity_numbers, i->id);
        identity_free(i);
}

void engine_release_cidr(struct policy_engine *engine, struct cidr *c)
{
        HASH_DEL(engine->cidrs, c);
        give_number(&engine->cidr_numbers, c->id);
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

int policy_engine_new(struct policy_engine **ret)
{
        struct policy_engine *engine = new0(struct policy_engine, 1);

        if (!engine)
                return -ENOMEM;
        *ret = engine;
        return 0;
}

void policy_engine_free(struct policy_engine *engine)
{
        struct rule *rule, *next_rule;
        struct cidr *cidr, *next_cidr;
        struct compiled *c, *next_c;
        struct identity *i, *next_i;
        struct network *n, *next_n;

        HASH_ITER(hh, engine->rules, rule, next_rule)
        {
                engine_release_rule(engine, rule);
        }
        HASH_ITER(hh, engine->cidrs, cidr, next_cidr)
        {
                engine_release_cidr(engine, cidr);
        }
        HASH_ITER(hh, engine->policies, c, next_c)
        {
                HASH_DEL(engine->policies, c);
                compiled_free(c);
        }
        HASH_ITER(by_id, engine->identities_by_id, i, next_i)
        {
                engine_release_identity(engine, i);
        }
        /* What is left: networks with labels of their own, and with references of policies. */
        HASH_ITER(hh, engine->networks, n, next_n)
        {
                HASH_DEL(engine->networks, n);
                network_free(n);
        }
        free(engine->identity_numbers.free);
        free(engine->cidr_numbers.free);
        free(engine->adopted_cidrs);
        free(engine);
}

void policy_engine_stats(const struct policy_engine *engine, struct policy_engine_stats *ret)
{
        *ret = (struct policy_engine_stats){
            .policies = HASH_COUNT(engine->policies),
            .subjects = engine->n_subjects,
            .rules = engine->n_wanted_rules,
        };
        for (const struct identity *i = engine->identities; i; i = i->hh.next)
                ret->identities += i->refs > 0;
        for (const struct cidr *c = engine->cidrs; c; c = c->hh.next)
                ret->cidrs += c->refs > 0;
}
