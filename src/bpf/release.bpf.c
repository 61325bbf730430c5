/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/sock_release: what did a closed socket hold?
 *
 * Runs in inet_release(), when the last descriptor of a socket goes, also at the end of a killed
 * process. Gives the binding back, and counts what the broker made. The kernel itself frees the
 * slim_socket and takes a listener out of the listeners map.
 */
#include "ports.h"

static __always_inline void usage_closed(__u32 endpoint)
{
        struct slim_usage *u = bpf_map_lookup_elem(&usage, &endpoint);

        if (u)
                __sync_fetch_and_add(&u->closed, 1);
}

SEC("cgroup/sock_release")
int slim_release(struct bpf_sock *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx, 0, 0);

        if (!s)
                return 1;
        if (s->owner && s->owner == bpf_get_socket_cookie(ctx))
                port_release(s);
        if (s->counted)
                usage_closed(s->endpoint);
        return 1;
}
