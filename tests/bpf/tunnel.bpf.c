/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Stands in for the VXLAN device: gives a packet the tunnel metadata that the device would, and
 * goes on with the program under test. BPF_PROG_TEST_RUN has no other way to do so.
 *
 * A received packet's remote address is the source in its metadata, which is what
 * bpf_skb_set_tunnel_key() calls local_ipv4 and local_ipv6.
 */
#include <linux/bpf.h>
#include <linux/pkt_cls.h>

#include <bpf/bpf_helpers.h>

struct {
        __uint(type, BPF_MAP_TYPE_PROG_ARRAY);
        __uint(max_entries, 1);
        __type(key, __u32);
        __type(value, __u32);
} next SEC(".maps");

__u32 vni, remote; /* in host byte order; the test writes them */
__u32 remote6[4];  /* in network byte order; not zero: instead of the other */

SEC("tc")
int received(struct __sk_buff *skb)
{
        struct bpf_tunnel_key key = {.tunnel_id = vni, .tunnel_ttl = 64};
        __u64 flags = 0;

        if (remote6[0]) {
                for (int i = 0; i < 4; i++)
                        key.local_ipv6[i] = remote6[i];
                flags = BPF_F_TUNINFO_IPV6;
        } else {
                key.local_ipv4 = remote;
        }
        if (bpf_skb_set_tunnel_key(skb, &key, sizeof(key), flags) < 0)
                return TC_ACT_STOLEN;
        bpf_tail_call(skb, &next, 0);
        return TC_ACT_STOLEN;
}

char LICENSE[] SEC("license") = "Dual BSD/GPL";
