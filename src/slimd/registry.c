/* SPDX-License-Identifier: Apache-2.0 */
#include "registry.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"
#include "cluster.h"
#include "local.h"
#include "mirror.h"

/* --- this host's endpoints in the store ------------------------------------------------------- */

struct endpoint_keys {
        char id[sizeof(STORE_ENDPOINTS) + 16];
        char name[sizeof(STORE_NAMES) + 2UL * (NAME_LEN_MAX + 1)];
        char addr[SLIM_FAMILIES][sizeof(STORE_ADDRESSES) + NAME_LEN_MAX + 1 + INADDR_TEXT_MAX];
        char network[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        char id_value[16];
};

static void endpoint_keys(const struct endpoint *e, struct endpoint_keys *k)
{
        snprintf(k->id, sizeof(k->id), STORE_ENDPOINTS "%u", e->id);
        snprintf(k->name, sizeof(k->name), STORE_NAMES "%s/%s", e->network, e->name);
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                char addr[INADDR_TEXT_MAX];

                snprintf(k->addr[f], sizeof(k->addr[f]), STORE_ADDRESSES "%s/%s", e->network,
                         inaddr_format(&e->addr[f], addr));
        }
        snprintf(k->network, sizeof(k->network), STORE_NETWORKS "%s", e->network);
        snprintf(k->id_value, sizeof(k->id_value), "%u", e->id);
}

#define CLAIMS_MAX (SLIM_FAMILIES + 1)

/* Those keys of an endpoint that another may have: its addresses and its name. How many. */
static size_t claims(const struct endpoint *e, const struct endpoint_keys *k,
                     const char *ret[CLAIMS_MAX])
{
        size_t n = 0;

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (!inaddr_is_none(&e->addr[f]))
                        ret[n++] = k->addr[f];
        if (!e->is_host)
                ret[n++] = k->name;
        return n;
}

static int put_endpoint(struct slimd *d, const struct endpoint *e, const struct endpoint_keys *k,
                        const struct store_compare *compare, size_t n)
{
        _cleanup_free_ char *value = endpoint_to_json(e);
        struct store_op ops[1 + CLAIMS_MAX] = {{.key = k->id, .value = value, .lease = d->lease}};
        const char *claimed[CLAIMS_MAX];
        size_t n_claimed = claims(e, k, claimed);

        if (!value)
                return -ENOMEM;
        for (size_t i = 0; i < n_claimed; i++)
                ops[1 + i] =
                    (struct store_op){.key = claimed[i], .value = k->id_value, .lease = d->lease};
        return store_transaction(d->store, compare, n, ops, 1 + n_claimed, NULL);
}

int registry_publish(struct slimd *d, const struct endpoint *e)
{
        struct endpoint_keys k;
        int64_t network;
        int r;

        endpoint_keys(e, &k);
        /* Compared too, so that a network cannot be removed while it gets its first endpoint. */
        r = store_get(d->store, k.network, NULL, &network);
        if (r < 0)
                return r == -ENOENT ? -ENETUNREACH : r;

        struct store_compare compare[2 + CLAIMS_MAX] = {
            {.key = k.network, .revision = network},
            {.key = k.id},
        };
        const char *claimed[CLAIMS_MAX];
        size_t n = claims(e, &k, claimed);

        for (size_t i = 0; i < n; i++)
                compare[2 + i] = (struct store_compare){.key = claimed[i]};
        return put_endpoint(d, e, &k, compare, 2 + n);
}

int registry_republish(struct slimd *d, const struct endpoint *e)
{
        const char *keys[CLAIMS_MAX];
        struct store_compare compare[CLAIMS_MAX] = {};
        struct endpoint_keys k;
        size_t n;

        endpoint_keys(e, &k);
        n = claims(e, &k, keys);
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *value = NULL;
                int r = store_get(d->store, keys[i], &value, &compare[i].revision);

                if (r < 0 && r != -ENOENT)
                        return r;
                if (r == 0 && strcmp(value, k.id_value) != 0)
                        return -EEXIST;
                compare[i].key = keys[i];
                if (r == -ENOENT)
                        compare[i].revision = 0;
        }
        return put_endpoint(d, e, &k, compare, n);
}

/* Deletes the endpoint's keys; a name or an address that another has by now stays. */
static int delete_keys(struct slimd *d, const struct endpoint *e)
{
        struct store_compare compare[CLAIMS_MAX];
        struct store_op ops[1 + CLAIMS_MAX];
        struct endpoint_keys k;
        const char *claimed[CLAIMS_MAX];
        size_t n = 0, n_claimed;

        endpoint_keys(e, &k);
        n_claimed = claims(e, &k, claimed);
        for (size_t i = 0; i < n_claimed; i++) {
                _cleanup_free_ char *value = NULL;
                int64_t revision;
                int r = store_get(d->store, claimed[i], &value, &revision);

                if (r < 0 && r != -ENOENT)
                        return r;
                if (r == -ENOENT || strcmp(value, k.id_value) != 0)
                        continue;
                compare[n] = (struct store_compare){.key = claimed[i], .revision = revision};
                ops[n++] = (struct store_op){.key = claimed[i]};
        }
        ops[n] = (struct store_op){.key = k.id};
        return store_transaction(d->store, compare, n, ops, n + 1, NULL);
}

int registry_delete(struct slimd *d, const struct endpoint *e)
{
        int r = -EAGAIN;

        /* Nobody but a lease's end changes the keys of a host's endpoints: once more is enough. */
        for (int tries = 0; r == -EAGAIN && tries < 3; tries++)
                r = delete_keys(d, e);
        return r;
}

int registry_withdraw(struct slimd *d, const struct endpoint *e)
{
        struct endpoint *old;
        int r;

        r = registry_delete(d, e);
        if (r < 0) {
                cluster_store_failed(d, r);
                return r;
        }
        if (!d->dp)
                return 0; /* at a teardown the rest is of no interest */
        r = cluster_sync(d);
        if (r < 0)
                return r;
        /* The store had lost it before us. */
        old = model_endpoint(&d->model, e->id);
        if (old) {
                mirror_drop_endpoint(d, old);
                (void)mirror_settle(d);
        }
        return 0;
}

/* What is to be different about an endpoint of this host. */
struct endpoint_change {
        int (*apply)(struct endpoint *e, const json_t *set, const json_t *remove, char *problem);
        const json_t *set, *remove;
        char *problem;
};

static int change_labels(struct endpoint *e, const json_t *set, const json_t *remove, char *problem)
{
        json_t *labels;
        int r = labeling_change(e->labels, set, remove, false, &labels, problem);

        if (r < 0)
                return r;
        json_decref(e->labels);
        e->labels = labels;
        return 0;
}

static int change_limits(struct endpoint *e, const json_t *set, const json_t *remove, char *problem)
{
        return limits_change(&e->limits, set, remove, problem);
}

static int try_change(struct slimd *d, const char *key, uint32_t id,
                      const struct endpoint_change *change)
{
        _cleanup_(endpoint_clear) struct endpoint e = {};
        _cleanup_free_ char *old = NULL, *value = NULL;
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key, .lease = d->lease};
        int r;

        r = store_get(d->store, key, &old, &compare.revision);
        if (r == 0)
                r = endpoint_from_json(id, old, &e);
        if (r == 0)
                r = change->apply(&e, change->set, change->remove, change->problem);
        if (r < 0)
                return r;
        value = endpoint_to_json(&e);
        if (!value)
                return -ENOMEM;
        op.value = value;
        return store_transaction(d->store, &compare, 1, &op, 1, NULL);
}

static int change_endpoint(struct slimd *d, const struct endpoint *e,
                           const struct endpoint_change *change)
{
        struct endpoint_keys k;
        int r = -EAGAIN;

        endpoint_keys(e, &k);
        for (int tries = 0; r == -EAGAIN && tries < 16; tries++)
                r = try_change(d, k.id, e->id, change);
        /* The endpoint, or the lease that it is put on: the timer publishes it again. */
        if (r == -ENOENT)
                r = -EAGAIN;
        return r < 0 ? r : cluster_sync(d);
}

int registry_label_endpoint(struct slimd *d, const struct endpoint *e, const json_t *set,
                            const json_t *remove, char *problem)
{
        return change_endpoint(d, e,
                               &(struct endpoint_change){change_labels, set, remove, problem});
}

int registry_limit_endpoint(struct slimd *d, const struct endpoint *e, const json_t *set,
                            const json_t *remove, char *problem)
{
        return change_endpoint(d, e,
                               &(struct endpoint_change){change_limits, set, remove, problem});
}

/* --- networks --------------------------------------------------------------------------------- */

static bool overlap(const struct network *a, const struct network *b)
{
        network_each_family(a, f)
        {
                if (b->prefix[f].bits && inaddr_prefix_overlaps(&a->prefix[f], &b->prefix[f]))
                        return true;
        }
        return false;
}

int registry_create_network(struct slimd *d, const struct network *wanted, struct network **ret,
                            const char **ret_other)
{
        struct network n = *wanted;
        char key[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        int r;

        snprintf(key, sizeof(key), STORE_NETWORKS "%s", n.name);
        for (int tries = 0; tries < 16; tries++) {
                _cleanup_free_ char *counter = NULL, *value = NULL;
                char id_text[16];
                int64_t counter_revision = 0;
                uint64_t last = 0;

                r = cluster_sync(d);
                if (r < 0)
                        return r;
                *ret_other = NULL;
                if (model_network(&d->model, n.name))
                        return -EEXIST;
                for (struct network *o = d->model.networks; o; o = o->hh.next)
                        if (overlap(o, &n)) {
                                *ret_other = o->name;
                                return -EEXIST;
                        }
                r = store_get(d->store, STORE_NETWORK_COUNTER, &counter, &counter_revision);
                if (r < 0 && r != -ENOENT)
                        return r;
                if (r == 0 && parse_uint(counter, 0, 0xfffffe, &last) < 0)
                        return -ENOSPC; /* 24 bits, as a VXLAN network identifier has */
                n.id = (uint32_t)last + 1;
                snprintf(id_text, sizeof(id_text), "%u", n.id);
                value = network_to_json(&n);
                if (!value)
                        return -ENOMEM;

                /* The counter changes with every new network, so two overlapping ones cannot be
                 * made at the same time. */
                const struct store_compare compare[] = {
                    {.key = key},
                    {.key = STORE_NETWORK_COUNTER, .revision = counter_revision},
                };
                const struct store_op ops[] = {
                    {.key = key, .value = value},
                    {.key = STORE_NETWORK_COUNTER, .value = id_text},
                };

                r = store_transaction(d->store, compare, 2, ops, 2, NULL);
                if (r == -EAGAIN)
                        continue;
                if (r < 0)
                        return r;
                r = cluster_sync(d);
                if (r < 0)
                        return r;
                *ret = model_network(&d->model, n.name);
                return *ret ? 0 : -ENOENT; /* removed again already */
        }
        return -EAGAIN;
}

static int label_network(struct slimd *d, const char *name, const json_t *set, const json_t *remove,
                         char *problem)
{
        _cleanup_(network_clear) struct network n = {};
        _cleanup_free_ char *old = NULL, *value = NULL;
        char key[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key};
        json_t *labels;
        int r;

        snprintf(key, sizeof(key), STORE_NETWORKS "%s", name);
        r = store_get(d->store, key, &old, &compare.revision);
        if (r == 0)
                r = network_from_json(name, old, &n);
        if (r == 0)
                r = labeling_change(n.labels, set, remove, true, &labels, problem);
        if (r < 0)
                return r;
        json_decref(n.labels);
        n.labels = labels;
        value = network_to_json(&n);
        if (!value)
                return -ENOMEM;
        op.value = value;
        return store_transaction(d->store, &compare, 1, &op, 1, NULL);
}

int registry_label_network(struct slimd *d, const char *name, const json_t *set,
                           const json_t *remove, char *problem)
{
        int r = -EAGAIN;

        for (int tries = 0; r == -EAGAIN && tries < 16; tries++)
                r = label_network(d, name, set, remove, problem);
        return r < 0 ? r : cluster_sync(d);
}

/* -EBUSY, -ENOTEMPTY: something is in it. */
static int check_unused(struct slimd *d, const char *name)
{
        const struct {
                const char *prefix;
                int error;
        } uses[] = {{STORE_NAMES, -EBUSY}, {STORE_POLICIES, -ENOTEMPTY}};

        for (size_t i = 0; i < ARRAY_SIZE(uses); i++) {
                _cleanup_(store_entries_done) struct store_entries used = {};
                char prefix[sizeof(STORE_POLICIES) + NAME_LEN_MAX + 1];
                int r;

                snprintf(prefix, sizeof(prefix), "%s%s/", uses[i].prefix, name);
                r = store_list(d->store, prefix, &used, NULL);
                if (r < 0)
                        return r;
                if (used.n > 0)
                        return uses[i].error;
        }
        return 0;
}

int registry_remove_network(struct slimd *d, const char *name)
{
        char key[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        _cleanup_free_ char *value = NULL;
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key};
        int r, late;

        snprintf(key, sizeof(key), STORE_NETWORKS "%s", name);
        r = store_get(d->store, key, &value, &compare.revision);
        if (r == 0)
                r = check_unused(d, name);
        if (r == 0)
                r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
        if (r < 0)
                return r;
        /* Nothing is put into it from now on; what was just before has it back. */
        late = check_unused(d, name);
        if (late == -EBUSY || late == -ENOTEMPTY) {
                compare.revision = 0;
                op.value = value;
                r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
        }
        (void)cluster_sync(d);
        return r < 0 ? r : late;
}

/* --- policies --------------------------------------------------------------------------------- */

struct policy_keys {
        char policy[sizeof(STORE_POLICIES) + POLICY_KEY_MAX];
        char network[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        char *value; /* NULL: it stays as it is */
};

/* What a transaction is made of. */
struct policy_write {
        struct policy_keys *keys;
        struct store_compare *compare; /* of each policy, and of its network if that is a new one */
        struct store_op *op;
        size_t n_keys, n_compare, n_op;
        json_t *networks; /* that are compared already */
};

static void policy_write_clear(struct policy_write *w)
{
        for (size_t i = 0; w->keys && i < w->n_keys; i++)
                free(w->keys[i].value);
        free(w->keys);
        free(w->compare);
        free(w->op);
        json_decref(w->networks);
}

/* It has to be there, and stay. */
static int require_network(struct slimd *d, struct policy_write *w, const char *key)
{
        int64_t revision;
        int r;

        if (json_object_get(w->networks, key))
                return 0;
        r = store_get(d->store, key, NULL, &revision);
        if (r < 0)
                return r == -ENOENT ? -ENETUNREACH : r;
        w->compare[w->n_compare++] = (struct store_compare){key, revision};
        return json_object_set_new(w->networks, key, json_true()) < 0 ? -ENOMEM : 0;
}

static int prepare_policy(struct slimd *d, struct policy_write *w, const struct policy *p,
                          enum registry_result *ret)
{
        struct policy_keys *k = &w->keys[w->n_keys++];
        _cleanup_json_ json_t *json = policy_to_json(p), *known = NULL;
        _cleanup_free_ char *old = NULL;
        int64_t revision = 0;
        int r;

        if (!json)
                return -ENOMEM;
        snprintf(k->policy, sizeof(k->policy), STORE_POLICIES "%s/%s", p->network, p->name);
        snprintf(k->network, sizeof(k->network), STORE_NETWORKS "%s", p->network);
        r = require_network(d, w, k->network);
        if (r < 0)
                return r;
        r = store_get(d->store, k->policy, &old, &revision);
        if (r < 0 && r != -ENOENT)
                return r;
        *ret = r == -ENOENT ? REGISTRY_CREATED : REGISTRY_CHANGED;
        w->compare[w->n_compare++] = (struct store_compare){k->policy, revision};
        known = old ? json_loads(old, 0, NULL) : NULL;
        if (known && json_equal(known, json)) {
                *ret = REGISTRY_UNCHANGED;
                return 0;
        }
        k->value = json_dumps(json, JSON_COMPACT);
        if (!k->value)
                return -ENOMEM;
        w->op[w->n_op++] = (struct store_op){.key = k->policy, .value = k->value};
        return 0;
}

static int apply_policies(struct slimd *d, struct policy *const *policies, size_t n,
                          enum registry_result *ret_results, const struct policy **ret_homeless)
{
        _cleanup_(policy_write_clear) struct policy_write w = {
            .keys = new0(struct policy_keys, n + 1),
            .compare = new0(struct store_compare, 2 * n + 1),
            .op = new0(struct store_op, n + 1),
            .networks = json_object(),
        };

        if (!w.keys || !w.compare || !w.op || !w.networks)
                return -ENOMEM;
        for (size_t i = 0; i < n; i++) {
                int r = prepare_policy(d, &w, policies[i], &ret_results[i]);

                if (r == -ENETUNREACH)
                        *ret_homeless = policies[i];
                if (r < 0)
                        return r;
        }
        return w.n_op ? store_transaction(d->store, w.compare, w.n_compare, w.op, w.n_op, NULL) : 0;
}

int registry_apply_policies(struct slimd *d, struct policy *const *policies, size_t n,
                            enum registry_result *ret_results, const struct policy **ret_homeless)
{
        int r = -EAGAIN;

        for (int tries = 0; r == -EAGAIN && tries < 16; tries++)
                r = apply_policies(d, policies, n, ret_results, ret_homeless);
        return r < 0 ? r : cluster_sync(d);
}

int registry_remove_policy(struct slimd *d, const char *network, const char *name)
{
        char key[sizeof(STORE_POLICIES) + POLICY_KEY_MAX];
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key};
        int r = -EAGAIN;

        snprintf(key, sizeof(key), STORE_POLICIES "%s/%s", network, name);
        for (int tries = 0; r == -EAGAIN && tries < 16; tries++) {
                r = store_get(d->store, key, NULL, &compare.revision);
                if (r == 0)
                        r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
        }
        return r < 0 ? r : cluster_sync(d);
}
