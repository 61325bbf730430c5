/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * File descriptors: ownership by scope, whole-file reads and writes, descriptors over sockets.
 */
#include "macro.h"
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* Closes fd if it is one, keeps errno, returns -1: fd = safe_close(fd). */
int safe_close(int fd);

static inline void closep(int *fd)
{
        safe_close(*fd);
}

#define _cleanup_close_ _cleanup_(closep)

#define TAKE_FD(fd)                 \
        ({                          \
                int *_pfd_ = &(fd); \
                int _v_ = *_pfd_;   \
                *_pfd_ = -1;        \
                _v_;                \
        })

/*
 * Reads a whole file below dirfd (AT_FDCWD for the working directory) of at most max bytes into a
 * new NUL-terminated buffer. The caller frees *ret. -E2BIG when it is longer. ret_len may be NULL.
 */
int read_file_at(int dirfd, const char *path, size_t max, char **ret, size_t *ret_len);

/* Writes a string with a single write() to an existing file (sysfs, cgroupfs, procfs). */
int write_file_at(int dirfd, const char *path, const char *text);

/* Writes all of a buffer, going on after short writes and EINTR. */
int write_full(int fd, const void *buf, size_t len);
