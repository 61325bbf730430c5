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

/* What bind() must know of a socket and bpf_getsockopt() does not tell on every kernel. */
struct bind_flags {
        __u8 reuse_addr; /* 0 or 1 */
        __u8 reuse_port;
        __u8 v6only;
};

struct sock_common___slim {
        unsigned char skc_reuse : 4;
        unsigned char skc_reuseport : 1;
        unsigned char skc_ipv6only : 1;
} __attribute__((preserve_access_index));

/* enum slim_claims of a socket; the kernel's rule is inet_rcv_saddr_equal(). */
static __always_inline __u8 claims_of(const union slim_addr *addr, __u8 v6only)
{
        if (addr_is_any6(addr))
                return SLIM_CLAIMS_ANY | SLIM_CLAIMS_V6 | (v6only ? 0 : SLIM_CLAIMS_V4);
        if (addr_is_any4(addr))
                return SLIM_CLAIMS_ANY | SLIM_CLAIMS_V4;
        return addr_is_v4(addr) ? SLIM_CLAIMS_V4 : SLIM_CLAIMS_V6;
}

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
        __u16 port;  /* 0: any that nothing overlaps, which is then here */
        int binding; /* index into slim_port.binding, or PORT_TAKEN */

        /* For port_bind() itself. */
        bool automatic;
        __u8 claims;
        __u8 share_addr, share_port;
};

/* Adds a socket to a port; its index in binding[], or PORT_TAKEN, or PORT_DEAD. */
static __always_inline int port_add(struct slim_port *p, const struct bind_request *q)
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
#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_BINDINGS; i++) {
                struct slim_binding *b = &p->binding[i];

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
                if (!(b->claims & q->claims & (SLIM_CLAIMS_V4 | SLIM_CLAIMS_V6)))
                        continue;
                /* They overlap. Both must have said that they share. */
                if (b->reuse_port == b->owners && q->share_port)
                        continue;
                if (b->reuse_addr == b->owners && q->share_addr && !b->listeners)
                        continue;
                p->walk_conflict = 1;
        }
        if (!p->walk_conflict) {
                at = p->walk_same < SLIM_BINDINGS ? p->walk_same : p->walk_free;
                if (at >= 0 && at < SLIM_BINDINGS) {
                        struct slim_binding *b = &p->binding[at];

                        if (!b->owners) {
                                b->addr = *addr;
                                b->listeners = 0;
                                b->reuse_addr = 0;
                                b->reuse_port = 0;
                                b->claims = 0;
                        }
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

#define AUTO_PORT_FIRST 32768 /* the default net.ipv4.ip_local_port_range */
#define AUTO_PORT_COUNT 28232
#define BIND_TRIES      64 /* automatic ports, or meetings with a binding that is just ending */

/* bpf_loop()'s step: 1 ends the loop. */
static long bind_try(__u32 round, struct bind_request *q)
{
        struct slim_port_key key = {.endpoint = q->endpoint};
        struct slim_port *p;
        int at;

        if (q->automatic)
                q->port = AUTO_PORT_FIRST + bpf_get_prandom_u32() % AUTO_PORT_COUNT;
        key.port = q->port;
        p = bpf_map_lookup_elem(&ports, &key);
        if (!p) {
                bpf_map_update_elem(&ports, &key, no_port, BPF_NOEXIST);
                p = bpf_map_lookup_elem(&ports, &key);
                if (!p)
                        return 0; /* gone again, or the map is full */
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

/* Binds in the table; afterwards q->binding and q->port say where. */
static __always_inline void port_bind(struct bind_request *q)
{
        q->automatic = !q->port;
        q->claims = claims_of(&q->addr, q->flags.v6only);
        /* An automatic port is shared with nobody who is there already. */
        q->share_addr = q->automatic ? 0 : q->flags.reuse_addr;
        q->share_port = q->automatic ? 0 : q->flags.reuse_port;
        q->binding = PORT_TAKEN;
        bpf_loop(BIND_TRIES, bind_try, q, 0);
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
        s->bind_flags = (q->flags.reuse_addr ? SLIM_BIND_REUSE_ADDR : 0) |
                        (q->flags.reuse_port ? SLIM_BIND_REUSE_PORT : 0);
}

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
 * A slot for a new listener of a binding, or PORT_TAKEN when it has one that does not share
 * (a second listen() without SO_REUSEPORT) or SLIM_LISTENERS already.
 */
static __always_inline int port_listen(struct slim_port *p, __u8 binding)
{
        __u64 all = 0, bit;
        int slot = PORT_TAKEN;

        if (binding >= SLIM_BINDINGS)
                return PORT_TAKEN;
        bpf_spin_lock(&p->lock);
        all = p->binding[binding].listeners;
        if (!all || (p->binding[binding].reuse_port == p->binding[binding].owners && ~all)) {
                bit = ~all & (all + 1); /* the lowest free bit */
                p->binding[binding].listeners = all | bit;
                slot = bit_number(bit);
        }
        bpf_spin_unlock(&p->lock);
        return slot;
}

/* Ends a socket's listening; it stays bound. */
static __always_inline void port_unlisten(struct slim_socket *s)
{
        struct slim_port_key key = {.endpoint = s->endpoint, .port = s->bound_port};
        struct slim_port *p = bpf_map_lookup_elem(&ports, &key);
        __u32 hidden = s->listen_port, binding = s->binding, slot = s->slot, *n;

        n = hidden ? bpf_map_lookup_elem(&hidden_ports, &hidden) : 0;
        if (n)
                __sync_fetch_and_add(n, -1);
        s->listen_port = 0;
        barrier_var(binding); /* the value that is compared is the one that is used */
        if (p && slot < SLIM_LISTENERS && binding < SLIM_BINDINGS) {
                bpf_spin_lock(&p->lock);
                p->binding[binding].listeners &= ~(1ULL << slot);
                bpf_spin_unlock(&p->lock);
        }
        s->slot = SLIM_NO_SLOT;
}

/* Ends a socket's binding and its listening. Counts of options are those of the time of bind(). */
static __always_inline void port_release(struct slim_socket *s)
{
        struct slim_port_key key = {.endpoint = s->endpoint, .port = s->bound_port};
        struct slim_port *p = bpf_map_lookup_elem(&ports, &key);
        __u8 flags = s->bind_flags;
        __u32 left = 0, hidden = s->listen_port;
        __u32 *n;

        s->owner = 0;
        if (hidden) {
                n = bpf_map_lookup_elem(&hidden_ports, &hidden);
                if (n)
                        __sync_fetch_and_add(n, -1);
                s->listen_port = 0;
        }
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
                }
                left += b->owners;
        }
        if (!left)
                p->dead = 1;
        bpf_spin_unlock(&p->lock);
        s->slot = SLIM_NO_SLOT;
        if (!left)
                bpf_map_delete_elem(&ports, &key);
}
