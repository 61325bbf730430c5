/* SPDX-License-Identifier: Apache-2.0 */
/*
 * CHECK: what ADD made, as "prevResult" has it, which later plugins of the list may have changed:
 * of it, what slimd says is the endpoint's is looked for.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/inaddr.h"
#include "../shared/netlink.h"
#include "operations.h"
#include "slimd.h"

struct check {
        const struct cni_config *config;
        struct cni_environment env;
        json_t *endpoint;         /* as slimd has it */
        struct netlink *inside;   /* in the container's namespace */
        struct netlink_link link; /* the interface there */
        struct cni_error *error;
};

static void check_done(struct check *k)
{
        json_decref(k->endpoint);
        if (k->inside)
                netlink_free(k->inside);
}

static const char *text_of(const json_t *object, const char *key)
{
        return json_string_value(json_object_get(object, key)) ?: "";
}

static int find_endpoint(struct check *k)
{
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_json_ json_t *list = NULL;
        _cleanup_free_ char *id = cni_attachment(k->config, k->env.container, k->env.interface);
        json_t *endpoint;
        size_t i;
        int r;

        if (!id)
                return cni_fail(k->error, CNI_ERROR_MEMORY, "out of memory");
        r = cni_slimd_connect(k->config, &rpc, k->error);
        if (r == 0)
                r = cni_slimd_attached(rpc, id, &list, k->error);
        if (r < 0)
                return r;
        json_array_foreach (list, i, endpoint)
                if (strcmp(text_of(endpoint, "attachment"), id) == 0) {
                        k->endpoint = json_incref(endpoint);
                        return 0;
                }
        return cni_fail(k->error, CNI_ERROR_CONTAINER, "slimd has no endpoint for container %s",
                        k->env.container);
}

/* The one of "prevResult" that ADD made in the container. */
static const json_t *find_interface(const struct check *k)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(k->config->previous, "interfaces"), i, item)
                if (strcmp(text_of(item, "name"), k->env.interface) == 0 &&
                    *text_of(item, "sandbox"))
                        return item;
        return NULL;
}

static int check_interface(struct check *k)
{
        _cleanup_(netlink_freep) struct netlink *outside = NULL;
        _cleanup_close_ int netns = open(k->env.netns, O_RDONLY | O_CLOEXEC);
        const char *device = text_of(k->endpoint, "device");
        struct netlink_link link;
        int r;

        if (netns < 0)
                return cni_fail(k->error, CNI_ERROR_ENVIRONMENT, "CNI_NETNS \"%s\": %s",
                                k->env.netns, strerror(errno));
        r = netlink_open(netns, &k->inside);
        if (r == 0)
                r = netlink_open(-1, &outside);
        if (r < 0)
                return cni_fail(k->error, CNI_ERROR_ENVIRONMENT, "CNI_NETNS \"%s\": %s",
                                k->env.netns, strerror(-r));
        r = netlink_link_get(k->inside, k->env.interface, &k->link);
        if (r < 0)
                return cni_fail(k->error, CNI_ERROR_CHECK, "the container's interface %s: %s",
                                k->env.interface, strerror(-r));
        if (!k->link.up)
                return cni_fail(k->error, CNI_ERROR_CHECK, "the container's interface %s is down",
                                k->env.interface);
        r = netlink_link_get(outside, device, &link);
        if (r < 0 || !link.up)
                return cni_fail(k->error, CNI_ERROR_CHECK, "the host's interface %s: %s", device,
                                r < 0 ? strerror(-r) : "it is down");
        return 0;
}

static bool is_listed(const struct check *k, const union slim_addr *wanted)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(k->config->previous, "ips"), i, item) {
                struct inaddr_prefix p;

                if (inaddr_prefix_parse(text_of(item, "address"), &p) == 0 && p.bits == 128 &&
                    inaddr_equal(&p.addr, wanted))
                        return true;
        }
        return false;
}

static int check_address(struct check *k, const char *key)
{
        const char *text = text_of(k->endpoint, key);
        union slim_addr a;

        if (!*text)
                return 0;
        if (inaddr_parse(text, &a) < 0 || !is_listed(k, &a))
                return cni_fail(k->error, CNI_ERROR_CHECK,
                                "the endpoint's address %s is not in \"prevResult\"", text);
        if (netlink_addr_find(k->inside, k->link.ifindex, &a) < 0)
                return cni_fail(k->error, CNI_ERROR_CHECK,
                                "the container's interface %s has not %s", k->env.interface, text);
        return 0;
}

/* Those of "prevResult" by a gateway that its ips of this interface have; others are not ours. */
static bool is_gateway(const struct check *k, const char *gateway)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(k->config->previous, "ips"), i, item)
                if (*gateway && strcmp(text_of(item, "gateway"), gateway) == 0)
                        return true;
        return false;
}

static int check_routes(struct check *k)
{
        const json_t *item;
        size_t i;

        json_array_foreach (json_object_get(k->config->previous, "routes"), i, item) {
                const char *dst = text_of(item, "dst"), *gw = text_of(item, "gw");
                struct netlink_route route = {.ifindex = k->link.ifindex};
                struct inaddr_prefix p;
                union slim_addr gateway;

                if (!is_gateway(k, gw) || inaddr_prefix_parse(dst, &p) < 0 ||
                    inaddr_parse(gw, &gateway) < 0)
                        continue;
                route.dst = p.addr;
                route.dst_bits = (uint8_t)inaddr_prefix_len(&p);
                route.gateway = &gateway;
                if (netlink_route_find(k->inside, &route) < 0)
                        return cni_fail(k->error, CNI_ERROR_CHECK,
                                        "the container has no route to %s by %s", dst,
                                        k->env.interface);
        }
        return 0;
}

int cni_check(const struct cni_config *c, struct cni_error *e)
{
        _cleanup_(check_done) struct check k = {.config = c, .error = e};
        int r = cni_environment_read(true, &k.env, e);

        if (r < 0)
                return r;
        if (!c->previous)
                return cni_fail(e, CNI_ERROR_CONFIG, "\"prevResult\" is missing");
        if (!find_interface(&k))
                return cni_fail(e, CNI_ERROR_CONFIG,
                                "\"prevResult\" has no interface %s of a container",
                                k.env.interface);
        r = find_endpoint(&k);
        if (r == 0)
                r = check_interface(&k);
        if (r == 0)
                r = check_address(&k, "address");
        if (r == 0)
                r = check_address(&k, "address6");
        return r < 0 ? r : check_routes(&k);
}
