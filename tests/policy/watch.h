/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Flows that are looked at after each step of a flush: what is allowed before and after it, is in
 * between, and what is denied before and after it, too.
 */
#include <stdbool.h>
#include <stddef.h>

#include "maps.h"
#include "world.h"

#define WATCH_FLOWS 60

struct watch {
        size_t n, looked;
        struct watched {
                struct world_flow flow;
                bool before, after;
        } v[WATCH_FLOWS];
};

/* Flows between endpoints of the world, and what the maps say of them now. */
void watch_flows(struct watch *watch, struct world *w, const struct maps *maps);
/* What the world is to have of them; those are kept whose ends are still who they were. */
void watch_expect(struct watch *watch, const struct world *w);
/* For maps.look, with a struct watch: fails the test where one is otherwise. */
void watch_look(const struct maps *maps, void *watch_data);
