/* SPDX-License-Identifier: Apache-2.0 */
#include "revoke.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "../basic/log.h"
#include "../shared/sockdiag.h"
#include "monitor.h"

/* When to look again. A connection that is not there by then has lost its SYN, and its next one is
 * judged anew. */
#define AGAIN_US 300000

/* TIME_WAIT and half-open ones have no identity any more, or not yet; listeners are no connection.
 */
#define STATES                                                                                    \
        (1U << TCP_ESTABLISHED | 1U << TCP_SYN_SENT | 1U << TCP_FIN_WAIT1 | 1U << TCP_FIN_WAIT2 | \
         1U << TCP_CLOSE_WAIT | 1U << TCP_LAST_ACK | 1U << TCP_CLOSING)

struct sweep {
        struct slimd *d;
        unsigned int ended;
};

static bool get(const struct slimd *d, enum datapath_map map, const void *key, void *ret)
{
        return bpf_map_lookup_elem(datapath_map_fd(d->dp, map), key, ret) == 0;
}

/* Who it is with, as policies see it; the port is the one that was connected to. */
static void peer_of(const struct slimd *d, const struct sockdiag_tcp *s,
                    struct slim_policy_check *check)
{
        const struct slim_socket *k = &s->slim;
        bool overlay = k->peer_kind == SLIM_PEER_OVERLAY;
        struct slim_endpoint_key key = {.network = k->network};
        struct slim_endpoint peer;

        check->addr = overlay ? k->peer_addr : s->peer_addr;
        check->port = k->accepted ? k->bound_port : overlay ? k->peer_port : s->peer_port;
        key.addr = check->addr;
        if (get(d, DATAPATH_ENDPOINTS, &key, &peer))
                check->peer = peer.identity;
}

/*
 * Why a connection could not be made now; SLIM_REASON_NONE: it could. Of one that was accepted
 * without its SYN's entry, which a flood has pushed out, it cannot be told whose it is: it ends
 * with the first policy that selects the server.
 */
static enum slim_reason denied(const struct slimd *d, const struct sockdiag_tcp *s)
{
        const struct slim_socket *k = &s->slim;
        struct slim_policy_check check = {
            .direction = k->accepted ? SLIM_POLICY_INGRESS : SLIM_POLICY_EGRESS,
            .protocol = IPPROTO_TCP,
        };
        bool nameless = k->accepted && k->peer_kind == SLIM_PEER_NONE;
        enum slim_policy_verdict verdict;
        struct slim_policy_subject subject;
        struct slim_endpoint own;
        int r;

        if (k->denied || (k->peer_kind == SLIM_PEER_NONE && !nameless))
                return SLIM_REASON_NONE; /* it goes nowhere, or has ended */
        if (!get(d, DATAPATH_IDENTITIES, &k->endpoint, &own))
                return SLIM_REASON_REVOKED_ENDPOINT; /* the container is no more, whoever has its
                                                        socket */
        if (k->peer_kind == SLIM_PEER_LOOPBACK || !own.identity ||
            !get(d, DATAPATH_POLICY_SUBJECTS, &own.identity, &subject))
                return SLIM_REASON_NONE;
        if (nameless)
                return subject.flags & (SLIM_POLICY_SELECTED << SLIM_POLICY_INGRESS)
                           ? SLIM_REASON_REVOKED_POLICY
                           : SLIM_REASON_NONE;
        check.subject = own.identity;
        peer_of(d, s, &check);
        r = datapath_policy_check(d->dp, &check, &verdict);
        if (r < 0) {
                log_warning_errno(r, "cannot ask for the verdict on a connection: %m, ignoring");
                return SLIM_REASON_NONE;
        }
        return verdict == SLIM_POLICY_ALLOWED ? SLIM_REASON_NONE : SLIM_REASON_REVOKED_POLICY;
}

/* As the program saw it: from who connected. */
static void tell(struct slimd *d, const struct sockdiag_tcp *s, enum slim_reason reason)
{
        const struct slim_socket *k = &s->slim;
        bool overlay = k->peer_kind == SLIM_PEER_OVERLAY;
        bool loopback = k->peer_kind == SLIM_PEER_LOOPBACK;
        union slim_addr peer = overlay ? k->peer_addr : s->peer_addr;
        union slim_addr own = loopback ? s->local_addr : k->addr[inaddr_family(&peer)];
        uint16_t peer_port = overlay || loopback ? k->peer_port : s->peer_port;
        uint16_t own_port = k->bound_port ?: s->local_port;
        struct slim_event e = {
            .from = k->accepted ? peer : own,
            .to = k->accepted ? own : peer,
            .from_port = k->accepted ? peer_port : own_port,
            .to_port = k->accepted ? own_port : peer_port,
            .endpoint = k->endpoint,
            .peer = k->peer_endpoint,
            .network = k->network,
            .reason = (uint16_t)reason,
            .hook = SLIM_HOOK_REVOKE,
            .protocol = IPPROTO_TCP,
            .error = ECONNABORTED,
        };

        monitor_event(d, &e);
}

static int look_at(const struct sockdiag_tcp *s, void *userdata)
{
        struct sweep *sweep = userdata;
        enum slim_reason reason = s->has_slim ? denied(sweep->d, s) : SLIM_REASON_NONE;
        int r;

        if (reason == SLIM_REASON_NONE)
                return 0;
        r = sockdiag_tcp_destroy(s);
        if (r == -EOPNOTSUPP)
                return r; /* no other can be ended either */
        if (r < 0 && r != -ENOENT)
                log_warning_errno(r, "cannot end a connection: %m, ignoring");
        if (r == 0) {
                sweep->ended++;
                tell(sweep->d, s, reason);
        }
        return 0;
}

static void sweep(struct slimd *d)
{
        struct sweep sweep = {.d = d};
        int r =
            sockdiag_tcp_each(STATES, datapath_map_fd(d->dp, DATAPATH_SOCKETS), look_at, &sweep);

        if (r < 0)
                log_error_errno(r, r == -EOPNOTSUPP
                                       ? "cannot end connections that are not allowed any more: "
                                         "the kernel has no CONFIG_INET_DIAG_DESTROY"
                                       : "cannot end connections that are not allowed any more: "
                                         "%m");
        if (sweep.ended)
                log_info("%u connections that are not allowed any more were ended", sweep.ended);
}

static int on_time(sd_event_source *s, uint64_t usec, void *userdata)
{
        struct slimd *d = userdata;

        sweep(d);
        if (--d->revoke_rounds == 0)
                return 0;
        sd_event_source_set_time_relative(s, AGAIN_US);
        return sd_event_source_set_enabled(s, SD_EVENT_ONESHOT);
}

int revoke_start(struct slimd *d)
{
        int r = sd_event_add_time_relative(d->event, &d->revoke_timer, CLOCK_MONOTONIC, 0, 1,
                                           on_time, d);

        return r < 0 ? r : sd_event_source_set_enabled(d->revoke_timer, SD_EVENT_OFF);
}

void revoke_stop(struct slimd *d)
{
        d->revoke_timer = sd_event_source_disable_unref(d->revoke_timer);
}

void revoke_soon(struct slimd *d)
{
        if (!d->revoke_timer)
                return;
        d->revoke_rounds = 2;
        sd_event_source_set_time_relative(d->revoke_timer, 0);
        sd_event_source_set_enabled(d->revoke_timer, SD_EVENT_ONESHOT);
}
