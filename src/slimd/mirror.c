/* SPDX-License-Identifier: Apache-2.0 */
#include "mirror.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/log.h"
#include "../shared/rpc.h"
#include "host.h"
#include "key.h"
#include "local.h"
#include "monitor.h"
#include "policy.h"
#include "publish.h"
#include "revoke.h"
#include "stack.h"

/* --- maps ------------------------------------------------------------------------------------- */

/* Without a data path (a teardown) there are no maps, and nothing to write. */
static int map_put(const struct slimd *d, enum datapath_map map, const void *key, const void *value)
{
        if (!d->dp)
                return 0;
        if (bpf_map_update_elem(datapath_map_fd(d->dp, map), key, value, BPF_ANY) < 0)
                return log_error_errno(-errno, "cannot write the map %s: %m, ignoring",
                                       datapath_map_name(map));
        return 0;
}

static void map_delete(const struct slimd *d, enum datapath_map map, const void *key)
{
        if (!d->dp)
                return;
        if (bpf_map_delete_elem(datapath_map_fd(d->dp, map), key) < 0 && errno != ENOENT)
                log_error_errno(-errno, "cannot delete from the map %s: %m, ignoring",
                                datapath_map_name(map));
}

bool mirror_is_local(const struct slimd *d, const struct endpoint *e)
{
        return strcmp(e->host, d->opt.host_name) == 0;
}

int mirror_endpoint(struct slimd *d, const struct endpoint *e)
{
        const struct local *l = mirror_is_local(d, e) ? local_find(d, e->id) : NULL;
        const struct endpoint *known = model_endpoint(&d->model, e->id);
        struct slim_endpoint value = {
            .id = e->id,
            .network = e->network_id,
            .flags = (e->slim ? SLIM_ENDPOINT_SLIM : 0U) | (e->is_host ? SLIM_ENDPOINT_HOST : 0U) |
                     (mirror_is_local(d, e) ? SLIM_ENDPOINT_LOCAL : 0U),
            .ifindex = l ? local_ifindex(l) : 0,
            .identity = known ? known->identity : 0,
        };
        int r;

        if (!known)
                return -ENOENT;
        if (known->pending)
                return 0;
        memcpy(value.addr, e->addr, sizeof(value.addr));
        memcpy(value.host, e->host_addr, sizeof(value.host));
        r = map_put(d, DATAPATH_IDENTITIES, &e->id, &value);
        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++) {
                struct slim_endpoint_key key = {.network = e->network_id, .addr = e->addr[f]};

                if (!inaddr_is_none(&e->addr[f]))
                        r = map_put(d, DATAPATH_ENDPOINTS, &key, &value);
        }
        if (r == 0 && e->is_host && mirror_is_local(d, e))
                r = stack_endpoint_up(d, e);
        return r;
}

void mirror_forget_endpoint(struct slimd *d, const struct endpoint *e)
{
        if (e->is_host && mirror_is_local(d, e))
                stack_endpoint_down(d, e);
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                struct slim_endpoint_key key = {.network = e->network_id, .addr = e->addr[f]};

                if (!inaddr_is_none(&e->addr[f]))
                        map_delete(d, DATAPATH_ENDPOINTS, &key);
        }
        map_delete(d, DATAPATH_IDENTITIES, &e->id);
}

void mirror_drop_endpoint(struct slimd *d, struct endpoint *e)
{
        if (mirror_is_local(d, e))
                d->policy_moved = true;
        monitor_forget(d, e);
        mirror_forget_endpoint(d, e);
        policy_forget(d, e);
        model_drop_endpoint(&d->model, e);
}

void mirror_touch(struct slimd *d, struct endpoint *e)
{
        e->pending = true;
        d->endpoints_pending = true;
}

/* Before they are written, all of them have identities. */
static int identify_pending(struct slimd *d)
{
        int r = 0;

        policy_match_numbers(d);
        for (struct endpoint *e = d->model.endpoints; e && r == 0; e = e->hh.next)
                if (e->pending)
                        r = policy_identify(d, e);
        return r < 0 ? log_error_errno(r, "cannot tell what policies are for which endpoint: %m")
                     : 0;
}

static void write_pending(struct slimd *d)
{
        d->endpoints_pending = false;
        for (struct endpoint *e = d->model.endpoints; e; e = e->hh.next) {
                int r;

                if (!e->pending)
                        continue;
                e->pending = false;
                r = mirror_endpoint(d, e);
                if (r < 0)
                        log_error_errno(r,
                                        "endpoint %s of network %s cannot be entered into the "
                                        "data path: %m, ignoring",
                                        e->name, e->network);
                policy_identified(d, e);
        }
}

int mirror_settle(struct slimd *d)
{
        int r = d->endpoints_pending ? identify_pending(d) : 0;

        if (r == 0)
                r = policy_flush(d);
        if (r == 0 && d->endpoints_pending) {
                write_pending(d);
                r = policy_flush(d);
        }
        if (r == 0 && d->loaded)
                r = policy_taken_over(d);
        if (d->hosts_moved && d->opt.notrack)
                (void)host_nat_update(d);
        d->hosts_moved = false;
        if (d->policy_moved)
                revoke_soon(d);
        d->policy_moved = false;
        return r;
}

static struct slim_prefix_key prefix_key(const struct inaddr_prefix *p)
{
        return (struct slim_prefix_key){.prefixlen = p->bits, .addr = p->addr};
}

static int put_prefixes(const struct slimd *d, const struct network *n)
{
        int r = 0;

        network_each_family(n, f)
        {
                struct slim_prefix_key key = prefix_key(&n->prefix[f]);

                r = map_put(d, DATAPATH_PREFIXES, &key, &n->id);
                if (r < 0)
                        break;
        }
        return r;
}

static void forget_prefixes(const struct slimd *d, const struct network *n)
{
        network_each_family(n, f)
        {
                struct slim_prefix_key key = prefix_key(&n->prefix[f]);

                map_delete(d, DATAPATH_PREFIXES, &key);
        }
}

static int put_host(const struct slimd *d, const struct host *h)
{
        uint32_t one = 1;
        int r = 0;

        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                if (!inaddr_is_none(&h->addr[f]))
                        r = map_put(d, DATAPATH_HOSTS, &h->addr[f], &one);
        return r;
}

static void forget_host(const struct slimd *d, const struct host *h)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (!inaddr_is_none(&h->addr[f]))
                        map_delete(d, DATAPATH_HOSTS, &h->addr[f]);
}

/* --- what the maps keep when everything is loaded anew ---------------------------------------- */

static bool keep_endpoint(const void *key, void *userdata)
{
        const struct slim_endpoint_key *k = key;
        const struct slimd *d = userdata;

        return model_endpoint_by_addr(&d->model, k->network, &k->addr);
}

static bool keep_identity(const void *key, void *userdata)
{
        const struct slimd *d = userdata;

        return model_endpoint(&d->model, *(const uint32_t *)key);
}

static bool keep_prefix(const void *key, void *userdata)
{
        const struct slimd *d = userdata;

        for (struct network *n = d->model.networks; n; n = n->hh.next)
                network_each_family(n, f)
                {
                        struct slim_prefix_key k = prefix_key(&n->prefix[f]);

                        if (memcmp(&k, key, sizeof(k)) == 0)
                                return true;
                }
        return false;
}

static bool keep_host(const void *key, void *userdata)
{
        const struct slimd *d = userdata;

        for (struct host *h = d->model.hosts; h; h = h->hh.next)
                if (inaddr_is_one_of(key, h->addr))
                        return true;
        return false;
}

static bool keep_host_endpoint(const void *key, void *userdata)
{
        const struct slimd *d = userdata;

        for (struct endpoint *e = d->model.endpoints; e; e = e->hh.next)
                if (e->is_host && mirror_is_local(d, e) && e->network_id == *(const uint32_t *)key)
                        return true;
        return false;
}

void mirror_prune(struct slimd *d)
{
        const struct {
                enum datapath_map map;
                size_t key_size;
                bool (*keep)(const void *, void *);
        } maps[] = {
            {DATAPATH_ENDPOINTS, sizeof(struct slim_endpoint_key), keep_endpoint},
            {DATAPATH_IDENTITIES, sizeof(uint32_t), keep_identity},
            {DATAPATH_PREFIXES, sizeof(struct slim_prefix_key), keep_prefix},
            {DATAPATH_HOSTS, sizeof(union slim_addr), keep_host},
            {DATAPATH_HOST_ENDPOINTS, sizeof(uint32_t), keep_host_endpoint},
            {DATAPATH_PUBLISHED, sizeof(struct slim_published_key), publish_keeps},
        };

        for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
                int r = datapath_map_prune(d->dp, maps[i].map, maps[i].key_size, maps[i].keep, d);

                if (r < 0)
                        log_error_errno(r, "cannot clean the map %s: %m, ignoring",
                                        datapath_map_name(maps[i].map));
        }
}

/* --- one entry of the store ------------------------------------------------------------------- */

static bool same_prefixes(const struct network *a, const struct network *b)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (a->prefix[f].bits != b->prefix[f].bits ||
                    !inaddr_equal(&a->prefix[f].addr, &b->prefix[f].addr))
                        return false;
        return a->id == b->id;
}

static int forget_network(struct slimd *d, struct network *n)
{
        char name[NAME_LEN_MAX + 1];
        int r;

        if (!n)
                return 0;
        forget_prefixes(d, n);
        host_network_down(d, n);
        snprintf(name, sizeof(name), "%s", n->name);
        model_drop_network(&d->model, n);
        r = policy_network_changed(d, name);
        return r < 0 ? r : host_nat_update(d);
}

static int apply_network(struct slimd *d, const char *name, const char *value)
{
        struct network n, *old = model_network(&d->model, name);
        int r;

        if (!value)
                return forget_network(d, old);
        r = network_from_json(name, value, &n);
        if (r < 0)
                return r;
        /* Its labels are nothing to the host's devices and routes. */
        if (old && same_prefixes(old, &n)) {
                r = model_put_network(&d->model, &n, &old);
                return r < 0 ? r : policy_network_changed(d, name);
        }
        if (old)
                host_network_down(d, old);
        r = model_put_network(&d->model, &n, &old);
        if (r == 0)
                r = policy_network_changed(d, name);
        if (r == 0)
                r = put_prefixes(d, old);
        if (r == 0)
                r = host_network_up(d, old);
        return r < 0 ? r : host_nat_update(d);
}

static int apply_host(struct slimd *d, const char *name, const char *value)
{
        struct host h, *old = model_host(&d->model, name);
        int r;

        if (old && !value) {
                forget_host(d, old);
                model_drop_host(&d->model, old);
                d->hosts_moved = true;
        }
        if (!value)
                return 0;
        r = host_from_json(name, value, &h);
        if (r < 0)
                return r;
        if (!old || !addrs_equal(old->addr, h.addr))
                d->hosts_moved = true;
        if (old && !addrs_equal(old->addr, h.addr))
                forget_host(d, old);
        r = model_put_host(&d->model, &h, &old);
        return r < 0 ? r : put_host(d, old);
}

static int apply_endpoint(struct slimd *d, const char *id_text, const char *value)
{
        struct endpoint e, *old;
        uint64_t id;
        int r;

        if (parse_uint(id_text, 1, UINT32_MAX, &id) < 0)
                return -EBADMSG;
        old = model_endpoint(&d->model, (uint32_t)id);
        if (!value) {
                /* What lives here is not given up because its lease ran out. */
                if (old && !local_find(d, old->id) && !(old->is_host && mirror_is_local(d, old)))
                        mirror_drop_endpoint(d, old);
                return 0;
        }
        r = endpoint_from_json((uint32_t)id, value, &e);
        if (r < 0)
                return r;
        if (old && (old->network_id != e.network_id || !addrs_equal(old->addr, e.addr)))
                mirror_forget_endpoint(d, old);
        r = model_put_endpoint(&d->model, &e, &old);
        if (r < 0)
                return r;
        local_take_changes(d, old);
        mirror_touch(d, old);
        return 0;
}

void mirror_apply(struct slimd *d, const struct store_entry *e)
{
        static const struct {
                const char *prefix;
                int (*apply)(struct slimd *d, const char *rest, const char *value);
        } kinds[] = {
            {STORE_NETWORKS, apply_network},
            {STORE_HOSTS, apply_host},
            {STORE_ENDPOINTS, apply_endpoint},
            {STORE_POLICIES, policy_apply},
        };
        int r = 0;

        if (strcmp(e->key, STORE_KEY) == 0)
                r = key_apply(d, e->value);
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                size_t len = strlen(kinds[i].prefix);

                if (strncmp(e->key, kinds[i].prefix, len) == 0)
                        r = kinds[i].apply(d, e->key + len, e->value);
        }
        if (r < 0)
                log_error_errno(r, "store entry %s cannot be used: %m, ignoring", e->key);
}
