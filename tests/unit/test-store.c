// SPDX-License-Identifier: Apache-2.0
/*
 * The store, by its interface, over SQLite. What a test does to the file behind the store's back
 * (another version, another boot, a lease's end brought forward) it does with SQLite itself.
 *
 * An SQLite connection must not cross fork(): every child is started before its parent opens the
 * store, and then waits for a word.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <limits.h>
#include <poll.h>
#include <setjmp.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "store/store.h"

#define _cleanup_store_   _cleanup_(store_freep)
#define _cleanup_entries_ _cleanup_(store_entries_done)

/* A guard against a hanging test, not a measure of anything. */
#define GUARD_MS 60000

static char base_dir[] = "/tmp/slim-test-store-XXXXXX";
static pid_t sweeper = -1;
static int sweeper_fd = -1;

/* One test's directory and the store in it. */
static char dir[PATH_MAX], db[PATH_MAX + 16], wal[PATH_MAX + 32], url[PATH_MAX + 32];

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        return remove(path);
}

static void remove_tree(const char *path)
{
        nftw(path, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* A process that outlives us, whatever kills us, and then removes what we leave. */
static int group_setup(void **state)
{
        int p[2];

        if (!mkdtemp(base_dir) || pipe2(p, O_CLOEXEC) < 0)
                return -1;
        sweeper = fork();
        if (sweeper < 0)
                return -1;
        if (sweeper == 0) {
                char c;

                setsid();
                close(p[1]);
                while (read(p[0], &c, 1) < 0 && errno == EINTR)
                        ;
                remove_tree(base_dir);
                _exit(0);
        }
        close(p[0]);
        sweeper_fd = p[1];
        return 0;
}

static int group_teardown(void **state)
{
        sweeper_fd = safe_close(sweeper_fd);
        return waitpid(sweeper, NULL, 0) == sweeper && access(base_dir, F_OK) < 0 ? 0 : -1;
}

static int setup(void **state)
{
        static int n;

        snprintf(dir, sizeof(dir), "%s/%d", base_dir, n++);
        snprintf(db, sizeof(db), "%s/store", dir);
        snprintf(wal, sizeof(wal), "%s-wal", db);
        snprintf(url, sizeof(url), "sqlite:%s", db);
        return mkdir(dir, 0700);
}

static int teardown(void **state)
{
        remove_tree(dir);
        return 0;
}

/* --- children --------------------------------------------------------------------------------- */

struct child {
        pid_t pid;
        int to, from; /* one byte each way per step */
};

/* In the child: tells the parent that a step is done, or waits for the next. */
static int child_in, child_out;

static int say(int fd)
{
        return write(fd, "x", 1) == 1 ? 0 : -1;
}

static int hear(int fd)
{
        struct pollfd p = {.fd = fd, .events = POLLIN};
        char c;

        return poll(&p, 1, GUARD_MS) == 1 && read(fd, &c, 1) == 1 ? 0 : -1;
}

/* Starts body in a process of its own, which dies with us. body's result is its exit status. */
static struct child start(int (*body)(void))
{
        struct child c;
        int to[2], from[2];

        assert_int_equal(pipe2(to, O_CLOEXEC), 0);
        assert_int_equal(pipe2(from, O_CLOEXEC), 0);
        c.pid = fork();
        assert_true(c.pid >= 0);
        if (c.pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                close(sweeper_fd);
                close(to[1]);
                close(from[0]);
                child_in = to[0];
                child_out = from[1];
                _exit(body());
        }
        close(to[0]);
        close(from[1]);
        c.to = to[1];
        c.from = from[0];
        return c;
}

static void go(struct child *c)
{
        assert_int_equal(say(c->to), 0);
}

static void await(struct child *c)
{
        assert_int_equal(hear(c->from), 0);
}

/* Its wait status. */
static int reap(struct child *c)
{
        int status;

        assert_int_equal(waitpid(c->pid, &status, 0), c->pid);
        close(c->to);
        close(c->from);
        return status;
}

/* --- helpers ---------------------------------------------------------------------------------- */

static struct store *open_store(void)
{
        struct store *s;

        assert_int_equal(store_open(url, &s), 0);
        return s;
}

static int try_put(struct store *s, const char *key, const char *value, int64_t lease)
{
        const struct store_op op = {.key = key, .value = value, .lease = lease};

        return store_transaction(s, NULL, 0, &op, 1, NULL);
}

static void put(struct store *s, const char *key, const char *value)
{
        assert_int_equal(try_put(s, key, value, 0), 0);
}

static void remove_key(struct store *s, const char *key)
{
        assert_int_equal(try_put(s, key, NULL, 0), 0);
}

static int64_t revision_of(struct store *s)
{
        _cleanup_entries_ struct store_entries e = {};
        int64_t revision;

        assert_int_equal(store_list(s, "no such prefix", &e, &revision), 0);
        assert_int_equal(e.n, 0);
        return revision;
}

static void assert_value(struct store *s, const char *key, const char *want)
{
        _cleanup_free_ char *value = NULL;
        int r = store_get(s, key, &value, NULL);

        if (!want) {
                assert_int_equal(r, -ENOENT);
                assert_null(value);
                return;
        }
        assert_int_equal(r, 0);
        assert_string_equal(value, want);
}

/* Entries as text: "key=value …", "-key" for a deleted one. */
static void assert_entries(const struct store_entries *e, const char *want)
{
        char text[1024] = "";
        size_t at = 0;

        for (size_t i = 0; i < e->n; i++) {
                const char *gap = i > 0 ? " " : "";

                if (e->entry[i].value)
                        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s%s=%s", gap,
                                               e->entry[i].key, e->entry[i].value);
                else
                        at += (size_t)snprintf(text + at, sizeof(text) - at, "%s-%s", gap,
                                               e->entry[i].key);
                assert_true(at < sizeof(text));
        }
        assert_string_equal(text, want);
}

static void assert_list(struct store *s, const char *prefix, const char *want)
{
        _cleanup_entries_ struct store_entries e = {};

        assert_int_equal(store_list(s, prefix, &e, NULL), 0);
        assert_entries(&e, want);
}

static void assert_watch(struct store *s, const char *prefix, int64_t *after, const char *want)
{
        _cleanup_entries_ struct store_entries e = {};

        assert_int_equal(store_watch(s, prefix, after, &e), 0);
        assert_entries(&e, want);
}

static bool is_readable(struct store *s, int timeout_ms)
{
        struct pollfd p = {.fd = store_watch_fd(s), .events = POLLIN};
        int n = poll(&p, 1, timeout_ms);

        assert_true(n >= 0);
        return n == 1;
}

/* In the file, behind the store's back. Not from a process that has the store open. */
static int raw_sql(const char *sql)
{
        sqlite3 *c = NULL;
        int rc;

        rc = sqlite3_open(db, &c);
        if (rc == SQLITE_OK) {
                sqlite3_busy_timeout(c, GUARD_MS);
                rc = sqlite3_exec(c, sql, NULL, NULL, NULL);
        }
        sqlite3_close(c);
        return rc;
}

struct bytes {
        char *data;
        size_t len;
        struct stat st;
};

static void bytes_done(struct bytes *b)
{
        free(b->data);
}

#define _cleanup_bytes_ _cleanup_(bytes_done)

static struct bytes bytes_of(const char *path)
{
        struct bytes b = {};

        assert_int_equal(read_file_at(AT_FDCWD, path, 1 << 24, &b.data, &b.len), 0);
        assert_int_equal(stat(path, &b.st), 0);
        return b;
}

static void assert_unchanged(const char *path, const struct bytes *before)
{
        _cleanup_bytes_ struct bytes now = bytes_of(path);

        assert_int_equal(now.len, before->len);
        assert_memory_equal(now.data, before->data, now.len);
        assert_int_equal(now.st.st_ino, before->st.st_ino);
        assert_int_equal(now.st.st_mode, before->st.st_mode);
        assert_memory_equal(&now.st.st_mtim, &before->st.st_mtim, sizeof(now.st.st_mtim));
}

static void write_bytes(const char *path, const void *data, size_t len)
{
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write_full(fd, data, len), 0);
}

static void assert_refused(int error)
{
        struct store *untouched = (struct store *)db, *s = untouched;

        assert_int_equal(store_open(url, &s), error);
        assert_ptr_equal(s, untouched);
}

/* --- opening ---------------------------------------------------------------------------------- */

static void test_open_existing(void **state)
{
        struct store_entries list;
        struct store *s = NULL;
        int64_t n = 0;

        assert_int_equal(store_open_existing(url, &s), -ENOENT);
        assert_int_equal(access(db, F_OK), -1);
        assert_int_equal(store_open(url, &s), 0);
        assert_int_equal(store_transaction(s, NULL, 0, &(struct store_op){"k", "v", 0}, 1, NULL),
                         0);
        store_free(s);
        assert_int_equal(store_open_existing(url, &s), 0);
        assert_int_equal(store_get(s, "k", NULL, NULL), 0);
        store_free(s);
        /* One that is not open any more. */
        assert_int_equal(store_get(NULL, "k", NULL, NULL), -EIDRM);
        assert_int_equal(store_list(NULL, "", &list, NULL), -EIDRM);
        assert_int_equal(store_transaction(NULL, NULL, 0, NULL, 0, NULL), -EIDRM);
        assert_int_equal(store_watch(NULL, "", &n, &list), -EIDRM);
        assert_int_equal(store_lease_grant(NULL, 1, &n), -EIDRM);
        assert_int_equal(store_lease_keep_alive(NULL, 1), -EIDRM);
        assert_int_equal(store_lease_revoke(NULL, 1), -EIDRM);
}

static void test_urls(void **state)
{
        struct store *s = NULL;

        assert_int_equal(store_open("", &s), -EPROTONOSUPPORT);
        assert_int_equal(store_open("/var/lib/slim", &s), -EPROTONOSUPPORT);
        assert_int_equal(store_open("sqlit:/x", &s), -EPROTONOSUPPORT);
        assert_int_equal(store_open("sqlite3:/x", &s), -EPROTONOSUPPORT);
        assert_int_equal(store_open("SQLITE:/x", &s), -EPROTONOSUPPORT);
        assert_int_equal(store_open("sqlite:", &s), -EINVAL);
        assert_null(s);
        store_free(NULL);
}

static void test_file_mode(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        struct stat st;

        put(s, "a", "1");
        assert_int_equal(stat(db, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
        assert_int_equal(stat(wal, &st), 0);
        assert_int_equal(st.st_mode, S_IFREG | 0600);
}

static void test_reopen(void **state)
{
        struct store *s = open_store();
        int64_t revision;

        put(s, "a", "1");
        put(s, "b", "2");
        revision = revision_of(s);
        store_free(s);
        /* The last one out leaves one file. */
        assert_int_equal(access(wal, F_OK), -1);
        s = open_store();
        assert_list(s, "", "a=1 b=2");
        assert_int_equal(revision_of(s), revision);
        store_free(s);
}

static void test_empty_file_is_new(void **state)
{
        write_bytes(db, "", 0);
        {
                _cleanup_store_ struct store *s = open_store();

                put(s, "a", "1");
        }
        /* Through a symbolic link it is the same store, -wal included. */
        snprintf(url, sizeof(url), "sqlite:%s/link", dir);
        assert_int_equal(symlink("store", url + strlen("sqlite:")), 0);
        {
                _cleanup_store_ struct store *s = open_store();

                assert_value(s, "a", "1");
                put(s, "a", "2");
                assert_int_equal(access(wal, F_OK), 0);
        }
}

/* Names that SQLite itself would take for something else than a file's name. */
static void test_special_names(void **state)
{
        static const char *const names[] = {":memory:", "file:x?mode=memory", "a?b%20c"};
        _cleanup_close_ int cwd = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);

        assert_int_equal(chdir(dir), 0);
        for (size_t i = 0; i < ARRAY_SIZE(names); i++) {
                snprintf(url, sizeof(url), "sqlite:%s", names[i]);
                {
                        _cleanup_store_ struct store *s = open_store();

                        put(s, "a", names[i]);
                }
                assert_int_equal(access(names[i], F_OK), 0);
                {
                        _cleanup_store_ struct store *s = open_store();

                        assert_value(s, "a", names[i]);
                }
        }
        assert_int_equal(fchdir(cwd), 0);
}

static void test_bad_paths(void **state)
{
        size_t len;

        snprintf(url, sizeof(url), "sqlite:%s", dir);
        assert_refused(-EISDIR);
        snprintf(url, sizeof(url), "sqlite:%s/none/store", dir);
        assert_refused(-ENOENT);
        snprintf(url, sizeof(url), "sqlite:/dev/null");
        assert_refused(-EBADMSG);
        snprintf(url, sizeof(url), "sqlite:%s", db);
        assert_int_equal(mkfifo(db, 0600), 0);
        assert_refused(-EBADMSG);
        assert_int_equal(unlink(db), 0);
        assert_int_equal(symlink("nowhere", db), 0);
        assert_refused(-ENOENT);
        /* SQLite's own limit on a path is far below the kernel's. */
        snprintf(url, sizeof(url), "sqlite:%s/", dir);
        for (int i = 0; i < 6; i++) {
                len = strlen(url);
                memset(url + len, 'd', 100);
                url[len + 100] = '\0';
                assert_int_equal(mkdir(url + strlen("sqlite:"), 0700), 0);
                strcat(url, "/");
        }
        strcat(url, "store");
        assert_refused(-ENAMETOOLONG);
}

static void test_garbage(void **state)
{
        static char noise[8192];
        _cleanup_bytes_ struct bytes before = {};

        for (size_t i = 0; i < sizeof(noise); i++)
                noise[i] = (char)(i * 31 + i / 13);
        write_bytes(db, noise, sizeof(noise));
        before = bytes_of(db);
        assert_refused(-EBADMSG);
        assert_unchanged(db, &before);
        assert_int_equal(access(wal, F_OK), -1);
        write_bytes(db, "x", 1);
        assert_refused(-EBADMSG);
        write_bytes(db, "SQLite format 3", 16);
        assert_refused(-EBADMSG);
        /* Like a database up to the end of its header, ours even, and nothing behind it. */
        memset(noise, 0, sizeof(noise));
        memcpy(noise, "SQLite format 3", 16);
        memcpy(noise + 60, "\0\0\0\1", 4);
        memcpy(noise + 68, "Slim", 4);
        write_bytes(db, noise, sizeof(noise));
        assert_refused(-EBADMSG);
}

static void test_other_application(void **state)
{
        _cleanup_bytes_ struct bytes before = {}, with_id = {};

        assert_int_equal(raw_sql("CREATE TABLE t (x); INSERT INTO t VALUES (1)"), SQLITE_OK);
        before = bytes_of(db);
        assert_refused(-EBADMSG);
        assert_unchanged(db, &before);
        assert_int_equal(raw_sql("PRAGMA application_id = 42; PRAGMA journal_mode = WAL"),
                         SQLITE_OK);
        with_id = bytes_of(db);
        assert_refused(-EBADMSG);
        assert_unchanged(db, &with_id);
        assert_int_equal(access(wal, F_OK), -1);
}

static void test_damaged_tables(void **state)
{
        store_free(open_store());
        assert_int_equal(raw_sql("DROP TABLE lease"), SQLITE_OK);
        assert_refused(-EBADMSG);
}

static void test_newer_version(void **state)
{
        _cleanup_bytes_ struct bytes before = {};
        struct store *s = open_store();

        put(s, "a", "1");
        store_free(s);
        assert_int_equal(raw_sql("PRAGMA user_version = 2"), SQLITE_OK);
        before = bytes_of(db);
        assert_refused(-ESTALE);
        assert_unchanged(db, &before);
        assert_int_equal(access(wal, F_OK), -1);
        /* And the message is right: with the version back, the store is back. */
        assert_int_equal(raw_sql("PRAGMA user_version = 1"), SQLITE_OK);
        s = open_store();
        assert_value(s, "a", "1");
        store_free(s);
}

/* Leaves what it commits in -wal, as a process does that is killed. */
static int upgrade_and_die(void)
{
        sqlite3 *c;

        if (sqlite3_open(db, &c) != SQLITE_OK ||
            sqlite3_exec(c, "BEGIN; PRAGMA user_version = 2; CREATE TABLE new (x); COMMIT", NULL,
                         NULL, NULL) != SQLITE_OK)
                return 1;
        kill(getpid(), SIGKILL);
        return 1;
}

static void test_newer_version_in_wal(void **state)
{
        _cleanup_bytes_ struct bytes before = {}, before_wal = {};
        struct child c;

        store_free(open_store());
        c = start(upgrade_and_die);
        assert_true(WIFSIGNALED(reap(&c)));
        before = bytes_of(db);
        before_wal = bytes_of(wal);
        assert_true(before_wal.len > 0);
        assert_refused(-ESTALE);
        assert_unchanged(db, &before);
        assert_unchanged(wal, &before_wal);
}

static int upgrade(void)
{
        return hear(child_in) < 0 || raw_sql("PRAGMA user_version = 2") != SQLITE_OK;
}

static void test_newer_version_takes_over(void **state)
{
        struct child c = start(upgrade);
        _cleanup_store_ struct store *s = open_store();
        char *value = NULL;

        put(s, "a", "1");
        go(&c);
        assert_int_equal(reap(&c), 0);
        assert_int_equal(try_put(s, "a", "2", 0), -EIDRM);
        assert_int_equal(store_get(s, "a", &value, NULL), -EIDRM);
        assert_null(value);
}

#define NOBODY 65534

static int open_as_nobody(void)
{
        struct store *s;
        int r;

        if (geteuid() == 0 && (setgroups(0, NULL) < 0 || setresgid(NOBODY, NOBODY, NOBODY) < 0 ||
                               setresuid(NOBODY, NOBODY, NOBODY) < 0))
                return 1;
        r = store_open(url, &s);
        if (r == 0)
                store_free(s);
        return -r;
}

static void assert_nobody(int error)
{
        struct child c = start(open_as_nobody);
        int status = reap(&c);

        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), error);
}

static void test_permissions(void **state)
{
        store_free(open_store());
        assert_int_equal(chmod(base_dir, 0711), 0);
        if (geteuid() == 0) {
                assert_int_equal(chown(dir, NOBODY, NOBODY), 0);
                assert_int_equal(chown(db, NOBODY, NOBODY), 0);
        }
        assert_nobody(0);
        /* The file could be written, -wal could not be made. */
        assert_int_equal(chmod(dir, 0500), 0);
        assert_nobody(EACCES);
        assert_int_equal(chmod(dir, 0700), 0);
        assert_int_equal(chmod(db, 0400), 0);
        assert_nobody(EACCES);
        assert_int_equal(chmod(db, 0), 0);
        assert_nobody(EACCES);
        assert_int_equal(unlink(db), 0);
        assert_nobody(0);
        /* Not there, and cannot be made. */
        assert_int_equal(unlink(db), 0);
        assert_int_equal(chmod(dir, 0500), 0);
        assert_nobody(EACCES);
        assert_int_equal(access(db, F_OK), -1);
        assert_int_equal(chmod(dir, 0700), 0);
}

/* --- keys and transactions -------------------------------------------------------------------- */

static void test_get_and_revisions(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        const struct store_op two[] = {{.key = "a", .value = "3"}, {.key = "b", .value = ""}};
        int64_t before = revision_of(s), first, second, of_a, of_b;
        _cleanup_free_ char *value = NULL;

        assert_value(s, "a", NULL);
        assert_int_equal(store_transaction(s, NULL, 0, two, 1, &first), 0);
        assert_true(first > before);
        assert_int_equal(store_transaction(s, NULL, 0, two, 2, &second), 0);
        assert_true(second > first);
        assert_int_equal(store_get(s, "a", &value, &of_a), 0);
        assert_string_equal(value, "3");
        assert_int_equal(store_get(s, "b", NULL, &of_b), 0);
        assert_int_equal(store_get(s, "b", NULL, NULL), 0);
        assert_value(s, "b", "");
        /* One transaction, one revision. */
        assert_int_equal(of_a, second);
        assert_int_equal(of_b, second);
        assert_int_equal(revision_of(s), second);
}

static void test_nothing_changes_nothing(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        const struct store_op op = {.key = "absent"};
        int64_t before, after;

        put(s, "a", "1");
        before = revision_of(s);
        assert_int_equal(store_transaction(s, NULL, 0, &op, 1, &after), 0);
        assert_int_equal(after, before);
        assert_int_equal(store_transaction(s, NULL, 0, NULL, 0, &after), 0);
        assert_int_equal(after, before);
        remove_key(s, "a");
        assert_int_equal(revision_of(s), before + 1);
        remove_key(s, "a");
        assert_int_equal(revision_of(s), before + 1);
        assert_value(s, "a", NULL);
}

static void test_list(void **state)
{
        _cleanup_store_ struct store *s = open_store();

        put(s, "net/b", "2");
        put(s, "net/a", "1");
        put(s, "net", "0");
        put(s, "net/a/x", "3");
        put(s, "netz", "4");
        put(s, "NET/a", "5");
        put(s, "net/\xf4\x8f\xbf\xbf", "6"); /* the last code point there is */
        put(s, "net0", "7");                 /* '0' follows '/' */
        put(s, "net/gone", "x");
        remove_key(s, "net/gone");
        assert_list(s, "net/", "net/a=1 net/a/x=3 net/b=2 net/\xf4\x8f\xbf\xbf=6");
        assert_list(s, "net/a", "net/a=1 net/a/x=3");
        assert_list(s, "net/%", "");
        assert_list(s, "net/_", "");
        assert_list(s, "",
                    "NET/a=5 net=0 net/a=1 net/a/x=3 net/b=2 net/\xf4\x8f\xbf\xbf=6 net0=7 netz=4");
}

static void test_compare(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        struct store_compare compare[] = {{.key = "a"}, {.key = "b"}};
        const struct store_op ops[] = {{.key = "x", .value = "1"}, {.key = "a"}};
        int64_t before, ret = -7;

        put(s, "a", "1");
        before = revision_of(s);
        /* "a" exists. */
        assert_int_equal(store_transaction(s, compare, 2, ops, 2, &ret), -EAGAIN);
        assert_int_equal(ret, -7);
        assert_int_equal(revision_of(s), before);
        assert_value(s, "x", NULL);
        assert_value(s, "a", "1");
        /* The right revision of the one, a wrong one of the other. */
        compare[0].revision = before;
        compare[1].revision = before;
        assert_int_equal(store_transaction(s, compare, 2, ops, 2, NULL), -EAGAIN);
        compare[1].revision = 0;
        assert_int_equal(store_transaction(s, compare, 2, ops, 2, NULL), 0);
        assert_list(s, "", "x=1");
        /* A deleted key does not exist, and its old revision is no condition that holds. */
        assert_int_equal(store_transaction(s, compare, 1, NULL, 0, NULL), -EAGAIN);
        compare[0].revision = 0;
        assert_int_equal(store_transaction(s, compare, 1, NULL, 0, NULL), 0);
        /* Made again, it has another revision than before. */
        put(s, "a", "1");
        compare[0].revision = before;
        assert_int_equal(store_transaction(s, compare, 1, NULL, 0, NULL), -EAGAIN);
}

static void test_all_or_nothing(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        const struct store_op ops[] = {
            {.key = "a", .value = "2"},
            {.key = "b"},
            {.key = "c", .value = "1", .lease = 4711},
        };
        int64_t before, after;

        put(s, "a", "1");
        put(s, "b", "1");
        before = after = revision_of(s);
        /* The last operation cannot be done: there is no such lease. */
        assert_int_equal(store_transaction(s, NULL, 0, ops, 3, NULL), -ENOENT);
        assert_list(s, "", "a=1 b=1");
        assert_int_equal(revision_of(s), before);
        assert_watch(s, "", &after, "");
        /* And the store still works. */
        assert_int_equal(store_transaction(s, NULL, 0, ops, 2, NULL), 0);
        assert_list(s, "", "a=2");
}

static void test_bad_arguments(void **state)
{
        static const char *const bad[] = {"", "a\nb", "a\x7f", "\xff", "a\xf5", "\x01"};
        _cleanup_store_ struct store *s = open_store();
        _cleanup_entries_ struct store_entries e = {};
        const struct store_op twice[] = {{.key = "a", .value = "1"}, {.key = "b"}, {.key = "a"}};
        const struct store_compare negative = {.key = "a", .revision = -1};
        char key[STORE_KEY_MAX + 2];
        int64_t after = 0, lease = 0;

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                const struct store_compare compare = {.key = bad[i]};

                assert_int_equal(store_get(s, bad[i], NULL, NULL), -EINVAL);
                assert_int_equal(try_put(s, bad[i], "1", 0), -EINVAL);
                assert_int_equal(store_transaction(s, &compare, 1, NULL, 0, NULL), -EINVAL);
                if (i > 0) {
                        assert_int_equal(store_list(s, bad[i], &e, NULL), -EINVAL);
                        assert_int_equal(store_watch(s, bad[i], &after, &e), -EINVAL);
                }
        }
        memset(key, 'k', sizeof(key));
        key[STORE_KEY_MAX + 1] = '\0';
        assert_int_equal(try_put(s, key, "1", 0), -EINVAL);
        key[STORE_KEY_MAX] = '\0';
        put(s, key, "1");
        assert_int_equal(store_list(s, key, &e, NULL), 0);
        assert_int_equal(e.n, 1);
        assert_int_equal(store_transaction(s, NULL, 0, twice, 3, NULL), -EINVAL);
        assert_int_equal(store_transaction(s, &negative, 1, NULL, 0, NULL), -EINVAL);
        assert_int_equal(try_put(s, "a", "1", -1), -EINVAL);
        after = -1;
        assert_int_equal(store_watch(s, "", &after, &e), -EINVAL);
        assert_int_equal(store_lease_grant(s, 0, &lease), -EINVAL);
        assert_int_equal(store_lease_keep_alive(s, 0), -EINVAL);
        assert_int_equal(store_lease_revoke(s, -1), -EINVAL);
        assert_value(s, "a", NULL);
}

static int fill_up(void)
{
        const struct rlimit limit = {1 << 20, 1 << 20};
        _cleanup_store_ struct store *s = NULL;
        _cleanup_free_ char *big = malloc((4 << 20) + 1), *value = NULL;
        int64_t before, after;

        if (!big || store_open(url, &s) < 0 || try_put(s, "a", "1", 0) < 0)
                return 1;
        memset(big, 'x', 4 << 20);
        big[4 << 20] = '\0';
        signal(SIGXFSZ, SIG_IGN);
        if (setrlimit(RLIMIT_FSIZE, &limit) < 0 || store_get(s, "a", NULL, &before) < 0)
                return 2;
        if (try_put(s, "a", big, 0) >= 0)
                return 3;
        if (store_get(s, "a", &value, &after) < 0 || strcmp(value, "1") != 0 || before != after)
                return 4;
        return try_put(s, "a", "2", 0) == 0 ? 0 : 5;
}

/* A write that fails half-way for lack of room. */
static void test_no_room(void **state)
{
        struct child c = start(fill_up);
        _cleanup_store_ struct store *s = NULL;

        assert_int_equal(reap(&c), 0);
        s = open_store();
        assert_list(s, "", "a=2");
}

/* --- several processes ------------------------------------------------------------------------ */

#define INCREMENTS 150

/* Counts a shared number up by compare-and-set, as claims of address blocks do. */
static int count_up(void)
{
        _cleanup_store_ struct store *s = NULL;

        /* All at once, on a file that is not there yet. */
        if (hear(child_in) < 0 || store_open(url, &s) < 0)
                return 1;
        for (int done = 0; done < INCREMENTS;) {
                _cleanup_free_ char *value = NULL;
                struct store_compare compare = {.key = "counter"};
                struct store_op op = {.key = "counter"};
                char text[16];
                int r;

                r = store_get(s, "counter", &value, &compare.revision);
                if (r < 0 && r != -ENOENT)
                        return 2;
                snprintf(text, sizeof(text), "%d", value ? atoi(value) + 1 : 1);
                op.value = text;
                r = store_transaction(s, &compare, 1, &op, 1, NULL);
                if (r == 0)
                        done++;
                else if (r != -EAGAIN)
                        return 3;
        }
        return 0;
}

static void test_concurrent_writers(void **state)
{
        struct child c[4];
        _cleanup_store_ struct store *s = NULL;
        char want[16];

        for (size_t i = 0; i < ARRAY_SIZE(c); i++)
                c[i] = start(count_up);
        for (size_t i = 0; i < ARRAY_SIZE(c); i++)
                go(&c[i]);
        for (size_t i = 0; i < ARRAY_SIZE(c); i++)
                assert_int_equal(reap(&c[i]), 0);
        s = open_store();
        snprintf(want, sizeof(want), "%d", (int)ARRAY_SIZE(c) * INCREMENTS);
        assert_value(s, "counter", want);
        assert_int_equal(revision_of(s), (int)ARRAY_SIZE(c) * INCREMENTS);
}

/* Writes to a file that is not in WAL mode yet, until after the parent has begun to open it. */
static int write_for_a_while(void)
{
        sqlite3 *c;

        if (sqlite3_open(db, &c) != SQLITE_OK ||
            sqlite3_exec(c, "BEGIN IMMEDIATE", NULL, NULL, NULL) != SQLITE_OK || say(child_out) < 0)
                return 1;
        usleep(200000);
        sqlite3_close(c);
        return 0;
}

/* Two first users of one file: the one that changes its mode waits for the other. */
static void test_open_waits_for_writer(void **state)
{
        struct child c;

        store_free(open_store());
        assert_int_equal(raw_sql("PRAGMA journal_mode = DELETE"), SQLITE_OK);
        c = start(write_for_a_while);
        await(&c);
        store_free(open_store());
        assert_int_equal(reap(&c), 0);
}

/* Writes two keys with one value, over and over, until it is killed. */
static int write_pairs(void)
{
        _cleanup_store_ struct store *s = NULL;

        if (store_open(url, &s) < 0)
                return 1;
        for (int i = 0;; i++) {
                char text[16];
                struct store_op ops[] = {{.key = "a", .value = text}, {.key = "b", .value = text}};

                snprintf(text, sizeof(text), "%d", i);
                if (store_transaction(s, NULL, 0, ops, 2, NULL) < 0)
                        return 2;
                if (i % 10 == 0 && say(child_out) < 0)
                        return 3;
        }
}

static int integrity(void *arg, int n, char **column, char **name)
{
        return strcmp(column[0], "ok") == 0 ? 0 : 1;
}

static void test_killed_writer(void **state)
{
        int64_t last = 0;

        for (int round = 0; round < 12; round++) {
                struct child c = start(write_pairs);
                _cleanup_free_ char *a = NULL, *b = NULL;
                _cleanup_store_ struct store *s = NULL;
                int64_t revision;

                for (int i = 0; i <= round; i++)
                        await(&c);
                kill(c.pid, SIGKILL);
                assert_true(WIFSIGNALED(reap(&c)));
                s = open_store();
                assert_int_equal(store_get(s, "a", &a, &revision), 0);
                assert_int_equal(store_get(s, "b", &b, NULL), 0);
                assert_string_equal(a, b);
                assert_true(revision > last);
                last = revision;
        }
        {
                sqlite3 *c;

                assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
                assert_int_equal(sqlite3_exec(c, "PRAGMA integrity_check", integrity, NULL, NULL),
                                 SQLITE_OK);
                sqlite3_close(c);
        }
}

/* Killed between the first byte of the file and its being a store. */
static void test_killed_creator(void **state)
{
        for (int round = 0; round < 12; round++) {
                struct child c = start(write_pairs);
                _cleanup_store_ struct store *s = NULL;

                /* Spread over the few milliseconds that it takes; where it hits is chance. */
                usleep((useconds_t)round * 700);
                kill(c.pid, SIGKILL);
                reap(&c);
                s = open_store();
                put(s, "c", "1");
                assert_value(s, "c", "1");
                store_free(TAKE_PTR(s));
                remove_tree(dir);
                assert_int_equal(mkdir(dir, 0700), 0);
        }
}

/* --- watching --------------------------------------------------------------------------------- */

static void test_watch(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        int64_t after = 0, mid;

        assert_watch(s, "", &after, "");
        put(s, "x/a", "1");
        put(s, "y", "2");
        put(s, "x/b", "3");
        put(s, "x/a", "4");
        mid = after;
        assert_watch(s, "x/", &mid, "x/b=3 x/a=4");
        assert_int_equal(mid, revision_of(s));
        assert_watch(s, "x/", &mid, "");
        assert_watch(s, "", &after, "y=2 x/b=3 x/a=4");
        remove_key(s, "x/b");
        remove_key(s, "y");
        assert_watch(s, "x/", &mid, "-x/b");
        put(s, "x/b", "5");
        /* Deleted and made again in between is one change. */
        assert_watch(s, "", &after, "-y x/b=5");
        assert_watch(s, "", &after, "");
}

static void test_watch_revisions(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        _cleanup_entries_ struct store_entries e = {};
        const struct store_op ops[] = {{.key = "b", .value = "1"}, {.key = "a"}};
        int64_t after, first, second;

        put(s, "a", "1");
        after = revision_of(s);
        assert_int_equal(store_transaction(s, NULL, 0, ops, 2, &first), 0);
        put(s, "0", "1");
        second = revision_of(s);
        assert_int_equal(store_watch(s, "", &after, &e), 0);
        assert_int_equal(e.n, 3);
        assert_entries(&e, "-a b=1 0=1");
        assert_int_equal(e.entry[0].revision, first);
        assert_int_equal(e.entry[1].revision, first);
        assert_int_equal(e.entry[2].revision, second);
        assert_int_equal(after, second);
}

static void test_watch_pruned(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        _cleanup_entries_ struct store_entries e = {};
        int64_t start_revision, late, after;

        put(s, "kept", "1");
        start_revision = revision_of(s);
        for (int i = 0; i < 3000; i++) {
                put(s, "come/and/gone", "1");
                remove_key(s, "come/and/gone");
        }
        /* One tombstone, however often: nothing need be forgotten. */
        after = start_revision;
        assert_watch(s, "", &after, "-come/and/gone");
        for (int i = 0; i < 1500; i++) {
                char key[32];

                snprintf(key, sizeof(key), "pod/%d", i);
                put(s, key, "1");
                remove_key(s, key);
                if (i == 1000)
                        late = revision_of(s);
        }
        after = start_revision;
        assert_int_equal(store_watch(s, "", &after, &e), -ESTALE);
        assert_int_equal(after, start_revision);
        assert_int_equal(store_watch(s, "pod/", &late, &e), 0);
        assert_int_equal(e.n, 499);
        assert_string_equal(e.entry[0].key, "pod/1001");
        assert_null(e.entry[0].value);
        assert_string_equal(e.entry[498].key, "pod/1499");
        /* What is alive is never pruned. */
        assert_list(s, "", "kept=1");
        /* From a revision that this store has not reached: it is another store. */
        after = revision_of(s) + 1;
        store_entries_done(&e);
        assert_int_equal(store_watch(s, "", &after, &e), -ESTALE);
}

static int count_tombstones(void *arg, int n, char **column, char **name)
{
        *(int *)arg = atoi(column[0]);
        return 0;
}

static void test_tombstones_are_bounded(void **state)
{
        struct store *s = open_store();
        sqlite3 *c;
        int n = -1;

        for (int i = 0; i < 1500; i++) {
                char key[32];

                snprintf(key, sizeof(key), "pod/%d", i);
                put(s, key, "1");
                remove_key(s, key);
        }
        store_free(s);
        assert_int_equal(sqlite3_open(db, &c), SQLITE_OK);
        assert_int_equal(sqlite3_exec(c, "SELECT count(*) FROM entry WHERE value IS NULL",
                                      count_tombstones, &n, NULL),
                         SQLITE_OK);
        sqlite3_close(c);
        assert_int_equal(n, 1024);
}

/* Writes one key per word from the parent. */
static int write_on_demand(void)
{
        _cleanup_store_ struct store *s = NULL;
        int n = 0;

        while (hear(child_in) == 0) {
                char text[16];

                if (!s && store_open(url, &s) < 0)
                        return 1;
                snprintf(text, sizeof(text), "%d", n++);
                if (try_put(s, "k", text, 0) < 0)
                        return 2;
                if (n % 5 == 0) {
                        /* The next writes come from another connection. */
                        store_free(TAKE_PTR(s));
                }
        }
        return 0;
}

static void test_watch_other_process(void **state)
{
        struct child c = start(write_on_demand);
        _cleanup_store_ struct store *s = open_store();
        int64_t after = revision_of(s);

        assert_false(is_readable(s, 0));
        for (int i = 0; i < 200; i++) {
                char want[16];

                snprintf(want, sizeof(want), "k=%d", i);
                go(&c);
                /* No timer here: if the wake-up came before the change, this would hang. */
                for (;;) {
                        _cleanup_entries_ struct store_entries e = {};

                        assert_true(is_readable(s, GUARD_MS));
                        assert_int_equal(store_watch(s, "", &after, &e), 0);
                        if (e.n == 0) /* the other's connection was closed */
                                continue;
                        assert_entries(&e, want);
                        break;
                }
        }
        close(c.to);
        c.to = -1;
        assert_int_equal(reap(&c), 0);
}

/* Neither reading nor what changes nothing wakes anybody, the reader itself included. */
static void test_reads_do_not_wake(void **state)
{
        _cleanup_store_ struct store *s = open_store(), *other = open_store();
        int64_t after = 0, lease;

        assert_int_equal(store_lease_grant(s, 1000, &lease), 0);
        put(s, "a", "1");
        assert_true(is_readable(s, 0));
        assert_true(is_readable(other, 0));
        assert_watch(s, "", &after, "a=1");
        after = 0;
        assert_watch(other, "", &after, "a=1");
        for (int i = 0; i < 20; i++) {
                assert_false(is_readable(s, 0));
                assert_false(is_readable(other, 0));
                assert_value(s, "a", "1");
                assert_list(s, "", "a=1");
                assert_watch(s, "", &after, "");
                assert_int_equal(try_put(s, "absent", NULL, 0), 0);
                assert_int_equal(try_put(s, "b", "1", 4711), -ENOENT);
                assert_int_equal(store_lease_keep_alive(s, lease), 0);
        }
        /* What a neighbour in the directory does is not the store's. */
        snprintf(wal, sizeof(wal), "%s/other", dir);
        write_bytes(wal, "x", 1);
        assert_int_equal(unlink(wal), 0);
        assert_false(is_readable(s, 0));
        assert_false(is_readable(other, 0));
        /* Between opening and looking, nothing is missed. */
        put(other, "a", "2");
        assert_true(is_readable(s, 0));
        assert_watch(s, "", &after, "a=2");
}

static int checkpoint_twice(void)
{
        for (int i = 0; i < 2; i++) {
                if (hear(child_in) < 0 || raw_sql("PRAGMA wal_checkpoint(TRUNCATE)") != SQLITE_OK ||
                    say(child_out) < 0)
                        return 1;
        }
        return hear(child_in);
}

static void test_watch_across_checkpoints(void **state)
{
        struct child c = start(checkpoint_twice), writer = start(write_on_demand);
        _cleanup_store_ struct store *s = open_store();
        int64_t after = revision_of(s);
        struct stat st;

        put(s, "a", "1");
        for (int i = 0; i < 2; i++) {
                go(&c);
                await(&c);
                assert_int_equal(stat(wal, &st), 0);
                assert_int_equal(st.st_size, 0);
                assert_watch(s, "a", &after, i == 0 ? "a=1" : "");
                assert_false(is_readable(s, 0));
                go(&writer);
                do {
                        _cleanup_entries_ struct store_entries e = {};

                        assert_true(is_readable(s, GUARD_MS));
                        assert_int_equal(store_watch(s, "k", &after, &e), 0);
                        if (e.n == 1)
                                break;
                } while (true);
        }
        go(&c);
        assert_int_equal(reap(&c), 0);
        close(writer.to);
        writer.to = -1;
        assert_int_equal(reap(&writer), 0);
}

/* Enough for SQLite's own checkpoints, which start the -wal over. */
static void test_watch_across_automatic_checkpoints(void **state)
{
        _cleanup_store_ struct store *s = open_store(), *other = open_store();
        int64_t after = 0;
        char text[8192];

        memset(text, 'x', sizeof(text) - 1);
        text[sizeof(text) - 1] = '\0';
        for (int i = 0; i < 1200; i++) {
                _cleanup_entries_ struct store_entries e = {};

                put(s, "k", text);
                assert_true(is_readable(other, 0));
                assert_int_equal(store_watch(other, "", &after, &e), 0);
                assert_int_equal(e.n, 1);
                assert_false(is_readable(other, 0));
        }
}

/* Commits as the store does and is killed before it can wake anybody. */
static int commit_and_die(void)
{
        sqlite3 *c;

        if (hear(child_in) < 0 || sqlite3_open(db, &c) != SQLITE_OK ||
            sqlite3_exec(c,
                         "BEGIN IMMEDIATE; UPDATE state SET revision = revision + 1;"
                         "INSERT INTO entry SELECT 'last', 'word', revision, 0 FROM state;"
                         "COMMIT",
                         NULL, NULL, NULL) != SQLITE_OK)
                return 1;
        if (say(child_out) < 0 || hear(child_in) < 0)
                return 2;
        kill(getpid(), SIGKILL);
        return 3;
}

static void test_watch_killed_writer(void **state)
{
        struct child c = start(commit_and_die);
        _cleanup_store_ struct store *s = open_store();
        int64_t after = 0;

        go(&c);
        await(&c);
        assert_false(is_readable(s, 0));
        go(&c);
        assert_true(is_readable(s, GUARD_MS));
        assert_watch(s, "", &after, "last=word");
        assert_true(WIFSIGNALED(reap(&c)));
}

static void assert_removed(struct store *s)
{
        _cleanup_entries_ struct store_entries e = {};
        int64_t after = 0, lease;

        assert_int_equal(store_get(s, "a", NULL, NULL), -EIDRM);
        assert_int_equal(store_list(s, "", &e, NULL), -EIDRM);
        assert_int_equal(store_watch(s, "", &after, &e), -EIDRM);
        assert_int_equal(try_put(s, "a", "2", 0), -EIDRM);
        assert_int_equal(store_lease_grant(s, 10, &lease), -EIDRM);
        assert_int_equal(store_lease_keep_alive(s, 1), -EIDRM);
        assert_int_equal(store_lease_revoke(s, 1), -EIDRM);
}

static void test_removed(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        char away[PATH_MAX + 32];

        put(s, "a", "1");
        assert_true(is_readable(s, 0));
        {
                int64_t after = 0;

                assert_watch(s, "", &after, "a=1");
        }
        /* Renamed, then back: the very same store. */
        snprintf(away, sizeof(away), "%s.away", db);
        assert_int_equal(rename(db, away), 0);
        assert_true(is_readable(s, 0));
        assert_removed(s);
        assert_int_equal(rename(away, db), 0);
        assert_value(s, "a", "1");
        /* Without its -wal: what it writes, nobody would see. */
        assert_int_equal(rename(wal, away), 0);
        assert_removed(s);
        write_bytes(wal, "", 0);
        assert_removed(s);
        assert_int_equal(rename(away, wal), 0);
        assert_value(s, "a", "1");
        assert_int_equal(unlink(db), 0);
        assert_true(is_readable(s, 0));
        assert_removed(s);
}

/* --- leases ----------------------------------------------------------------------------------- */

/* Runs SQL (sql_on_demand) between two of the parent's steps. */
static const char *sql_to_run;

static int sql_on_demand(void)
{
        return hear(child_in) < 0 || raw_sql(sql_to_run) != SQLITE_OK;
}

static struct child start_sql(const char *sql)
{
        sql_to_run = sql;
        return start(sql_on_demand);
}

static void test_lease(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        int64_t lease, other, after;

        assert_int_equal(store_lease_grant(s, 1000, &lease), 0);
        assert_int_equal(store_lease_grant(s, 1000, &other), 0);
        assert_true(lease > 0);
        assert_true(lease != other);
        assert_int_equal(try_put(s, "host/a", "1", lease), 0);
        assert_int_equal(try_put(s, "host/a/x", "2", lease), 0);
        assert_int_equal(try_put(s, "host/b", "3", other), 0);
        put(s, "net", "4");
        assert_int_equal(store_lease_keep_alive(s, lease), 0);
        assert_list(s, "", "host/a=1 host/a/x=2 host/b=3 net=4");
        after = revision_of(s);
        assert_int_equal(store_lease_revoke(s, lease), 0);
        assert_list(s, "", "host/b=3 net=4");
        assert_watch(s, "", &after, "-host/a -host/a/x");
        assert_int_equal(store_lease_revoke(s, lease), -ENOENT);
        assert_int_equal(store_lease_keep_alive(s, lease), -ENOENT);
        assert_int_equal(try_put(s, "host/a", "1", lease), -ENOENT);
        assert_int_equal(store_lease_keep_alive(s, other), 0);
}

/* A key hangs on the lease of its last put, and on no other. */
static void test_lease_moves(void **state)
{
        _cleanup_store_ struct store *s = open_store();
        int64_t first, second, before;

        assert_int_equal(store_lease_grant(s, 1000, &first), 0);
        assert_int_equal(store_lease_grant(s, 1000, &second), 0);
        assert_int_equal(try_put(s, "freed", "1", first), 0);
        assert_int_equal(try_put(s, "freed", "2", 0), 0);
        assert_int_equal(try_put(s, "moved", "1", first), 0);
        assert_int_equal(try_put(s, "moved", "2", second), 0);
        assert_int_equal(try_put(s, "deleted", "1", first), 0);
        remove_key(s, "deleted");
        before = revision_of(s);
        assert_int_equal(store_lease_revoke(s, first), 0);
        /* It had no key left: nothing changed. */
        assert_int_equal(revision_of(s), before);
        assert_list(s, "", "freed=2 moved=2");
        assert_int_equal(store_lease_revoke(s, second), 0);
        assert_list(s, "", "freed=2");
}

/* Really waits for one to run out, kept alive or not. */
static void test_lease_expires(void **state)
{
        _cleanup_store_ struct store *s = open_store(), *watcher = open_store();
        int64_t kept, lost, after;
        bool gone = false;

        assert_int_equal(store_lease_grant(s, 1000, &kept), 0);
        assert_int_equal(store_lease_grant(s, 1, &lost), 0);
        assert_int_equal(try_put(s, "kept", "1", kept), 0);
        assert_int_equal(try_put(s, "lost", "1", lost), 0);
        after = revision_of(watcher);
        assert_watch(watcher, "", &after, "");
        for (int i = 0; i < GUARD_MS / 50 && !gone; i++) {
                _cleanup_entries_ struct store_entries e = {};

                assert_int_equal(store_list(s, "", &e, NULL), 0);
                gone = e.n == 1;
                if (!gone)
                        usleep(50000);
        }
        assert_list(s, "", "kept=1");
        assert_true(is_readable(watcher, 0));
        assert_watch(watcher, "", &after, "-lost");
        assert_false(is_readable(watcher, 0));
        assert_int_equal(store_lease_keep_alive(s, lost), -ENOENT);
        assert_int_equal(store_lease_keep_alive(s, kept), 0);
}

/* Expired but not collected yet: it can neither be used nor come back. */
static void test_lease_expired_stays_so(void **state)
{
        struct child c = start_sql("UPDATE lease SET expires_ms = 1");
        _cleanup_store_ struct store *s = open_store();
        int64_t lease, after;

        assert_int_equal(store_lease_grant(s, 1000, &lease), 0);
        assert_int_equal(try_put(s, "a", "1", lease), 0);
        after = revision_of(s);
        go(&c);
        assert_int_equal(reap(&c), 0);
        assert_int_equal(try_put(s, "b", "1", lease), -ENOENT);
        assert_int_equal(store_lease_keep_alive(s, lease), -ENOENT);
        /* What keep_alive collected, it also committed. */
        assert_watch(s, "", &after, "-a");
        assert_value(s, "a", NULL);
}

static void test_lease_keep_alive_extends(void **state)
{
        struct child c = start_sql("UPDATE lease SET expires_ms = expires_ms - ttl_ms + 60000");
        _cleanup_store_ struct store *s = open_store();
        sqlite3_int64 left = 0;
        int64_t lease;
        sqlite3 *raw;

        assert_int_equal(store_lease_grant(s, 100000, &lease), 0);
        go(&c);
        assert_int_equal(reap(&c), 0);
        assert_int_equal(store_lease_keep_alive(s, lease), 0);
        store_free(TAKE_PTR(s));
        /* Of 60 s again 100,000: from now, not from then. */
        assert_int_equal(sqlite3_open(db, &raw), SQLITE_OK);
        {
                sqlite3_stmt *q;
                struct timespec now;

                clock_gettime(CLOCK_BOOTTIME, &now);
                assert_int_equal(
                    sqlite3_prepare_v2(raw, "SELECT expires_ms FROM lease", -1, &q, NULL),
                    SQLITE_OK);
                assert_int_equal(sqlite3_step(q), SQLITE_ROW);
                left = sqlite3_column_int64(q, 0) - (sqlite3_int64)now.tv_sec * 1000;
                sqlite3_finalize(q);
        }
        sqlite3_close(raw);
        assert_true(left > 60000 * 1000LL);
        assert_true(left <= 100001 * 1000LL);
}

/* After a reboot no lease is left, however far off its end seems on the new boot's clock. */
static void test_lease_of_another_boot(void **state)
{
        struct store *s = open_store();
        int64_t lease;

        assert_int_equal(store_lease_grant(s, 1000000, &lease), 0);
        assert_int_equal(try_put(s, "host", "1", lease), 0);
        put(s, "net", "2");
        store_free(s);
        assert_int_equal(raw_sql("UPDATE lease SET boot = 'another'"), SQLITE_OK);
        s = open_store();
        assert_int_equal(try_put(s, "x", "1", lease), -ENOENT);
        assert_list(s, "", "net=2");
        assert_int_equal(store_lease_keep_alive(s, lease), -ENOENT);
        store_free(s);
}

#define test(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        const struct CMUnitTest tests[] = {
            test(test_urls),
            test(test_open_existing),
            test(test_file_mode),
            test(test_reopen),
            test(test_empty_file_is_new),
            test(test_special_names),
            test(test_bad_paths),
            test(test_garbage),
            test(test_other_application),
            test(test_damaged_tables),
            test(test_newer_version),
            test(test_newer_version_in_wal),
            test(test_newer_version_takes_over),
            test(test_permissions),
            test(test_get_and_revisions),
            test(test_nothing_changes_nothing),
            test(test_list),
            test(test_compare),
            test(test_all_or_nothing),
            test(test_bad_arguments),
            test(test_no_room),
            test(test_concurrent_writers),
            test(test_open_waits_for_writer),
            test(test_killed_writer),
            test(test_killed_creator),
            test(test_watch),
            test(test_watch_revisions),
            test(test_watch_pruned),
            test(test_tombstones_are_bounded),
            test(test_watch_other_process),
            test(test_reads_do_not_wake),
            test(test_watch_across_checkpoints),
            test(test_watch_across_automatic_checkpoints),
            test(test_watch_killed_writer),
            test(test_removed),
            test(test_lease),
            test(test_lease_moves),
            test(test_lease_expires),
            test(test_lease_expired_stays_so),
            test(test_lease_keep_alive_extends),
            test(test_lease_of_another_boot),
        };

        return cmocka_run_group_tests_name("store", tests, group_setup, group_teardown);
}
