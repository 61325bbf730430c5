/* SPDX-License-Identifier: Apache-2.0 */
/* The devices of a container: its veth, with addresses, neighbours and routes on both sides. */
#include "local-private.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

#include "../basic/log.h"
#include "host.h"
#include "ipv6.h"
#include "stack.h"

/* Before the main table (32766). */
#define SOURCE_RULE_PRIORITY 20000

static const uint8_t host_mac[6] = LOCAL_DEVICE_MAC;
static const uint8_t container_mac[6] = SLIM_CONTAINER_MAC;

static bool has(const struct local *l, enum slim_family f)
{
        return !inaddr_is_none(&l->e.addr[f]);
}

/* Of a family: all bits of an address, and its default route. */
static const struct {
        uint8_t bits;
        const char *gateway;
} families[SLIM_FAMILIES] = {
    [SLIM_V4] = {32, GATEWAY_ADDRESS},
    [SLIM_V6] = {128, IPV6_GATEWAY},
};

/* Is its namespace in its network by another interface too? */
static bool has_sibling(const struct local *l)
{
        struct stat own, st;

        if (!l->attachment || fstat(l->netns_fd, &own) < 0)
                return false;
        for (const struct local *o = l->d->locals; o; o = o->hh.next)
                if (o != l && strcmp(o->e.network, l->e.network) == 0 && o->netns_fd >= 0 &&
                    fstat(o->netns_fd, &st) == 0 && st.st_dev == own.st_dev &&
                    st.st_ino == own.st_ino)
                        return true;
        return false;
}

static struct netlink_rule source_rule(const struct local *l, enum slim_family f)
{
        return (struct netlink_rule){
            .family = f == SLIM_V4 ? AF_INET : AF_INET6,
            .priority = SOURCE_RULE_PRIORITY,
            .table = l->id,
            .from = &l->e.addr[f],
        };
}

/*
 * Of an interface that is not the first one of its namespace: what has its address leaves by it,
 * by a table of its own, as no other interface may send that. What has no address yet goes by it to
 * its network, unless there was a way already.
 */
static int add_second_route(struct local *l, struct netlink *inside, enum slim_family f,
                            struct netlink_route *route)
{
        const struct network *n = model_network(&l->d->model, l->e.network);
        struct netlink_rule rule = source_rule(l, f);
        int r;

        if (!n || !n->prefix[f].bits)
                return -ENOENT;
        route->table = rule.table;
        r = netlink_route_add(inside, route);
        if (r == 0)
                r = netlink_rule_add(inside, &rule);
        if (r < 0 || has_sibling(l))
                return r;
        l->route[f] = n->prefix[f];
        l->has_route[f] = true;
        route->table = 0;
        route->dst = n->prefix[f].addr;
        route->dst_bits = (uint8_t)inaddr_prefix_len(&n->prefix[f]);
        return netlink_route_add_new(inside, route);
}

/* Everything by way of the host. A namespace that a runtime has made may have a default route
 * already, by an interface that was there before. */
static int add_route_inside(struct local *l, struct netlink *inside, enum slim_family f,
                            struct netlink_route *route)
{
        int r = netlink_route_add_new(inside, route);

        if (r == -EEXIST)
                return add_second_route(l, inside, f, route);
        l->route[f] = (struct inaddr_prefix){.addr = route->dst, .bits = f == SLIM_V4 ? 96 : 0};
        l->has_route[f] = r == 0;
        return r;
}

/* A rule does not go with the device. */
static void remove_rules(const struct local *l)
{
        _cleanup_(netlink_freep) struct netlink *inside = NULL;

        if (!l->attachment || l->netns_fd < 0 || netlink_open(l->netns_fd, &inside) < 0)
                return;
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                struct netlink_rule rule = source_rule(l, (enum slim_family)f);

                if (has(l, (enum slim_family)f))
                        (void)netlink_rule_del(inside, &rule); /* the first one has none */
        }
}

static int configure_family(struct local *l, struct netlink *inside, uint32_t ifindex,
                            enum slim_family f)
{
        union slim_addr gateway, any = f == SLIM_V4 ? inaddr_from_v4(0) : (union slim_addr){};
        struct netlink_route route = {
            .dst = any, .gateway = &gateway, .onlink = true, .ifindex = ifindex};
        int r;

        inaddr_parse(families[f].gateway, &gateway);
        r = netlink_addr_add(inside, ifindex, &l->e.addr[f], families[f].bits);
        if (r == 0)
                r = netlink_neigh_add(inside, ifindex, &gateway, host_mac);
        return r < 0 ? r : add_route_inside(l, inside, f, &route);
}

const char *local_route(const struct local *l, enum slim_family f, char *buf)
{
        return l->has_route[f] ? inaddr_prefix_format(&l->route[f], buf) : NULL;
}

/* The container's end: its addresses and routes. */
static int configure_inside(struct local *l)
{
        _cleanup_(netlink_freep) struct netlink *inside = NULL;
        struct netlink_link link = {}, lo;
        int r;

        r = netlink_open(l->netns_fd, &inside);
        if (r < 0)
                return r;
        /* Before it is up, so that not one neighbour solicitation leaves. */
        r = ipv6_set_device(l->netns_fd, l->interface, has(l, SLIM_V6) ? IPV6_INSIDE : IPV6_OFF);
        if (r == 0)
                r = netlink_link_get(inside, "lo", &lo);
        if (r == 0)
                r = netlink_link_up(inside, lo.ifindex);
        if (r == 0)
                r = netlink_link_get(inside, l->interface, &link);
        if (r == 0)
                r = netlink_link_up(inside, link.ifindex);
        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                if (has(l, (enum slim_family)f))
                        r = configure_family(l, inside, link.ifindex, (enum slim_family)f);
        return r;
}

/* From wherever the host forwards, and, from its own address in the network, of the host itself. */
static int add_routes(const struct local *l)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                struct netlink_route route = {
                    .dst = l->e.addr[f], .dst_bits = families[f].bits, .ifindex = l->ifindex};
                int r;

                if (!has(l, (enum slim_family)f))
                        continue;
                r = netlink_route_add(l->d->nl, &route);
                if (r < 0)
                        return r;
                route.table = TABLE_OVERLAY;
                route.source = stack_source(l->d, l->e.network, (enum slim_family)f);
                r = netlink_route_add(l->d->nl, &route);
                if (r < 0)
                        return r;
        }
        return 0;
}

void local_network_changed(struct slimd *d, const char *network)
{
        for (struct local *l = d->locals; l; l = l->hh.next) {
                int r;

                if (!l->ifindex || strcmp(l->e.network, network) != 0)
                        continue;
                r = add_routes(l);
                if (r < 0)
                        log_warning_errno(r, "endpoint %s: cannot set its route: %m, ignoring",
                                          l->e.name);
        }
}

int local_attach_device(struct local *l)
{
        struct slim_device device = {.endpoint = l->e.id, .network = l->e.network_id};
        struct netlink_link link;
        int r;

        memcpy(device.addr, l->e.addr, sizeof(device.addr));

        r = netlink_link_get(l->d->nl, l->device, &link);
        if (r < 0)
                return r;
        l->ifindex = link.ifindex;
        if (bpf_map_update_elem(datapath_map_fd(l->d->dp, DATAPATH_DEVICES), &l->ifindex, &device,
                                BPF_ANY) < 0)
                return -errno;
        return datapath_attach(l->d->dp, l->ifindex, DATAPATH_CONTAINER);
}

/* The host's side: the gateway of IPv6, and the container for a neighbour that is known. */
static int configure_outside(const struct local *l)
{
        union slim_addr gateway;
        int r = 0;

        inaddr_parse(IPV6_GATEWAY, &gateway);
        if (has(l, SLIM_V6))
                r = netlink_addr_add(l->d->nl, l->ifindex, &gateway, 64);
        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                if (has(l, (enum slim_family)f))
                        r = netlink_neigh_add(l->d->nl, l->ifindex, &l->e.addr[f], container_mac);
        return r;
}

int local_make_device(struct local *l)
{
        struct netlink *nl = l->d->nl;
        int r;

        r = netlink_veth_add(nl, l->device, host_mac, l->interface, container_mac, l->netns_fd,
                             l->d->container_mtu);
        if (r < 0)
                return r;
        r = ipv6_set_device(-1, l->device, has(l, SLIM_V6) ? IPV6_HOST : IPV6_OFF);
        if (r < 0)
                return r;
        /* The program before the device is up: not one packet passes unchecked. */
        r = local_attach_device(l);
        if (r == 0)
                r = netlink_link_up(nl, l->ifindex);
        if (r == 0)
                r = configure_outside(l);
        if (r == 0)
                r = configure_inside(l);
        return r < 0 ? r : add_routes(l);
}

void local_remove_device(struct local *l)
{
        struct netlink_link link;
        uint32_t ifindex = l->ifindex;
        int r;

        remove_rules(l);
        if (!ifindex && netlink_link_get(l->d->nl, l->device, &link) == 0)
                ifindex = link.ifindex;
        r = netlink_link_del(l->d->nl, l->device); /* its namespace may have taken it along */
        if (r < 0 && r != -ENODEV)
                log_warning_errno(r, "cannot remove the device %s: %m, ignoring", l->device);
        if (ifindex && l->d->dp)
                bpf_map_delete_elem(datapath_map_fd(l->d->dp, DATAPATH_DEVICES), &ifindex);
}
