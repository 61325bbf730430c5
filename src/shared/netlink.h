/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * rtnetlink: devices, addresses, routes, neighbours and queueing disciplines, each call one request
 * and its answer.
 *
 * A struct netlink is a socket in one network namespace. Calls return 0 or the negative errno that
 * the kernel answered with. Names are interface names; ifindexes are of that namespace.
 */
#include <stdbool.h>
#include <stdint.h>

#include "../abi/slim-abi.h"
#include "../basic/macro.h"

struct netlink;

/*
 * Opens in the namespace of netns_fd, or in the caller's own for -1. The caller frees it. The
 * thread is in its own namespace again afterwards, or the process is aborted. -EINVAL: netns_fd is
 * no network namespace.
 */
int netlink_open(int netns_fd, struct netlink **ret);
void netlink_free(struct netlink *nl);
DEFINE_CLEANUP(struct netlink *, netlink_free)

struct netlink_link {
        uint32_t ifindex;
        uint32_t mtu;
        uint8_t mac[6];
        bool up;
        bool ethernet; /* or lo, whose frames look the same */
        char name[16];
        char kind[16];      /* "veth", "vxlan", "" for a physical one */
        int32_t peer_netns; /* where the other end of a veth is, as netlink_netns_id(); or -1 */
        uint64_t rx_packets, tx_packets, rx_bytes, tx_bytes;
};

/* -ENODEV: no such device. */
int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *ret);

/* What this namespace calls another one: the same number as long as it is there. -1 in *ret:
 * nothing of this one's has its other end there. */
int netlink_netns_id(struct netlink *nl, int netns_fd, int32_t *ret);

/*
 * The collect-metadata VXLAN device (ip link add NAME type vxlan external dstport PORT), ARP off,
 * with a fixed MAC address. -EEXIST: the name is taken, or another such device has the port.
 */
int netlink_vxlan_add(struct netlink *nl, const char *name, uint16_t udp_port, uint32_t mtu,
                      const uint8_t mac[6]);

/*
 * A veth pair: `name` here, `peer` in the namespace of peer_netns_fd, both with this MTU.
 * The peer starts out under its final name in the other namespace.
 */
int netlink_veth_add(struct netlink *nl, const char *name, const uint8_t mac[6], const char *peer,
                     const uint8_t peer_mac[6], int peer_netns_fd, uint32_t mtu);

int netlink_link_del(struct netlink *nl, const char *name);
int netlink_link_up(struct netlink *nl, uint32_t ifindex);

/* The device's first global IPv4 (family AF_INET) or IPv6 address. -EADDRNOTAVAIL: none. */
int netlink_addr_get(struct netlink *nl, uint32_t ifindex, int family, union slim_addr *ret,
                     uint8_t *ret_bits);
/* Has the device this address? -EADDRNOTAVAIL: no. */
int netlink_addr_find(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr);
/* bits: prefix length within the address's own family (32 for an IPv4 host address). -EEXIST. */
int netlink_addr_add(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                     uint8_t bits);
/* -EADDRNOTAVAIL: the device has no such address. */
int netlink_addr_del(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                     uint8_t bits);

enum netlink_route_kind {
        NETLINK_ROUTE_UNICAST,     /* dst [via gateway] dev ifindex */
        NETLINK_ROUTE_UNREACHABLE, /* dst: ICMP unreachable, ifindex and gateway unused */
        NETLINK_ROUTE_LOCAL,       /* dst dev ifindex: to this host's own sockets */
};

struct netlink_route {
        enum netlink_route_kind kind;
        union slim_addr dst;
        uint8_t dst_bits;               /* within its own family; 0 is the default route */
        const union slim_addr *gateway; /* or NULL; of the family of dst */
        bool onlink;
        uint32_t ifindex;
        const union slim_addr *source; /* preferred source, or NULL */
        uint32_t table;                /* 0: main */
};

/* Adds or replaces. */
int netlink_route_add(struct netlink *nl, const struct netlink_route *route);
/* Adds. -EEXIST: there is one to that destination, by whatever way. */
int netlink_route_add_new(struct netlink *nl, const struct netlink_route *route);
/* Is there such a route, with this destination, gateway and device, in the main table? -ESRCH: no.
 */
int netlink_route_find(struct netlink *nl, const struct netlink_route *route);
/* -ESRCH: no such route. */
int netlink_route_del(struct netlink *nl, const struct netlink_route *route);

struct netlink_rule {
        int family; /* AF_INET or AF_INET6 */
        uint32_t priority;
        uint32_t table;              /* where its packets are looked up */
        uint32_t mark;               /* packets with this mark, or 0: … */
        bool own;                    /* packets that this host itself sends (iif lo) */
        const union slim_addr *from; /* packets with this source address, or NULL: any */
};

/* -EEXIST: it is there already. */
int netlink_rule_add(struct netlink *nl, const struct netlink_rule *rule);
/* -ENOENT: no such rule. */
int netlink_rule_del(struct netlink *nl, const struct netlink_rule *rule);

/* A permanent neighbour entry; adds or replaces. */
int netlink_neigh_add(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                      const uint8_t mac[6]);

/* The interface of the default route with the lowest metric: of IPv4's, or, where it has none, of
 * IPv6's. -ENOENT: there is none at all. */
int netlink_default_device(struct netlink *nl, char ret_name[16]);

/*
 * A hierarchical token bucket (tc-htb(8)) at a device's egress: what skb->priority names a class of
 * waits for that, all other passes. Adds it, or leaves the one with this handle as it is. -ENOENT:
 * the kernel has no HTB. A handle is a major number << 16.
 */
int netlink_htb_add(struct netlink *nl, uint32_t ifindex, uint32_t handle);
/*
 * One of its classes, added or changed: `rate` bytes a second, counted as the device would send
 * them, of which at most `queue` bytes wait. minor: 1 to 0xffff.
 */
int netlink_htb_class_put(struct netlink *nl, uint32_t ifindex, uint32_t handle, uint16_t minor,
                          uint64_t rate, uint32_t queue);
/* What waits in it is lost. -ENOENT: no such class. */
int netlink_htb_class_del(struct netlink *nl, uint32_t ifindex, uint32_t handle, uint16_t minor);
