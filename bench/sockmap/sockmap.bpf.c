/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The experiment of bench/sockmap/sockmap: TCP connections of one host whose data goes from one
 * socket's send() into the other's receive queue, with TCP left out. No part of Slim.
 */
#include <linux/bpf.h>

#include <bpf/bpf_helpers.h>

#define AF_INET 2

/* A socket by its own end and its peer's, IPv4; ports in host byte order. */
struct ends {
        __u32 local_addr, remote_addr, local_port, remote_port;
};

struct {
        __uint(type, BPF_MAP_TYPE_SOCKHASH);
        __uint(max_entries, 4096);
        __type(key, struct ends);
        __type(value, __u64);
} established SEC(".maps");

static __always_inline __u32 port_of(__be32 port)
{
        return __builtin_bswap32(port);
}

SEC("sockops")
int note(struct bpf_sock_ops *ops)
{
        struct ends key = {
            .local_addr = ops->local_ip4,
            .remote_addr = ops->remote_ip4,
            .local_port = ops->local_port,
            .remote_port = port_of(ops->remote_port),
        };

        if (ops->family == AF_INET && (ops->op == BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB ||
                                       ops->op == BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB))
                bpf_sock_hash_update(ops, &established, &key, BPF_NOEXIST);
        return 1;
}

SEC("sk_msg")
int redirect(struct sk_msg_md *msg)
{
        struct ends peer = {
            .local_addr = msg->remote_ip4,
            .remote_addr = msg->local_ip4,
            .local_port = port_of(msg->remote_port),
            .remote_port = msg->local_port,
        };

        /* Where it does not know the peer, TCP has the data. */
        bpf_msg_redirect_hash(msg, &established, &peer, BPF_F_INGRESS);
        return SK_PASS;
}

char _license[] SEC("license") = "Dual BSD/GPL";
