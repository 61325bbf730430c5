/* SPDX-License-Identifier: Apache-2.0 */
/* Is an address, or a route, there? */
#include <errno.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "../basic/inaddr.h"
#include "netlink-request.h"
#include "netlink.h"

static uint8_t family_of(const union slim_addr *a)
{
        return inaddr_is_v4(a) ? AF_INET : AF_INET6;
}

/* Is an attribute this address? */
static bool is_addr(const struct nlattr *attr, const union slim_addr *a)
{
        size_t len = inaddr_is_v4(a) ? 4 : 16;

        return attr && mnl_attr_get_payload_len(attr) == len &&
               memcmp(mnl_attr_get_payload(attr), a->b + sizeof(a->b) - len, len) == 0;
}

/* --- addresses -------------------------------------------------------------------------------- */

struct wanted_addr {
        uint32_t ifindex;
        const union slim_addr *addr;
        bool found;
};

static void wanted_addr_reset(void *userdata)
{
        ((struct wanted_addr *)userdata)->found = false;
}

static int match_addr(const struct nlmsghdr *nlh, void *userdata)
{
        const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[IFA_MAX + 1];
        struct wanted_addr *w = userdata;
        int r = netlink_attrs(nlh, sizeof(*ifa), attrs, IFA_MAX);

        if (r < 0)
                return r;
        if (ifa->ifa_index == w->ifindex && ifa->ifa_family == family_of(w->addr))
                w->found |= is_addr(attrs[IFA_LOCAL] ?: attrs[IFA_ADDRESS], w->addr);
        return 0;
}

int netlink_addr_find(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr)
{
        struct wanted_addr w = {.ifindex = ifindex, .addr = addr};
        struct netlink_request req;
        struct ifaddrmsg *ifa;
        int r;

        ifa = netlink_request_init(&req, RTM_GETADDR, NLM_F_DUMP, sizeof(*ifa));
        ifa->ifa_family = family_of(addr);
        r = netlink_request_dump(nl, &req, match_addr, wanted_addr_reset, &w);
        return r < 0 ? r : w.found ? 0 : -EADDRNOTAVAIL;
}

/* --- routes ----------------------------------------------------------------------------------- */

struct wanted_route {
        const struct netlink_route *route;
        bool found;
};

static void wanted_route_reset(void *userdata)
{
        ((struct wanted_route *)userdata)->found = false;
}

static int match_route(const struct nlmsghdr *nlh, void *userdata)
{
        const struct rtmsg *rtm = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[RTA_MAX + 1];
        struct wanted_route *w = userdata;
        int r = netlink_attrs(nlh, sizeof(*rtm), attrs, RTA_MAX);

        if (r < 0)
                return r;
        w->found |= rtm->rtm_family == family_of(&w->route->dst) &&
                    rtm->rtm_dst_len == w->route->dst_bits &&
                    netlink_attr_u32(attrs[RTA_TABLE], rtm->rtm_table) == RT_TABLE_MAIN &&
                    netlink_attr_u32(attrs[RTA_OIF], 0) == w->route->ifindex &&
                    (!rtm->rtm_dst_len || is_addr(attrs[RTA_DST], &w->route->dst)) &&
                    (!w->route->gateway || is_addr(attrs[RTA_GATEWAY], w->route->gateway));
        return 0;
}

int netlink_route_find(struct netlink *nl, const struct netlink_route *route)
{
        struct wanted_route w = {.route = route};
        struct netlink_request req;
        struct rtmsg *rtm = netlink_request_init(&req, RTM_GETROUTE, NLM_F_DUMP, sizeof(*rtm));
        int r;

        rtm->rtm_family = family_of(&route->dst);
        r = netlink_request_dump(nl, &req, match_route, wanted_route_reset, &w);
        return r < 0 ? r : w.found ? 0 : -ESRCH;
}
