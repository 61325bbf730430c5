/* SPDX-License-Identifier: Apache-2.0 */
/* Devices. Addresses, routes and neighbours are in netlink-addr.c. */
#include "netlink.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/if_link.h>
#include <linux/net_namespace.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/socket.h>

#include "netlink-request.h"

int netlink_open(int netns_fd, struct netlink **ret)
{
        return netlink_open_protocol(NETLINK_ROUTE, netns_fd, ret);
}

static bool name_fits(const char *name)
{
        return name[0] != '\0' && strnlen(name, IFNAMSIZ) < IFNAMSIZ;
}

/* --- reading ---------------------------------------------------------------------------------- */

static void copy_name(char *to, size_t size, const struct nlattr *attr)
{
        size_t len;

        if (!attr)
                return;
        len = strnlen(mnl_attr_get_payload(attr), mnl_attr_get_payload_len(attr));
        if (len >= size)
                len = size - 1;
        memcpy(to, mnl_attr_get_payload(attr), len);
        to[len] = '\0';
}

static int read_link(const struct nlmsghdr *nlh, void *userdata)
{
        const struct ifinfomsg *ifi = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[IFLA_MAX + 1], *info[IFLA_INFO_MAX + 1];
        struct netlink_link *link = userdata, l = {0};
        int r;

        r = netlink_attrs(nlh, sizeof(*ifi), attrs, IFLA_MAX);
        if (r < 0)
                return r;
        l.ifindex = (uint32_t)ifi->ifi_index;
        l.up = ifi->ifi_flags & IFF_UP;
        l.ethernet = ifi->ifi_type == ARPHRD_ETHER || ifi->ifi_type == ARPHRD_LOOPBACK;
        l.mtu = netlink_attr_u32(attrs[IFLA_MTU], 0);
        l.peer_netns = (int32_t)netlink_attr_u32(attrs[IFLA_LINK_NETNSID], UINT32_MAX);
        copy_name(l.name, sizeof(l.name), attrs[IFLA_IFNAME]);
        if (attrs[IFLA_ADDRESS] && mnl_attr_get_payload_len(attrs[IFLA_ADDRESS]) == sizeof(l.mac))
                memcpy(l.mac, mnl_attr_get_payload(attrs[IFLA_ADDRESS]), sizeof(l.mac));
        if (attrs[IFLA_LINKINFO]) {
                r = netlink_attrs_nested(attrs[IFLA_LINKINFO], info, IFLA_INFO_MAX);
                if (r < 0)
                        return r;
                copy_name(l.kind, sizeof(l.kind), info[IFLA_INFO_KIND]);
        }
        if (attrs[IFLA_STATS64]) {
                struct rtnl_link_stats64 stats = {0};
                size_t len = mnl_attr_get_payload_len(attrs[IFLA_STATS64]);

                /* Copied, since its 64-bit numbers need not be aligned; it grows with kernels. */
                memcpy(&stats, mnl_attr_get_payload(attrs[IFLA_STATS64]),
                       len < sizeof(stats) ? len : sizeof(stats));
                l.rx_packets = stats.rx_packets;
                l.tx_packets = stats.tx_packets;
                l.rx_bytes = stats.rx_bytes;
                l.tx_bytes = stats.tx_bytes;
        }
        *link = l;
        return 0;
}

static int link_get(struct netlink *nl, uint32_t ifindex, const char *name,
                    struct netlink_link *ret)
{
        struct netlink_request req;
        struct netlink_link link = {0};
        struct ifinfomsg *ifi;
        int r;

        ifi = netlink_request_init(&req, RTM_GETLINK, 0, sizeof(*ifi));
        ifi->ifi_index = (int)ifindex;
        if (name)
                mnl_attr_put_strz(&req.head, IFLA_IFNAME, name);
        r = netlink_request_run(nl, &req, read_link, &link);
        if (r < 0)
                return r;
        if (link.ifindex == 0)
                return -EBADMSG;
        *ret = link;
        return 0;
}

int netlink_link_get(struct netlink *nl, const char *name, struct netlink_link *ret)
{
        return name_fits(name) ? link_get(nl, 0, name, ret) : -ENODEV;
}

static int read_netns_id(const struct nlmsghdr *nlh, void *userdata)
{
        const struct nlattr *attrs[NETNSA_MAX + 1];
        int r = netlink_attrs(nlh, sizeof(struct rtgenmsg), attrs, NETNSA_MAX);

        if (r < 0)
                return r;
        *(int32_t *)userdata = (int32_t)netlink_attr_u32(attrs[NETNSA_NSID], UINT32_MAX);
        return 0;
}

int netlink_netns_id(struct netlink *nl, int netns_fd, int32_t *ret)
{
        struct netlink_request req;
        int32_t id = -1;
        int r;

        netlink_request_init(&req, RTM_GETNSID, 0, sizeof(struct rtgenmsg));
        mnl_attr_put_u32(&req.head, NETNSA_FD, (uint32_t)netns_fd);
        r = netlink_request_run(nl, &req, read_netns_id, &id);
        if (r == 0)
                *ret = id;
        return r;
}

/* --- making ----------------------------------------------------------------------------------- */

/* What both kinds, and both ends of a pair, have in common. */
static void put_link(struct nlmsghdr *nlh, const char *name, const uint8_t mac[6], uint32_t mtu)
{
        mnl_attr_put_strz(nlh, IFLA_IFNAME, name);
        mnl_attr_put(nlh, IFLA_ADDRESS, 6, mac);
        mnl_attr_put_u32(nlh, IFLA_MTU, mtu);
}

int netlink_vxlan_add(struct netlink *nl, const char *name, uint16_t udp_port, uint32_t mtu,
                      const uint8_t mac[6])
{
        struct netlink_request req;
        struct nlattr *info, *data;
        struct ifinfomsg *ifi;

        if (!name_fits(name))
                return -EINVAL;
        ifi = netlink_request_init(&req, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, sizeof(*ifi));
        ifi->ifi_flags = IFF_NOARP;
        ifi->ifi_change = IFF_NOARP;
        put_link(&req.head, name, mac, mtu);
        info = mnl_attr_nest_start(&req.head, IFLA_LINKINFO);
        mnl_attr_put_strz(&req.head, IFLA_INFO_KIND, "vxlan");
        data = mnl_attr_nest_start(&req.head, IFLA_INFO_DATA);
        /*
         * Where a packet goes and whether it has a UDP checksum comes from its tunnel key. Without
         * a checksum is what the kernel receives over IPv4 anyhow.
         */
        mnl_attr_put_u8(&req.head, IFLA_VXLAN_COLLECT_METADATA, 1);
        mnl_attr_put_u8(&req.head, IFLA_VXLAN_LEARNING, 0);
        mnl_attr_put_u16(&req.head, IFLA_VXLAN_PORT, htons(udp_port));
        mnl_attr_nest_end(&req.head, data);
        mnl_attr_nest_end(&req.head, info);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_veth_add(struct netlink *nl, const char *name, const uint8_t mac[6], const char *peer,
                     const uint8_t peer_mac[6], int peer_netns_fd, uint32_t mtu)
{
        struct nlattr *info, *data, *end;
        struct netlink_request req;

        if (!name_fits(name) || !name_fits(peer))
                return -EINVAL;
        if (peer_netns_fd < 0)
                return -EBADF;
        netlink_request_init(&req, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL,
                             sizeof(struct ifinfomsg));
        put_link(&req.head, name, mac, mtu);
        info = mnl_attr_nest_start(&req.head, IFLA_LINKINFO);
        mnl_attr_put_strz(&req.head, IFLA_INFO_KIND, "veth");
        data = mnl_attr_nest_start(&req.head, IFLA_INFO_DATA);
        /* Made where it belongs and under its own name: a clash of names here does not matter. */
        end = mnl_attr_nest_start(&req.head, VETH_INFO_PEER);
        mnl_nlmsg_put_extra_header(&req.head, sizeof(struct ifinfomsg));
        put_link(&req.head, peer, peer_mac, mtu);
        mnl_attr_put_u32(&req.head, IFLA_NET_NS_FD, (uint32_t)peer_netns_fd);
        mnl_attr_nest_end(&req.head, end);
        mnl_attr_nest_end(&req.head, data);
        mnl_attr_nest_end(&req.head, info);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_link_del(struct netlink *nl, const char *name)
{
        struct netlink_request req;

        if (!name_fits(name))
                return -ENODEV;
        netlink_request_init(&req, RTM_DELLINK, 0, sizeof(struct ifinfomsg));
        mnl_attr_put_strz(&req.head, IFLA_IFNAME, name);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_link_up(struct netlink *nl, uint32_t ifindex)
{
        struct netlink_request req;
        struct ifinfomsg *ifi;

        if (ifindex == 0)
                return -ENODEV;
        ifi = netlink_request_init(&req, RTM_NEWLINK, 0, sizeof(*ifi));
        ifi->ifi_index = (int)ifindex;
        ifi->ifi_flags = IFF_UP;
        ifi->ifi_change = IFF_UP;
        return netlink_request_run(nl, &req, NULL, NULL);
}

/* --- the default route's ---------------------------------------------------------------------- */

struct default_route {
        uint32_t ifindex, metric;
};

static void default_route_reset(void *userdata)
{
        *(struct default_route *)userdata = (struct default_route){0};
}

static int read_default_route(const struct nlmsghdr *nlh, void *userdata)
{
        const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
        struct default_route *best = userdata;
        const struct nlattr *attrs[RTA_MAX + 1];
        uint32_t ifindex, metric;
        int r;

        r = netlink_attrs(nlh, sizeof(*rtm), attrs, RTA_MAX);
        if (r < 0)
                return r;
        if (rtm->rtm_dst_len != 0 || rtm->rtm_type != RTN_UNICAST ||
            netlink_attr_u32(attrs[RTA_TABLE], rtm->rtm_table) != RT_TABLE_MAIN)
                return 0;
        ifindex = netlink_attr_u32(attrs[RTA_OIF], 0);
        if (ifindex == 0 && attrs[RTA_MULTIPATH] &&
            mnl_attr_get_payload_len(attrs[RTA_MULTIPATH]) >= sizeof(struct rtnexthop)) {
                const struct rtnexthop *first = mnl_attr_get_payload(attrs[RTA_MULTIPATH]);

                ifindex = (uint32_t)first->rtnh_ifindex;
        }
        metric = netlink_attr_u32(attrs[RTA_PRIORITY], 0);
        if (ifindex != 0 && (best->ifindex == 0 || metric < best->metric))
                *best = (struct default_route){ifindex, metric};
        return 0;
}

/* ifindex 0: there is none of this family. */
static int default_route(struct netlink *nl, uint8_t family, struct default_route *ret)
{
        struct netlink_request req;
        struct rtmsg *rtm = netlink_request_init(&req, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm));

        rtm->rtm_family = family;
        rtm->rtm_table = RT_TABLE_MAIN;
        return netlink_request_dump(nl, &req, read_default_route, default_route_reset, ret);
}

int netlink_default_device(struct netlink *nl, char ret_name[16])
{
        struct default_route best = {};
        struct netlink_link link;
        int r;

        r = default_route(nl, AF_INET, &best);
        if (r == 0 && best.ifindex == 0)
                r = default_route(nl, AF_INET6, &best);
        if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP) /* a kernel without IPv6 */
                return -ENOENT;
        if (r < 0)
                return r;
        if (best.ifindex == 0)
                return -ENOENT;
        r = link_get(nl, best.ifindex, NULL, &link);
        if (r == -ENODEV)
                return -ENOENT; /* it went away, and its routes with it */
        if (r < 0)
                return r;
        memcpy(ret_name, link.name, sizeof(link.name));
        return 0;
}
