/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * The container's own sysctls that a TCP socket takes from its namespace while it works: keep-alive
 * times and the congestion control. The kernel would take the host's. So where the two differ the
 * socket is given the container's as its own, once, before it connects or is bound; a value that
 * the program sets afterwards, or has set already, stands.
 */
#include "caller.h"

#include <linux/in.h>
#include <linux/tcp.h>

struct sock___net {
        struct {
                struct {
                        struct net___slim *net;
                } skc_net;
        } __sk_common;
} __attribute__((preserve_access_index));

/* For bpf_setsockopt(): a socket (cgroup/setsockopt) or a context. */
static __always_inline void set_int(void *where, int name, int value)
{
        bpf_setsockopt(where, IPPROTO_TCP, name, &value, sizeof(value));
}

static __always_inline void set_congestion(void *where, const struct net___slim *net)
{
        char name[16] = {};

        bpf_core_read(name, sizeof(name), &net->ipv4.tcp_congestion_control->name);
        bpf_setsockopt(where, IPPROTO_TCP, TCP_CONGESTION, name, sizeof(name));
}

/*
 * The keep-alive sysctl behind a TCP option, as getsockopt() shows it.
 */
static __always_inline int net_keepalive(const struct net___slim *net, int name)
{
        __u32 hz = config.hz;

        if (name == TCP_KEEPCNT)
                return net->ipv4.sysctl_tcp_keepalive_probes;
        if (!hz)
                return 0;
        return (__u32)(name == TCP_KEEPIDLE ? net->ipv4.sysctl_tcp_keepalive_time
                                            : net->ipv4.sysctl_tcp_keepalive_intvl) /
               hz;
}

/* One of them is about to be set by the program, which may fail: it then is what it was natively.
 */
static __always_inline void apply_one(void *where, struct slim_socket *s, int name, __u32 flag)
{
        const struct net___slim *net = caller_net();

        if (s->sockopts & flag)
                return;
        s->sockopts |= flag;
        if (name == TCP_CONGESTION)
                set_congestion(where, net);
        else
                set_int(where, name, net_keepalive(net, name));
}

/* All that were not set yet. sk is the kernel's own socket, for the namespace that it is in. */
static __always_inline void apply_sysctls(void *ctx, const struct sock___net *sk,
                                          struct slim_socket *s)
{
        const struct net___slim *net = caller_net(), *host = sk->__sk_common.skc_net.net;
        __u32 done = s->sockopts;

        if (net == host || (done & SLIM_SOCKOPT_SYSCTLS) == SLIM_SOCKOPT_SYSCTLS)
                return;
        s->sockopts = done | SLIM_SOCKOPT_SYSCTLS;
        if (!(done & SLIM_SOCKOPT_KEEPIDLE) &&
            net->ipv4.sysctl_tcp_keepalive_time != host->ipv4.sysctl_tcp_keepalive_time)
                set_int(ctx, TCP_KEEPIDLE, net_keepalive(net, TCP_KEEPIDLE));
        if (!(done & SLIM_SOCKOPT_KEEPINTVL) &&
            net->ipv4.sysctl_tcp_keepalive_intvl != host->ipv4.sysctl_tcp_keepalive_intvl)
                set_int(ctx, TCP_KEEPINTVL, net_keepalive(net, TCP_KEEPINTVL));
        if (!(done & SLIM_SOCKOPT_KEEPCNT) &&
            net->ipv4.sysctl_tcp_keepalive_probes != host->ipv4.sysctl_tcp_keepalive_probes)
                set_int(ctx, TCP_KEEPCNT, net_keepalive(net, TCP_KEEPCNT));
        if (!(done & SLIM_SOCKOPT_CONGESTION) &&
            net->ipv4.tcp_congestion_control != host->ipv4.tcp_congestion_control)
                set_congestion(ctx, net);
}
