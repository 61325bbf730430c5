/* SPDX-License-Identifier: Apache-2.0 */
#include "stack.h"

#include <bpf/bpf.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/socket.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "address.h"
#include "local.h"
#include "mirror.h"
#include "registry.h"

/* The loopback device is the first of every network namespace (LOOPBACK_IFINDEX in the kernel). */
#define LOOPBACK_IFINDEX 1

static const int families[] = {AF_INET, AF_INET6};

/* --- rules ------------------------------------------------------------------------------------ */

static void rules(int family, struct netlink_rule ret[2])
{
        ret[0] = (struct netlink_rule){
            .family = family, .priority = TABLE_MARKED, .table = TABLE_MARKED, .mark = SLIM_MARK};
        ret[1] = (struct netlink_rule){
            .family = family, .priority = TABLE_OVERLAY, .table = TABLE_OVERLAY, .own = true};
}

static struct netlink_route all_is_local(int family)
{
        return (struct netlink_route){
            .kind = NETLINK_ROUTE_LOCAL,
            .dst = family == AF_INET ? inaddr_from_v4(0) : (union slim_addr){},
            .ifindex = LOOPBACK_IFINDEX,
            .table = TABLE_MARKED,
        };
}

static int family_up(struct slimd *d, int family)
{
        struct netlink_route route = all_is_local(family);
        struct netlink_rule rule[2];
        int r;

        r = netlink_route_add(d->nl, &route);
        rules(family, rule);
        for (size_t i = 0; r == 0 && i < ARRAY_SIZE(rule); i++) {
                r = netlink_rule_add(d->nl, &rule[i]);
                if (r == -EEXIST)
                        r = 0;
        }
        return r;
}

int stack_up(struct slimd *d)
{
        for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
                int r = family_up(d, families[i]);

                if (r == -EAFNOSUPPORT || r == -EOPNOTSUPP) /* a kernel without IPv6 */
                        continue;
                if (r < 0)
                        return log_error_errno(r, "cannot add the routing rules of overlays: %m");
        }
        return 0;
}

void stack_down(struct slimd *d)
{
        for (size_t i = 0; i < ARRAY_SIZE(families); i++) {
                struct netlink_route route = all_is_local(families[i]);
                struct netlink_rule rule[2];

                rules(families[i], rule);
                for (size_t k = 0; k < ARRAY_SIZE(rule); k++)
                        (void)netlink_rule_del(d->nl, &rule[k]);
                (void)netlink_route_del(d->nl, &route);
        }
}

/* --- the host's endpoints --------------------------------------------------------------------- */

/* A prefix of one block is too small for each host to take an address of it. */
static bool is_divided(const struct network *n, enum slim_family f)
{
        return n->prefix[f].bits && n->block_bits[f] > n->prefix[f].bits;
}

static int publish_in(struct slimd *d, const struct network *n)
{
        struct endpoint e = {.is_host = true, .network_id = n->id};
        int r = 0;

        memcpy(e.host_addr, d->underlay_addr, sizeof(e.host_addr));
        snprintf(e.name, sizeof(e.name), "%s", d->opt.host_name);
        snprintf(e.host, sizeof(e.host), "%s", d->opt.host_name);
        snprintf(e.network, sizeof(e.network), "%s", n->name);
        do {
                if (getrandom(&e.id, sizeof(e.id), 0) != sizeof(e.id))
                        return -errno;
        } while (e.id == 0 || model_endpoint(&d->model, e.id));
        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                if (is_divided(n, (enum slim_family)f))
                        r = address_pick(d, n, (enum slim_family)f, &e.addr[f]);
        return r < 0 ? r : registry_publish(d, &e);
}

int stack_republish(struct slimd *d)
{
        struct endpoint *e = d->model.endpoints;

        while (e) {
                struct endpoint *next = e->hh.next;
                int r = 0;

                if (e->is_host && mirror_is_local(d, e))
                        r = registry_republish(d, e);
                if (r == -EEXIST) { /* its address was given away: it gets another */
                        mirror_drop_endpoint(d, e);
                } else if (r < 0) {
                        return r;
                }
                e = next;
        }
        return 0;
}

/* Of a network that is no more. */
static struct endpoint *stale(const struct slimd *d)
{
        for (struct endpoint *e = d->model.endpoints; e; e = e->hh.next)
                if (e->is_host && mirror_is_local(d, e)) {
                        const struct network *n = model_network(&d->model, e->network);

                        if (!n || n->id != e->network_id)
                                return e;
                }
        return NULL;
}

static void failed(struct slimd *d, int r, const char *network)
{
        if (r != d->stack_error)
                log_warning_errno(r,
                                  "this host gets no address in network %s: %m; its own processes "
                                  "reach no container there, trying again later",
                                  network);
        d->stack_error = r;
}

int stack_publish(struct slimd *d)
{
        struct endpoint *e;
        int written = 0, r = 0;

        if (!d->lease)
                return 0;
        while ((e = stale(d))) {
                struct endpoint gone = *e;

                r = registry_delete(d, &gone);
                if (r < 0) {
                        failed(d, r, gone.network);
                        break;
                }
                mirror_drop_endpoint(d, e);
        }
        for (struct network *n = d->model.networks; n; n = n->hh.next) {
                if ((!is_divided(n, SLIM_V4) && !is_divided(n, SLIM_V6)) ||
                    model_host_endpoint(&d->model, n->name, d->opt.host_name))
                        continue;
                r = publish_in(d, n);
                if (r == 0 || r == -EAGAIN) /* somebody else took the address */
                        written = 1;
                else
                        failed(d, r, n->name);
        }
        if (r == 0)
                d->stack_error = 0;
        return written;
}

const union slim_addr *stack_source(const struct slimd *d, const char *network, enum slim_family f)
{
        const struct endpoint *e = model_host_endpoint(&d->model, network, d->opt.host_name);

        return e && !inaddr_is_none(&e->addr[f]) ? &e->addr[f] : NULL;
}

static struct netlink_route overlay_route(const struct slimd *d, const struct network *n,
                                          enum slim_family f)
{
        return (struct netlink_route){
            .dst = n->prefix[f].addr,
            .dst_bits = (uint8_t)inaddr_prefix_len(&n->prefix[f]),
            .ifindex = d->vxlan_ifindex,
            .source = stack_source(d, n->name, f),
            .table = TABLE_OVERLAY,
        };
}

int stack_network_up(struct slimd *d, const struct network *n)
{
        network_each_family(n, f)
        {
                struct netlink_route route = overlay_route(d, n, (enum slim_family)f);
                int r = netlink_route_add(d->nl, &route);

                if (r < 0)
                        return r;
        }
        return 0;
}

void stack_network_down(struct slimd *d, const struct network *n)
{
        network_each_family(n, f)
        {
                struct netlink_route route = overlay_route(d, n, (enum slim_family)f);

                route.source = NULL;
                (void)netlink_route_del(d->nl, &route);
        }
}

static uint8_t host_bits(const union slim_addr *a)
{
        return inaddr_is_v4(a) ? 32 : 128;
}

int stack_endpoint_up(struct slimd *d, const struct endpoint *e)
{
        const struct network *n = model_network(&d->model, e->network);
        struct slim_device self = {.endpoint = e->id, .network = e->network_id};
        int r;

        memcpy(self.addr, e->addr, sizeof(self.addr));

        if (!n)
                return 0; /* just removed: stack_publish() will see */
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                if (inaddr_is_none(&e->addr[f]))
                        continue;
                r = netlink_addr_add(d->nl, d->vxlan_ifindex, &e->addr[f], host_bits(&e->addr[f]));
                if (r < 0 && r != -EEXIST)
                        return r;
        }
        r = stack_network_up(d, n);
        if (r < 0)
                return r;
        local_network_changed(d, e->network);
        return bpf_map_update_elem(datapath_map_fd(d->dp, DATAPATH_HOST_ENDPOINTS), &e->network_id,
                                   &self, BPF_ANY) < 0
                   ? -errno
                   : 0;
}

void stack_endpoint_down(struct slimd *d, const struct endpoint *e)
{
        if (!d->dp)
                return;
        (void)bpf_map_delete_elem(datapath_map_fd(d->dp, DATAPATH_HOST_ENDPOINTS), &e->network_id);
        /* With the address go the routes that have it for their source. */
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (!inaddr_is_none(&e->addr[f]))
                        (void)netlink_addr_del(d->nl, d->vxlan_ifindex, &e->addr[f],
                                               host_bits(&e->addr[f]));
}
