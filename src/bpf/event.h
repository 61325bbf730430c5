/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Who was refused what: an event for whoever watches, beside the counting of maps.h, which goes on
 * whether or not anybody does.
 *
 *   event_wanted()   is one to be made? Nobody watches: one lookup in an array, and no more
 *   event_send()     into the ring
 *
 * A flood costs as much as its counting, and a few dozen ns more for each packet while it is
 * watched: of what is more than SLIM_EVENT_BURST, nothing is looked at. Nobody is woken, since
 * slimd looks into the ring by itself while somebody watches.
 */
#include "maps.h"

/* event.bpf.c has these two. */
extern int slim_event_admit(__u32 reason);
extern int slim_event_send(struct slim_event *e);

static __always_inline bool event_wanted(enum slim_reason reason)
{
        __u32 zero = 0;
        __u64 *until = bpf_map_lookup_elem(&watch, &zero);

        return until && *until && slim_event_admit(reason);
}

/* All of *e is to be set but the time; it has to be on the caller's stack. */
static __always_inline void event_send(struct slim_event *e)
{
        slim_event_send(e);
}
