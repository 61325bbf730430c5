/* SPDX-License-Identifier: Apache-2.0 */
#include "revoke.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#include "../basic/inaddr.h"
#include "../basic/log.h"
#include "../shared/sockdiag.h"
#include "local.h"
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

/* Ends it in the namespace that it is of. True: it is ended. */
static int end(struct sweep *sweep, int netns_fd, const struct sockdiag_tcp *s, bool *ret_ended)
{
        int r = sockdiag_tcp_destroy(netns_fd, s);

        *ret_ended = r == 0;
        sweep->ended += r == 0;
        if (r == -EOPNOTSUPP)
                return r; /* no other can be ended either */
        if (r < 0 && r != -ENOENT)
                log_warning_errno(r, "cannot end a connection: %m, ignoring");
        return 0;
}

static int look_at(const struct sockdiag_tcp *s, void *userdata)
{
        struct sweep *sweep = userdata;
        enum slim_reason reason = s->has_slim ? denied(sweep->d, s) : SLIM_REASON_NONE;
        bool ended = false;
        int r;

        if (reason == SLIM_REASON_NONE)
                return 0;
        r = end(sweep, -1, s, &ended);
        if (ended)
                tell(sweep->d, s, reason);
        return r;
}

/* --- sockets of a container's own ------------------------------------------------------------- */

/* What net.ipv4.ip_local_port_range is in a new namespace. */
#define EPHEMERAL_MIN 32768
#define EPHEMERAL_MAX 60999

/*
 * Those that were not swapped, as all of a plain container are. Who began is not in them: a port
 * that somebody listens on was connected to, and an automatic one that nobody listens on connects.
 * Of others it is not known (their listener may be closed by now); they end when they could have
 * been begun by neither side.
 */
struct inside {
        struct sweep *sweep;
        const struct local *local;
        struct slim_endpoint own;
        uint8_t listening[65536 / 8]; /* a bit for each port */
};

static int note_listener(const struct sockdiag_tcp *s, void *userdata)
{
        struct inside *in = userdata;

        in->listening[s->local_port / 8] |= (uint8_t)(1U << s->local_port % 8);
        return 0;
}

static bool is_automatic(uint16_t port)
{
        return port >= EPHEMERAL_MIN && port <= EPHEMERAL_MAX;
}

static bool could_begin(const struct inside *in, const struct sockdiag_tcp *s,
                        enum slim_policy_direction direction)
{
        struct slimd *d = in->sweep->d;
        struct slim_policy_check check = {
            .subject = in->own.identity,
            .addr = s->peer_addr,
            .port = direction == SLIM_POLICY_INGRESS ? s->local_port : s->peer_port,
            .direction = (uint8_t)direction,
            .protocol = IPPROTO_TCP,
        };
        struct slim_endpoint_key key = {.network = in->own.network, .addr = s->peer_addr};
        enum slim_policy_verdict verdict;
        struct slim_endpoint peer;

        if (get(d, DATAPATH_ENDPOINTS, &key, &peer))
                check.peer = peer.identity;
        return datapath_policy_check(d->dp, &check, &verdict) < 0 || verdict == SLIM_POLICY_ALLOWED;
}

static int look_inside(const struct sockdiag_tcp *s, void *userdata)
{
        struct inside *in = userdata;
        bool listening = in->listening[s->local_port / 8] & 1U << s->local_port % 8;
        bool connects = !listening && is_automatic(s->local_port) && !is_automatic(s->peer_port);
        struct slim_event e = {
            .from = listening ? s->peer_addr : s->local_addr,
            .to = listening ? s->local_addr : s->peer_addr,
            .from_port = listening ? s->peer_port : s->local_port,
            .to_port = listening ? s->local_port : s->peer_port,
            .endpoint = in->own.id,
            .network = in->own.network,
            .reason = SLIM_REASON_REVOKED_POLICY,
            .hook = SLIM_HOOK_REVOKE,
            .protocol = IPPROTO_TCP,
            .error = ECONNABORTED,
        };
        bool ended = false;
        int r;

        /* Its own, by whatever address, is nobody's business. */
        if (!inaddr_is_one_of(&s->local_addr, in->own.addr) ||
            inaddr_is_one_of(&s->peer_addr, in->own.addr))
                return 0;
        if ((!connects && could_begin(in, s, SLIM_POLICY_INGRESS)) ||
            (!listening && could_begin(in, s, SLIM_POLICY_EGRESS)))
                return 0;
        r = end(in->sweep, local_netns(in->local), s, &ended);
        if (ended)
                monitor_event(in->sweep->d, &e);
        return r;
}

static int sweep_inside(struct sweep *sweep, const struct local *l)
{
        uint32_t id = local_endpoint(l)->id;
        struct inside in = {.sweep = sweep, .local = l};
        struct slim_policy_subject subject;
        int r;

        if (local_netns(l) < 0 || !get(sweep->d, DATAPATH_IDENTITIES, &id, &in.own) ||
            !in.own.identity ||
            !get(sweep->d, DATAPATH_POLICY_SUBJECTS, &in.own.identity, &subject))
                return 0;
        r = sockdiag_tcp_each(local_netns(l), 1U << TCP_LISTEN, -1, note_listener, &in);
        /* One that is not open yet is told what a packet is told: nothing. */
        return r < 0 ? r
                     : sockdiag_tcp_each(local_netns(l), STATES & ~(1U << TCP_SYN_SENT), -1,
                                         look_inside, &in);
}

static void sweep(struct slimd *d)
{
        struct sweep sweep = {.d = d};
        int r = sockdiag_tcp_each(-1, STATES, datapath_map_fd(d->dp, DATAPATH_SOCKETS), look_at,
                                  &sweep);

        for (struct local *l = local_next(d, NULL); r == 0 && l; l = local_next(d, l))
                r = sweep_inside(&sweep, l);
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
