/* SPDX-License-Identifier: Apache-2.0 */
#include "monitor.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <errno.h>
#include <string.h>
#include <time.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../shared/rpc.h"
#include "api.h"

/* How often the ring is looked into while somebody watches, and how long the programs go on making
 * events after slimd was heard of last. */
#define TICK_US  50000U
#define LEASE_NS 10000000000ULL

/* Of one tick: more than the ring holds. What is more is lost. */
#define BATCH_MAX 4096U

/* Bytes of answers that wait for a client; with more it loses events. */
#define PENDING_MAX (1U << 20)

#define NSEC_PER_SEC 1000000000ULL

struct watcher {
        struct client *client;
        struct event_filter filter;
        uint64_t lost; /* of which it has not been told */
};

struct monitor {
        struct ring_buffer *ring;
        sd_event_source *timer;
        struct watcher *watchers[MONITORS_MAX];
        unsigned int n_watchers;
        uint64_t leased;      /* when the programs were told last; CLOCK_MONOTONIC, ns */
        uint64_t lost_before; /* what the counter of lost events was at the last look */
        uint64_t lost;        /* slimd's own that found no room */
        struct event_past past;
        struct slim_event batch[BATCH_MAX];
        unsigned int n_batch;
};

static uint64_t now_of(clockid_t clock)
{
        struct timespec t;

        clock_gettime(clock, &t);
        return (uint64_t)t.tv_sec * NSEC_PER_SEC + (uint64_t)t.tv_nsec;
}

/* Until when the programs make events; 0: not at all. */
static int lease(struct slimd *d, uint64_t until)
{
        uint32_t zero = 0;

        if (bpf_map_update_elem(datapath_map_fd(d->dp, DATAPATH_WATCH), &zero, &until, BPF_ANY) < 0)
                return -errno;
        return 0;
}

static uint64_t lost_in_kernel(struct slimd *d, uint64_t otherwise)
{
        uint64_t n = otherwise;
        int r = datapath_counter(d->dp, SLIM_REASON_EVENT_LOST, &n);

        if (r < 0)
                log_warning_errno(r, "cannot tell how many events were lost: %m, ignoring");
        return n;
}

/* --- the ring --------------------------------------------------------------------------------- */

static int on_record(void *userdata, void *data, size_t size)
{
        struct monitor *m = userdata;

        if (size < sizeof(struct slim_event))
                return 0; /* of another version's programs, which are being replaced */
        memcpy(&m->batch[m->n_batch++], data, sizeof(struct slim_event));
        /* The rest stays in the ring for the next time. */
        return m->n_batch == BATCH_MAX ? -ENOBUFS : 0;
}

static void read_ring(struct monitor *m)
{
        if (m->n_batch < BATCH_MAX)
                (void)ring_buffer__consume(m->ring);
}

/* --- the watchers ----------------------------------------------------------------------------- */

/* One message with all that it wants of a batch; or they are lost. */
static void tell(struct watcher *w, const struct slim_event *batch, json_t *const *events,
                 unsigned int n)
{
        _cleanup_json_ json_t *list = json_array();
        bool full = api_client_pending(w->client) > PENDING_MAX;
        json_t *message;
        uint64_t lost;

        for (unsigned int i = 0; i < n; i++) {
                if (events[i] && !event_matches(&w->filter, &batch[i], events[i]))
                        continue;
                if (!events[i] || full || json_array_append(list, events[i]) < 0)
                        w->lost++;
        }
        if (full || (json_array_size(list) == 0 && w->lost == 0))
                return;
        lost = w->lost;
        message = json_pack("{s:O, s:I}", "events", list, "lost", (json_int_t)lost);
        if (!message || api_client_send(w->client, message) < 0)
                w->lost += json_array_size(list);
        else
                w->lost -= lost;
}

static void tell_all(struct slimd *d)
{
        struct monitor *m = d->monitor;
        _cleanup_free_ json_t **events = new0(json_t *, BATCH_MAX);
        struct event_place place = {
            .model = &d->model,
            .past = &m->past,
            .host = d->opt.host_name,
            .clock_offset = (int64_t)(now_of(CLOCK_REALTIME) - now_of(CLOCK_MONOTONIC)),
        };

        for (unsigned int i = 0; events && i < m->n_batch; i++)
                events[i] = event_describe(&place, &m->batch[i]);
        for (unsigned int i = 0; i < m->n_watchers; i++) {
                if (events)
                        tell(m->watchers[i], m->batch, events, m->n_batch);
                else
                        m->watchers[i]->lost += m->n_batch;
        }
        for (unsigned int i = 0; events && i < m->n_batch; i++)
                json_decref(events[i]);
        m->n_batch = 0;
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct slimd *d = userdata;
        struct monitor *m = d->monitor;
        uint64_t now = now_of(CLOCK_MONOTONIC), lost;
        int r;

        if (now - m->leased > LEASE_NS / 4) {
                r = lease(d, now + LEASE_NS);
                if (r < 0)
                        log_warning_errno(r, "cannot have the programs make events: %m, ignoring");
                m->leased = now;
        }
        read_ring(m);
        lost = lost_in_kernel(d, m->lost_before);
        for (unsigned int i = 0; i < m->n_watchers; i++)
                m->watchers[i]->lost += lost - m->lost_before + m->lost;
        m->lost_before = lost;
        m->lost = 0;
        tell_all(d);
        sd_event_source_set_time_relative(s, TICK_US);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

/* The first one watches. What is in the ring still, nobody has asked for. */
static int begin(struct slimd *d)
{
        struct monitor *m = d->monitor;
        int r;

        do {
                m->n_batch = 0;
                read_ring(m);
        } while (m->n_batch == BATCH_MAX);
        m->n_batch = 0;
        m->lost = 0;
        m->leased = now_of(CLOCK_MONOTONIC);
        r = lease(d, m->leased + LEASE_NS);
        if (r < 0)
                return r;
        sd_event_source_set_time_relative(m->timer, TICK_US);
        return sd_event_source_set_enabled(m->timer, SD_EVENT_ONESHOT);
}

int monitor_add(struct slimd *d, const struct event_filter *filter, struct client *client)
{
        struct monitor *m = d->monitor;
        struct watcher *w;
        int r;

        if (monitor_has(d, client))
                return -EBUSY;
        if (m->n_watchers == MONITORS_MAX)
                return -EUSERS;
        w = new0(struct watcher, 1);
        if (!w)
                return -ENOMEM;
        w->client = client;
        w->filter = *filter;
        if (m->n_watchers == 0) {
                m->lost_before = lost_in_kernel(d, 0);
                r = begin(d);
                if (r < 0) {
                        free(w);
                        return r;
                }
        }
        m->watchers[m->n_watchers++] = w;
        return 0;
}

void monitor_remove(struct slimd *d, const struct client *client)
{
        struct monitor *m = d->monitor;

        for (unsigned int i = 0; m && i < m->n_watchers; i++) {
                if (m->watchers[i]->client != client)
                        continue;
                free(m->watchers[i]);
                m->watchers[i] = m->watchers[--m->n_watchers];
                if (m->n_watchers == 0) {
                        (void)lease(d, 0); /* otherwise it ends by itself */
                        sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
                }
                return;
        }
}

bool monitor_has(const struct slimd *d, const struct client *client)
{
        const struct monitor *m = d->monitor;

        for (unsigned int i = 0; m && i < m->n_watchers; i++)
                if (m->watchers[i]->client == client)
                        return true;
        return false;
}

unsigned int monitor_count(const struct slimd *d)
{
        return d->monitor ? d->monitor->n_watchers : 0;
}

/* --- slimd's own ------------------------------------------------------------------------------ */

void monitor_event(struct slimd *d, struct slim_event *e)
{
        struct monitor *m = d->monitor;
        int r = datapath_count(d->dp, (enum slim_reason)e->reason);

        if (r < 0)
                log_warning_errno(r, "cannot count an event: %m, ignoring");
        if (!m || m->n_watchers == 0)
                return;
        e->time = now_of(CLOCK_MONOTONIC);
        if (m->n_batch < BATCH_MAX)
                m->batch[m->n_batch++] = *e;
        else
                m->lost++;
}

void monitor_forget(struct slimd *d, const struct endpoint *e)
{
        if (d->monitor)
                event_remember(&d->monitor->past, e);
}

int monitor_start(struct slimd *d)
{
        struct monitor *m = new0(struct monitor, 1);
        int r;

        if (!m)
                return log_error_errno(-ENOMEM, "cannot watch events: %m");
        d->monitor = m;
        m->ring = ring_buffer__new(datapath_map_fd(d->dp, DATAPATH_EVENTS), on_record, m, NULL);
        if (!m->ring)
                return log_error_errno(-errno, "cannot read the ring of events: %m");
        r = lease(d, 0); /* of an earlier slimd that was killed */
        if (r == 0)
                r = sd_event_add_time_relative(d->event, &m->timer, CLOCK_MONOTONIC, TICK_US, 1,
                                               on_time, d);
        if (r >= 0)
                r = sd_event_source_set_enabled(m->timer, SD_EVENT_OFF);
        return r < 0 ? log_error_errno(r, "cannot watch events: %m") : 0;
}

void monitor_stop(struct slimd *d)
{
        struct monitor *m = d->monitor;

        if (!m)
                return;
        sd_event_source_disable_unref(m->timer);
        ring_buffer__free(m->ring);
        free(m);
        d->monitor = NULL;
}
