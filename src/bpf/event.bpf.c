/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The sending of events (event.h): functions that every program calls, each one of its own for the
 * verifier, which looks at it once.
 *
 * Not covered: programs that interrupt one another on one processor (a packet that comes in during
 * a connect()) share a window, and may count one event more or less.
 */
#include "event.h"

/* May an event of this reason be made now? One that may not, though somebody watches, is lost. */
__weak __noinline int slim_event_admit(__u32 reason)
{
        struct slim_event_window *w;
        __u64 now = bpf_ktime_get_ns(), *until;
        __u32 zero = 0;

        until = bpf_map_lookup_elem(&watch, &zero);
        if (!until || now > *until)
                return 0; /* slimd has gone */
        w = bpf_map_lookup_elem(&event_windows, &reason);
        if (!w)
                return 0;
        if (now - w->since >= SLIM_EVENT_WINDOW_NS) {
                w->since = now;
                w->n = 0;
        }
        if (w->n >= SLIM_EVENT_BURST) {
                count(SLIM_REASON_EVENT_LOST);
                return 0;
        }
        w->n++;
        return 1;
}

__weak __noinline int slim_event_send(struct slim_event *e)
{
        if (!e)
                return 0;
        e->time = bpf_ktime_get_ns();
        if (bpf_ringbuf_output(&events, e, sizeof(*e), BPF_RB_NO_WAKEUP) < 0)
                count(SLIM_REASON_EVENT_LOST);
        return 0;
}
