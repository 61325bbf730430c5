/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Heap memory that a scope owns.
 */
#include "macro.h"
#include <stdlib.h>

static inline void freep(void *p)
{
        free(*(void **)p);
}

#define _cleanup_free_ _cleanup_(freep)

/* A zeroed array of n elements of a type, or NULL. The caller frees it. */
#define new0(type, n) ((type *)calloc((n), sizeof(type)))
