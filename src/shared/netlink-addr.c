/* SPDX-License-Identifier: Apache-2.0 */
/* Addresses, routes, rules and neighbours. An address's family is told by its being v4-mapped or
 * not. */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/neighbour.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "../basic/inaddr.h"
#include "netlink-request.h"
#include "netlink.h"

static uint8_t addr_family(const union slim_addr *a)
{
        return inaddr_is_v4(a) ? AF_INET : AF_INET6;
}

static unsigned int family_bits(int family)
{
        return family == AF_INET ? 32 : 128;
}

static void put_addr(struct nlmsghdr *nlh, uint16_t type, const union slim_addr *a)
{
        if (inaddr_is_v4(a))
                mnl_attr_put(nlh, type, 4, &a->b[12]);
        else
                mnl_attr_put(nlh, type, 16, a->b);
}

/* --- addresses -------------------------------------------------------------------------------- */

struct first_addr {
        uint32_t ifindex;
        int family;
        bool found;
        union slim_addr addr;
        uint8_t bits;
};

static void first_addr_reset(void *userdata)
{
        struct first_addr *f = userdata;

        f->found = false;
}

static int read_addr(const struct nlmsghdr *nlh, void *userdata)
{
        const struct ifaddrmsg *ifa = mnl_nlmsg_get_payload(nlh);
        const struct nlattr *attrs[IFA_MAX + 1], *a;
        struct first_addr *f = userdata;
        uint32_t flags;
        int r;

        r = netlink_attrs(nlh, sizeof(*ifa), attrs, IFA_MAX);
        if (r < 0)
                return r;
        if (f->found || ifa->ifa_index != f->ifindex || ifa->ifa_family != f->family ||
            ifa->ifa_scope != RT_SCOPE_UNIVERSE)
                return 0;
        /*
         * One that another machine has, or a privacy address (IFA_F_TEMPORARY) that changes by the
         * day, is none to be known by. For IPv4 that bit means "secondary", and the first one of
         * a device never is.
         */
        flags = netlink_attr_u32(attrs[IFA_FLAGS], ifa->ifa_flags);
        if (flags & (IFA_F_TEMPORARY | IFA_F_DADFAILED))
                return 0;
        /* On a point-to-point device IFA_ADDRESS is the other end. */
        a = attrs[IFA_LOCAL] ? attrs[IFA_LOCAL] : attrs[IFA_ADDRESS];
        if (!a || mnl_attr_get_payload_len(a) != family_bits(f->family) / 8)
                return 0;
        if (f->family == AF_INET)
                f->addr = inaddr_from_v4(mnl_attr_get_u32(a));
        else
                memcpy(f->addr.b, mnl_attr_get_payload(a), sizeof(f->addr.b));
        f->bits = ifa->ifa_prefixlen;
        f->found = true;
        return 0;
}

int netlink_addr_get(struct netlink *nl, uint32_t ifindex, int family, union slim_addr *ret,
                     uint8_t *ret_bits)
{
        struct first_addr first = {.ifindex = ifindex, .family = family};
        struct netlink_request req;
        struct ifaddrmsg *ifa;
        int r;

        if (family != AF_INET && family != AF_INET6)
                return -EAFNOSUPPORT;
        ifa = netlink_request_init(&req, RTM_GETADDR, NLM_F_DUMP, sizeof(*ifa));
        ifa->ifa_family = (uint8_t)family;
        ifa->ifa_index = ifindex;
        r = netlink_request_dump(nl, &req, read_addr, first_addr_reset, &first);
        if (r < 0)
                return r;
        if (!first.found)
                return -EADDRNOTAVAIL;
        *ret = first.addr;
        *ret_bits = first.bits;
        return 0;
}

static int run_addr(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr, uint8_t bits,
                    uint16_t type, uint16_t flags)
{
        uint8_t family = addr_family(addr);
        struct netlink_request req;
        struct ifaddrmsg *ifa;

        if (bits > family_bits(family))
                return -EINVAL;
        ifa = netlink_request_init(&req, type, flags, sizeof(*ifa));
        ifa->ifa_family = family;
        ifa->ifa_prefixlen = bits;
        ifa->ifa_index = ifindex;
        ifa->ifa_scope = RT_SCOPE_UNIVERSE;
        put_addr(&req.head, IFA_LOCAL, addr);
        put_addr(&req.head, IFA_ADDRESS, addr);
        /* The store says whose the address is; until a search for duplicates ended it would be
         * unusable. */
        if (family == AF_INET6)
                mnl_attr_put_u32(&req.head, IFA_FLAGS, IFA_F_NODAD);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_addr_add(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                     uint8_t bits)
{
        return run_addr(nl, ifindex, addr, bits, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL);
}

int netlink_addr_del(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                     uint8_t bits)
{
        return run_addr(nl, ifindex, addr, bits, RTM_DELADDR, 0);
}

/* --- routes ----------------------------------------------------------------------------------- */

static int run_route(struct netlink *nl, const struct netlink_route *route, uint16_t type,
                     uint16_t flags)
{
        static const uint8_t types[] = {
            [NETLINK_ROUTE_UNICAST] = RTN_UNICAST,
            [NETLINK_ROUTE_UNREACHABLE] = RTN_UNREACHABLE,
            [NETLINK_ROUTE_LOCAL] = RTN_LOCAL,
        };
        bool unicast = route->kind == NETLINK_ROUTE_UNICAST;
        bool device = route->kind != NETLINK_ROUTE_UNREACHABLE;
        uint8_t family = addr_family(&route->dst);
        struct netlink_request req;
        struct rtmsg *rtm;

        if (route->dst_bits > family_bits(family) || (device && route->ifindex == 0))
                return -EINVAL;
        if ((unicast && route->gateway && addr_family(route->gateway) != family) ||
            (route->source && addr_family(route->source) != family))
                return -EAFNOSUPPORT;
        rtm = netlink_request_init(&req, type, flags, sizeof(*rtm));
        rtm->rtm_family = family;
        rtm->rtm_dst_len = route->dst_bits;
        rtm->rtm_table = RT_TABLE_UNSPEC; /* too small for it: RTA_TABLE has it */
        rtm->rtm_type = types[route->kind];
        if (type == RTM_DELROUTE) {
                rtm->rtm_scope = RT_SCOPE_NOWHERE; /* any */
        } else {
                rtm->rtm_protocol = RTPROT_STATIC;
                rtm->rtm_scope = route->kind == NETLINK_ROUTE_LOCAL ? RT_SCOPE_HOST
                                 : unicast && !route->gateway       ? RT_SCOPE_LINK
                                                                    : RT_SCOPE_UNIVERSE;
        }
        if (unicast && route->onlink)
                rtm->rtm_flags = RTNH_F_ONLINK;
        if (route->dst_bits > 0)
                put_addr(&req.head, RTA_DST, &route->dst);
        mnl_attr_put_u32(&req.head, RTA_TABLE, route->table ?: RT_TABLE_MAIN);
        if (unicast && route->gateway)
                put_addr(&req.head, RTA_GATEWAY, route->gateway);
        if (device)
                mnl_attr_put_u32(&req.head, RTA_OIF, route->ifindex);
        if (route->source)
                put_addr(&req.head, RTA_PREFSRC, route->source);
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_route_add(struct netlink *nl, const struct netlink_route *route)
{
        return run_route(nl, route, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_REPLACE);
}

int netlink_route_add_new(struct netlink *nl, const struct netlink_route *route)
{
        return run_route(nl, route, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL);
}

int netlink_route_del(struct netlink *nl, const struct netlink_route *route)
{
        return run_route(nl, route, RTM_DELROUTE, 0);
}

/* --- rules ------------------------------------------------------------------------------------ */

static int run_rule(struct netlink *nl, const struct netlink_rule *rule, uint16_t type,
                    uint16_t flags)
{
        struct netlink_request req;
        struct fib_rule_hdr *hdr;

        if ((rule->family != AF_INET && rule->family != AF_INET6) || !rule->table)
                return -EINVAL;
        hdr = netlink_request_init(&req, type, flags, sizeof(*hdr));
        hdr->family = (uint8_t)rule->family;
        hdr->action = FR_ACT_TO_TBL;
        hdr->table = RT_TABLE_UNSPEC; /* as for routes */
        mnl_attr_put_u32(&req.head, FRA_TABLE, rule->table);
        mnl_attr_put_u32(&req.head, FRA_PRIORITY, rule->priority);
        if (rule->mark) {
                mnl_attr_put_u32(&req.head, FRA_FWMARK, rule->mark);
                mnl_attr_put_u32(&req.head, FRA_FWMASK, UINT32_MAX);
        }
        if (rule->from) {
                hdr->src_len = (uint8_t)family_bits(rule->family);
                put_addr(&req.head, FRA_SRC, rule->from);
        }
        if (rule->own)
                mnl_attr_put_strz(&req.head, FRA_IIFNAME, "lo");
        return netlink_request_run(nl, &req, NULL, NULL);
}

int netlink_rule_add(struct netlink *nl, const struct netlink_rule *rule)
{
        return run_rule(nl, rule, RTM_NEWRULE, NLM_F_CREATE | NLM_F_EXCL);
}

int netlink_rule_del(struct netlink *nl, const struct netlink_rule *rule)
{
        return run_rule(nl, rule, RTM_DELRULE, 0);
}

/* --- neighbours ------------------------------------------------------------------------------- */

int netlink_neigh_add(struct netlink *nl, uint32_t ifindex, const union slim_addr *addr,
                      const uint8_t mac[6])
{
        struct netlink_request req;
        struct ndmsg *ndm;

        ndm = netlink_request_init(&req, RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, sizeof(*ndm));
        ndm->ndm_family = addr_family(addr);
        ndm->ndm_ifindex = (int)ifindex;
        ndm->ndm_state = NUD_PERMANENT;
        put_addr(&req.head, NDA_DST, addr);
        mnl_attr_put(&req.head, NDA_LLADDR, 6, mac);
        return netlink_request_run(nl, &req, NULL, NULL);
}
