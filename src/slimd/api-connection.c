/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Connection.List: what sock_diag shows of the host's namespace, told in overlay addresses.
 */
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include "../shared/sockdiag.h"
#include "api.h"
#include "cluster.h"
#include "local.h"

struct wanted {
        const struct slimd *d;
        const char *name, *network; /* NULL: any */
        json_t *list;
};

static const char *const state_names[] = {
    [TCP_ESTABLISHED] = "established",
    [TCP_SYN_SENT] = "syn-sent",
    [TCP_SYN_RECV] = "syn-received",
    [TCP_FIN_WAIT1] = "fin-wait-1",
    [TCP_FIN_WAIT2] = "fin-wait-2",
    [TCP_TIME_WAIT] = "time-wait",
    [TCP_CLOSE] = "closed",
    [TCP_CLOSE_WAIT] = "close-wait",
    [TCP_LAST_ACK] = "last-ack",
    [TCP_LISTEN] = "listen",
    [TCP_CLOSING] = "closing",
};

static json_t *address(const union slim_addr *a, uint16_t port)
{
        char addr[INADDR_TEXT_MAX];

        inaddr_format(a, addr);
        return json_sprintf(strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, port);
}

/* The local name, by the rules of names.bpf.c. */
static json_t *local_name(const struct sockdiag_tcp *s)
{
        const struct slim_socket *k = &s->slim;
        const union slim_addr *a = &s->local_addr;

        if (s->state == TCP_LISTEN)
                a = k->bound_port ? &k->bound_addr : a;
        else if (k->peer_kind == SLIM_PEER_OVERLAY)
                a = &k->addr[inaddr_family(&k->peer_addr)];
        else if (k->peer_kind != SLIM_PEER_LOOPBACK)
                a = &k->addr[inaddr_family(a)];
        return address(a, k->bound_port ?: s->local_port);
}

static json_t *peer_name(const struct sockdiag_tcp *s)
{
        const struct slim_socket *k = &s->slim;

        switch (k->peer_kind) {
        case SLIM_PEER_OVERLAY:
                return address(&k->peer_addr, k->peer_port);
        case SLIM_PEER_LOOPBACK:
                return address(&s->peer_addr, k->peer_port);
        default:
                return address(&s->peer_addr, s->peer_port);
        }
}

static json_t *peer_endpoint(const struct wanted *w, const struct sockdiag_tcp *s)
{
        const struct endpoint *e = NULL;

        if (s->state != TCP_LISTEN && s->slim.peer_endpoint)
                e = model_endpoint(&w->d->model, s->slim.peer_endpoint);
        return e ? json_string(e->name) : json_null();
}

/* The kernel counts an acknowledged SYN of a connection's client as one byte (tcp_ack()). */
static uint64_t bytes_sent(const struct sockdiag_tcp *s)
{
        bool client = s->slim.peer_kind && !s->slim.accepted;

        return s->bytes_acked - (client && s->bytes_acked > 0);
}

static int add(const struct sockdiag_tcp *s, void *userdata)
{
        const struct wanted *w = userdata;
        const struct endpoint *e;
        bool listens = s->state == TCP_LISTEN;
        json_t *j;

        if (!s->has_slim)
                return 0;
        e = model_endpoint(&w->d->model, s->slim.endpoint);
        if (!e || (w->name && strcmp(w->name, e->name) != 0) ||
            (w->network && strcmp(w->network, e->network) != 0))
                return 0;
        j = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:I, s:I, s:I, s:I}", "endpoint",
                      e->name, "network", e->network, "state",
                      s->state < ARRAY_SIZE(state_names) && state_names[s->state]
                          ? state_names[s->state]
                          : "unknown",
                      "local", local_name(s), "peer", listens ? json_null() : peer_name(s),
                      "host_local", address(&s->local_addr, s->local_port), "host_peer",
                      listens ? json_null() : address(&s->peer_addr, s->peer_port), "peer_endpoint",
                      peer_endpoint(w, s), "bytes_sent", (json_int_t)bytes_sent(s),
                      "bytes_received", (json_int_t)s->bytes_received, "uid", (json_int_t)s->uid,
                      "cookie", (json_int_t)s->cookie);
        return j && json_array_append_new(w->list, j) == 0 ? 0 : -ENOMEM;
}

int api_connection_list(struct api_call *call)
{
        struct wanted w = {.d = call->d};
        int r;

        r = api_unpack(call, "{s?s, s?s}", "name", &w.name, "network", &w.network);
        if (r == 0 && w.name)
                r = api_check_name(call, "name", w.name);
        if (r == 0 && w.network)
                r = api_check_name(call, "network", w.network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        if (w.network && !model_network(&call->d->model, w.network))
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", w.network);
        w.list = json_array();
        json_object_set_new(call->answer, "connections", w.list);
        /* Not TIME_WAIT and half-open ones: the kernel keeps no identity for them. */
        r = sockdiag_tcp_each(-1, ~0U, datapath_map_fd(call->d->dp, DATAPATH_SOCKETS), add, &w);
        if (r < 0)
                return api_fail(call, r, "cannot list sockets: %s", strerror(-r));
        return 0;
}
