/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Events for whoever watches: out of the programs' ring, and slimd's own.
 *
 * Nobody watches: the programs make none, and nothing runs here. Otherwise a timer looks into the
 * ring, so that no packet ever wakes slimd. Whoever does not read loses events, and is told how
 * many as soon as he reads on; nothing waits for him, and what is kept for him is bounded.
 */
#include "event.h"
#include "slimd.h"

struct client;

#define MONITORS_MAX 32 /* at once */

/* Says what is wrong. */
int monitor_start(struct slimd *d);
void monitor_stop(struct slimd *d);

/* Counts what slimd itself has done, and tells it. All of *e is set but its time. */
void monitor_event(struct slimd *d, struct slim_event *e);

/* An endpoint is about to leave the model, and its events may still be under way. */
void monitor_forget(struct slimd *d, const struct endpoint *e);

/* What this client of the API wants to see, from now on. -EBUSY: it watches already; -EUSERS: there
 * are MONITORS_MAX; or why the programs cannot be told. */
int monitor_add(struct slimd *d, const struct event_filter *filter, struct client *client);
void monitor_remove(struct slimd *d,
                    const struct client *client); /* also one that does not watch */
bool monitor_has(const struct slimd *d, const struct client *client);
unsigned int monitor_count(const struct slimd *d);
