/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network.Create, .List, .Remove.
 */
#include <errno.h>
#include <string.h>

#include "api.h"
#include "cluster.h"
#include "registry.h"

/* How long a host's address block is where nobody says: 64 IPv4 addresses. */
#define BLOCK_BITS_V4 26
#define BLOCK_BITS_V6 122

static json_t *describe(const struct slimd *d, const struct network *n)
{
        char prefix[INADDR_TEXT_MAX];
        int family_bits = inaddr_is_v4(&n->prefix.addr) ? 96 : 0;

        return json_pack("{s:s, s:I, s:s, s:i, s:I}", "name", n->name, "id", (json_int_t)n->id,
                         "prefix", inaddr_prefix_format(&n->prefix, prefix), "block_bits",
                         n->block_bits - family_bits, "endpoints",
                         (json_int_t)model_network_endpoints(&d->model, n->name));
}

static int check_prefix(struct api_call *call, const char *text, struct inaddr_prefix *ret)
{
        int r = inaddr_prefix_parse(text, ret);
        union slim_addr loopback = inaddr_from_v4(0x0100007f);

        if (r == -ERANGE)
                return api_fail(call, -EINVAL,
                                "prefix \"%s\" has bits set beyond its length: give the network's "
                                "own address",
                                text);
        if (r < 0)
                return api_fail(call, -EINVAL, "prefix \"%s\" is not one, as in 10.77.0.0/16",
                                text);
        if (!inaddr_is_v4(&ret->addr) || ret->bits < 96)
                return api_fail(call, -EAFNOSUPPORT,
                                "prefix \"%s\": overlay networks are IPv4 in this version", text);
        if (ret->bits < 96 + 8)
                return api_fail(call, -EINVAL, "prefix \"%s\" is too large: /8 at most", text);
        if (inaddr_prefix_contains(ret, &loopback) || (ret->addr.b[12] & 0xf0) >= 0xe0 ||
            ret->addr.b[12] == 0)
                return api_fail(call, -EINVAL,
                                "prefix \"%s\" is not unicast: loopback, multicast and 0.0.0.0/8 "
                                "cannot be overlays",
                                text);
        if (inaddr_prefix_contains(ret, &call->d->underlay_addr))
                return api_fail(call, -EINVAL,
                                "prefix \"%s\" contains this host's own underlay address", text);
        return 0;
}

int api_network_create(struct api_call *call)
{
        const char *name, *text, *other = NULL;
        struct inaddr_prefix prefix = {};
        struct network *n;
        json_int_t bits = -1; /* an int would be cut out of a larger number */
        int family_bits, r;

        r = api_unpack(call, "{s:s, s:s, s?I}", "name", &name, "prefix", &text, "block_bits",
                       &bits);
        if (r == 0)
                r = api_check_name(call, "name", name);
        if (r == 0)
                r = check_prefix(call, text, &prefix);
        if (r < 0)
                return r;
        family_bits = inaddr_is_v4(&prefix.addr) ? 96 : 0;
        if (bits == -1) {
                bits = family_bits ? BLOCK_BITS_V4 : BLOCK_BITS_V6;
                if (bits + family_bits < prefix.bits)
                        bits = prefix.bits - family_bits;
        }
        if (bits < prefix.bits - family_bits || bits > 128 - family_bits)
                return api_fail(call, -EINVAL, "block_bits %lld is not between %d and %d",
                                (long long)bits, prefix.bits - family_bits, 128 - family_bits);
        r = registry_create_network(call->d, name, &prefix, (uint8_t)(bits + family_bits), &n,
                                    &other);
        if (r == -EEXIST && other)
                return api_fail(call, r, "prefix %s overlaps that of network \"%s\"", text, other);
        if (r == -EEXIST)
                return api_fail(call, r, "network \"%s\" exists already", name);
        if (r < 0)
                return api_fail(call, r, "cannot create network \"%s\": %s", name, strerror(-r));
        json_object_set_new(call->answer, "network", describe(call->d, n));
        return 0;
}

int api_network_list(struct api_call *call)
{
        json_t *list = json_array();
        int r = api_unpack(call, "{}");

        if (r < 0) {
                json_decref(list);
                return r;
        }
        (void)cluster_sync(call->d); /* what is known is shown in any case */
        for (struct network *n = call->d->model.networks; n; n = n->hh.next)
                json_array_append_new(list, describe(call->d, n));
        json_object_set_new(call->answer, "networks", list);
        return 0;
}

int api_network_remove(struct api_call *call)
{
        const char *name;
        int r;

        r = api_unpack(call, "{s:s}", "name", &name);
        if (r == 0)
                r = api_check_name(call, "name", name);
        if (r < 0)
                return r;
        r = registry_remove_network(call->d, name);
        if (r == -ENOENT)
                return api_fail(call, r, "network \"%s\" does not exist", name);
        if (r == -EBUSY)
                return api_fail(call, r, "network \"%s\" still has endpoints", name);
        if (r < 0)
                return api_fail(call, r, "cannot remove network \"%s\": %s", name, strerror(-r));
        return 0;
}
