/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The store as an SQLite file that several processes of one machine share.
 *
 * Every operation is one transaction. Writers begin with BEGIN IMMEDIATE: they wait for one another
 * at the start, never fail in the middle because somebody else has written since they read. What a
 * transaction changes has one revision, the store's next. A deleted key stays as a tombstone, so
 * that watchers hear of it; the newest TOMBSTONES_KEPT are kept, and state.pruned says up to which
 * revision deletions may have been forgotten.
 *
 * Leases end by CLOCK_BOOTTIME, which no setting of the wall clock moves and which goes on while
 * the machine is suspended. It starts anew with each boot, hence the boot id beside it: a lease of
 * another boot is over, since whoever kept it alive is gone.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "sqlite-file.h"
#include "store-driver.h"

/* Enough for a watcher that was busy for a while; one that is further behind lists again. */
#define TOMBSTONES_KEPT 1024

enum query {
        QUERY_BEGIN_READ,
        QUERY_BEGIN_WRITE,
        QUERY_COMMIT,
        QUERY_ROLLBACK,
        QUERY_VERSION,
        QUERY_STATE,
        QUERY_SET_STATE,
        QUERY_GET,
        QUERY_LIST,
        QUERY_CHANGES,
        QUERY_PUT,
        QUERY_DELETE,
        QUERY_DELETE_LEASED,
        QUERY_PRUNABLE,
        QUERY_PRUNE,
        QUERY_LEASE_ADD,
        QUERY_LEASE_ALIVE,
        QUERY_LEASE_EXTEND,
        QUERY_LEASE_EXPIRED,
        QUERY_LEASE_DELETE,
        _QUERY_MAX,
};

/* The second parameter of LIST and the third of CHANGES: the prefix and 0xff (see store.c). */
static const char *const query_sql[] = {
    [QUERY_BEGIN_READ] = "BEGIN",
    [QUERY_BEGIN_WRITE] = "BEGIN IMMEDIATE",
    [QUERY_COMMIT] = "COMMIT",
    [QUERY_ROLLBACK] = "ROLLBACK",
    [QUERY_VERSION] = "PRAGMA user_version",
    [QUERY_STATE] = "SELECT revision, pruned FROM state",
    [QUERY_SET_STATE] = "UPDATE state SET revision = ?1, pruned = ?2",
    [QUERY_GET] = "SELECT value, revision FROM entry WHERE key = ?1 AND value IS NOT NULL",
    [QUERY_LIST] = "SELECT key, value, revision FROM entry"
                   " WHERE key >= ?1 AND key < ?2 AND value IS NOT NULL ORDER BY key",
    /* "+key": what has changed lately is few, so the index on revision is the right one. */
    [QUERY_CHANGES] = "SELECT key, value, revision FROM entry"
                      " WHERE revision > ?1 AND +key >= ?2 AND +key < ?3"
                      " ORDER BY revision, key",
    [QUERY_PUT] = "INSERT INTO entry VALUES (?1, ?2, ?3, ?4)"
                  " ON CONFLICT (key) DO UPDATE SET value = excluded.value,"
                  " revision = excluded.revision, lease = excluded.lease",
    [QUERY_DELETE] = "UPDATE entry SET value = NULL, revision = ?2, lease = 0"
                     " WHERE key = ?1 AND value IS NOT NULL",
    [QUERY_DELETE_LEASED] = "UPDATE entry SET value = NULL, revision = ?2, lease = 0"
                            " WHERE lease = ?1 AND lease != 0",
    [QUERY_PRUNABLE] = "SELECT revision FROM entry WHERE value IS NULL"
                       " ORDER BY revision DESC LIMIT 1 OFFSET ?1",
    [QUERY_PRUNE] = "DELETE FROM entry WHERE value IS NULL AND revision <= ?1",
    [QUERY_LEASE_ADD] = "INSERT INTO lease VALUES (?1, ?2, ?3, ?4)",
    [QUERY_LEASE_ALIVE] = "SELECT 1 FROM lease WHERE id = ?1 AND boot = ?2 AND expires_ms > ?3",
    [QUERY_LEASE_EXTEND] = "UPDATE lease SET expires_ms = ?2 + ttl_ms WHERE id = ?1",
    [QUERY_LEASE_EXPIRED] = "SELECT id FROM lease WHERE boot != ?1 OR expires_ms <= ?2 LIMIT 1",
    [QUERY_LEASE_DELETE] = "DELETE FROM lease WHERE id = ?1",
};
_Static_assert(ARRAY_SIZE(query_sql) == _QUERY_MAX, "a query has no text");

struct store_sqlite {
        struct store base;
        struct sqlite_file file;
        char *boot_id;
        sqlite3_stmt *query[_QUERY_MAX];
};

static struct store_sqlite *store_sqlite(struct store *s)
{
        return (struct store_sqlite *)s; /* base is its first member */
}

static int64_t boottime_ms(void)
{
        struct timespec ts;

        clock_gettime(CLOCK_BOOTTIME, &ts);
        return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

/* A query in use. Its scope's end makes it ready for the next use, and lets go of what it read. */
static void resetp(sqlite3_stmt **q)
{
        if (*q) {
                sqlite3_reset(*q);
                sqlite3_clear_bindings(*q);
        }
}

#define _cleanup_reset_ _cleanup_(resetp)

/* The text must live until the query is reset. */
static int bind_text(sqlite3_stmt *q, int i, const char *text)
{
        return sqlite3_bind_text(q, i, text, -1, SQLITE_STATIC);
}

/* 1: there is a row; 0: there are no more. bound: what binding the parameters gave. */
static int step(struct store_sqlite *s, sqlite3_stmt *q, int bound)
{
        int rc = bound != SQLITE_OK ? bound : sqlite3_step(q);

        if (rc == SQLITE_ROW)
                return 1;
        return rc == SQLITE_DONE ? 0 : sqlite_file_errno(&s->file, rc);
}

static int run(struct store_sqlite *s, enum query which)
{
        _cleanup_reset_ sqlite3_stmt *q = s->query[which];

        return step(s, q, SQLITE_OK);
}

struct tx {
        struct store_sqlite *s; /* NULL: over */
        int64_t revision;       /* the store's; once something has changed: its next */
        int64_t pruned;
        bool changed;
        bool deleted;
};

static void tx_done(struct tx *tx)
{
        /* SQLite has rolled back by itself after some errors. */
        if (tx->s && !sqlite3_get_autocommit(tx->s->file.db))
                (void)run(tx->s, QUERY_ROLLBACK);
        tx->s = NULL;
}

#define _cleanup_tx_ _cleanup_(tx_done)

static int tx_begin(struct store_sqlite *s, enum query how, struct tx *ret)
{
        _cleanup_tx_ struct tx tx = {.s = s};
        int r;

        r = sqlite_file_check(&s->file);
        if (r < 0)
                return r;
        r = run(s, how);
        if (r < 0)
                return r;
        {
                _cleanup_reset_ sqlite3_stmt *version = s->query[QUERY_VERSION];
                _cleanup_reset_ sqlite3_stmt *state = s->query[QUERY_STATE];

                r = step(s, version, SQLITE_OK);
                if (r < 0)
                        return r;
                /* A newer Slim has upgraded the file under us; its tables are not ours to write. */
                if (sqlite3_column_int64(version, 0) != SQLITE_FILE_VERSION)
                        return -EIDRM;
                r = step(s, state, SQLITE_OK);
                if (r < 0)
                        return r;
                if (r == 0)
                        return -EBADMSG;
                tx.revision = sqlite3_column_int64(state, 0);
                tx.pruned = sqlite3_column_int64(state, 1);
        }
        *ret = tx;
        tx.s = NULL;
        return 0;
}

/* The revision that the changes of this transaction get, whether or not it has made one yet. */
static int64_t tx_next(const struct tx *tx)
{
        return tx->changed ? tx->revision : tx->revision + 1;
}

static void tx_changed(struct tx *tx, bool deleted)
{
        tx->revision = tx_next(tx);
        tx->changed = true;
        tx->deleted |= deleted;
}

static int tx_prune(struct tx *tx)
{
        _cleanup_reset_ sqlite3_stmt *prunable = tx->s->query[QUERY_PRUNABLE];
        _cleanup_reset_ sqlite3_stmt *prune = tx->s->query[QUERY_PRUNE];
        int64_t upto;
        int r;

        r = step(tx->s, prunable, sqlite3_bind_int64(prunable, 1, TOMBSTONES_KEPT));
        if (r <= 0)
                return r;
        upto = sqlite3_column_int64(prunable, 0);
        r = step(tx->s, prune, sqlite3_bind_int64(prune, 1, upto));
        if (r < 0)
                return r;
        tx->pruned = upto;
        return 0;
}

static int tx_commit(struct tx *tx)
{
        int r;

        if (tx->deleted) {
                r = tx_prune(tx);
                if (r < 0)
                        return r;
        }
        if (tx->changed) {
                _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_SET_STATE];

                r = step(tx->s, q,
                         sqlite3_bind_int64(q, 1, tx->revision)
                             ?: sqlite3_bind_int64(q, 2, tx->pruned));
                if (r < 0)
                        return r;
        }
        r = run(tx->s, QUERY_COMMIT);
        if (r < 0)
                return r;
        /* A lease that was only kept alive is nobody's news. */
        if (tx->changed)
                sqlite_file_notify(&tx->s->file);
        tx->s = NULL;
        return 0;
}

static int tx_put(struct tx *tx, const struct store_op *op)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_PUT];
        int r;

        r = step(tx->s, q,
                 bind_text(q, 1, op->key)
                         ?: bind_text(q, 2, op->value)
                         ?: sqlite3_bind_int64(q, 3, tx_next(tx))
                         ?: sqlite3_bind_int64(q, 4, op->lease));
        if (r < 0)
                return r;
        tx_changed(tx, false);
        return 0;
}

static int tx_delete(struct tx *tx, const char *key)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_DELETE];
        int r;

        r = step(tx->s, q, bind_text(q, 1, key) ?: sqlite3_bind_int64(q, 2, tx_next(tx)));
        if (r < 0)
                return r;
        if (sqlite3_changes(tx->s->file.db) > 0)
                tx_changed(tx, true);
        return 0;
}

static int tx_lease_is_alive(struct tx *tx, int64_t lease)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_LEASE_ALIVE];
        int r;

        r = step(tx->s, q,
                 sqlite3_bind_int64(q, 1, lease)
                         ?: bind_text(q, 2, tx->s->boot_id)
                         ?: sqlite3_bind_int64(q, 3, boottime_ms()));
        if (r < 0)
                return r;
        return r == 1 ? 0 : -ENOENT;
}

static int tx_end_lease(struct tx *tx, int64_t lease)
{
        _cleanup_reset_ sqlite3_stmt *keys = tx->s->query[QUERY_DELETE_LEASED];
        _cleanup_reset_ sqlite3_stmt *row = tx->s->query[QUERY_LEASE_DELETE];
        int r;

        r = step(tx->s, keys,
                 sqlite3_bind_int64(keys, 1, lease) ?: sqlite3_bind_int64(keys, 2, tx_next(tx)));
        if (r < 0)
                return r;
        if (sqlite3_changes(tx->s->file.db) > 0)
                tx_changed(tx, true);
        r = step(tx->s, row, sqlite3_bind_int64(row, 1, lease));
        if (r < 0)
                return r;
        return sqlite3_changes(tx->s->file.db) > 0 ? 0 : -ENOENT;
}

/* 1: *ret_lease has expired; 0: none has. */
static int tx_find_expired(struct tx *tx, int64_t *ret_lease)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_LEASE_EXPIRED];
        int r;

        r = step(tx->s, q,
                 bind_text(q, 1, tx->s->boot_id) ?: sqlite3_bind_int64(q, 2, boottime_ms()));
        if (r <= 0)
                return r;
        *ret_lease = sqlite3_column_int64(q, 0);
        return 1;
}

static int tx_collect(struct tx *tx)
{
        int64_t lease;
        int r;

        for (;;) {
                r = tx_find_expired(tx, &lease);
                if (r <= 0)
                        return r;
                r = tx_end_lease(tx, lease);
                if (r < 0)
                        return r;
        }
}

/* The rows of LIST or CHANGES, whose parameters from `first` on are the prefix's bounds. */
static int read_entries(struct store_sqlite *s, sqlite3_stmt *q, int bound, int first,
                        const char *prefix, struct store_entries *ret)
{
        _cleanup_(store_entries_done) struct store_entries entries = {};
        char end[STORE_KEY_MAX + 2];
        size_t len = strlen(prefix);
        int r;

        memcpy(end, prefix, len);
        end[len] = '\xff';
        end[len + 1] = '\0';
        bound = bound ?: bind_text(q, first, prefix);
        /* Not STATIC: it goes before the query is reset. */
        bound = bound ?: sqlite3_bind_text(q, first + 1, end, -1, SQLITE_TRANSIENT);
        while ((r = step(s, q, bound)) == 1) {
                const char *key = (const char *)sqlite3_column_text(q, 0);
                const char *value = (const char *)sqlite3_column_text(q, 1);

                if (!key || (!value && sqlite3_column_type(q, 1) != SQLITE_NULL))
                        return -ENOMEM;
                r = store_entries_add(&entries, key, value, sqlite3_column_int64(q, 2));
                if (r < 0)
                        return r;
        }
        if (r < 0)
                return r;
        *ret = entries;
        entries = (struct store_entries){};
        return 0;
}

static int sqlite_get(struct store *base, const char *key, char **ret_value, int64_t *ret_revision)
{
        struct store_sqlite *s = store_sqlite(base);
        _cleanup_tx_ struct tx tx = {};
        _cleanup_reset_ sqlite3_stmt *q = NULL;
        const char *text;
        char *value;
        int r;

        r = tx_begin(s, QUERY_BEGIN_READ, &tx);
        if (r < 0)
                return r;
        q = s->query[QUERY_GET];
        r = step(s, q, bind_text(q, 1, key));
        if (r < 0)
                return r;
        if (r == 0)
                return -ENOENT;
        text = (const char *)sqlite3_column_text(q, 0);
        value = text ? strdup(text) : NULL;
        if (!value)
                return -ENOMEM;
        *ret_revision = sqlite3_column_int64(q, 1);
        *ret_value = value;
        return 0;
}

static int collect(struct store_sqlite *s)
{
        _cleanup_tx_ struct tx tx = {};
        int r;

        r = tx_begin(s, QUERY_BEGIN_WRITE, &tx);
        if (r < 0)
                return r;
        r = tx_collect(&tx);
        if (r < 0)
                return r;
        return tx_commit(&tx);
}

static int any_expired(struct store_sqlite *s)
{
        _cleanup_tx_ struct tx tx = {};
        int64_t lease;
        int r;

        r = tx_begin(s, QUERY_BEGIN_READ, &tx);
        if (r < 0)
                return r;
        return tx_find_expired(&tx, &lease);
}

static int sqlite_list(struct store *base, const char *prefix, struct store_entries *ret,
                       int64_t *ret_revision)
{
        struct store_sqlite *s = store_sqlite(base);
        _cleanup_tx_ struct tx tx = {};
        _cleanup_reset_ sqlite3_stmt *q = NULL;
        int r;

        /* Looked for by a read, so that listing waits for no writer and wakes no watcher. */
        r = any_expired(s);
        if (r > 0)
                r = collect(s);
        if (r == -EIDRM)
                return r;
        if (r < 0) /* a full disk, say: what is there can still be listed */
                log_debug_errno(r, "cannot collect expired leases: %m, ignoring");
        r = tx_begin(s, QUERY_BEGIN_READ, &tx);
        if (r < 0)
                return r;
        q = s->query[QUERY_LIST];
        r = read_entries(s, q, SQLITE_OK, 1, prefix, ret);
        if (r < 0)
                return r;
        *ret_revision = tx.revision;
        return 0;
}

static int tx_compare(struct tx *tx, const struct store_compare *compare)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_GET];
        int64_t revision;
        int r;

        r = step(tx->s, q, bind_text(q, 1, compare->key));
        if (r < 0)
                return r;
        revision = r == 1 ? sqlite3_column_int64(q, 1) : 0;
        return revision == compare->revision ? 0 : -EAGAIN;
}

static int sqlite_transaction(struct store *base, const struct store_compare *compare,
                              size_t n_compare, const struct store_op *op, size_t n_op,
                              int64_t *ret_revision)
{
        struct store_sqlite *s = store_sqlite(base);
        _cleanup_tx_ struct tx tx = {};
        int64_t revision;
        int r;

        r = tx_begin(s, QUERY_BEGIN_WRITE, &tx);
        if (r < 0)
                return r;
        for (size_t i = 0; i < n_compare; i++) {
                r = tx_compare(&tx, &compare[i]);
                if (r < 0)
                        return r;
        }
        for (size_t i = 0; i < n_op; i++) {
                if (!op[i].value) {
                        r = tx_delete(&tx, op[i].key);
                } else {
                        r = op[i].lease ? tx_lease_is_alive(&tx, op[i].lease) : 0;
                        if (r == 0)
                                r = tx_put(&tx, &op[i]);
                }
                if (r < 0)
                        return r;
        }
        revision = tx.revision;
        r = tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_revision = revision;
        return 0;
}

static int sqlite_watch_fd(struct store *base)
{
        return store_sqlite(base)->file.watch_fd;
}

static int sqlite_watch(struct store *base, const char *prefix, int64_t *after,
                        struct store_entries *ret)
{
        struct store_sqlite *s = store_sqlite(base);
        _cleanup_tx_ struct tx tx = {};
        _cleanup_reset_ sqlite3_stmt *q = NULL;
        int r;

        /* First: what is committed from here on makes it readable again. */
        sqlite_file_clear(&s->file);
        r = tx_begin(s, QUERY_BEGIN_READ, &tx);
        if (r < 0)
                return r;
        /* A revision still to come is that of a store which stood here before this one. */
        if (*after < tx.pruned || *after > tx.revision)
                return -ESTALE;
        q = s->query[QUERY_CHANGES];
        r = read_entries(s, q, sqlite3_bind_int64(q, 1, *after), 2, prefix, ret);
        if (r < 0)
                return r;
        *after = tx.revision;
        return 0;
}

static int sqlite_lease_grant(struct store *base, unsigned int ttl_s, int64_t *ret_lease)
{
        struct store_sqlite *s = store_sqlite(base);
        _cleanup_tx_ struct tx tx = {};
        _cleanup_reset_ sqlite3_stmt *q = NULL;
        int64_t ttl_ms = (int64_t)ttl_s * 1000, lease;
        uint64_t random;
        int r;

        /*
         * Random, not counted: who holds a lease of a file that was removed must not keep
         * somebody else's alive in its successor. 52 bits, exact in every JSON reader.
         */
        if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random))
                return -EIO;
        lease = (int64_t)(random >> 12) + 1;
        r = tx_begin(s, QUERY_BEGIN_WRITE, &tx);
        if (r < 0)
                return r;
        q = s->query[QUERY_LEASE_ADD];
        r = step(s, q,
                 sqlite3_bind_int64(q, 1, lease)
                         ?: sqlite3_bind_int64(q, 2, ttl_ms)
                         ?: bind_text(q, 3, s->boot_id)
                         ?: sqlite3_bind_int64(q, 4, boottime_ms() + ttl_ms));
        if (r < 0)
                return r;
        r = tx_commit(&tx);
        if (r < 0)
                return r;
        *ret_lease = lease;
        return 0;
}

static int tx_extend_lease(struct tx *tx, int64_t lease)
{
        _cleanup_reset_ sqlite3_stmt *q = tx->s->query[QUERY_LEASE_EXTEND];
        int r;

        r = step(tx->s, q,
                 sqlite3_bind_int64(q, 1, lease) ?: sqlite3_bind_int64(q, 2, boottime_ms()));
        if (r < 0)
                return r;
        return sqlite3_changes(tx->s->file.db) > 0 ? 0 : -ENOENT;
}

static int sqlite_lease_keep_alive(struct store *base, int64_t lease)
{
        _cleanup_tx_ struct tx tx = {};
        int r, kept;

        r = tx_begin(store_sqlite(base), QUERY_BEGIN_WRITE, &tx);
        if (r < 0)
                return r;
        /* First, so that a lease which has expired cannot come back. */
        r = tx_collect(&tx);
        if (r < 0)
                return r;
        kept = tx_extend_lease(&tx, lease);
        if (kept < 0 && kept != -ENOENT)
                return kept;
        /* Also when it is gone: what was collected stands. */
        r = tx_commit(&tx);
        return r < 0 ? r : kept;
}

static int sqlite_lease_revoke(struct store *base, int64_t lease)
{
        _cleanup_tx_ struct tx tx = {};
        int r;

        r = tx_begin(store_sqlite(base), QUERY_BEGIN_WRITE, &tx);
        if (r < 0)
                return r;
        r = tx_end_lease(&tx, lease);
        if (r < 0)
                return r;
        return tx_commit(&tx);
}

static void sqlite_free(struct store *base)
{
        struct store_sqlite *s = store_sqlite(base);

        for (int i = 0; i < _QUERY_MAX; i++)
                sqlite3_finalize(s->query[i]);
        sqlite_file_done(&s->file);
        free(s->boot_id);
        free(s);
}

DEFINE_CLEANUP(struct store *, sqlite_free)

static int sqlite_open(const char *path, bool make, struct store **ret)
{
        _cleanup_(sqlite_freep) struct store *base = NULL;
        struct store_sqlite *s;
        int r;

        s = new0(struct store_sqlite, 1);
        if (!s)
                return -ENOMEM;
        s->file = SQLITE_FILE_INIT;
        s->base.driver = &store_driver_sqlite;
        base = &s->base;
        r = read_file_at(AT_FDCWD, "/proc/sys/kernel/random/boot_id", 64, &s->boot_id, NULL);
        if (r < 0)
                return log_debug_errno(r, "cannot read this boot's id from /proc: %m");
        r = sqlite_file_open(path, make, &s->file);
        if (r < 0)
                return r;
        for (int i = 0; i < _QUERY_MAX; i++) {
                int rc = sqlite3_prepare_v3(s->file.db, query_sql[i], -1, SQLITE_PREPARE_PERSISTENT,
                                            &s->query[i], NULL);

                r = rc == SQLITE_OK ? 0 : sqlite_file_errno(&s->file, rc);
                /* The queries are right, so the tables are not. */
                if (rc == SQLITE_ERROR)
                        return -EBADMSG;
                if (r < 0)
                        return r;
        }
        *ret = TAKE_PTR(base);
        return 0;
}

const struct store_driver store_driver_sqlite = {
    .scheme = "sqlite",
    .open = sqlite_open,
    .free = sqlite_free,
    .get = sqlite_get,
    .list = sqlite_list,
    .transaction = sqlite_transaction,
    .watch_fd = sqlite_watch_fd,
    .watch = sqlite_watch,
    .lease_grant = sqlite_lease_grant,
    .lease_keep_alive = sqlite_lease_keep_alive,
    .lease_revoke = sqlite_lease_revoke,
};
