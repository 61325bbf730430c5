/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * sk_lookup: which listener gets a SYN (or the ACK of a SYN cookie)?
 *
 * Runs in the host's network namespace for packets that no established, half-open or TIME_WAIT
 * socket took, before the kernel's own listener lookup.
 *
 *   to a Slim port      the listener that the verified SYN named; none: drop, which the kernel
 *                       answers with a reset (ECONNREFUSED)
 *   to an overlay       the listener of that Slim endpoint, for what a plain container sends; none:
 *   address             drop (encap.bpf.c asks here first, and sends it to the container instead)
 *   to a published      the listener of the container that published it, as a client of its own
 *   port                address would find it; none: drop
 *   to a hidden port    drop: a container's listener is reached through a Slim port or not at all,
 *                       so that its host port looks closed
 *   to any other        not ours
 */
#include "addr.h"
#include "event.h"
#include "published.h"

#include <asm-generic/errno.h>
#include <linux/in.h>

#define AF_INET 2

/* MurmurHash3's last step, in which each bit of a connection changes half of all bits: what counts
 * is the rest of a division by a small number, and ports come one after another. */
static __always_inline __u32 mix(const struct slim_tuple *t)
{
        __u32 h = t->client_addr.w[3] ^ (((__u32)t->client_port << 16) | t->server_port);

        h ^= h >> 16;
        h *= 0x85ebca6bU;
        h ^= h >> 13;
        h *= 0xc2b2ae35U;
        return h ^ (h >> 16);
}

/* Pairs, then fours, then eights summed side by side; the multiplication adds up the bytes. */
static __always_inline __u32 bit_count(__u64 bits)
{
        bits -= bits >> 1 & 0x5555555555555555ULL;
        bits = (bits & 0x3333333333333333ULL) + (bits >> 2 & 0x3333333333333333ULL);
        bits = (bits + (bits >> 4)) & 0x0f0f0f0f0f0f0f0fULL;
        return bits * 0x0101010101010101ULL >> 56;
}

/* The nth (0 is the first) set bit, of more than n: by halves. */
static __always_inline __u32 nth_bit(__u64 bits, __u32 n)
{
        __u32 at = 0;

#pragma clang loop unroll(full)
        for (__u32 width = 32; width; width /= 2) {
                __u32 low = bit_count(bits & ((1ULL << width) - 1));
                /* All ones when it is in the upper half, without a branch for the verifier. */
                __u32 up = ((n - low) >> 31) - 1;

                n -= low & up;
                at += width & up;
                bits >>= width & up;
        }
        return at;
}

struct bindings {
        struct slim_binding binding[SLIM_BINDINGS];
};

/*
 * Which binding of a port does an address belong to? The exact one, then 0.0.0.0, then :: (which
 * takes IPv4 unless it is IPV6_V6ONLY), each only if it has a listener, as compute_score() of the
 * kernel prefers them; and of two, the one for the device. by_lo: natively it would have come by
 * the container's loopback device.
 *
 * A function of its own for the verifier, which looks at it once.
 */
__weak __noinline int best_binding(const struct bindings *p, const union slim_addr *addr,
                                   bool by_lo)
{
        __u8 device = by_lo ? SLIM_CLAIMS_LOOPBACK : SLIM_CLAIMS_NOT_LOOPBACK;
        __u8 other = by_lo ? SLIM_CLAIMS_NOT_LOOPBACK : SLIM_CLAIMS_LOOPBACK;
        int best = -1, best_score = 0;
        bool v4;

        if (!p || !addr)
                return -1;
        v4 = addr_is_v4(addr);

#pragma clang loop unroll(full)
        for (int i = 0; i < SLIM_BINDINGS; i++) {
                const struct slim_binding *b = &p->binding[i];
                int score = 0;

                if (!b->owners || !b->listeners || (b->claims & other))
                        continue;
                if (addr_equal(&b->addr, addr))
                        score = 6;
                else if (v4 && addr_is_any4(&b->addr))
                        score = 4;
                else if (addr_is_any6(&b->addr) && (!v4 || (b->claims & SLIM_CLAIMS_V4)))
                        score = 2;
                if (score && (b->claims & device))
                        score++;
                if (score > best_score) {
                        best_score = score;
                        best = i;
                }
        }
        return best;
}

/* A walk over the members of one binding, from the one whose share a connection is. */
struct walk {
        struct bpf_sk_lookup *ctx;
        const struct slim_binding *binding;
        struct slim_listener_key key;
        __u32 hash;
        long err; /* of the assignment; not 0: none was made */
};

/*
 * bpf_loop()'s step: 1 ends the loop. A member that is just beginning has its bit before its place
 * in the listeners map, and one that is just ending may have lost the latter since the bits were
 * read: the connection is the next one's, as in the kernel, where a group has whole members only.
 */
static long try_member(__u32 round, struct walk *w)
{
        __u64 bits = w->binding->listeners;
        __u32 n = bit_count(bits);
        struct bpf_sock *sk;

        if (round >= n)
                return 1;
        w->key.slot = nth_bit(bits, (w->hash + round) % n);
        sk = bpf_map_lookup_elem(&listeners, &w->key);
        if (!sk)
                return 0;
        w->err = bpf_sk_assign(w->ctx, sk, BPF_SK_LOOKUP_F_NO_REUSEPORT);
        bpf_sk_release(sk);
        return 1;
}

/* Assigns the listener of (endpoint, address, port); false: nobody listens. */
static __always_inline bool assign(struct bpf_sk_lookup *ctx, const struct slim_tuple *tuple,
                                   __u32 endpoint, const union slim_addr *addr, __u16 port,
                                   bool by_lo)
{
        struct slim_port_key key = {.endpoint = endpoint, .port = port};
        struct slim_port *p = bpf_map_lookup_elem(&ports, &key);
        struct walk w = {
            .ctx = ctx,
            .key = {.endpoint = endpoint, .port = port},
            .hash = mix(tuple),
            .err = -1,
        };
        int at;

        if (!p)
                return false;
        at = best_binding((const struct bindings *)p->binding, addr, by_lo);
        if (at < 0)
                return false;
        at &= SLIM_BINDINGS - 1;
        w.binding = &p->binding[at];
        w.key.binding = at;
        bpf_loop(SLIM_LISTENERS, try_member, &w, 0);
        return w.err == 0;
}

/* What the verified SYN named. */
static __always_inline bool steer(struct bpf_sk_lookup *ctx, const struct slim_tuple *tuple,
                                  const struct slim_syn *syn)
{
        __u32 endpoint = syn->server_endpoint;
        struct slim_endpoint *server = bpf_map_lookup_elem(&identities, &endpoint);
        union slim_addr addr;

        if (!server)
                return false;
        /* The address that the client meant: a real loopback one, or the overlay's. */
        addr = syn->peer_kind == SLIM_PEER_LOOPBACK
                   ? tuple->server_addr
                   : *addr_of(server->addr, addr_family(&syn->client_addr));
        return assign(ctx, tuple, endpoint, &addr, syn->server_port,
                      syn->client_endpoint == endpoint);
}

/*
 * The Slim endpoint here that a packet is for which came by VXLAN or out of a container's veth, or
 * NULL. Nothing else can have its address: routing gives the host's stack such a packet only with
 * encap.bpf.c's mark.
 */
static __always_inline struct slim_endpoint *encapsulated_for(struct bpf_sk_lookup *ctx,
                                                              const struct slim_tuple *tuple)
{
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = tuple->server_addr};
        struct slim_endpoint_key key = {.addr = tuple->server_addr};
        __u32 ifindex = ctx->ingress_ifindex, *network;
        struct slim_endpoint *to;

        if (ifindex != config.vxlan_ifindex && !bpf_map_lookup_elem(&devices, &ifindex))
                return 0;
        network = bpf_map_lookup_elem(&prefixes, &prefix);
        if (!network)
                return 0;
        key.network = *network;
        to = bpf_map_lookup_elem(&endpoints, &key);
        return to && (to->flags & SLIM_ENDPOINT_LOCAL) && (to->flags & SLIM_ENDPOINT_SLIM) ? to : 0;
}

/*
 * The container behind a published port. What the client means is the container's overlay address,
 * in the client's family; a container without one has the wildcard's listeners all the same.
 */
static __always_inline bool steer_published(struct bpf_sk_lookup *ctx,
                                            const struct slim_tuple *tuple,
                                            const struct slim_published *p)
{
        __u32 endpoint = p->endpoint;
        struct slim_endpoint *server = bpf_map_lookup_elem(&identities, &endpoint);
        bool v4 = addr_is_v4(&tuple->client_addr);
        union slim_addr addr = v4 ? addr_v4(0) : addr_v6(0, 0, 0, 0);

        if (!server)
                return false;
        if (!addr_is_any6(&server->addr[v4 ? SLIM_V4 : SLIM_V6]))
                addr = server->addr[v4 ? SLIM_V4 : SLIM_V6];
        return assign(ctx, tuple, endpoint, &addr, p->port, false);
}

/* p, syn: what was found for the packet, or NULL. */
static __noinline int tell(const struct slim_tuple *tuple, const struct slim_published *p,
                           const struct slim_syn *syn, enum slim_reason reason)
{
        struct slim_event e = {
            .from = tuple->client_addr,
            .to = tuple->server_addr,
            .from_port = tuple->client_port,
            .to_port = tuple->server_port,
            .reason = reason,
            .hook = SLIM_HOOK_LOOKUP,
            .protocol = IPPROTO_TCP,
            .error = ECONNREFUSED,
        };
        struct slim_endpoint *server;
        __u32 id = p ? p->endpoint : syn ? syn->server_endpoint : 0;

        server = bpf_map_lookup_elem(&identities, &id);
        e.endpoint = id;
        if (server)
                e.network = server->network;
        if (syn) {
                e.peer = syn->client_endpoint;
                e.from_port = syn->client_port;
                e.to_port = syn->server_port;
        }
        if (syn && syn->peer_kind == SLIM_PEER_OVERLAY) {
                e.from = syn->client_addr;
                if (server)
                        e.to = *addr_of(server->addr, addr_family(&syn->client_addr));
        }
        event_send(&e);
        return 0;
}

/* Counts it, and tells who watches. SK_DROP is what the kernel answers with a reset. */
static __always_inline void refused(const struct slim_tuple *tuple, const struct slim_published *p,
                                    const struct slim_syn *syn, enum slim_reason reason)
{
        count(reason);
        if (event_wanted(reason))
                tell(tuple, p, syn, reason);
}

SEC("sk_lookup")
int slim_steer(struct bpf_sk_lookup *ctx)
{
        struct slim_tuple tuple = {};
        struct slim_endpoint *to;
        struct slim_published *p;
        struct slim_syn *syn;
        __u32 port = ctx->local_port, *hidden;
        __be32 remote4, local4;

        if (ctx->protocol != IPPROTO_TCP)
                return SK_PASS;
        /* Each field of the context read at its own constant offset, as the verifier insists. */
        remote4 = ctx->remote_ip4;
        local4 = ctx->local_ip4;
        barrier_var(remote4);
        barrier_var(local4);
        if (ctx->family == AF_INET) {
                tuple.client_addr = addr_v4(remote4);
                tuple.server_addr = addr_v4(local4);
        } else {
                tuple.client_addr = addr_v6(ctx->remote_ip6[0], ctx->remote_ip6[1],
                                            ctx->remote_ip6[2], ctx->remote_ip6[3]);
                tuple.server_addr = addr_v6(ctx->local_ip6[0], ctx->local_ip6[1], ctx->local_ip6[2],
                                            ctx->local_ip6[3]);
        }
        tuple.client_port = bpf_ntohs(ctx->remote_port);
        tuple.server_port = port;
        to = encapsulated_for(ctx, &tuple);
        if (to)
                return assign(ctx, &tuple, to->id, &tuple.server_addr, port, false) ? SK_PASS
                                                                                    : SK_DROP;
        if (!is_slim_port(port)) {
                p = published_at(&tuple);
                if (p) {
                        if (published_verdict(&tuple, p) != SLIM_POLICY_ALLOWED) {
                                refused(&tuple, p, 0, SLIM_REASON_POLICY_INGRESS);
                                return SK_DROP;
                        }
                        if (steer_published(ctx, &tuple, p))
                                return SK_PASS;
                        refused(&tuple, p, 0, SLIM_REASON_PUBLISH_NO_LISTENER);
                        return SK_DROP;
                }
                hidden = bpf_map_lookup_elem(&hidden_ports, &port);
                if (!hidden || !*hidden)
                        return SK_PASS;
                refused(&tuple, 0, 0, SLIM_REASON_HIDDEN_PORT);
                return SK_DROP;
        }
        syn = bpf_map_lookup_elem(&syns, &tuple);
        if (!syn) {
                refused(&tuple, 0, 0, SLIM_REASON_STEER_NO_SYN);
                return SK_DROP;
        }
        if (steer(ctx, &tuple, syn))
                return SK_PASS;
        if (syn->server_endpoint) /* else a policy, and it is counted */
                refused(&tuple, 0, syn, SLIM_REASON_STEER_NO_LISTENER);
        bpf_map_delete_elem(&syns, &tuple);
        return SK_DROP;
}
