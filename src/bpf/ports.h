/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * The table of bound ports: who may bind what (inet_csk_bind_conflict() of the kernel, for one
 * container), which bindings have listeners, and the end of both.
 *
 * A socket that holds a binding has its own cookie in slim_socket.owner. An accepted socket starts
 * as a copy of its listener's slim_socket and has another cookie, so it can release nothing.
 *
 * Nothing is called while a slim_port's lock is held: the verifier forbids it.
 */
#include "addr.h"

#include <asm-generic/errno-base.h>

#define LOOPBACK_IFINDEX 1 /* in every network namespace */

/* What bind() must know of a socket and bpf_getsockopt() does not tell on every kernel. */
struct bind_flags {
        __u8 reuse_addr; /* 0 or 1 */
        __u8 reuse_port;
        __u8 v6only;
        __u32 uid;   /* sk_uid, by which SO_REUSEPORT shares */
        __u8 device; /* SLIM_CLAIMS_LOOPBACK, SLIM_CLAIMS_NOT_LOOPBACK or 0 */
};

struct sock_common___slim {
        unsigned char skc_reuse : 4;
        unsigned char skc_reuseport : 1;
} __attribute__((preserve_access_index));

/* What SO_BINDTODEVICE makes a socket claim. A container has two kinds of devices: its loopback,
 * and what leads out. */
static __always_inline __u8 device_claims(__u32 ifindex)
{
        if (!ifindex)
                return 0;
        return ifindex == LOOPBACK_IFINDEX ? SLIM_CLAIMS_LOOPBACK : SLIM_CLAIMS_NOT_LOOPBACK;
}

/* Can no packet be for both of them? */
static __always_inline bool devices_differ(__u8 a, __u8 b)
{
        const __u8 both = SLIM_CLAIMS_LOOPBACK | SLIM_CLAIMS_NOT_LOOPBACK;

        return ((a | b) & both) == both;
}

/* enum slim_claims of a socket; the kernel's rule is inet_rcv_saddr_equal(). */
static __always_inline __u8 claims_of(const union slim_addr *addr, __u8 v6only)
{
        if (addr_is_any6(addr))
                return SLIM_CLAIMS_ANY | SLIM_CLAIMS_V6 | (v6only ? 0 : SLIM_CLAIMS_V4);
        if (addr_is_any4(addr))
                return SLIM_CLAIMS_ANY | SLIM_CLAIMS_V4;
        return addr_is_v4(addr) ? SLIM_CLAIMS_V4 : SLIM_CLAIMS_V6;
}

/* --- how much a container has ----------------------------------------------------------------- */

/* One more of what a container may have `max` of. False: it has all of them. */
static __always_inline bool usage_take(__u32 *n, __u32 max)
{
        if (__sync_fetch_and_add(n, 1) < max)
                return true;
        __sync_fetch_and_add(n, -1);
        return false;
}

static __always_inline bool usage_take_port(__u32 endpoint)
{
        struct slim_usage *u = bpf_map_lookup_elem(&usage, &endpoint);

        return u && usage_take(&u->ports, config.max_ports);
}

static __always_inline bool usage_take_listener(__u32 endpoint)
{
        struct slim_usage *u = bpf_map_lookup_elem(&usage, &endpoint);

        return u && usage_take(&u->listeners, config.max_listeners);
}

/* Of an endpoint that is gone there is nothing to count. */
static __always_inline void usage_return_port(__u32 endpoint)
{
        struct slim_usage *u = bpf_map_lookup_elem(&usage, &endpoint);

        if (u)
                __sync_fetch_and_add(&u->ports, -1);
}

static __always_inline void usage_return_listener(__u32 endpoint)
{
        struct slim_usage *u = bpf_map_lookup_elem(&usage, &endpoint);

        if (u)
                __sync_fetch_and_add(&u->listeners, -1);
}

/* --- binding ---------------------------------------------------------------------------------- */

/* Bytes, since a struct with a lock may not lie in read-only data. */
static const __u8 no_port[sizeof(struct slim_port)] = {};

enum {
        PORT_TAKEN = -1,
        PORT_DEAD = -2, /* its last owner is just going */
};

/* One socket's wish, and what came of it. */
struct bind_request {
        union slim_addr addr;
        __u32 endpoint;
        struct bind_flags flags;
        __u32 range; /* of automatic ports, as high << 16 | low */
        __u16 port;  /* 0: any that nothing overlaps, which is then here */
        int binding; /* index into slim_port.binding, or PORT_TAKEN */

        /* For port_bind() itself. */
        bool automatic;
        __u16 first, count, start; /* automatic ports are walked from a random one on */
        __u8 claims;
        __u8 share;    /* enum slim_bind_flags: with which of those that are there already */
        __u8 same_uid; /* it is counted in slim_binding.same_uid */
        bool no_room;  /* the container has all the ports that it may have, or the host */
};

/* Adds a socket to a port; its index in binding[], or PORT_TAKEN, or PORT_DEAD. */
static __always_inline int port_add(struct slim_port *p, struct bind_request *q)
{
        const union slim_addr *addr = &q->addr;
        int at = PORT_TAKEN;

        bpf_spin_lock(&p->lock);
        if (p->dead) {
                bpf_spin_unlock(&p->lock);
                return PORT_DEAD;
        }
        p->walk_free = p->walk_same = SLIM_BINDINGS;
        p->walk_conflict = 0;
        p->walk_flags = q->share;
        p->walk_uid = q->flags.uid;
#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_BINDINGS; i++) {
                struct slim_binding *b = &p->binding[i];

                barrier();
                if (!b->owners) {
                        p->walk_free = i;
                        continue;
                }
                if (addr_equal(&b->addr, addr)) {
                        /* "::" with and without IPV6_V6ONLY are two bindings. */
                        if (b->claims == q->claims)
                                p->walk_same = i;
                } else if (!((b->claims | q->claims) & SLIM_CLAIMS_ANY)) {
                        continue;
                }
                if (!(b->claims & q->claims & (SLIM_CLAIMS_V4 | SLIM_CLAIMS_V6)) ||
                    devices_differ(b->claims, q->claims))
                        continue;
                /* They overlap. Both must have said that they share. */
                if (!slim_binding_shares(b, p->walk_flags, p->walk_uid))
                        p->walk_conflict = 1;
        }
        if (!p->walk_conflict) {
                at = p->walk_same < SLIM_BINDINGS ? p->walk_same : p->walk_free;
                if (at >= 0 && at < SLIM_BINDINGS) {
                        struct slim_binding *b = &p->binding[at];
                        __u32 other;

                        if (!b->owners) {
                                b->addr = *addr;
                                b->listeners = 0;
                                b->reuse_addr = 0;
                                b->reuse_port = 0;
                                b->claims = 0;
                                b->uid = q->flags.uid;
                                b->same_uid = 0;
                        }
                        /* 1 when they are equal, without a branch. */
                        other = b->uid ^ q->flags.uid;
                        q->same_uid = 1 ^ ((other | -other) >> 31);
                        b->same_uid += q->same_uid;
                        b->owners++;
                        b->reuse_addr += q->flags.reuse_addr;
                        b->reuse_port += q->flags.reuse_port;
                        b->claims = q->claims;
                } else {
                        at = PORT_TAKEN;
                }
        }
        bpf_spin_unlock(&p->lock);
        return at;
}

/* net.ipv4.ip_local_port_range, unless somebody has set it: high << 16 | low. */
#define RANGE_DEFAULT (60999U << 16 | 32768U)

#define BIND_TRIES 64 /* meetings with a binding that is just ending */

/* A port that nobody has bound yet. False: there is no room for one. */
static __always_inline bool port_new(const struct slim_port_key *key)
{
        long r;

        if (!usage_take_port(key->endpoint))
                return false;
        r = bpf_map_update_elem(&ports, key, no_port, BPF_NOEXIST);
        if (r < 0)
                usage_return_port(key->endpoint);
        return r == 0 || r == -EEXIST; /* another one has just made it */
}

/* bpf_loop()'s step: 1 ends the loop. */
static long bind_try(__u32 round, struct bind_request *q)
{
        struct slim_port_key key = {.endpoint = q->endpoint};
        struct slim_port *p;
        int at;

        if (q->automatic)
                q->port = q->first + ((__u32)q->start + round) % q->count;
        key.port = q->port;
        p = bpf_map_lookup_elem(&ports, &key);
        if (!p) {
                if (!port_new(&key)) {
                        q->no_room = true;
                        return 1;
                }
                p = bpf_map_lookup_elem(&ports, &key);
                if (!p)
                        return 0; /* gone again */
        }
        at = port_add(p, q);
        if (at >= 0) {
                q->binding = at;
                return 1;
        }
        if (at == PORT_TAKEN && !q->automatic)
                return 1;
        return 0;
}

/* enum slim_bind_flags, without a branch. */
static __always_inline __u8 flags_as_bits(const struct bind_flags *f)
{
        return SLIM_BIND_REUSE_ADDR * f->reuse_addr | SLIM_BIND_REUSE_PORT * f->reuse_port;
}

/*
 * Binds in the table; afterwards wish->binding and wish->port say where.
 *
 * A function of its own for the verifier, which then goes through the table once, and not once for
 * each state that a caller can be in. (bpf_loop() wants the request on this function's stack.)
 */
__weak __noinline int port_bind(struct bind_request *wish)
{
        struct bind_request q;

        if (!wish)
                return 0;
        q = *wish;
        q.automatic = !q.port;
        q.claims = claims_of(&q.addr, q.flags.v6only) | q.flags.device;
        /* An automatic port is shared with nobody who is there already. */
        q.share = q.automatic ? 0 : flags_as_bits(&q.flags);
        q.binding = PORT_TAKEN;
        q.first = q.range;
        q.count = (q.range >> 16) - q.first + 1;
        if (!q.automatic || !q.count)
                q.count = 1;
        q.start = q.automatic ? bpf_get_prandom_u32() % q.count : 0;
        bpf_loop(q.automatic ? q.count : BIND_TRIES, bind_try, &q, 0);
        wish->binding = q.binding;
        wish->port = q.port;
        wish->same_uid = q.same_uid;
        wish->automatic = q.automatic;
        wish->no_room = q.no_room;
        return 0;
}

/* Notes in a socket that it holds a binding. */
static __always_inline void port_hold(struct slim_socket *s, const struct bind_request *q,
                                      __u64 cookie)
{
        s->owner = cookie;
        s->bound_addr = q->addr;
        s->bound_port = q->port;
        s->binding = q->binding;
        s->slot = SLIM_NO_SLOT;
        s->listen_port = 0;
        s->bind_flags = flags_as_bits(&q->flags) | SLIM_BIND_SAME_UID * q->same_uid |
                        SLIM_BIND_AUTO * q->automatic;
}

/* --- listening -------------------------------------------------------------------------------- */

/* The number of a single set bit. (The compiler of Debian 12 crashes on __builtin_ctzll.) */
static __always_inline int bit_number(__u64 bit)
{
        return ((bit & 0xffffffff00000000ULL) != 0) << 5 |
               ((bit & 0xffff0000ffff0000ULL) != 0) << 4 |
               ((bit & 0xff00ff00ff00ff00ULL) != 0) << 3 |
               ((bit & 0xf0f0f0f0f0f0f0f0ULL) != 0) << 2 |
               ((bit & 0xccccccccccccccccULL) != 0) << 1 | ((bit & 0xaaaaaaaaaaaaaaaaULL) != 0);
}

/*
 * A slot for a socket that begins to listen, or PORT_TAKEN: another one's address overlaps its own
 * and they do not share (what inet_csk_listen_start() has get_port() check again), or the binding
 * has SLIM_LISTENERS already. The broker has asked the same before (listen.c there); this is for
 * a listen() that did not pass it.
 */
static __always_inline int port_listen(struct slim_port *p, const struct slim_socket *s, __u32 uid)
{
        __u8 binding = s->binding;
        struct slim_binding *own;
        int slot = PORT_TAKEN;
        __u64 all, bit;

        if (binding >= SLIM_BINDINGS)
                return PORT_TAKEN;
        own = &p->binding[binding];
        bpf_spin_lock(&p->lock);
        p->walk_conflict = 0;
        p->walk_flags = s->bind_flags;
        p->walk_own = binding;
        p->walk_uid = uid;
#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_BINDINGS; i++) {
                struct slim_binding *b = &p->binding[i];

                barrier();
                /* Alone on its own binding, or not touched by another one. */
                if (i == p->walk_own ? b->owners == 1
                                     : !b->owners || !slim_bindings_overlap(b, own))
                        continue;
                if (!slim_binding_shares(b, p->walk_flags, p->walk_uid))
                        p->walk_conflict = 1;
        }
        all = own->listeners;
        if (!p->walk_conflict && ~all) {
                bit = ~all & (all + 1); /* the lowest free bit */
                own->listeners = all | bit;
                slot = bit_number(bit);
        }
        bpf_spin_unlock(&p->lock);
        return slot;
}

/* The host port of a listener that is one no more. */
static __always_inline void port_unhide(struct slim_socket *s)
{
        __u32 hidden = s->listen_port, *n;

        if (!hidden)
                return;
        n = bpf_map_lookup_elem(&hidden_ports, &hidden);
        if (n)
                __sync_fetch_and_add(n, -1);
        s->listen_port = 0;
}

/* Ends a socket's listening: it was shut down and stays bound. */
static __always_inline void port_unlisten(struct slim_socket *s)
{
        struct slim_port_key key = {.endpoint = s->endpoint, .port = s->bound_port};
        struct slim_port *p = bpf_map_lookup_elem(&ports, &key);
        __u8 binding = s->binding, slot = s->slot;

        port_unhide(s);
        s->slot = SLIM_NO_SLOT;
        if (slot != SLIM_NO_SLOT)
                usage_return_listener(s->endpoint);
        if (!p || binding >= SLIM_BINDINGS || slot >= SLIM_LISTENERS)
                return;
        bpf_spin_lock(&p->lock);
        p->binding[binding].listeners &= ~(1ULL << slot);
        bpf_spin_unlock(&p->lock);
}

/* Ends a socket's binding and its listening. Counts of options are those of the time of bind(). */
static __always_inline void port_release(struct slim_socket *s)
{
        struct slim_port_key key = {.endpoint = s->endpoint, .port = s->bound_port};
        struct slim_port *p = bpf_map_lookup_elem(&ports, &key);
        __u8 flags = s->bind_flags;
        __u32 left = 0;

        s->owner = 0;
        port_unhide(s);
        if (s->slot != SLIM_NO_SLOT)
                usage_return_listener(s->endpoint);
        if (!p)
                return;
        bpf_spin_lock(&p->lock);
#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_BINDINGS; i++) {
                struct slim_binding *b = &p->binding[i];

                if (i == s->binding && b->owners) {
                        b->owners--;
                        if (s->slot < SLIM_LISTENERS)
                                b->listeners &= ~(1ULL << s->slot);
                        b->reuse_addr -= !!(flags & SLIM_BIND_REUSE_ADDR);
                        b->reuse_port -= !!(flags & SLIM_BIND_REUSE_PORT);
                        b->same_uid -= !!(flags & SLIM_BIND_SAME_UID);
                }
                left += b->owners;
        }
        if (!left)
                p->dead = 1;
        bpf_spin_unlock(&p->lock);
        s->slot = SLIM_NO_SLOT;
        if (!left && bpf_map_delete_elem(&ports, &key) == 0)
                usage_return_port(key.endpoint);
}
