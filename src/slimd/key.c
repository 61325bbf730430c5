/* SPDX-License-Identifier: Apache-2.0 */
#include "key.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "cluster.h"

/* --- the store's value ------------------------------------------------------------------------ */

#define KEY_TEXT_LEN 32

struct keys {
        uint32_t epoch; /* of key; that of next is the one after it */
        struct slim_key key, next;
        bool rotating;
};

static int key_parse(const char *hex, uint32_t epoch, struct slim_key *ret)
{
        struct slim_key k = {.epoch = epoch};
        uint64_t part[2];
        char rest;

        if (strlen(hex) != KEY_TEXT_LEN || strspn(hex, "0123456789abcdef") != KEY_TEXT_LEN ||
            sscanf(hex, "%16" SCNx64 "%16" SCNx64 "%c", &part[0], &part[1], &rest) != 2)
                return -EBADMSG;
        k.k[0] = part[0];
        k.k[1] = part[1];
        *ret = k;
        return 0;
}

static int keys_parse(const char *value, struct keys *ret)
{
        _cleanup_json_ json_t *j = json_loads(value, 0, NULL);
        const char *hex, *next = NULL;
        struct keys k = {};
        json_int_t epoch;
        int r;

        /* The last epoch has no successor. */
        if (!j ||
            json_unpack(j, "{s:I, s:s, s?s}", "epoch", &epoch, "key", &hex, "next", &next) < 0 ||
            epoch < 1 || epoch >= UINT32_MAX)
                return -EBADMSG;
        k.epoch = (uint32_t)epoch;
        r = key_parse(hex, k.epoch, &k.key);
        if (r == 0 && next) {
                r = key_parse(next, k.epoch + 1, &k.next);
                k.rotating = true;
        }
        if (r == 0)
                *ret = k;
        return r;
}

/* The value, as the store has it. The caller frees it. */
static char *keys_format(const struct keys *k)
{
        char hex[2][KEY_TEXT_LEN + 1];
        json_t *j;
        char *text;

        snprintf(hex[0], sizeof(hex[0]), "%016llx%016llx", (unsigned long long)k->key.k[0],
                 (unsigned long long)k->key.k[1]);
        snprintf(hex[1], sizeof(hex[1]), "%016llx%016llx", (unsigned long long)k->next.k[0],
                 (unsigned long long)k->next.k[1]);
        j = json_pack("{s:I, s:s, s:s*}", "epoch", (json_int_t)k->epoch, "key", hex[0], "next",
                      k->rotating ? hex[1] : NULL);
        text = j ? json_dumps(j, JSON_COMPACT) : NULL;
        json_decref(j);
        return text;
}

static int key_new(uint32_t epoch, struct slim_key *ret)
{
        struct slim_key k = {.epoch = epoch};

        if (getrandom(k.k, sizeof(k.k), 0) != sizeof(k.k))
                return -errno;
        *ret = k;
        return 0;
}

/* -EAGAIN: somebody else has changed it. */
static int keys_put(struct slimd *d, const struct keys *k, int64_t revision)
{
        _cleanup_free_ char *value = keys_format(k);
        struct store_compare compare = {.key = STORE_KEY, .revision = revision};
        struct store_op op = {.key = STORE_KEY, .value = value};

        if (!value)
                return -ENOMEM;
        return store_transaction(d->store, &compare, 1, &op, 1, NULL);
}

static int keys_get(struct slimd *d, struct keys *ret, int64_t *ret_revision)
{
        _cleanup_free_ char *value = NULL;
        int r = store_get(d->store, STORE_KEY, &value, ret_revision);

        return r < 0 ? r : keys_parse(value, ret);
}

int key_make(struct slimd *d)
{
        struct keys k = {.epoch = 1};
        int r;

        r = store_get(d->store, STORE_KEY, NULL, NULL);
        if (r != -ENOENT)
                return r;
        r = key_new(k.epoch, &k.key);
        if (r < 0)
                return r;
        r = keys_put(d, &k, 0);
        return r == -EAGAIN ? 0 : r; /* another was first */
}

/* --- the map ---------------------------------------------------------------------------------- */

static int put(const struct slimd *d, uint32_t index, const struct slim_key *key)
{
        return bpf_map_update_elem(datapath_map_fd(d->dp, DATAPATH_KEYS), &index, key, BPF_ANY) < 0
                   ? -errno
                   : 0;
}

/* In this order every key that anybody signs by verifies at each moment. */
int key_apply(struct slimd *d, const char *value)
{
        int fd = datapath_map_fd(d->dp, DATAPATH_KEYS), r;
        uint32_t current = SLIM_KEY_CURRENT;
        struct slim_key was = {};
        struct keys k;

        d->key_rotating = false;
        if (!value)
                return 0; /* keep what we have */
        r = keys_parse(value, &k);
        if (r < 0)
                return r;
        if (bpf_map_lookup_elem(fd, &current, &was) < 0)
                return -errno;
        if (was.epoch != k.epoch || memcmp(was.k, k.key.k, sizeof(was.k)) != 0) {
                if (was.epoch)
                        r = put(d, SLIM_KEY_PREVIOUS, &was);
                if (r == 0)
                        r = put(d, SLIM_KEY_CURRENT, &k.key);
        }
        if (r == 0)
                r = put(d, SLIM_KEY_NEXT, &k.next);
        d->key_epoch = k.epoch;
        d->key_rotating = r == 0 && k.rotating;
        return r;
}

/* --- the exchange ----------------------------------------------------------------------------- */

static void own_key(const struct slimd *d, char ret[sizeof(STORE_KEYS) + NAME_LEN_MAX])
{
        snprintf(ret, sizeof(STORE_KEYS) + NAME_LEN_MAX, STORE_KEYS "%s", d->opt.host_name);
}

/* Has a host said that it verifies by the next key? */
static bool has_said(const struct store_entries *said, const char *host, uint32_t epoch)
{
        for (size_t i = 0; i < said->n; i++) {
                uint64_t v;

                if (strcmp(said->entry[i].key + strlen(STORE_KEYS), host) == 0)
                        return parse_uint(said->entry[i].value, 1, UINT32_MAX, &v) == 0 &&
                               v == epoch;
        }
        return false;
}

static int say(struct slimd *d)
{
        char key[sizeof(STORE_KEYS) + NAME_LEN_MAX], value[16];
        struct store_op op = {.key = key, .value = value, .lease = d->lease};
        _cleanup_free_ char *said = NULL;
        int r;

        own_key(d, key);
        snprintf(value, sizeof(value), "%u", d->key_epoch + 1);
        r = store_get(d->store, key, &said, NULL);
        if (r == 0 && strcmp(said, value) == 0)
                return 0;
        return r < 0 && r != -ENOENT ? r : store_transaction(d->store, NULL, 0, &op, 1, NULL);
}

static int step(struct slimd *d)
{
        _cleanup_(store_entries_done) struct store_entries said = {};
        int64_t revision = 0;
        struct keys k = {};
        int r;

        r = say(d);
        if (r == 0)
                r = keys_get(d, &k, &revision);
        if (r < 0 || !k.rotating || k.epoch != d->key_epoch)
                return r;
        r = store_list(d->store, STORE_KEYS, &said, NULL);
        if (r < 0)
                return r;
        for (struct host *h = d->model.hosts; h; h = h->hh.next)
                if (!has_said(&said, h->name, k.epoch + 1))
                        return 0;
        k.key = k.next;
        k.epoch++;
        k.rotating = false;
        r = keys_put(d, &k, revision);
        if (r == 0)
                log_info("the cluster key is that of epoch %u now", k.epoch);
        return r == -EAGAIN ? 0 : r;
}

void key_step(struct slimd *d)
{
        int r;

        /* Without a lease it would be said for good. */
        if (!d->key_rotating || !d->lease)
                return;
        r = step(d);
        if (r < 0)
                log_warning_errno(r, "cannot go on with the cluster's next key: %m, ignoring");
}

int key_rotate(struct slimd *d)
{
        int64_t revision = 0;
        struct keys k = {};
        int r;

        r = keys_get(d, &k, &revision);
        if (r < 0)
                return r;
        if (k.rotating)
                return -EBUSY;
        r = key_new(k.epoch + 1, &k.next);
        if (r < 0)
                return r;
        k.rotating = true;
        r = keys_put(d, &k, revision);
        return r == -EAGAIN ? -EBUSY : r;
}

int key_describe(struct slimd *d, json_t **ret)
{
        _cleanup_(store_entries_done) struct store_entries said = {};
        json_t *waiting;
        int r = store_list(d->store, STORE_KEYS, &said, NULL);

        if (r < 0)
                return r;
        waiting = json_array();
        for (struct host *h = d->model.hosts; d->key_rotating && h; h = h->hh.next)
                if (!has_said(&said, h->name, d->key_epoch + 1))
                        json_array_append_new(waiting, json_string(h->name));
        *ret = json_pack("{s:I, s:b, s:o}", "epoch", (json_int_t)d->key_epoch, "rotating",
                         d->key_rotating, "waiting", waiting);
        return *ret ? 0 : -ENOMEM;
}
