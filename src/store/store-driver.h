/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What an implementation of the store brings: a file with a struct store_driver, and a line in the
 * table of store.c. Arguments have been checked by then: keys and prefixes are well formed, no key
 * stands twice in one transaction, revisions and leases are not negative, a TTL is not 0.
 */
#include <stdbool.h>

#include "store.h"

struct store_driver {
        const char *scheme; /* what stands before the ':' of the URL */
        /* address: what stands behind it, not empty. make: where it is missing, or -ENOENT. Sets
         * (*ret)->driver. */
        int (*open)(const char *address, bool make, struct store **ret);
        void (*free)(struct store *s);

        /* As the functions of store.h; outputs that may be NULL there are never NULL here. */
        int (*get)(struct store *s, const char *key, char **ret_value, int64_t *ret_revision);
        int (*list)(struct store *s, const char *prefix, struct store_entries *ret,
                    int64_t *ret_revision);
        int (*transaction)(struct store *s, const struct store_compare *compare, size_t n_compare,
                           const struct store_op *op, size_t n_op, int64_t *ret_revision);
        int (*watch_fd)(struct store *s);
        int (*watch)(struct store *s, const char *prefix, int64_t *after,
                     struct store_entries *ret);
        int (*lease_grant)(struct store *s, unsigned int ttl_s, int64_t *ret_lease);
        int (*lease_keep_alive)(struct store *s, int64_t lease);
        int (*lease_revoke)(struct store *s, int64_t lease);
};

/* The first member of each implementation's own structure. */
struct store {
        const struct store_driver *driver;
};

extern const struct store_driver store_driver_sqlite;

/* Appends copies of key and value (NULL: deleted). On failure e is as it was. */
int store_entries_add(struct store_entries *e, const char *key, const char *value,
                      int64_t revision);
