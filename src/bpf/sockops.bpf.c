/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sockops: the connection's own moments. The SYN gets its option, a listener enters the table, an
 * accepted socket learns its peer.
 *
 *   TCP_CONNECT_CB          a Slim connection: ask to be called for the SYN's header
 *   HDR_OPT_LEN_CB          20 bytes in the SYN
 *   WRITE_HDR_OPT_CB        … and what they say, with its MAC
 *   ACTIVE_ESTABLISHED_CB   ask no more: nothing of ours runs for data
 *   TCP_LISTEN_CB           from here on the listener can be found; its host port is hidden
 *   STATE_CB                of listeners, and of sockets bound to an automatic port: closed, it
 *                           listens no more and loses that port
 *   PASSIVE_ESTABLISHED_CB  identity of the peer from the verified SYN
 *
 * Where the option finds no room (TCP Fast Open, MD5), the SYN leaves without it and the server's
 * host drops it.
 */
#include "caller.h"
#include "event.h"
#include "option.h"
#include "ports.h"

#include <asm-generic/socket.h>
#include <linux/in.h>
#include <linux/tcp.h>

#define SYN_FLAG 0x02
#define AF_INET  2

/*
 * barrier_var: each field of the context is read by itself, at its own constant offset, which the
 * verifier insists on; the compiler would merge the two branches' loads.
 */
static __always_inline union slim_addr local_addr(struct bpf_sock_ops *ops)
{
        __be32 v4 = ops->local_ip4;

        barrier_var(v4);
        if (ops->family == AF_INET)
                return addr_v4(v4);
        return addr_v6(ops->local_ip6[0], ops->local_ip6[1], ops->local_ip6[2], ops->local_ip6[3]);
}

static __always_inline union slim_addr remote_addr(struct bpf_sock_ops *ops)
{
        __be32 v4 = ops->remote_ip4;

        barrier_var(v4);
        if (ops->family == AF_INET)
                return addr_v4(v4);
        return addr_v6(ops->remote_ip6[0], ops->remote_ip6[1], ops->remote_ip6[2],
                       ops->remote_ip6[3]);
}

static __always_inline void want_headers(struct bpf_sock_ops *ops, bool on)
{
        __u32 flags = ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG;

        bpf_sock_ops_cb_flags_set(ops, flags | (on ? BPF_SOCK_OPS_WRITE_HDR_OPT_CB_FLAG : 0));
}

static __always_inline void watch_state(struct bpf_sock_ops *ops, bool on)
{
        __u32 flags = ops->bpf_sock_ops_cb_flags & ~BPF_SOCK_OPS_STATE_CB_FLAG;

        bpf_sock_ops_cb_flags_set(ops, flags | (on ? BPF_SOCK_OPS_STATE_CB_FLAG : 0));
}

static __always_inline void write_option(struct bpf_sock_ops *ops, struct slim_socket *s)
{
        struct tcphdr *th = ops->skb_data;
        union slim_addr host = local_addr(ops), peer = remote_addr(ops);
        struct slim_option option = {
            .kind = SLIM_OPTION_KIND,
            .len = SLIM_OPTION_LEN,
            .client_endpoint = bpf_htonl(s->endpoint),
            .client_port = bpf_htons(s->bound_port ?: (__u16)ops->local_port),
            .server_port = bpf_htons(s->peer_port),
            .server_endpoint = bpf_htonl(s->peer_endpoint),
        };
        struct slim_key *key;
        __u32 current = 0;

        if (s->peer_kind == SLIM_PEER_OVERLAY)
                peer = s->peer_addr;
        option.exid = slim_option_exid(addr_family(&peer));
        if ((void *)(th + 1) > ops->skb_data_end)
                return;
        key = bpf_map_lookup_elem(&keys, &current);
        if (!key || !key->epoch)
                return;
        option.mac = slim_option_mac(&option, &host, th->source, th->dest, th->seq, key->k);
        bpf_store_hdr_opt(ops, &option, sizeof(option), 0);
}

/* It listens to nobody: nothing can be refused here. */
static __noinline int tell(const struct slim_socket *s, __u32 reason)
{
        struct slim_event e = {
            .from = s->bound_addr,
            .from_port = s->bound_port,
            .endpoint = s->endpoint,
            .network = s->network,
            .reason = reason,
            .hook = SLIM_HOOK_LISTEN,
            .protocol = IPPROTO_TCP,
        };

        event_send(&e);
        return 0;
}

static __always_inline void in_use(const struct slim_socket *s)
{
        count(SLIM_REASON_LISTEN_IN_USE);
        if (event_wanted(SLIM_REASON_LISTEN_IN_USE))
                tell(s, SLIM_REASON_LISTEN_IN_USE);
}

/* Nobody finds the listener. The broker, if listen() passed it, looks and undoes that. */
static __always_inline void no_room(struct slim_socket *s)
{
        s->bind_flags |= SLIM_BIND_NO_ROOM;
        count(SLIM_REASON_LISTEN_LIMIT);
        if (event_wanted(SLIM_REASON_LISTEN_LIMIT))
                tell(s, SLIM_REASON_LISTEN_LIMIT);
}

static __always_inline void listening(struct bpf_sock_ops *ops, struct bpf_sock *sk,
                                      struct slim_socket *s)
{
        __u32 hidden = ops->local_port, before, *n;
        struct slim_port_key key = {.endpoint = s->endpoint};
        struct slim_listener_key lkey = {.endpoint = s->endpoint};
        struct slim_port *p;
        __u8 failed;
        int at;

        s->bind_flags &= ~SLIM_BIND_NO_ROOM;
        if (!s->owner) {
                /* listen() with no bind(), or with one to port 0 whose port was lost: a new port,
                 * on the address that was bound or on the wildcard. */
                struct bind_request q = {
                    .endpoint = s->endpoint,
                    .addr = s->bound_addr,
                    .range = narrow_range(RANGE_DEFAULT, s->port_range),
                    .flags = {.uid = uid_of(sk),
                              .v6only = !!(s->sockopts & SLIM_SOCKOPT_V6ONLY),
                              .device = device_claims(s->device)},
                };

                if (addr_is_any(&q.addr))
                        q.addr = ops->family == AF_INET ? addr_v4(0) : addr_v6(0, 0, 0, 0);

                port_bind(&q);
                if (q.no_room)
                        return no_room(s);
                if (q.binding < 0)
                        return in_use(s);
                failed = s->bind_flags & SLIM_BIND_FAILED;
                port_hold(s, &q, bpf_get_socket_cookie(ops));
                s->bind_flags |= failed;
        }
        key.port = s->bound_port;
        p = bpf_map_lookup_elem(&ports, &key);
        if (!p)
                return in_use(s);

        /* Hidden before it can be found, and whether or not it will be. The host port is another
         * one when it listens again after a shutdown(), which gave up the first. */
        if (s->listen_port != hidden) {
                n = bpf_map_lookup_elem(&hidden_ports, &hidden);
                if (n)
                        __sync_fetch_and_add(n, 1);
                before = s->listen_port;
                n = before ? bpf_map_lookup_elem(&hidden_ports, &before) : 0;
                if (n)
                        __sync_fetch_and_add(n, -1);
                s->listen_port = hidden;
        }
        if (s->slot == SLIM_NO_SLOT) {
                if (!usage_take_listener(s->endpoint))
                        return no_room(s);
                at = port_listen(p, s, uid_of(sk));
                if (at < 0) {
                        usage_return_listener(s->endpoint);
                        return in_use(s);
                }
                s->slot = at;
        }
        watch_state(ops, true);
        lkey.port = s->bound_port;
        lkey.binding = s->binding;
        lkey.slot = s->slot;
        if (bpf_sock_hash_update(ops, &listeners, &lkey, BPF_ANY) < 0) {
                port_unlisten(s);
                no_room(s);
        }
}

/*
 * A socket returns to TCP_CLOSE: a connection failed, was reset or undone, a listener was shut
 * down. As in tcp_set_state(), it loses its port if that is automatic; what bind() named, port or
 * address, stays (SOCK_BINDPORT_LOCK, SOCK_BINDADDR_LOCK).
 */
static __always_inline void closed(struct bpf_sock_ops *ops, struct slim_socket *s)
{
        struct slim_listener_key key = {
            .endpoint = s->endpoint,
            .port = s->bound_port,
            .binding = s->binding,
            .slot = s->slot,
        };

        if (!s->owner || s->owner != bpf_get_socket_cookie(ops))
                return;
        if (s->slot != SLIM_NO_SLOT)
                bpf_map_delete_elem(&listeners, &key); /* the kernel does it on close() alone */
        if (s->bind_flags & SLIM_BIND_AUTO)
                port_release(s);
        else if (s->slot != SLIM_NO_SLOT || s->listen_port)
                port_unlisten(s);
}

static __always_inline void connecting(struct bpf_sock_ops *ops, struct slim_socket *s)
{
        s->bind_flags &= ~SLIM_BIND_FAILED;
        if (!s->owner) {
                /* A port that was lost, or the listener's that it was accepted from: it has a new
                 * one. */
                s->bound_port = 0;
                s->accepted = 0;
        } else if (s->bind_flags & SLIM_BIND_AUTO) {
                watch_state(ops, true);
        }
}

static __always_inline void accepted(struct bpf_sock_ops *ops, struct slim_socket *s)
{
        int on = 1;
        struct slim_tuple tuple = {
            .client_addr = remote_addr(ops),
            .server_addr = local_addr(ops),
            .client_port = bpf_ntohl(ops->remote_port),
            .server_port = ops->local_port,
        };
        struct slim_syn *syn = bpf_map_lookup_elem(&syns, &tuple);

        s->owner = 0;
        s->listen_port = 0;
        s->slot = SLIM_NO_SLOT;
        s->accepted = 1;
        s->counted = 0;
        s->peer_kind = SLIM_PEER_NONE; /* not what the listener was once connected to */
        s->peer_endpoint = 0;
        if (ops->bpf_sock_ops_cb_flags)
                watch_state(ops, false); /* it was the listener's */
        if (addr_is_one_of(&tuple.server_addr, s->addr)) {
                /* It came by VXLAN: the addresses are real, and the port is one of the host's. */
                s->peer_kind = SLIM_PEER_PLAIN;
                s->peer_endpoint = 0;
                bpf_setsockopt(ops, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
                return;
        }
        if (!is_slim_port(tuple.server_port)) {
                /* By a published port: steer.bpf.c lets nothing else through to a listener. What is
                 * left of the connection later (TIME_WAIT) must not keep the next container from
                 * reserving that port. */
                s->peer_kind = SLIM_PEER_OUTSIDE;
                s->peer_endpoint = 0;
                bpf_setsockopt(ops, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
                return;
        }
        if (!syn)
                return;
        s->peer_kind = syn->peer_kind;
        s->peer_endpoint = syn->client_endpoint;
        s->peer_addr = syn->client_addr;
        s->peer_port = syn->client_port;
        bpf_map_delete_elem(&syns, &tuple);
}

SEC("sockops")
int slim_sockops(struct bpf_sock_ops *ops)
{
        struct bpf_sock *sk = ops->sk;
        struct slim_socket *s;

        if (!sk)
                return 1;
        s = bpf_sk_storage_get(&sockets, sk, 0, 0);
        if (!s)
                return 1;
        switch (ops->op) {
        case BPF_SOCK_OPS_TCP_CONNECT_CB:
                if ((s->peer_kind == SLIM_PEER_OVERLAY || s->peer_kind == SLIM_PEER_LOOPBACK) &&
                    !s->denied)
                        want_headers(ops, true);
                connecting(ops, s);
                break;
        case BPF_SOCK_OPS_HDR_OPT_LEN_CB:
                if (ops->skb_tcp_flags & SYN_FLAG)
                        bpf_reserve_hdr_opt(ops, SLIM_OPTION_LEN, 0);
                break;
        case BPF_SOCK_OPS_WRITE_HDR_OPT_CB:
                if (ops->skb_tcp_flags & SYN_FLAG)
                        write_option(ops, s);
                break;
        case BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB:
                if (ops->bpf_sock_ops_cb_flags)
                        want_headers(ops, false);
                break;
        case BPF_SOCK_OPS_TCP_LISTEN_CB:
                if (!s->is_host)
                        listening(ops, sk, s);
                break;
        case BPF_SOCK_OPS_STATE_CB:
                if (ops->args[1] == BPF_TCP_CLOSE)
                        closed(ops, s);
                break;
        case BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB:
                accepted(ops, s);
                break;
        }
        return 1;
}
