/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
#pragma once
/*
 * What the kernel would have taken from a socket's own network namespace, had the container's
 * socket been made there: its sysctls, the capabilities that count in it, its devices. All of it is
 * read from the namespace of the caller of bind(), connect(), setsockopt() …, which is the
 * container's.
 *
 *   caller_net, caller_may      the namespace; has the caller a capability in it?
 *   net_range, net_keepalive…   sysctls, in the forms that kernels have had since 6.1
 *   device_by_name, …_by_index  its devices
 *
 * Kernel pointers that are known to the verifier by type are followed directly: no helper is
 * called, so that connect() stays cheap. A NULL on the way reads as zeros.
 */
#include "maps.h"

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <linux/capability.h>

struct list_head___slim {
        struct list_head___slim *next;
} __attribute__((preserve_access_index));

struct net_device___slim {
        char name[16];
        int ifindex;
        struct list_head___slim dev_list;
} __attribute__((preserve_access_index));

struct local_ports___slim {
        __u32 range; /* high << 16 | low */
} __attribute__((preserve_access_index));

struct local_ports___before_6_8 {
        int range[2];
} __attribute__((preserve_access_index));

struct tcp_congestion_ops___slim {
        char name[16];
} __attribute__((preserve_access_index));

struct netns_ipv4___slim {
        struct local_ports___slim ip_local_ports;
        int sysctl_tcp_keepalive_time;
        int sysctl_tcp_keepalive_intvl;
        __u8 sysctl_tcp_keepalive_probes;
        struct tcp_congestion_ops___slim *tcp_congestion_control;
        int sysctl_ip_prot_sock;
} __attribute__((preserve_access_index));

struct netns_ipv4___before_6_8 {
        struct local_ports___before_6_8 ip_local_ports;
} __attribute__((preserve_access_index));

struct netns_sysctl_ipv6___slim {
        __u8 bindv6only;
} __attribute__((preserve_access_index));

struct netns_ipv6___slim {
        struct netns_sysctl_ipv6___slim sysctl;
} __attribute__((preserve_access_index));

struct user_namespace___slim {
        struct user_namespace___slim *parent;
        int level;
        struct {
                __u32 val;
        } owner;
} __attribute__((preserve_access_index));

struct net___slim {
        struct user_namespace___slim *user_ns;
        struct list_head___slim dev_base_head;
        struct netns_ipv4___slim ipv4;
        struct netns_ipv6___slim ipv6;
        __u64 net_cookie;
} __attribute__((preserve_access_index));

struct net___before_6_8 {
        struct netns_ipv4___before_6_8 ipv4;
} __attribute__((preserve_access_index));

struct sock___slim {
        struct {
                struct {
                        struct net___slim *net;
                } skc_net;
        } __sk_common;
        struct {
                __u32 val;
        } sk_uid;
} __attribute__((preserve_access_index));

struct inet_sock___slim {
        __u32 local_port_range; /* of 6.3 and later */
} __attribute__((preserve_access_index));

struct nsproxy___slim {
        struct net___slim *net_ns;
} __attribute__((preserve_access_index));

typedef struct {
        __u64 val;
} kernel_cap_t___slim;

struct kernel_cap_struct___before_6_3 {
        __u32 cap[2];
} __attribute__((preserve_access_index));

struct cred___slim {
        struct {
                __u32 val;
        } euid;
        kernel_cap_t___slim cap_effective;
        struct user_namespace___slim *user_ns;
} __attribute__((preserve_access_index));

struct cred___before_6_3 {
        struct kernel_cap_struct___before_6_3 cap_effective;
} __attribute__((preserve_access_index));

struct task_struct___slim {
        struct nsproxy___slim *nsproxy;
        struct cred___slim *cred;
} __attribute__((preserve_access_index));

/* A socket's owner, by which SO_REUSEPORT shares. */
static __always_inline __u32 uid_of(struct bpf_sock *sk)
{
        struct sock___slim *full = (void *)bpf_skc_to_tcp_sock(sk);

        return full ? full->sk_uid.val : 0;
}

static __always_inline struct net___slim *caller_net(void)
{
        struct task_struct___slim *task = (void *)bpf_get_current_task_btf();

        return task->nsproxy->net_ns;
}

/* --- capabilities ----------------------------------------------------------------------------- */

static __always_inline __u64 effective_caps(const struct cred___slim *cred)
{
        const struct cred___before_6_3 *old = (const void *)cred;

        if (bpf_core_field_exists(old->cap_effective.cap[0]))
                return (__u64)old->cap_effective.cap[1] << 32 | old->cap_effective.cap[0];
        return cred->cap_effective.val;
}

#define USER_NAMESPACE_LEVELS 33 /* the kernel makes no more below one another */

/* ns_capable(net->user_ns, cap), as cap_capable() of the kernel has it. */
static __always_inline bool caller_may(const struct net___slim *net, int cap)
{
        struct task_struct___slim *task = (void *)bpf_get_current_task_btf();
        const struct cred___slim *cred = task->cred;
        const struct user_namespace___slim *ns = net->user_ns, *own = cred->user_ns;

        for (int i = 0; i < USER_NAMESPACE_LEVELS && ns; i++) {
                if (ns == own)
                        return effective_caps(cred) >> cap & 1;
                if (ns->level <= own->level)
                        return false;
                if (ns->parent == own && ns->owner.val == cred->euid.val)
                        return true;
                ns = ns->parent;
        }
        return false;
}

/* --- sysctls ---------------------------------------------------------------------------------- */

/* ip_local_port_range as high << 16 | low. */
static __always_inline __u32 net_range(const struct net___slim *net)
{
        const struct net___before_6_8 *old = (const void *)net;

        if (bpf_core_field_exists(old->ipv4.ip_local_ports.range[0]))
                return (__u32)old->ipv4.ip_local_ports.range[1] << 16 |
                       (__u16)old->ipv4.ip_local_ports.range[0];
        return net->ipv4.ip_local_ports.range;
}

/* A socket's own part of that range (IP_LOCAL_PORT_RANGE), as inet_sk_get_local_port_range(). */
static __always_inline __u32 narrow_range(__u32 range, __u32 own)
{
        __u16 low = range, high = range >> 16, own_low = own, own_high = own >> 16;
        __u16 from = low, to = high;

        if (own_low >= low && own_low <= high)
                from = own_low;
        if (own_high >= low && own_high <= high)
                to = own_high;
        return (__u32)to << 16 | from;
}

static __always_inline bool net_v6only(const struct net___slim *net)
{
        if (!bpf_core_field_exists(net->ipv6.sysctl.bindv6only))
                return false;
        return net->ipv6.sysctl.bindv6only;
}

/* IPV6_V6ONLY as the program sees it. In the kernel every IPv6 socket is for both families. */
static __always_inline bool socket_v6only(const struct slim_socket *s)
{
        if (s->sockopts & SLIM_SOCKOPT_V6ONLY_SET)
                return s->sockopts & SLIM_SOCKOPT_V6ONLY;
        return net_v6only(caller_net());
}

/* --- devices ---------------------------------------------------------------------------------- */

#define DEVICES_MAX 256 /* of one container, that a name or an index is looked for among */

struct device_search {
        struct list_head___slim *at, *end;
        char name[16];
        int ifindex; /* 0: search by name */
        int found;   /* its ifindex, or 0 */
};

/* bpf_loop()'s step: 1 ends the loop. */
static long device_step(__u32 round, struct device_search *d)
{
        struct list_head___slim *at = d->at;
        struct net_device___slim *dev;
        char name[16] = {};
        int ifindex = 0;

        if (!at || at == d->end)
                return 1;
        dev = (void *)at - bpf_core_field_offset(struct net_device___slim, dev_list);
        bpf_core_read(&ifindex, sizeof(ifindex), &dev->ifindex);
        bpf_core_read_str(name, sizeof(name), &dev->name);
        if (d->ifindex ? d->ifindex == ifindex
                       : ((__u64 *)name)[0] == ((__u64 *)d->name)[0] &&
                             ((__u64 *)name)[1] == ((__u64 *)d->name)[1]) {
                d->found = ifindex;
                __builtin_memcpy(d->name, name, sizeof(name));
                return 1;
        }
        d->at = BPF_CORE_READ(at, next);
        return 0;
}

/*
 * Looks for a device of the caller's namespace, by index, or by name where that is 0; afterwards
 * d->found and d->name tell. host_cookie: of the socket's namespace, whose devices nobody finds.
 */
static __always_inline void device_find(struct device_search *d, __u64 host_cookie)
{
        struct net___slim *net = caller_net();

        d->found = 0;
        if (!net || net->net_cookie == host_cookie)
                return;
        d->end = &net->dev_base_head;
        d->at = net->dev_base_head.next;
        bpf_loop(DEVICES_MAX, device_step, d, 0);
}
