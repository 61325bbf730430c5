/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * cgroup/sock_release: what did a closed socket hold?
 *
 * Runs in inet_release(), when the last descriptor of a socket goes, also at the end of a killed
 * process. Gives the binding back. The kernel itself frees the slim_socket and takes a listener
 * out of the listeners map.
 */
#include "ports.h"

SEC("cgroup/sock_release")
int slim_release(struct bpf_sock *ctx)
{
        struct slim_socket *s = bpf_sk_storage_get(&sockets, ctx, 0, 0);

        if (s && s->owner && s->owner == bpf_get_socket_cookie(ctx))
                port_release(s);
        return 1;
}
