/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * An event for people and programs: with the names that the model has, as the API shows it. And
 * which of them somebody wants to see.
 */
#include <jansson.h>

#include "../shared/reason.h"
#include "model.h"

#define EVENT_NAME_MAX (sizeof("host:") + NAME_LEN_MAX)

/* Who an endpoint is, or was. */
struct event_name {
        uint32_t id;
        char text[EVENT_NAME_MAX]; /* "host:NAME" for a host itself */
        char host[NAME_LEN_MAX + 1];
};

/* Endpoints that went a short while ago, whose events are still to come. Zeroed: none. */
#define EVENT_PAST 256
struct event_past {
        struct event_name name[EVENT_PAST];
        unsigned int next; /* the oldest, which is overwritten */
};
void event_remember(struct event_past *past, const struct endpoint *e);

/* Where an event was seen. */
struct event_place {
        const struct model *model;
        const struct event_past *past;
        const char *host;     /* this host's name */
        int64_t clock_offset; /* CLOCK_REALTIME - CLOCK_MONOTONIC, ns */
};

/* What docs/api.md calls an EVENT: a new reference, or NULL (-ENOMEM). */
json_t *event_describe(const struct event_place *place, const struct slim_event *e);

struct event_filter {
        char endpoint[EVENT_NAME_MAX];  /* at either end; empty: any */
        char network[NAME_LEN_MAX + 1]; /* the same */
        bool by_reason;                 /* those alone that are in: */
        bool reasons[SLIM_REASON_MAX];
};

/* Is an event, as event_describe() made it, one of those? */
bool event_matches(const struct event_filter *f, const struct slim_event *e, const json_t *event);
