/* SPDX-License-Identifier: Apache-2.0 */
#include "store.h"

#include <errno.h>
#include <string.h>

#include "../basic/alloc.h"
#include "store-driver.h"

static const struct store_driver *const drivers[] = {
    &store_driver_sqlite,
};

/*
 * No byte of UTF-8 is above 0xf4, so that prefix + 0xff is above every key with that prefix. A
 * driver may lean on it.
 */
static bool text_is_valid(const char *text)
{
        size_t len = 0;

        for (const unsigned char *p = (const unsigned char *)text; *p; p++)
                if (*p < 0x20 || *p == 0x7f || *p > 0xf4 || ++len > STORE_KEY_MAX)
                        return false;
        return true;
}

static bool key_is_valid(const char *key)
{
        return key && *key && text_is_valid(key);
}

static int open_url(const char *url, bool make, struct store **ret)
{
        const char *colon = strchr(url, ':');

        if (!colon)
                return -EPROTONOSUPPORT;
        for (size_t i = 0; i < ARRAY_SIZE(drivers); i++) {
                size_t len = strlen(drivers[i]->scheme);

                if ((size_t)(colon - url) != len || memcmp(url, drivers[i]->scheme, len) != 0)
                        continue;
                if (!colon[1])
                        return -EINVAL;
                return drivers[i]->open(colon + 1, make, ret);
        }
        return -EPROTONOSUPPORT;
}

int store_open(const char *url, struct store **ret)
{
        return open_url(url, true, ret);
}

int store_open_existing(const char *url, struct store **ret)
{
        return open_url(url, false, ret);
}

void store_free(struct store *s)
{
        if (s)
                s->driver->free(s);
}

int store_get(struct store *s, const char *key, char **ret_value, int64_t *ret_revision)
{
        _cleanup_free_ char *value = NULL;
        int64_t revision;
        int r;

        if (!key_is_valid(key))
                return -EINVAL;
        if (!s)
                return -EIDRM;
        r = s->driver->get(s, key, &value, &revision);
        if (r < 0)
                return r;
        if (ret_value)
                *ret_value = TAKE_PTR(value);
        if (ret_revision)
                *ret_revision = revision;
        return 0;
}

int store_list(struct store *s, const char *prefix, struct store_entries *ret,
               int64_t *ret_revision)
{
        int64_t revision;
        int r;

        if (!text_is_valid(prefix))
                return -EINVAL;
        if (!s)
                return -EIDRM;
        r = s->driver->list(s, prefix, ret, &revision);
        if (r < 0)
                return r;
        if (ret_revision)
                *ret_revision = revision;
        return 0;
}

int store_transaction(struct store *s, const struct store_compare *compare, size_t n_compare,
                      const struct store_op *op, size_t n_op, int64_t *ret_revision)
{
        int64_t revision;
        int r;

        for (size_t i = 0; i < n_compare; i++)
                if (!key_is_valid(compare[i].key) || compare[i].revision < 0)
                        return -EINVAL;
        for (size_t i = 0; i < n_op; i++) {
                if (!key_is_valid(op[i].key) || op[i].lease < 0)
                        return -EINVAL;
                /* etcd refuses it, and who relied on an order here would learn that late. */
                for (size_t j = 0; j < i; j++)
                        if (strcmp(op[i].key, op[j].key) == 0)
                                return -EINVAL;
        }
        if (!s)
                return -EIDRM;
        r = s->driver->transaction(s, compare, n_compare, op, n_op, &revision);
        if (r < 0)
                return r;
        if (ret_revision)
                *ret_revision = revision;
        return 0;
}

int store_watch_fd(struct store *s)
{
        return s->driver->watch_fd(s);
}

int store_watch(struct store *s, const char *prefix, int64_t *after, struct store_entries *ret)
{
        if (!text_is_valid(prefix) || *after < 0)
                return -EINVAL;
        if (!s)
                return -EIDRM;
        return s->driver->watch(s, prefix, after, ret);
}

int store_lease_grant(struct store *s, unsigned int ttl_s, int64_t *ret_lease)
{
        if (ttl_s == 0)
                return -EINVAL;
        if (!s)
                return -EIDRM;
        return s->driver->lease_grant(s, ttl_s, ret_lease);
}

int store_lease_keep_alive(struct store *s, int64_t lease)
{
        if (lease <= 0)
                return -EINVAL;
        if (!s)
                return -EIDRM;
        return s->driver->lease_keep_alive(s, lease);
}

int store_lease_revoke(struct store *s, int64_t lease)
{
        if (lease <= 0)
                return -EINVAL;
        if (!s)
                return -EIDRM;
        return s->driver->lease_revoke(s, lease);
}

int store_entries_add(struct store_entries *e, const char *key, const char *value, int64_t revision)
{
        _cleanup_free_ char *k = NULL, *v = NULL;

        /* The array's size is the next power of two, so that it need not be written down. */
        if ((e->n & (e->n - 1)) == 0) {
                size_t size = e->n > 0 ? e->n * 2 : 1;
                struct store_entry *bigger;

                bigger = reallocarray(e->entry, size, sizeof(*bigger));
                if (!bigger)
                        return -ENOMEM;
                e->entry = bigger;
        }
        k = strdup(key);
        if (!k)
                return -ENOMEM;
        if (value) {
                v = strdup(value);
                if (!v)
                        return -ENOMEM;
        }
        e->entry[e->n++] = (struct store_entry){
            .key = TAKE_PTR(k),
            .value = TAKE_PTR(v),
            .revision = revision,
        };
        return 0;
}

void store_entries_done(struct store_entries *e)
{
        for (size_t i = 0; i < e->n; i++) {
                free(e->entry[i].key);
                free(e->entry[i].value);
        }
        free(e->entry);
        *e = (struct store_entries){};
}
