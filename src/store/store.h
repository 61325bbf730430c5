/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The store: a small ordered key-value space with revisions, shared by every slimd of a cluster.
 *
 * The interface is what etcd's v3 API offers, cut to what Slim needs, so that one implementation
 * can be a file on one machine and another a quorum of many:
 *
 *   - keys are '/'-separated text, values are text (JSON by convention; the store does not look);
 *   - every change has a revision, which grows by at least one with each transaction that changes
 *     something (deleting what is not there changes nothing);
 *   - a transaction compares, then does all of its operations or none;
 *   - a watch tells of each change after a revision, in order, also of those by other processes;
 *   - a key can hang on a lease: when nobody keeps the lease alive, its keys are deleted.
 *
 * One struct store belongs to one thread, and does not survive fork(): open another in the child.
 *
 * Keys are 1 to STORE_KEY_MAX bytes of UTF-8 with no control characters; a prefix may be empty.
 * Anything else is -EINVAL. Besides the errors named below, each call may return -EBUSY (others
 * kept the store locked for seconds: try again), -EIDRM (the store was removed, replaced or taken
 * over by a newer version: open it again), -ENOSPC, -EIO and -ENOMEM; then it has done nothing.
 * A struct store that is NULL, one to be opened again, answers -EIDRM.
 */
#include <stddef.h>
#include <stdint.h>

#include "../basic/macro.h"

#define STORE_KEY_MAX 1023

struct store;

struct store_entry {
        char *key;
        char *value;      /* NULL: the key was deleted (in a watch) */
        int64_t revision; /* of its last change */
};

struct store_entries {
        struct store_entry *entry;
        size_t n;
};

/* A condition on a key: it has not changed since this revision. 0: the key does not exist. */
struct store_compare {
        const char *key;
        int64_t revision;
};

/* What a transaction does to a key. */
struct store_op {
        const char *key;
        const char *value; /* NULL: delete; deleting a key that is not there is fine */
        int64_t lease;     /* 0: none, also when the key had one; nothing to a deletion */
};

/*
 * Opens a store by its URL: "sqlite:PATH" (made, mode 0600, where it is missing).
 * -EPROTONOSUPPORT: unknown scheme. -EBADMSG: the file is no store. -ESTALE: the store was written
 * by a newer version; nothing was changed. The caller frees *ret with store_free().
 */
int store_open(const char *url, struct store **ret);
/* The same, but it is not made: -ENOENT where it is missing. */
int store_open_existing(const char *url, struct store **ret);
void store_free(struct store *s);
DEFINE_CLEANUP(struct store *, store_free)

/* One key. -ENOENT: not there. The caller frees *ret_value; either output may be NULL. */
int store_get(struct store *s, const char *key, char **ret_value, int64_t *ret_revision);

/*
 * Every key that starts with prefix, in order, and the revision at which that was true (for
 * store_watch). The caller frees with store_entries_done(). ret_revision may be NULL.
 */
int store_list(struct store *s, const char *prefix, struct store_entries *ret,
               int64_t *ret_revision);
void store_entries_done(struct store_entries *e);

/*
 * All or nothing. -EAGAIN: a comparison failed and nothing was done. -ENOENT: a lease is gone.
 * -EINVAL: two operations on one key. ret_revision may be NULL.
 */
int store_transaction(struct store *s, const struct store_compare *compare, size_t n_compare,
                      const struct store_op *op, size_t n_op, int64_t *ret_revision);

/*
 * A descriptor that polls readable when the store may have changed; it stays the store's.
 * store_watch() clears it and lists, in order of revision, the last change of each key under
 * prefix that changed after revision *after, deletions included, and moves *after on.
 * -ESTALE: changes after *after are no longer kept; list again. After any other error, call again
 * in a while without waiting for the descriptor, which may have been cleared.
 */
int store_watch_fd(struct store *s);
int store_watch(struct store *s, const char *prefix, int64_t *after, struct store_entries *ret);

/*
 * A lease of ttl_s seconds; keep it alive well within that time. -ENOENT: the lease is gone, and so
 * are its keys. Expired leases are collected by whichever store user keeps one alive or lists.
 */
int store_lease_grant(struct store *s, unsigned int ttl_s, int64_t *ret_lease);
int store_lease_keep_alive(struct store *s, int64_t lease);
int store_lease_revoke(struct store *s, int64_t lease);
