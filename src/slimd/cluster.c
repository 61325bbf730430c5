/* SPDX-License-Identifier: Apache-2.0 */
#include "cluster.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "host.h"
#include "local.h"

/* A host that is not heard of for this long is taken for dead, and its endpoints with it. */
#define LEASE_TTL_S  60
#define LEASE_KEEP_S 15
/* How soon a store that does not answer is asked again. */
#define RETRY_S 2

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

static bool is_local(const struct slimd *d, const struct endpoint *e)
{
        return strcmp(e->host, d->opt.host_name) == 0;
}

int cluster_map_endpoint(struct slimd *d, const struct endpoint *e)
{
        const struct local *l = is_local(d, e) ? local_find(d, e->id) : NULL;
        struct slim_endpoint_key key = {.network = e->network_id, .addr = e->addr};
        struct slim_endpoint value = {
            .id = e->id,
            .network = e->network_id,
            .addr = e->addr,
            .host = e->host_addr,
            .flags =
                (e->slim ? SLIM_ENDPOINT_SLIM : 0U) | (is_local(d, e) ? SLIM_ENDPOINT_LOCAL : 0U),
            .ifindex = l ? local_ifindex(l) : 0,
        };
        int r;

        r = map_put(d, DATAPATH_IDENTITIES, &e->id, &value);
        if (r == 0)
                r = map_put(d, DATAPATH_ENDPOINTS, &key, &value);
        return r;
}

static void unmap_endpoint(struct slimd *d, const struct endpoint *e)
{
        struct slim_endpoint_key key = {.network = e->network_id, .addr = e->addr};

        map_delete(d, DATAPATH_ENDPOINTS, &key);
        map_delete(d, DATAPATH_IDENTITIES, &e->id);
}

static struct slim_prefix_key prefix_key(const struct network *n)
{
        return (struct slim_prefix_key){.prefixlen = n->prefix.bits, .addr = n->prefix.addr};
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

        for (struct network *n = d->model.networks; n; n = n->hh.next) {
                struct slim_prefix_key k = prefix_key(n);

                if (memcmp(&k, key, sizeof(k)) == 0)
                        return true;
        }
        return false;
}

static bool keep_host(const void *key, void *userdata)
{
        const struct slimd *d = userdata;

        for (struct host *h = d->model.hosts; h; h = h->hh.next)
                if (inaddr_equal(&h->addr, key))
                        return true;
        return false;
}

static void prune_maps(struct slimd *d)
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
        };

        for (size_t i = 0; i < ARRAY_SIZE(maps); i++) {
                int r = datapath_map_prune(d->dp, maps[i].map, maps[i].key_size, maps[i].keep, d);

                if (r < 0)
                        log_error_errno(r, "cannot clean the map %s: %m, ignoring",
                                        datapath_map_name(maps[i].map));
        }
}

/* --- one entry of the store ------------------------------------------------------------------- */

static int apply_network(struct slimd *d, const char *name, const char *value)
{
        struct network n, *old = model_network(&d->model, name);
        int r;

        if (old) {
                struct slim_prefix_key key = prefix_key(old);

                if (!value)
                        map_delete(d, DATAPATH_PREFIXES, &key);
                host_network_down(d, old);
        }
        if (!value) {
                if (old)
                        model_drop_network(&d->model, old);
                return host_nat_update(d);
        }
        r = network_from_json(name, value, &n);
        if (r == 0)
                r = model_put_network(&d->model, &n, &old);
        if (r == 0) {
                struct slim_prefix_key key = prefix_key(old);

                r = map_put(d, DATAPATH_PREFIXES, &key, &old->id);
        }
        if (r == 0)
                r = host_network_up(d, old);
        return r < 0 ? r : host_nat_update(d);
}

static int apply_host(struct slimd *d, const char *name, const char *value)
{
        struct host h, *old = model_host(&d->model, name);
        uint32_t one = 1;
        int r;

        if (old && !value) {
                map_delete(d, DATAPATH_HOSTS, &old->addr);
                model_drop_host(&d->model, old);
        }
        if (!value)
                return 0;
        r = host_from_json(name, value, &h);
        if (r < 0)
                return r;
        if (old && !inaddr_equal(&old->addr, &h.addr))
                map_delete(d, DATAPATH_HOSTS, &old->addr);
        r = model_put_host(&d->model, &h, &old);
        return r < 0 ? r : map_put(d, DATAPATH_HOSTS, &h.addr, &one);
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
                /* A container that lives here is not given up because its lease ran out. */
                if (old && !local_find(d, old->id)) {
                        unmap_endpoint(d, old);
                        model_drop_endpoint(&d->model, old);
                }
                return 0;
        }
        r = endpoint_from_json((uint32_t)id, value, &e);
        if (r < 0)
                return r;
        if (old && (old->network_id != e.network_id || !inaddr_equal(&old->addr, &e.addr)))
                unmap_endpoint(d, old);
        r = model_put_endpoint(&d->model, &e, &old);
        return r < 0 ? r : cluster_map_endpoint(d, old);
}

/* The key that signs and verifies, and the one before it, which still verifies. */
static int apply_key(struct slimd *d, const char *value)
{
        struct slim_key key = {}, old = {};
        _cleanup_json_ json_t *j = NULL;
        const char *hex;
        uint32_t first = 0, second = 1;
        json_int_t epoch;
        int fd = datapath_map_fd(d->dp, DATAPATH_KEYS);

        if (!value)
                return 0; /* keep what we have */
        j = json_loads(value, 0, NULL);
        if (!j || json_unpack(j, "{s:I, s:s}", "epoch", &epoch, "key", &hex) < 0 || epoch < 1 ||
            epoch > UINT32_MAX || strlen(hex) != 32 ||
            sscanf(hex, "%16llx%16llx", (unsigned long long *)&key.k[0],
                   (unsigned long long *)&key.k[1]) != 2)
                return -EBADMSG;
        key.epoch = (uint32_t)epoch;
        if (bpf_map_lookup_elem(fd, &first, &old) < 0)
                return -errno;
        if (old.epoch == key.epoch && memcmp(old.k, key.k, sizeof(key.k)) == 0)
                return 0;
        if (old.epoch && bpf_map_update_elem(fd, &second, &old, BPF_ANY) < 0)
                return -errno;
        return bpf_map_update_elem(fd, &first, &key, BPF_ANY) < 0 ? -errno : 0;
}

static void apply(struct slimd *d, const struct store_entry *e)
{
        static const struct {
                const char *prefix;
                int (*apply)(struct slimd *d, const char *rest, const char *value);
        } kinds[] = {
            {STORE_NETWORKS, apply_network},
            {STORE_HOSTS, apply_host},
            {STORE_ENDPOINTS, apply_endpoint},
        };
        int r = 0;

        if (strcmp(e->key, STORE_KEY) == 0)
                r = apply_key(d, e->value);
        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                size_t len = strlen(kinds[i].prefix);

                if (strncmp(e->key, kinds[i].prefix, len) == 0)
                        r = kinds[i].apply(d, e->key + len, e->value);
        }
        if (r < 0)
                log_error_errno(r, "store entry %s cannot be used: %m, ignoring", e->key);
}

/* --- the store as a whole --------------------------------------------------------------------- */

static void store_failed(struct slimd *d, int r)
{
        const char *why = r == -EIDRM ? "it was removed or replaced" : strerror(-r);
        uint64_t now;

        if (!d->store_error) {
                d->store_down_since = time(NULL);
                log_warning("the store %s does not answer: %s, going on with what is known",
                            d->opt.store, why);
                if (d->store_timer && sd_event_now(d->event, CLOCK_BOOTTIME, &now) >= 0)
                        sd_event_source_set_time(d->store_timer, now + RETRY_S * 1000000ULL);
        }
        free(d->store_error);
        d->store_error = strdup(why);
}

static void store_answered(struct slimd *d)
{
        if (!d->store_error)
                return;
        log_info("the store %s answers again", d->opt.store);
        free(d->store_error);
        d->store_error = NULL;
        d->store_down_since = 0;
}

/* Networks before endpoints does not matter to the maps, only that all is applied. */
static int load_all(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries list = {};
        struct model old = d->model;
        int64_t revision;
        int r;

        r = store_list(d->store, STORE_PREFIX, &list, &revision);
        if (r < 0)
                return r;
        d->model = (struct model){};
        for (size_t i = 0; i < list.n; i++)
                apply(d, &list.entry[i]);
        /* Local containers stay known even when their lease ran out while no slimd was there. */
        for (struct endpoint *e = old.endpoints; e; e = e->hh.next) {
                struct endpoint *kept;

                if (local_find(d, e->id) && !model_endpoint(&d->model, e->id) &&
                    model_put_endpoint(&d->model, e, &kept) == 0)
                        cluster_map_endpoint(d, kept);
        }
        for (struct network *n = old.networks; n; n = n->hh.next)
                if (!model_network(&d->model, n->name))
                        host_network_down(d, n);
        model_clear(&old);
        prune_maps(d);
        d->after = revision;
        return host_nat_update(d);
}

static int make_key(struct slimd *d);
static int on_store(sd_event_source *s, int fd, uint32_t events, void *userdata);

static int watch_store(struct slimd *d)
{
        return sd_event_add_io(d->event, &d->store_source, store_watch_fd(d->store), EPOLLIN,
                               on_store, d);
}

static void close_store(struct slimd *d)
{
        d->store_source = sd_event_source_disable_unref(d->store_source);
        store_free(d->store);
        d->store = NULL;
}

/*
 * The store was removed or replaced. It is opened again once it is there, and not made: an empty
 * one would say that nobody else exists. What it says then is the truth, whatever it is.
 */
static int reopen_store(struct slimd *d)
{
        int r;

        close_store(d);
        r = store_open_existing(d->opt.store, &d->store);
        if (r < 0)
                return r == -ENOENT ? -EIDRM : r;
        r = watch_store(d);
        if (r >= 0)
                r = make_key(d);
        if (r >= 0)
                r = load_all(d);
        if (r < 0)
                close_store(d);
        return r;
}

int cluster_sync(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries changes = {};
        int r;

        r = store_watch(d->store, STORE_PREFIX, &d->after, &changes);
        if (r == -ESTALE)
                r = load_all(d);
        if (r == -EIDRM)
                r = reopen_store(d);
        if (r < 0) {
                store_failed(d, r);
                return r;
        }
        store_answered(d);
        for (size_t i = 0; i < changes.n; i++)
                apply(d, &changes.entry[i]);
        return 0;
}

static int on_store(sd_event_source *s, int fd, uint32_t events, void *userdata)
{
        (void)cluster_sync(userdata); /* it has been said; the timer tries again */
        return 0;
}

static int put_host(struct slimd *d)
{
        struct host h = {.addr = d->underlay_addr};
        _cleanup_free_ char *value = NULL;
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        struct store_op op = {.key = key, .lease = d->lease};

        value = host_to_json(&h);
        if (!value)
                return -ENOMEM;
        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        op.value = value;
        return store_transaction(d->store, NULL, 0, &op, 1, NULL);
}

/* A new lease and all that hangs on it. */
static int take_lease(struct slimd *d)
{
        int r;

        r = store_lease_grant(d->store, LEASE_TTL_S, &d->lease);
        if (r < 0)
                return r;
        r = put_host(d);
        if (r < 0)
                return r;
        return local_republish_all(d);
}

/* Endpoints that ended while the store did not answer, or before they were brought up. */
static void withdraw_ended(struct slimd *d)
{
        struct endpoint *e = d->model.endpoints;

        while (e) {
                struct endpoint ended = *e;

                if (!is_local(d, e) || local_find(d, e->id)) {
                        e = e->hh.next;
                        continue;
                }
                if (cluster_withdraw(d, &ended) < 0)
                        return;         /* the timer tries again */
                e = d->model.endpoints; /* they have changed */
        }
}

static int on_timer(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct slimd *d = userdata;
        uint64_t now, next = LEASE_KEEP_S;
        int r;

        /* First, so that a store that went away and came back is open. */
        r = cluster_sync(d);
        if (r == 0) {
                r = d->lease ? store_lease_keep_alive(d->store, d->lease) : -ENOENT;
                if (r == -ENOENT) {
                        log_warning("this host's lease has run out, publishing it again");
                        r = take_lease(d);
                }
                if (r < 0)
                        store_failed(d, r);
        }
        if (r == 0)
                withdraw_ended(d);
        if (r < 0)
                next = RETRY_S;
        sd_event_now(d->event, CLOCK_BOOTTIME, &now);
        sd_event_source_set_time(s, now + next * 1000000U);
        sd_event_source_set_enabled(s, SD_EVENT_ON);
        return 0;
}

/* The first slimd of a cluster makes its key. */
static int make_key(struct slimd *d)
{
        uint64_t k[2];
        char value[128];
        struct store_compare absent = {.key = STORE_KEY};
        struct store_op op = {.key = STORE_KEY, .value = value};
        int r;

        r = store_get(d->store, STORE_KEY, NULL, NULL);
        if (r != -ENOENT)
                return r;
        if (getrandom(k, sizeof(k), 0) != sizeof(k))
                return -errno;
        snprintf(value, sizeof(value), "{\"epoch\":1,\"key\":\"%016llx%016llx\"}",
                 (unsigned long long)k[0], (unsigned long long)k[1]);
        r = store_transaction(d->store, &absent, 1, &op, 1, NULL);
        return r == -EAGAIN ? 0 : r; /* another was first */
}

/* Whose this host's name is in the store. -ENOENT: nobody's. */
static int get_host(struct slimd *d, struct host *ret)
{
        _cleanup_free_ char *value = NULL;
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        int r;

        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        r = store_get(d->store, key, &value, NULL);
        if (r < 0)
                return r;
        return host_from_json(d->opt.host_name, value, ret) < 0 ? -ENOENT : 0;
}

static int check_host_name(struct slimd *d)
{
        char addr[INADDR_TEXT_MAX];
        struct host h;
        int r;

        r = get_host(d, &h);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (inaddr_equal(&h.addr, &d->underlay_addr))
                return 0;
        log_error("the host name \"%s\" is taken by the host at %s: give another with --host-name "
                  "(or wait %u s, if that was this host under another address)",
                  d->opt.host_name, inaddr_format(&h.addr, addr), LEASE_TTL_S);
        return -EEXIST;
}

int cluster_open(struct slimd *d, bool make)
{
        int r;

        r = make ? store_open(d->opt.store, &d->store)
                 : store_open_existing(d->opt.store, &d->store);
        if (r < 0)
                return log_error_errno(
                    r,
                    r == -ESTALE    ? "the store %s was written by a newer version of Slim: run "
                                      "that one; nothing was changed"
                    : r == -EBADMSG ? "%s is not a store of Slim; nothing was changed"
                    : r == -EPROTONOSUPPORT ? "--store \"%s\": only sqlite:PATH is known"
                                            : "cannot open the store %s: %m",
                    d->opt.store);
        if (!make)
                return 0;
        r = check_host_name(d);
        if (r < 0 && r != -EEXIST)
                return log_error_errno(r, "cannot read the store %s: %m", d->opt.store);
        return r;
}

int cluster_start(struct slimd *d)
{
        int r;

        r = make_key(d);
        if (r == 0)
                r = load_all(d);
        if (r == 0)
                r = take_lease(d);
        if (r == 0)
                r = cluster_sync(d);
        if (r < 0)
                return log_error_errno(r, "cannot read the store %s: %m", d->opt.store);
        r = watch_store(d);
        if (r >= 0)
                r = sd_event_add_time_relative(d->event, &d->store_timer, CLOCK_BOOTTIME,
                                               LEASE_KEEP_S * 1000000ULL, 0, on_timer, d);
        if (r < 0)
                return log_error_errno(r, "cannot watch the store: %m");
        withdraw_ended(d);
        return 0;
}

void cluster_stop(struct slimd *d)
{
        model_clear(&d->model);
        close_store(d);
        d->store_timer = sd_event_source_disable_unref(d->store_timer);
        free(d->store_error);
        d->store_error = NULL;
}

/* --- this host's endpoints in the store ------------------------------------------------------- */

struct endpoint_keys {
        char id[sizeof(STORE_ENDPOINTS) + 16];
        char name[sizeof(STORE_NAMES) + 2UL * (NAME_LEN_MAX + 1)];
        char addr[sizeof(STORE_ADDRESSES) + NAME_LEN_MAX + 1 + INADDR_TEXT_MAX];
        char network[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        char id_value[16];
};

static void endpoint_keys(const struct endpoint *e, struct endpoint_keys *k)
{
        char addr[INADDR_TEXT_MAX];

        inaddr_format(&e->addr, addr);
        snprintf(k->id, sizeof(k->id), STORE_ENDPOINTS "%u", e->id);
        snprintf(k->name, sizeof(k->name), STORE_NAMES "%s/%s", e->network, e->name);
        snprintf(k->addr, sizeof(k->addr), STORE_ADDRESSES "%s/%s", e->network, addr);
        snprintf(k->network, sizeof(k->network), STORE_NETWORKS "%s", e->network);
        snprintf(k->id_value, sizeof(k->id_value), "%u", e->id);
}

static int put_endpoint(struct slimd *d, const struct endpoint *e, const struct endpoint_keys *k,
                        const struct store_compare *compare, size_t n)
{
        _cleanup_free_ char *value = endpoint_to_json(e);
        const struct store_op ops[] = {
            {.key = k->id, .value = value, .lease = d->lease},
            {.key = k->name, .value = k->id_value, .lease = d->lease},
            {.key = k->addr, .value = k->id_value, .lease = d->lease},
        };

        if (!value)
                return -ENOMEM;
        return store_transaction(d->store, compare, n, ops, ARRAY_SIZE(ops), NULL);
}

int cluster_publish(struct slimd *d, const struct endpoint *e)
{
        struct endpoint_keys k;
        int64_t network;
        int r;

        endpoint_keys(e, &k);
        /* Compared too, so that a network cannot be removed while it gets its first endpoint. */
        r = store_get(d->store, k.network, NULL, &network);
        if (r < 0)
                return r == -ENOENT ? -ENETUNREACH : r;

        const struct store_compare compare[] = {
            {.key = k.id},
            {.key = k.name},
            {.key = k.addr},
            {.key = k.network, .revision = network},
        };

        return put_endpoint(d, e, &k, compare, ARRAY_SIZE(compare));
}

int cluster_republish(struct slimd *d, const struct endpoint *e)
{
        const char *keys[2];
        struct store_compare compare[2] = {};
        struct endpoint_keys k;

        endpoint_keys(e, &k);
        keys[0] = k.name;
        keys[1] = k.addr;
        for (size_t i = 0; i < ARRAY_SIZE(keys); i++) {
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
        return put_endpoint(d, e, &k, compare, ARRAY_SIZE(compare));
}

int cluster_withdraw(struct slimd *d, const struct endpoint *e)
{
        struct endpoint_keys k;
        struct endpoint *old;
        int r;

        endpoint_keys(e, &k);

        const struct store_op ops[] = {{.key = k.id}, {.key = k.name}, {.key = k.addr}};

        r = store_transaction(d->store, NULL, 0, ops, ARRAY_SIZE(ops), NULL);
        if (r < 0) {
                store_failed(d, r);
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
                unmap_endpoint(d, old);
                model_drop_endpoint(&d->model, old);
        }
        return 0;
}

int cluster_leave(struct slimd *d)
{
        char key[sizeof(STORE_HOSTS) + NAME_LEN_MAX];
        struct store_op op = {.key = key};
        struct host h;
        int r;

        r = get_host(d, &h);
        if (r < 0)
                return r == -ENOENT ? 0 : r;
        if (!inaddr_equal(&h.addr, &d->underlay_addr))
                return 0; /* another host's by now */
        snprintf(key, sizeof(key), STORE_HOSTS "%s", d->opt.host_name);
        return store_transaction(d->store, NULL, 0, &op, 1, NULL);
}

/* --- networks --------------------------------------------------------------------------------- */

int cluster_create_network(struct slimd *d, const char *name, const struct inaddr_prefix *prefix,
                           uint8_t block_bits, struct network **ret, const char **ret_other)
{
        struct network n = {.prefix = *prefix, .block_bits = block_bits};
        char key[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        int r;

        snprintf(key, sizeof(key), STORE_NETWORKS "%s", name);
        snprintf(n.name, sizeof(n.name), "%s", name);
        for (int tries = 0; tries < 16; tries++) {
                _cleanup_free_ char *counter = NULL, *value = NULL;
                char id_text[16];
                int64_t counter_revision = 0;
                uint64_t last = 0;

                r = cluster_sync(d);
                if (r < 0)
                        return r;
                *ret_other = NULL;
                if (model_network(&d->model, name))
                        return -EEXIST;
                for (struct network *o = d->model.networks; o; o = o->hh.next)
                        if (inaddr_prefix_overlaps(&o->prefix, prefix)) {
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
                *ret = model_network(&d->model, name);
                return *ret ? 0 : -ENOENT; /* removed again already */
        }
        return -EAGAIN;
}

int cluster_remove_network(struct slimd *d, const char *name)
{
        char key[sizeof(STORE_NETWORKS) + NAME_LEN_MAX];
        char names[sizeof(STORE_NAMES) + NAME_LEN_MAX + 1];
        _cleanup_(store_entries_done) struct store_entries used = {};
        _cleanup_(store_entries_done) struct store_entries late = {};
        _cleanup_free_ char *value = NULL;
        struct store_compare compare = {.key = key};
        struct store_op op = {.key = key};
        int r;

        snprintf(key, sizeof(key), STORE_NETWORKS "%s", name);
        snprintf(names, sizeof(names), STORE_NAMES "%s/", name);
        r = store_get(d->store, key, &value, &compare.revision);
        if (r < 0)
                return r;
        r = store_list(d->store, names, &used, NULL);
        if (r < 0)
                return r;
        if (used.n > 0)
                return -EBUSY;
        r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
        if (r < 0)
                return r;
        /* Nothing is published into it from now on; an endpoint that was just before has it back.
         */
        r = store_list(d->store, names, &late, NULL);
        if (r == 0 && late.n > 0) {
                compare.revision = 0;
                op.value = value;
                r = store_transaction(d->store, &compare, 1, &op, 1, NULL);
                if (r == 0)
                        r = -EBUSY;
        }
        (void)cluster_sync(d);
        return r;
}
