/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"
#include "mirror.h"

/* An endpoint's number in the maps that were taken over. */
struct old_number {
        uint32_t endpoint;
        uint32_t identity;
        UT_hash_handle hh; /* by endpoint */
};

/* Who has a number there: is it still one identity? */
struct old_identity {
        uint32_t identity;
        const struct endpoint *first;
        bool split;
        UT_hash_handle hh; /* by identity */
};

struct policy_past {
        struct old_number *numbers;
        struct old_identity *identities;
        bool matched;
        int error;
};

/* --- the maps --------------------------------------------------------------------------------- */

static int put(struct slimd *d, enum datapath_map map, const void *key, const void *value)
{
        d->policy_moved = true;
        return bpf_map_update_elem(datapath_map_fd(d->dp, map), key, value, BPF_ANY) < 0 ? -errno
                                                                                         : 0;
}

static int drop(struct slimd *d, enum datapath_map map, const void *key)
{
        d->policy_moved = true;
        if (bpf_map_delete_elem(datapath_map_fd(d->dp, map), key) < 0 && errno != ENOENT)
                return -errno;
        return 0;
}

static int put_rule(const struct slim_policy_key *key, void *userdata)
{
        const uint32_t one = 1;

        return put(userdata, DATAPATH_POLICY_RULES, key, &one);
}

static int put_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        return put(userdata, DATAPATH_POLICY_CIDRS, key, &id);
}

static int put_subject(uint32_t identity, const struct slim_policy_subject *subject, void *userdata)
{
        return put(userdata, DATAPATH_POLICY_SUBJECTS, &identity, subject);
}

static int drop_subject(uint32_t identity, void *userdata)
{
        return drop(userdata, DATAPATH_POLICY_SUBJECTS, &identity);
}

static int drop_cidr(const struct slim_prefix_key *key, void *userdata)
{
        return drop(userdata, DATAPATH_POLICY_CIDRS, key);
}

static int drop_rule(const struct slim_policy_key *key, void *userdata)
{
        return drop(userdata, DATAPATH_POLICY_RULES, key);
}

static const struct policy_sink sink = {
    .put_rule = put_rule,
    .put_cidr = put_cidr,
    .put_subject = put_subject,
    .drop_subject = drop_subject,
    .drop_cidr = drop_cidr,
    .drop_rule = drop_rule,
};

int policy_flush(struct slimd *d)
{
        int r = policy_engine_flush(d->engine, &sink, d);

        if (r < 0 && r != d->policy_error)
                log_error_errno(r, "cannot write the policies into the kernel's maps: %m; what is "
                                   "there stays in force, and no container starts until they are");
        else if (r == 0 && d->policy_error)
                log_info("the policies are in the kernel's maps again");
        d->policy_error = r;
        return r;
}

/* --- the maps of an earlier slimd ------------------------------------------------------------- */

/* Is it taken over? What is not, because nobody could have put it there, goes. */
static bool taken(struct slimd *d, int r)
{
        if (r == -ENOMEM)
                d->past->error = r;
        return r == 0 || r == -ENOMEM;
}

static bool take_cidr(const void *key, void *userdata)
{
        struct slimd *d = userdata;
        uint32_t id;

        if (bpf_map_lookup_elem(datapath_map_fd(d->dp, DATAPATH_POLICY_CIDRS), key, &id) < 0)
                return false;
        return taken(d, policy_engine_adopt_cidr(d->engine, key, id));
}

static bool take_subject(const void *key, void *userdata)
{
        struct slimd *d = userdata;
        struct slim_policy_subject s;

        if (bpf_map_lookup_elem(datapath_map_fd(d->dp, DATAPATH_POLICY_SUBJECTS), key, &s) < 0)
                return false;
        return taken(d, policy_engine_adopt_identity(d->engine, *(const uint32_t *)key, s.flags));
}

static bool take_rule(const void *key, void *userdata)
{
        struct slimd *d = userdata;

        return taken(d, policy_engine_adopt_rule(d->engine, key));
}

/* An endpoint's number. Its entry stays in any case: whether it does is the store's affair. */
static bool take_number(const void *key, void *userdata)
{
        struct slimd *d = userdata;
        struct slim_endpoint e;
        struct old_number *n;

        if (bpf_map_lookup_elem(datapath_map_fd(d->dp, DATAPATH_IDENTITIES), key, &e) < 0 ||
            !e.identity || !taken(d, policy_engine_adopt_identity(d->engine, e.identity, 0)))
                return true;
        n = new0(struct old_number, 1);
        if (!n)
                return taken(d, -ENOMEM);
        n->endpoint = e.id;
        n->identity = e.identity;
        HASH_ADD(hh, d->past->numbers, endpoint, sizeof(n->endpoint), n);
        return true;
}

static int take_over(struct slimd *d)
{
        static const struct {
                enum datapath_map map;
                size_t key_size;
                bool (*take)(const void *key, void *userdata);
        } maps[] = {
            {DATAPATH_POLICY_CIDRS, sizeof(struct slim_prefix_key), take_cidr},
            {DATAPATH_IDENTITIES, sizeof(uint32_t), take_number},
            {DATAPATH_POLICY_SUBJECTS, sizeof(uint32_t), take_subject},
            {DATAPATH_POLICY_RULES, sizeof(struct slim_policy_key), take_rule},
        };
        int r = 0;

        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(maps); i++) {
                r = datapath_map_prune(d->dp, maps[i].map, maps[i].key_size, maps[i].take, d);
                if (r < 0)
                        return log_error_errno(r, "cannot read the map %s: %m",
                                               datapath_map_name(maps[i].map));
        }
        return d->past->error;
}

static void past_free(struct slimd *d)
{
        struct old_number *n, *next_n;
        struct old_identity *i, *next_i;

        if (!d->past)
                return;
        HASH_ITER(hh, d->past->numbers, n, next_n)
        {
                HASH_DEL(d->past->numbers, n);
                free(n);
        }
        HASH_ITER(hh, d->past->identities, i, next_i)
        {
                HASH_DEL(d->past->identities, i);
                free(i);
        }
        free(d->past);
        d->past = NULL;
}

int policy_start(struct slimd *d)
{
        int r = policy_engine_new(&d->engine);

        if (r == 0) {
                d->past = new0(struct policy_past, 1);
                r = d->past ? take_over(d) : -ENOMEM;
        }
        return r == -ENOMEM ? log_error_errno(r, "cannot take over the policies: %m") : r;
}

void policy_stop(struct slimd *d)
{
        past_free(d);
        if (d->engine)
                policy_engine_free(d->engine);
        d->engine = NULL;
}

int policy_taken_over(struct slimd *d)
{
        int r;

        if (!d->past)
                return 0;
        r = policy_engine_adopt_end(d->engine);
        if (r < 0)
                return r;
        past_free(d);
        return policy_flush(d);
}

/* --- endpoints -------------------------------------------------------------------------------- */

static bool same_json(json_t *a, json_t *b)
{
        return a == b || json_equal(a, b);
}

static bool same_identity(const struct endpoint *a, const struct endpoint *b)
{
        return strcmp(a->network, b->network) == 0 && a->is_host == b->is_host &&
               (!a->is_host || strcmp(a->host, b->host) == 0) && same_json(a->labels, b->labels) &&
               same_json(a->ports, b->ports);
}

static struct old_identity *old_identity(const struct slimd *d, const struct endpoint *e)
{
        struct old_number *n;
        struct old_identity *i = NULL;

        HASH_FIND(hh, d->past->numbers, &e->id, sizeof(e->id), n);
        if (n)
                HASH_FIND(hh, d->past->identities, &n->identity, sizeof(n->identity), i);
        return i;
}

/*
 * While no slimd was there, labels of some endpoints of one number may have changed. Nobody keeps
 * that number then: for one of them or the others the rules would be wrong until their entries are
 * written anew.
 */
void policy_match_numbers(struct slimd *d)
{
        if (!d->past || d->past->matched)
                return;
        d->past->matched = true;
        for (struct endpoint *e = d->model.endpoints; e; e = e->hh.next) {
                struct old_identity *i = old_identity(d, e);
                struct old_number *n;

                if (i && !same_identity(i->first, e))
                        i->split = true;
                HASH_FIND(hh, d->past->numbers, &e->id, sizeof(e->id), n);
                if (i || !n)
                        continue;
                i = new0(struct old_identity, 1);
                if (!i)
                        return; /* the others get new numbers */
                i->identity = n->identity;
                i->first = e;
                HASH_ADD(hh, d->past->identities, identity, sizeof(i->identity), i);
        }
        for (struct old_identity *i = d->past->identities; i; i = i->hh.next)
                i->first = NULL; /* which is the model's, and may go */
}

static uint32_t number_of(const struct slimd *d, const struct endpoint *e)
{
        const struct old_identity *i = d->past ? old_identity(d, e) : NULL;

        return i && !i->split ? i->identity : 0;
}

static void unref(struct slimd *d, uint32_t *identity, bool local)
{
        if (*identity && policy_engine_identity_unref(d->engine, *identity, local) < 0)
                log_debug("policy identity %u is not known", *identity);
        *identity = 0;
}

int policy_identify(struct slimd *d, struct endpoint *e)
{
        _cleanup_(labels_clear) struct labels labels = {};
        struct policy_identity identity = {
            .network = e->network, .is_host = e->is_host, .number = number_of(d, e)};
        char problem[LABELING_PROBLEM_MAX];
        bool local = mirror_is_local(d, e);
        struct named_ports ports = {};
        uint32_t id;
        int r;

        r = endpoint_labels(e, &labels);
        if (r == 0)
                r = named_ports_from_json(e->ports, &ports, problem);
        if (r < 0)
                return r;
        identity.labels = labels;
        identity.ports = ports.v;
        identity.n_ports = ports.n;
        r = policy_engine_identity_ref(d->engine, &identity, local, &id);
        if (r < 0)
                return r;
        /* What the maps have is kept; one that never got there, or is the same again, is not. */
        if (e->identity && !e->replaced && (e->identity != id || e->identity_local != local)) {
                e->replaced = e->identity;
                e->replaced_local = e->identity_local;
        } else {
                unref(d, &e->identity, e->identity_local);
        }
        e->identity = id;
        e->identity_local = local;
        return 0;
}

void policy_identified(struct slimd *d, struct endpoint *e)
{
        if (e->replaced)
                d->policy_moved = true;
        unref(d, &e->replaced, e->replaced_local);
}

void policy_forget(struct slimd *d, struct endpoint *e)
{
        if (!d->engine)
                return;
        unref(d, &e->replaced, e->replaced_local);
        unref(d, &e->identity, e->identity_local);
}

/* --- networks and policies -------------------------------------------------------------------- */

int policy_network_changed(struct slimd *d, const char *network)
{
        const struct network *n = model_network(&d->model, network);
        _cleanup_(labels_clear) struct labels labels = {};
        char problem[LABELING_PROBLEM_MAX];
        int r;

        if (!n)
                return policy_engine_drop_network(d->engine, network);
        r = labels_from_json(n->labels, &labels, problem);
        return r < 0 ? r : policy_engine_put_network(d->engine, network, &labels);
}

static bool same_policy(const struct policy *a, const struct policy *b)
{
        _cleanup_json_ json_t *x = policy_to_json(a), *y = policy_to_json(b);

        return x && y && json_equal(x, y);
}

/* What a value says, if it is about the policy that the key names. */
static int parse(const char *key, const char *value, struct policy **ret,
                 struct policy_error *ret_error)
{
        _cleanup_(policy_freep) struct policy *p = NULL;
        char own_key[POLICY_KEY_MAX];
        _cleanup_json_ json_t *json = json_loads(value, 0, NULL);
        int r;

        *ret_error = (struct policy_error){.text = "it is not JSON"};
        if (!json)
                return -EINVAL;
        r = policy_from_json(json, &p, ret_error);
        if (r < 0)
                return r;
        snprintf(own_key, sizeof(own_key), "%s/%s", p->network, p->name);
        if (strcmp(key, own_key) != 0) {
                snprintf(ret_error->text, sizeof(ret_error->text), "it is of %s", own_key);
                return -EINVAL;
        }
        *ret = TAKE_PTR(p);
        return 0;
}

static int apply(struct slimd *d, const char *key, const char *value, const struct policy *in_force)
{
        _cleanup_(policy_freep) struct policy *p = NULL;
        char text[POLICY_PATH_MAX + POLICY_TEXT_MAX];
        struct policy_error error;
        int r;

        r = parse(key, value, &p, &error);
        if (r == -EINVAL)
                log_error("store entry " STORE_POLICIES "%s cannot be used: %s, %s", key,
                          policy_error_format(&error, NULL, text, sizeof(text)),
                          in_force ? "the policy stays as it was" : "ignoring");
        if (r < 0)
                return r;
        return in_force && same_policy(in_force, p) ? 0 : policy_engine_put(d->engine, &p);
}

int policy_apply(struct slimd *d, const char *key, const char *value)
{
        char network[NAME_LEN_MAX + 1];
        const char *slash = strchr(key, '/'), *name = slash ? slash + 1 : "";
        const struct policy *in_force;
        int r = 0;

        if (!slash || (size_t)(slash - key) >= sizeof(network) || !subdomain_is_valid(name))
                return -EBADMSG;
        snprintf(network, sizeof(network), "%.*s", (int)(slash - key), key);
        if (!name_is_valid(network))
                return -EBADMSG;
        if (!value) {
                model_drop_policy(&d->model, key);
                (void)policy_engine_drop(d->engine, network, name); /* -ENOENT: it never was */
                return 0;
        }
        in_force = policy_engine_get(d->engine, network, name);
        r = apply(d, key, value, in_force);
        if (r == 0 || in_force) {
                int k = model_put_policy(&d->model, network, name);

                return r == -EINVAL ? k : r ?: k;
        }
        return r == -EINVAL ? 0 : r; /* that has been said */
}

void policy_drop_missing(struct slimd *d, const struct model *old)
{
        for (struct known_policy *p = old->policies; p; p = p->hh.next)
                if (!model_policy(&d->model, p->key))
                        (void)policy_engine_drop(d->engine, p->network, p->name);
        for (struct network *n = old->networks; n; n = n->hh.next)
                if (!model_network(&d->model, n->name) && policy_network_changed(d, n->name) < 0)
                        log_debug("the labels of network %s stay", n->name);
}
