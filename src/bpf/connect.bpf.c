/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/connect4 and connect6: where does a connect() go?
 *
 * Runs in inet_stream_connect() before the kernel picks a route and a source. For a container's
 * socket, which is one that has a slim_socket:
 *
 *   127.0.0.0/8, ::1, 0.0.0.0, ::   this container: the address stays (so both ends see real
 *                                   loopback addresses), the port becomes a Slim port, and the
 *                                   SYN option says which endpoint is meant
 *   fe80::/10, ff00::/8             ENETUNREACH: a scope would be the host's, not the container's
 *   of a family that the container  ENETUNREACH
 *   has no address of
 *   a Slim endpoint                 its host, at a Slim port; or, where the hosts share no address
 *                                   family that carries it, as the next
 *   a plain endpoint, another host  the address stays, and the source becomes the container's own
 *                                   overlay address: routing sends it to the VXLAN device
 *   another overlay address         EHOSTUNREACH
 *   anything else                   untouched: the host's own stack reaches it
 *
 * But for itself a container reaches nobody whom its policies keep it from: EPERM, or a SYN that is
 * answered by nobody, as the policies say.
 *
 * For a TCP socket of the host's own processes: a Slim endpoint's address as above, with the
 * host's endpoint for the client; every other is the kernel's to route.
 *
 * Not covered: connect() with AF_UNSPEC does not come here, and needs nothing from here.
 */
#include "event.h"
#include "policy.h"
#include "prepare.h"

#include <asm-generic/errno.h>
#include <linux/in.h>
#include <linux/in6.h>

#define AF_INET     2
#define AF_INET6    10
#define SOCK_STREAM 1

struct destination {
        union slim_addr addr;
        __u16 port;
};

enum verdict {
        REFUSED = 0, /* with the errno set; what the program returns */
        UNTOUCHED = 1,
        REWRITTEN = 2,
};

/* --- refusals --------------------------------------------------------------------------------- */

/*
 * Tells who watches of a connect() that goes nowhere; d: where to. A function of its own for the
 * verifier, which looks at it once: there are many ways to be refused.
 */
__weak __noinline int slim_tell_connect(struct bpf_sock_addr *ctx, const struct destination *d,
                                        __u32 reason)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);
        struct slim_prefix_key prefix = {.prefixlen = 128};
        struct slim_event e = {
            .reason = reason,
            .hook = SLIM_HOOK_CONNECT,
            .protocol = IPPROTO_TCP,
            .error = -bpf_get_retval(),
        };
        struct slim_endpoint_key key = {};
        struct slim_device *self = 0;
        struct slim_endpoint *peer;
        __u32 *network;

        if (!d)
                return 0;
        e.to = d->addr;
        e.to_port = d->port;
        if (s) {
                e.endpoint = s->endpoint;
                e.network = s->network;
                e.from = addr_is_any(&s->bound_addr) ? *addr_of(s->addr, addr_family(&e.to))
                                                     : s->bound_addr;
                e.from_port = s->bound_port;
        } else { /* a process of the host's */
                prefix.addr = e.to;
                network = bpf_map_lookup_elem(&prefixes, &prefix);
                if (network) {
                        e.network = *network;
                        self = bpf_map_lookup_elem(&host_endpoints, &e.network);
                }
                if (self) {
                        e.endpoint = self->endpoint;
                        e.from = *addr_of(self->addr, addr_family(&e.to));
                }
        }
        key.network = e.network;
        key.addr = e.to;
        peer = bpf_map_lookup_elem(&endpoints, &key);
        if (peer)
                e.peer = peer->id;
        event_send(&e);
        return 0;
}

static __always_inline enum verdict refused(struct bpf_sock_addr *ctx, const struct destination *d,
                                            int error, enum slim_reason reason)
{
        refuse(error, reason);
        if (event_wanted(reason))
                slim_tell_connect(ctx, d, reason);
        return REFUSED;
}

/* --- the source ------------------------------------------------------------------------------- */

/*
 * The source that the kernel has for the socket. Where the program did not bind a loopback address,
 * it is what an attempt before this one has left (AF_UNSPEC keeps what was once set_source()'s).
 */
static __always_inline union slim_addr source_of(struct bpf_sock *sk, bool v4)
{
        if (!sk)
                return addr_v6(0, 0, 0, 0);
        if (v4)
                return addr_v4(sk->src_ip4);
        return addr_v6(sk->src_ip6[0], sk->src_ip6[1], sk->src_ip6[2], sk->src_ip6[3]);
}

/* Gives the socket a source address, and a port unless that is 0. */
static __always_inline long set_source(struct bpf_sock_addr *ctx, bool v4,
                                       const union slim_addr *addr, __u16 port)
{
        struct sockaddr_in sin = {
            .sin_family = AF_INET,
            .sin_port = bpf_htons(port),
            .sin_addr.s_addr = addr->w[3],
        };
        struct sockaddr_in6 sin6 = {
            .sin6_family = AF_INET6,
            .sin6_port = bpf_htons(port),
        };

        if (v4)
                return bpf_bind(ctx, (struct sockaddr *)&sin, sizeof(sin));
        __builtin_memcpy(&sin6.sin6_addr, addr, sizeof(*addr));
        return bpf_bind(ctx, (struct sockaddr *)&sin6, sizeof(sin6));
}

/* --- the ways --------------------------------------------------------------------------------- */

/*
 * The underlay address to connect to for a direct connection between two hosts, or NULL. An IPv4
 * connection has to be IPv4 on the wire as well, as the listener may be an AF_INET socket, which
 * takes no IPv6 packet. Behind an IPv6 address there is always an AF_INET6 one, which takes both.
 */
static __always_inline const union slim_addr *wire(const union slim_addr own[SLIM_FAMILIES],
                                                   const union slim_addr peer[SLIM_FAMILIES],
                                                   enum slim_family family)
{
        if (family == SLIM_V6 && !addr_is_none(addr_of(own, SLIM_V6)) &&
            !addr_is_none(addr_of(peer, SLIM_V6)))
                return addr_of(peer, SLIM_V6);
        if (!addr_is_none(addr_of(own, SLIM_V4)) && !addr_is_none(addr_of(peer, SLIM_V4)))
                return addr_of(peer, SLIM_V4);
        return 0;
}

/*
 * The same between two endpoints of this very host, which may have no underlay address of that
 * family: then the one that it has itself in their network.
 */
static __always_inline const union slim_addr *wire_here(const struct slim_endpoint *peer,
                                                        enum slim_family family)
{
        const union slim_addr *host = wire(peer->host, peer->host, family), *own;
        __u32 network = peer->network;
        struct slim_device *self;

        if (host)
                return host;
        self = bpf_map_lookup_elem(&host_endpoints, &network);
        own = self ? addr_of(self->addr, family) : 0;
        return own && !addr_is_none(own) ? own : 0;
}

/* Do two hosts reach each other at all, be it by VXLAN? */
static __always_inline bool reachable(const union slim_addr own[SLIM_FAMILIES],
                                      const union slim_addr peer[SLIM_FAMILIES])
{
        return (!addr_is_none(addr_of(own, SLIM_V4)) && !addr_is_none(addr_of(peer, SLIM_V4))) ||
               (!addr_is_none(addr_of(own, SLIM_V6)) && !addr_is_none(addr_of(peer, SLIM_V6)));
}

/* Over the wire between the hosts, from whichever address is this host's. */
static __always_inline enum verdict directly(struct bpf_sock_addr *ctx, bool v4,
                                             struct slim_socket *s, struct destination *d,
                                             const union slim_addr *host, __u32 endpoint)
{
        const union slim_addr any = v4 ? addr_v4(0) : addr_v6(0, 0, 0, 0);
        union slim_addr source = source_of(ctx->sk, v4);

        if (!s->is_host && !addr_is_any(&source) && !addr_is_loopback(&s->bound_addr) &&
            set_source(ctx, v4, &any, 0) < 0)
                return refused(ctx, d, EADDRNOTAVAIL, SLIM_REASON_CONNECT_NO_SOURCE);
        s->peer_endpoint = endpoint;
        s->peer_port = d->port;
        d->port = slim_port_of(s->endpoint, endpoint, d->port);
        d->addr = *host;
        return REWRITTEN;
}

/*
 * By VXLAN, with the container's overlay address for the source. The port is the one that the
 * program bound, if the host has it free for that address; getsockname() tells which.
 */
static __always_inline enum verdict by_vxlan(struct bpf_sock_addr *ctx, bool v4,
                                             struct slim_socket *s, const struct destination *d,
                                             __u32 endpoint)
{
        const union slim_addr *own = addr_of(s->addr, addr_family(&d->addr));
        union slim_addr source = source_of(ctx->sk, v4);

        s->peer_kind = SLIM_PEER_PLAIN;
        s->peer_endpoint = endpoint;
        s->peer_addr = d->addr;
        s->peer_port = d->port;
        if (s->owner && addr_is_loopback(&s->bound_addr))
                return refused(ctx, d, EINVAL,
                               SLIM_REASON_CONNECT_NO_SOURCE); /* as the kernel does */
        if (addr_equal(&source, own))
                return UNTOUCHED;
        if (s->owner && set_source(ctx, v4, own, s->bound_port) == 0)
                return UNTOUCHED;
        if (set_source(ctx, v4, own, 0) == 0)
                return UNTOUCHED;
        return refused(ctx, d, EADDRNOTAVAIL, SLIM_REASON_CONNECT_NO_SOURCE);
}

/* --- policy ----------------------------------------------------------------------------------- */

/* peer: NULL where it is no endpoint. */
static __always_inline int egress(const struct slim_endpoint *self,
                                  const struct slim_endpoint *peer, const struct destination *d)
{
        struct slim_policy_check check = {
            .subject = self ? self->identity : 0,
            .peer = peer ? peer->identity : 0,
            .addr = d->addr,
            .port = d->port,
            .direction = SLIM_POLICY_EGRESS,
            .protocol = IPPROTO_TCP,
        };

        return policy_verdict(&check);
}

/*
 * Where a policy drops what it denies, connect() is to take its time in vain, as in a network that
 * loses the SYN: it goes to a Slim port of this host's loopback device, without the option, and
 * slim_ingress drops it there.
 */
static __always_inline enum verdict denied(struct bpf_sock_addr *ctx, bool v4,
                                           struct slim_socket *s, struct destination *d, int how)
{
        union slim_addr nowhere = addr_v4(bpf_htonl(0x7f000001));

        if (how == SLIM_POLICY_REJECT)
                return refused(ctx, d, EPERM, SLIM_REASON_POLICY_EGRESS);
        count(SLIM_REASON_POLICY_EGRESS);
        if (event_wanted(SLIM_REASON_POLICY_EGRESS))
                slim_tell_connect(ctx, d, SLIM_REASON_POLICY_EGRESS);
        if (!v4 && s->is_host && addr_family(&d->addr) == SLIM_V6)
                nowhere = addr_v6(0, 0, 0, bpf_htonl(1)); /* it may be of IPv6 alone */
        s->peer_kind = SLIM_PEER_OVERLAY;
        s->peer_addr = d->addr;
        s->denied = 1;
        return directly(ctx, v4, s, d, &nowhere, 0);
}

/* --- who connects ----------------------------------------------------------------------------- */

static __always_inline enum verdict find_way(struct bpf_sock_addr *ctx, bool v4,
                                             struct slim_socket *s, struct destination *d)
{
        struct slim_endpoint_key key = {.network = s->network, .addr = d->addr};
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = d->addr};
        enum slim_family family = addr_family(&d->addr);
        struct slim_endpoint *peer, *self;
        const union slim_addr *host;
        __u32 endpoint = s->endpoint;
        int verdict;

        if (addr_is_loopback(&d->addr)) {
                s->peer_kind = SLIM_PEER_LOOPBACK;
                return directly(ctx, v4, s, d, &d->addr, s->endpoint);
        }
        if (addr_is_none(addr_of(s->addr, family)))
                return refused(ctx, d, ENETUNREACH, SLIM_REASON_CONNECT_NO_ADDRESS);
        peer = bpf_map_lookup_elem(&endpoints, &key);
        if (!peer && bpf_map_lookup_elem(&prefixes, &prefix))
                return refused(ctx, d, EHOSTUNREACH, SLIM_REASON_CONNECT_NO_ENDPOINT);
        self = bpf_map_lookup_elem(&identities, &endpoint);
        verdict = egress(self, peer, d);
        if (verdict != SLIM_POLICY_ALLOWED)
                return denied(ctx, v4, s, d, verdict);
        if (!peer) {
                s->peer_kind = SLIM_PEER_OUTSIDE;
                return UNTOUCHED;
        }
        if ((peer->flags & SLIM_ENDPOINT_HOST) && (peer->flags & SLIM_ENDPOINT_LOCAL)) {
                s->peer_kind = SLIM_PEER_OUTSIDE; /* an address of this very host */
                return UNTOUCHED;
        }
        if (!self || !reachable(self->host, peer->host))
                return refused(ctx, d, EHOSTUNREACH, SLIM_REASON_CONNECT_NO_WAY);
        if (!(peer->flags & SLIM_ENDPOINT_SLIM))
                return by_vxlan(ctx, v4, s, d, peer->id);
        host = peer->flags & SLIM_ENDPOINT_LOCAL ? wire_here(peer, family)
                                                 : wire(self->host, peer->host, family);
        if (!host && (peer->flags & SLIM_ENDPOINT_LOCAL))
                return refused(ctx, d, EHOSTUNREACH, SLIM_REASON_CONNECT_NO_WAY);
        if (!host)
                return by_vxlan(ctx, v4, s, d, peer->id);
        s->peer_kind = SLIM_PEER_OVERLAY;
        s->peer_addr = d->addr;
        return directly(ctx, v4, s, d, host, peer->id);
}

static __always_inline enum verdict container_connects(struct bpf_sock_addr *ctx, bool v4,
                                                       struct slim_socket *s, struct destination *d)
{
        struct sock___slim *sk = (void *)bpf_skc_to_tcp_sock(ctx->sk);
        const struct destination wanted = *d;
        enum verdict v;
        int r;

        /* The scope would be a device of the host, and the kernel would bind the socket to it. */
        s->denied = 0;
        if (addr_is_scoped(&d->addr))
                return refused(ctx, d, ENETUNREACH, SLIM_REASON_CONNECT_SCOPED);
        r = prepare_connect(ctx, s, sk, &d->addr, !v4);
        if (r)
                return refused(ctx, d, r, SLIM_REASON_CONNECT_OPTION);
        v = find_way(ctx, v4, s, d);
        if (v != REFUSED && s->peer_kind != SLIM_PEER_OUTSIDE && is_fast_open(sk))
                return refused(ctx, &wanted, EOPNOTSUPP, SLIM_REASON_CONNECT_OPTION);
        return v;
}

/* UNTOUCHED is the kernel's to route. */
static __always_inline enum verdict host_connects(struct bpf_sock_addr *ctx, bool v4,
                                                  struct destination *d)
{
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = d->addr};
        struct slim_endpoint_key key = {.addr = d->addr};
        struct slim_socket new = {.slot = SLIM_NO_SLOT, .is_host = 1}, *s;
        enum slim_family family = addr_family(&d->addr);
        struct slim_endpoint *peer, *own;
        const union slim_addr *host;
        struct slim_device *self;
        __u32 *network, id;
        int verdict;

        if (ctx->type != SOCK_STREAM || ctx->protocol != IPPROTO_TCP)
                return UNTOUCHED;
        network = bpf_map_lookup_elem(&prefixes, &prefix);
        if (!network || bpf_get_netns_cookie(ctx) != config.netns_cookie)
                return UNTOUCHED;
        key.network = *network;
        peer = bpf_map_lookup_elem(&endpoints, &key);
        if (!peer)
                return refused(ctx, d, EHOSTUNREACH, SLIM_REASON_CONNECT_NO_ENDPOINT);
        self = bpf_map_lookup_elem(&host_endpoints, &key.network);
        if (!self || addr_is_none(addr_of(self->addr, family)))
                return UNTOUCHED;
        id = self->endpoint;
        own = bpf_map_lookup_elem(&identities, &id);
        verdict = egress(own, peer, d);
        if (verdict == SLIM_POLICY_REJECT)
                return refused(ctx, d, EPERM, SLIM_REASON_POLICY_EGRESS);
        if (verdict == SLIM_POLICY_ALLOWED && !(peer->flags & SLIM_ENDPOINT_SLIM))
                return UNTOUCHED;
        host = peer->flags & SLIM_ENDPOINT_LOCAL ? wire_here(peer, family)
               : own                             ? wire(own->host, peer->host, family)
                                                 : 0;
        if (verdict == SLIM_POLICY_ALLOWED && !host)
                return UNTOUCHED; /* by VXLAN, if at all */
        new.endpoint = self->endpoint;
        new.network = self->network;
        __builtin_memcpy(new.addr, self->addr, sizeof(new.addr));
        s = bpf_sk_storage_get(&sockets, ctx->sk, &new, BPF_SK_STORAGE_GET_F_CREATE);
        if (!s)
                return refused(ctx, d, ENOBUFS, SLIM_REASON_CONNECT_NO_SOURCE);
        s->denied = 0;
        if (verdict != SLIM_POLICY_ALLOWED)
                return denied(ctx, v4, s, d, verdict);
        if (!host)
                return UNTOUCHED; /* cannot be: see above */
        s->peer_kind = SLIM_PEER_OVERLAY;
        s->peer_addr = d->addr;
        return directly(ctx, v4, s, d, host, peer->id);
}

static __always_inline enum verdict connects(struct bpf_sock_addr *ctx, bool v4,
                                             struct destination *d)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx->sk, 0, 0);

        if (ctx->user_family != (v4 ? AF_INET : AF_INET6))
                return UNTOUCHED; /* the kernel says EAFNOSUPPORT */
        if (s && !s->is_host)
                return container_connects(ctx, v4, s, d);
        if (s)
                s->peer_kind = SLIM_PEER_NONE; /* of a connection before this one */
        return host_connects(ctx, v4, d);
}

/*
 * What 0.0.0.0 means to a socket: its own address, if it has one, as ip_route_output_key() has it.
 * host: the address that the kernel has for it.
 */
static __always_inline __be32 own4(struct bpf_sock *sk, __be32 host)
{
        const __be32 loopback = bpf_htonl(0x7f000001);
        struct slim_socket *s = sk ? bpf_sk_storage_get(&sockets, sk, 0, 0) : 0;
        union slim_addr addr = addr_v4(host);

        if (s && addr_is_v4(&s->bound_addr) && s->bound_addr.w[3])
                return s->bound_addr.w[3];
        if (!host)
                return loopback;
        return s && !addr_is_loopback(&addr) ? s->addr[SLIM_V4].w[3] : host;
}

SEC("cgroup/connect4")
int slim_connect4(struct bpf_sock_addr *ctx)
{
        __be32 v4 = ctx->user_ip4 ?: own4(ctx->sk, ctx->sk ? ctx->sk->src_ip4 : 0);
        struct destination d = {.addr = addr_v4(v4), .port = bpf_ntohs(ctx->user_port)};

        enum verdict v = connects(ctx, true, &d);

        if (v != REWRITTEN)
                return v;
        if (!addr_is_v4(&d.addr)) /* cannot be: an IPv4 connection is IPv4 on the wire */
                return refused(ctx, &d, EHOSTUNREACH, SLIM_REASON_CONNECT_NO_WAY);
        ctx->user_ip4 = d.addr.w[3];
        ctx->user_port = bpf_htons(d.port);
        return 1;
}

/* Is its own address v4-mapped? */
static __always_inline bool is_mapped(struct bpf_sock *sk)
{
        return sk && !sk->src_ip6[0] && !sk->src_ip6[1] && sk->src_ip6[2] == V4_MAPPED;
}

SEC("cgroup/connect6")
int slim_connect6(struct bpf_sock_addr *ctx)
{
        struct destination d = {
            .addr = addr_v6(ctx->user_ip6[0], ctx->user_ip6[1], ctx->user_ip6[2], ctx->user_ip6[3]),
            .port = bpf_ntohs(ctx->user_port),
        };
        enum verdict v;

        if (addr_is_any6(&d.addr) && is_mapped(ctx->sk))
                d.addr = addr_v4(bpf_htonl(0x7f000001)); /* as tcp_v6_connect() reads it */
        else if (addr_is_any6(&d.addr))
                d.addr.w[3] = bpf_htonl(1);
        else if (addr_is_any4(&d.addr))
                d.addr.w[3] = own4(ctx->sk, is_mapped(ctx->sk) ? ctx->sk->src_ip6[3] : 0);
        v = connects(ctx, false, &d);
        if (v != REWRITTEN)
                return v;
        ctx->user_ip6[0] = d.addr.w[0];
        ctx->user_ip6[1] = d.addr.w[1];
        ctx->user_ip6[2] = d.addr.w[2];
        ctx->user_ip6[3] = d.addr.w[3];
        ctx->user_port = bpf_htons(d.port);
        return 1;
}
