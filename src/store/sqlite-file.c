/* SPDX-License-Identifier: Apache-2.0 */
#include "sqlite-file.h"

#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"

/* How long to wait for other users of the file. Their transactions take well under 1 ms. */
#define BUSY_TIMEOUT_MS 5000

/*
 * entry.value NULL is a tombstone: a deletion that watchers may still want to hear of.
 * state.pruned: tombstones up to this revision may be gone.
 * lease.expires_ms is CLOCK_BOOTTIME and means something within the boot that lease.boot names.
 */
static const char schema[] =
    "CREATE TABLE state (id INTEGER PRIMARY KEY CHECK (id = 0),"
    "                    revision INTEGER NOT NULL, pruned INTEGER NOT NULL) STRICT;"
    "INSERT INTO state VALUES (0, 0, 0);"
    "CREATE TABLE entry (key TEXT PRIMARY KEY NOT NULL, value TEXT, revision INTEGER NOT NULL,"
    "                    lease INTEGER NOT NULL) STRICT, WITHOUT ROWID;"
    "CREATE INDEX entry_revision ON entry (revision);"
    "CREATE INDEX entry_deleted ON entry (revision) WHERE value IS NULL;"
    "CREATE INDEX entry_lease ON entry (lease) WHERE lease != 0;"
    "CREATE TABLE lease (id INTEGER PRIMARY KEY, ttl_ms INTEGER NOT NULL, boot TEXT NOT NULL,"
    "                    expires_ms INTEGER NOT NULL) STRICT;";

int sqlite_file_errno(const struct sqlite_file *f, int rc)
{
        log_debug("sqlite %s: %s", f->path, f->db ? sqlite3_errmsg(f->db) : sqlite3_errstr(rc));
        /* ENOENT, EAGAIN, ESTALE mean something of their own to the store's callers: not here. */
        switch (rc & 0xff) {
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
                return -EBUSY;
        case SQLITE_NOMEM:
                return -ENOMEM;
        case SQLITE_READONLY:
                return rc == SQLITE_READONLY_DBMOVED ? -EIDRM : -EROFS;
        case SQLITE_PERM:
        case SQLITE_AUTH:
                return -EACCES;
        case SQLITE_FULL:
                return -ENOSPC;
        case SQLITE_TOOBIG:
                return -E2BIG;
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
                return -EBADMSG;
        default:
                return -EIO;
        }
}

static int execute(const struct sqlite_file *f, const char *sql)
{
        int rc = sqlite3_exec(f->db, sql, NULL, NULL, NULL);

        return rc == SQLITE_OK ? 0 : sqlite_file_errno(f, rc);
}

static void finalizep(sqlite3_stmt **st)
{
        sqlite3_finalize(*st);
}

static int select_int(const struct sqlite_file *f, const char *sql, int64_t *ret)
{
        _cleanup_(finalizep) sqlite3_stmt *st = NULL;
        int rc;

        rc = sqlite3_prepare_v2(f->db, sql, -1, &st, NULL);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        rc = sqlite3_step(st);
        if (rc != SQLITE_ROW)
                return sqlite_file_errno(f, rc);
        *ret = sqlite3_column_int64(st, 0);
        return 0;
}

static int judge(int64_t application, int64_t version)
{
        if (application != SQLITE_FILE_APPLICATION || version < 1)
                return -EBADMSG;
        return version > SQLITE_FILE_VERSION ? -ESTALE : 0;
}

/*
 * Looks at the file's first bytes before SQLite does: a transaction, even one that only reads,
 * would roll back another application's journal or leave a -wal behind. Read through SQLite's own
 * descriptor, because closing another one would drop this process's POSIX locks on the file.
 */
static int check_header(const struct sqlite_file *f)
{
        static const char magic[16] = "SQLite format 3";
        uint8_t header[100];
        uint32_t application, version;
        sqlite3_file *file = NULL;
        sqlite3_int64 size = 0;
        int rc;

        rc = sqlite3_file_control(f->db, "main", SQLITE_FCNTL_FILE_POINTER, &file);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        rc = file->pMethods->xFileSize(file, &size);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        if (size == 0)
                return 0;
        if (size < (sqlite3_int64)sizeof(header))
                return -EBADMSG;
        rc = file->pMethods->xRead(file, header, sizeof(header), 0);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        if (memcmp(header, magic, sizeof(magic)) != 0)
                return -EBADMSG;
        memcpy(&version, header + 60, sizeof(version));
        memcpy(&application, header + 68, sizeof(application));
        return judge(be32toh(application), be32toh(version));
}

/* The same in a transaction, where what is only in the -wal, or not yet rolled back, counts. */
static int check_database(const struct sqlite_file *f, bool *ret_empty)
{
        int64_t application = 0, version = 0, objects = 0;
        int r;

        r = select_int(f, "PRAGMA application_id", &application);
        if (r < 0)
                return r;
        r = select_int(f, "PRAGMA user_version", &version);
        if (r < 0)
                return r;
        r = select_int(f, "SELECT count(*) FROM sqlite_schema", &objects);
        if (r < 0)
                return r;
        if (application == 0 && version == 0 && objects == 0) {
                *ret_empty = true;
                return 0;
        }
        r = judge(application, version);
        if (r < 0)
                return r;
        *ret_empty = false;
        return 0;
}

/*
 * Fills an empty file, still with a rollback journal: so the application's id and the version are
 * in the file's header from its first commit on, and check_header() can be strict.
 */
static int create(const struct sqlite_file *f)
{
        char identity[96];
        bool empty;
        int r;

        r = execute(f, "BEGIN IMMEDIATE");
        if (r < 0)
                return r;
        /* Another process may have been faster. */
        r = check_database(f, &empty);
        if (r < 0)
                return r;
        if (empty) {
                r = execute(f, schema);
                if (r < 0)
                        return r;
                snprintf(identity, sizeof(identity),
                         "PRAGMA application_id = %d; PRAGMA user_version = %d",
                         SQLITE_FILE_APPLICATION, SQLITE_FILE_VERSION);
                r = execute(f, identity);
                if (r < 0)
                        return r;
        }
        return execute(f, "COMMIT");
}

/* SQLite does not wait for another writer by itself when it changes the journal mode. */
static int use_wal(const struct sqlite_file *f)
{
        for (int waited = 0;; waited += 10) {
                _cleanup_(finalizep) sqlite3_stmt *st = NULL;
                const char *mode;
                int rc;

                rc = sqlite3_prepare_v2(f->db, "PRAGMA journal_mode = WAL", -1, &st, NULL);
                if (rc == SQLITE_OK)
                        rc = sqlite3_step(st);
                if ((rc & 0xff) == SQLITE_BUSY && waited < BUSY_TIMEOUT_MS) {
                        sqlite3_sleep(10);
                        continue;
                }
                if (rc != SQLITE_ROW)
                        return sqlite_file_errno(f, rc);
                mode = (const char *)sqlite3_column_text(st, 0);
                /* A file system without shared memory maps cannot carry a WAL. */
                return mode && strcmp(mode, "wal") == 0 ? 0 : -EOPNOTSUPP;
        }
}

/* Makes the file where it is missing, if it may, and finds out whether it can be a store at all. */
static int resolve(const char *path, bool make, char **ret)
{
        _cleanup_free_ char *real = NULL, *directory = NULL;
        struct stat st;

        /*
         * mknod() makes a regular file with the right mode and without a descriptor, whose
         * closing would drop POSIX locks that another thread has just taken. If we fail later,
         * the empty file stays: another process may already be filling it.
         */
        if (make && mknod(path, S_IFREG | 0600, 0) < 0 && errno != EEXIST)
                return -errno;
        /* An absolute path is also safe from SQLite's special names, ":memory:" and "file:…". */
        real = realpath(path, NULL);
        if (!real)
                return -errno;
        if (strlen(real) + strlen("-journal") >= (size_t)sqlite3_vfs_find(NULL)->mxPathname)
                return -ENAMETOOLONG;
        if (stat(real, &st) < 0)
                return -errno;
        if (S_ISDIR(st.st_mode))
                return -EISDIR;
        /* SQLite takes a file of one byte for an empty one (a workaround of its own). */
        if (!S_ISREG(st.st_mode) || st.st_size == 1)
                return -EBADMSG;
        /* Asked here because SQLite would go on read-only, or say no more than "cannot open". */
        if (faccessat(AT_FDCWD, real, R_OK | W_OK, AT_EACCESS) < 0)
                return -errno;
        directory = strndup(real, (size_t)(strrchr(real, '/') - real) + 1);
        if (!directory)
                return -ENOMEM;
        if (faccessat(AT_FDCWD, directory, W_OK | X_OK, AT_EACCESS) < 0)
                return -errno;
        *ret = TAKE_PTR(real);
        return 0;
}

static int connect_database(struct sqlite_file *f)
{
        bool empty;
        int rc, r;

        rc = sqlite3_open_v2(f->path, &f->db,
                             SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE,
                             NULL);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        sqlite3_busy_timeout(f->db, BUSY_TIMEOUT_MS);
        r = check_header(f);
        if (r < 0)
                return r;
        /* Until it is known to be ours, closing must not carry -wal over into the file. */
        sqlite3_db_config(f->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL);
        r = execute(f, "BEGIN");
        if (r < 0)
                return r;
        r = check_database(f, &empty);
        if (r < 0)
                return r;
        r = execute(f, "ROLLBACK");
        if (r < 0)
                return r;
        if (empty) {
                r = create(f);
                if (r < 0)
                        return r;
        }
        sqlite3_db_config(f->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 0, NULL);
        r = use_wal(f);
        if (r < 0)
                return r;
        /*
         * NORMAL: with a WAL, commits are not synced one by one. The death of a process loses
         * nothing, since the page cache has it. A power cut may lose the last commits, never
         * the file's consistency, and nobody outlives it who has seen them: all users of the file
         * are on this machine, and the leases of an earlier boot are over anyway.
         */
        return execute(f, "PRAGMA synchronous = NORMAL");
}

/*
 * Remembers which file -wal is. SQLite opens it with the first read and keeps it; nobody else
 * removes it by SQLite's rules while we are connected.
 */
static int remember_wal(struct sqlite_file *f)
{
        struct stat st;
        int64_t ignored;
        int r;

        if (asprintf(&f->wal_path, "%s-wal", f->path) < 0) {
                f->wal_path = NULL;
                return -ENOMEM;
        }
        r = select_int(f, "SELECT count(*) FROM sqlite_schema", &ignored);
        if (r < 0)
                return r;
        if (stat(f->wal_path, &st) < 0)
                return errno == ENOENT ? -EIDRM : -errno;
        f->wal_dev = st.st_dev;
        f->wal_ino = st.st_ino;
        return 0;
}

int sqlite_file_open(const char *path, bool make, struct sqlite_file *ret)
{
        _cleanup_(sqlite_file_done) struct sqlite_file f = SQLITE_FILE_INIT;
        int r;

        r = resolve(path, make, &f.path);
        if (r < 0)
                return r;
        r = connect_database(&f);
        if (r < 0)
                return r;
        r = remember_wal(&f);
        if (r < 0)
                return r;
        /* From the start, so that what changes between a list and the first wait is not missed. */
        f.watch_fd = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
        if (f.watch_fd < 0)
                return -errno;
        if (inotify_add_watch(f.watch_fd, f.path,
                              IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE_SELF | IN_DELETE_SELF) < 0)
                return -errno;
        *ret = f;
        f = SQLITE_FILE_INIT;
        return 0;
}

void sqlite_file_done(struct sqlite_file *f)
{
        /* With an open transaction this rolls it back. */
        if (sqlite3_close(f->db) != SQLITE_OK)
                log_debug("sqlite %s: closed with statements left: %s", f->path,
                          sqlite3_errmsg(f->db));
        free(f->path);
        free(f->wal_path);
        safe_close(f->watch_fd);
        *f = SQLITE_FILE_INIT;
}

int sqlite_file_check(const struct sqlite_file *f)
{
        struct stat st;
        int moved = 0, rc;

        rc = sqlite3_file_control(f->db, "main", SQLITE_FCNTL_HAS_MOVED, &moved);
        if (rc != SQLITE_OK)
                return sqlite_file_errno(f, rc);
        if (moved)
                return -EIDRM;
        if (stat(f->wal_path, &st) < 0)
                return errno == ENOENT ? -EIDRM : -EIO;
        return st.st_dev == f->wal_dev && st.st_ino == f->wal_ino ? 0 : -EIDRM;
}

void sqlite_file_notify(const struct sqlite_file *f)
{
        /* The commit stands; if the file has gone, watchers are told of that. */
        if (utimensat(AT_FDCWD, f->path, NULL, 0) < 0)
                log_debug_errno(-errno, "cannot touch %s: %m, ignoring", f->path);
}

void sqlite_file_clear(const struct sqlite_file *f)
{
        char events[4096] __attribute__((aligned(__alignof__(struct inotify_event))));
        ssize_t n;

        /* What they say does not matter: the database is read in any case. */
        do {
                n = read(f->watch_fd, events, sizeof(events));
        } while (n > 0 || (n < 0 && errno == EINTR));
}
