/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The mount table of this process (proc_pid_mountinfo(5)).
 */
#include <stddef.h>

/*
 * Where a file system of this type ("cgroup2", "bpf") is mounted whole, as opposed to a part of it;
 * the first such place. -ENOENT: nowhere. -ENAMETOOLONG: ret is too small.
 */
int mounts_find(const char *type, char *ret, size_t size);
