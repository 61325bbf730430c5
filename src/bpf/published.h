/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * Published ports of Slim containers (TCP), by the packets that come to them.
 */
#include "addr.h"
#include "policy.h"

#include <linux/in.h>

/*
 * Whose published port it is, or NULL. A wildcard is every address of the host's own; an overlay
 * address is some endpoint's, also where the host's stack has packets for it.
 */
static __always_inline struct slim_published *published_at(const struct slim_tuple *tuple)
{
        struct slim_published_key key = {.addr = tuple->server_addr, .port = tuple->server_port};
        struct slim_prefix_key prefix = {.prefixlen = 128, .addr = tuple->server_addr};
        struct slim_published *p = bpf_map_lookup_elem(&published, &key);

        if (p)
                return p;
        key.addr = addr_is_v4(&key.addr) ? addr_v4(0) : addr_v6(0, 0, 0, 0);
        p = bpf_map_lookup_elem(&published, &key);
        return p && !bpf_map_lookup_elem(&prefixes, &prefix) ? p : 0;
}

/* What the container's policies say of a client of its published port, who is no endpoint: enum
 * slim_policy_verdict. */
static __always_inline int published_verdict(const struct slim_tuple *tuple,
                                             const struct slim_published *p)
{
        __u32 endpoint = p->endpoint;
        struct slim_endpoint *server = bpf_map_lookup_elem(&identities, &endpoint);
        struct slim_policy_check check = {
            .subject = server ? server->identity : 0,
            .addr = tuple->client_addr,
            .port = p->port,
            .direction = SLIM_POLICY_INGRESS,
            .protocol = IPPROTO_TCP,
        };

        return policy_verdict(&check);
}
