/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The operations: what the engine is told, and who has which number.
 */
#include "policy-engine-parts.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

/* --- numbers ---------------------------------------------------------------------------------- */

/* Room to give all of them back is made beforehand, since that must not fail. 0: no memory. */
uint32_t engine_take_number(struct numbers *numbers)
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

void engine_give_number(struct numbers *numbers, uint32_t number)
{
        numbers->free[numbers->n++] = number;
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

/* --- policies --------------------------------------------------------------------------------- */

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
        compile_no_policy(engine, c);
        c->n_subjects = 0;
        sites_free(c->sites, c->n_sites);
        if (c->policy)
                policy_free(c->policy);
        c->policy = TAKE_PTR(*policy);
        c->sites = sites;
        c->n_sites = n_sites;
        compile_policy(engine, c);
        return 0;
}

int policy_engine_drop(struct policy_engine *engine, const char *network, const char *name)
{
        struct compiled *c = find_policy(engine, network, name);

        if (!c)
                return -ENOENT;
        compile_no_policy(engine, c);
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

static void set_labels(struct policy_engine *engine, struct network *n, struct labels *labels)
{
        bool same = labels_equal(&n->labels, labels);

        labels_clear(&n->labels);
        n->labels = *labels;
        if (!same)
                compile_network(engine, n);
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
        size_t size = strlen(network) + sizeof("\n1\n");
        char *key, *end;

        for (size_t i = 0; i < labels->n; i++)
                size += strlen(labels->v[i].key) + strlen(labels->v[i].value) + strlen("=\n");
        size += n_ports * (PORT_NAME_MAX + strlen(":255:65535\n"));
        key = malloc(size);
        if (!key)
                return NULL;
        end = key + sprintf(key, "%s\n%d\n", network, is_host);
        for (size_t i = 0; i < labels->n; i++)
                end += sprintf(end, "%s=%s\n", labels->v[i].key, labels->v[i].value);
        for (size_t i = 0; i < n_ports; i++)
                end += sprintf(end, "%s:%u:%u\n", ports[i].name, ports[i].protocol, ports[i].port);
        return key;
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

        i->id = engine_take_number(&engine->identity_numbers);
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
        engine_give_number(&engine->identity_numbers, i->id);
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
                compile_peer(engine, i);
        if (local && i->local_refs++ == 0)
                compile_subject(engine, i);
        *ret_id = i->id;
        return 0;
}

int policy_engine_identity_unref(struct policy_engine *engine, uint32_t id, bool local)
{
        struct identity *i = engine_identity(engine, id);

        if (!i || (local && i->local_refs == 0))
                return -ENOENT;
        if (local && --i->local_refs == 0)
                compile_no_subject(engine, i);
        if (--i->refs == 0)
                compile_no_peer(engine, i);
        return 0;
}

/* --- the whole -------------------------------------------------------------------------------- */

void engine_release_identity(struct policy_engine *engine, struct identity *i)
{
        if (i->key) {
                HASH_DEL(engine->identities, i);
                network_unref(engine, i->network);
        }
        HASH_DELETE(by_id, engine->identities_by_id, i);
        engine_give_number(&engine->identity_numbers, i->id);
        identity_free(i);
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
