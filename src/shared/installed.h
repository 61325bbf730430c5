/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Where Slim's own files are that no person calls.
 */
#include <limits.h>

/*
 * The absolute path of one: installed, or in the build directory, where built is relative to the
 * directory of the running program. -ENOENT where it is in neither place; or another negative
 * errno.
 */
int installed_path(const char *name, const char *built, char ret[PATH_MAX]);
