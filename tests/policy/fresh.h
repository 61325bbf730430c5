/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What another engine makes of a world that is told it all at once, to compare with what one has
 * that went through its changes.
 */
#include "maps.h"
#include "world.h"

struct fresh {
        struct maps maps;
        uint32_t ids[WORLD_ENDPOINTS]; /* its identities of the endpoints */
};

/* The caller clears ret->maps. */
void fresh_compile(const struct world *w, struct fresh *ret);
/* Fails the test unless these are the same entries, but for the numbers in them. */
void fresh_assert_same(const struct world *w, const struct maps *maps, const struct fresh *fresh);
