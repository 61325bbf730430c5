/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The SQLite file that a store is: made or recognised, and how its users wake one another.
 *
 * Waking: the watch descriptor is an inotify instance on the database file that looks at its
 * attributes alone. Who has committed a change touches the file (sqlite_file_notify()). Looking at
 * writes to the -wal file instead would lose wake-ups: SQLite makes a commit visible in the shared
 * wal-index, which is memory, after its last write to any file, and a watcher that reads in
 * between sees the old state and is never woken again. It would also wake for half-written
 * transactions, checkpoints and heartbeats. If a writer is killed after its commit and before its
 * touch, the kernel closes its descriptor, which is the other event that is watched. Reads cause
 * neither event, so that a watcher does not wake itself. The database file stays the same file
 * through checkpoints, and whether -wal grows, shrinks or is made anew plays no part.
 */
#include <sqlite3.h>
#include <stdbool.h>
#include <sys/types.h>

#define SQLITE_FILE_APPLICATION 0x536c696d /* "Slim" */
#define SQLITE_FILE_VERSION     1

struct sqlite_file {
        sqlite3 *db;
        char *path; /* absolute, no symbolic links */
        char *wal_path;
        dev_t wal_dev;
        ino_t wal_ino;
        int watch_fd;
};

#define SQLITE_FILE_INIT ((struct sqlite_file){.watch_fd = -1})

/* Opens a store's file, or makes it. -EBADMSG, -ESTALE, -ENOENT: see store_open(). */
int sqlite_file_open(const char *path, bool make, struct sqlite_file *ret);
/* Closes; every statement must have been finalized. */
void sqlite_file_done(struct sqlite_file *f);

/* -EIDRM: the database or its -wal is no longer what its name leads to; others do not see it. */
int sqlite_file_check(const struct sqlite_file *f);

/* After a commit: wakes every watcher, our own too. */
void sqlite_file_notify(const struct sqlite_file *f);
/* Makes the watch descriptor unreadable. To be called before reading what changed. */
void sqlite_file_clear(const struct sqlite_file *f);

/* A negative errno for the result of an SQLite call; says at debug what SQLite says. */
int sqlite_file_errno(const struct sqlite_file *f, int rc);
