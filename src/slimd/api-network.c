/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Network.Create, .List, .Label, .Remove.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../shared/labeling.h"
#include "api.h"
#include "cluster.h"
#include "registry.h"

/* What a network has of each family, and how long a host's address block is where nobody says: 64
 * addresses. */
static const struct {
        const char *prefix, *block_bits;
        int family_bits; /* how many of the 16 bytes' bits are not the family's own */
        int default_block;
        int largest; /* the shortest prefix */
        const char *example;
} names[SLIM_FAMILIES] = {
    [SLIM_V4] = {"prefix", "block_bits", 96, 26, 8, "10.77.0.0/16"},
    [SLIM_V6] = {"prefix6", "block_bits6", 0, 122, 16, "fd00:77::/64"},
};

/* The default one's. */
#define DEFAULT_PREFIX "10.77.0.0/16"
#define DEFAULT_BLOCK  (96 + 26)

static json_t *describe(const struct slimd *d, const struct network *n)
{
        json_t *j = json_pack("{s:s, s:I, s:n, s:n, s:n, s:n, s:I}", "name", n->name, "id",
                              (json_int_t)n->id, "prefix", "block_bits", "prefix6", "block_bits6",
                              "endpoints", (json_int_t)model_network_endpoints(&d->model, n->name));

        json_object_set_new(j, "labels", n->labels ? json_incref(n->labels) : json_object());
        network_each_family(n, f)
        {
                char text[INADDR_TEXT_MAX];

                json_object_set_new(j, names[f].prefix,
                                    json_string(inaddr_prefix_format(&n->prefix[f], text)));
                json_object_set_new(j, names[f].block_bits,
                                    json_integer(n->block_bits[f] - names[f].family_bits));
        }
        return j;
}

/* Is all of it unicast, and routable? */
static bool is_unicast(const struct inaddr_prefix *p)
{
        union slim_addr loopback = inaddr_from_v4(0x0100007f);

        if (inaddr_is_v4(&p->addr))
                return !inaddr_prefix_contains(p, &loopback) && (p->addr.b[12] & 0xf0) < 0xe0 &&
                       p->addr.b[12] != 0;
        /* 2000::/3 and fc00::/7 (RFC 4291, section 2.4; RFC 4193) */
        return (p->addr.b[0] & 0xe0) == 0x20 || (p->addr.b[0] & 0xfe) == 0xfc;
}

/* One family's prefix and block length, into the network. Without a text: it has none. */
static int take_prefix(struct api_call *call, struct network *n, enum slim_family f,
                       const char *text, json_int_t bits)
{
        struct inaddr_prefix *p = &n->prefix[f];
        int family_bits = names[f].family_bits, own, r;

        if (!text && bits != -1)
                return api_fail(call, -EINVAL, "%s without %s", names[f].block_bits,
                                names[f].prefix);
        if (!text)
                return 0;
        r = inaddr_prefix_parse(text, p);
        if (r == -ERANGE)
                return api_fail(call, -EINVAL,
                                "prefix \"%s\" has bits set beyond its length: give the network's "
                                "own address",
                                text);
        if (r < 0)
                return api_fail(call, -EINVAL, "prefix \"%s\" is not one, as in %s", text,
                                names[f].example);
        if (inaddr_family(&p->addr) != f || p->bits < family_bits)
                return api_fail(call, -EINVAL, "%s \"%s\" is not of %s, as %s is", names[f].prefix,
                                text, f == SLIM_V4 ? "IPv4" : "IPv6", names[f].example);
        own = p->bits - family_bits;
        if (own < names[f].largest)
                return api_fail(call, -EINVAL, "prefix \"%s\" is too large: /%d at most", text,
                                names[f].largest);
        if (!is_unicast(p))
                return api_fail(call, -EINVAL,
                                f == SLIM_V4
                                    ? "prefix \"%s\" is not unicast: loopback, multicast and "
                                      "0.0.0.0/8 cannot be overlays"
                                    : "prefix \"%s\" is not unicast: overlays are in 2000::/3 or "
                                      "fc00::/7",
                                text);
        if (inaddr_prefix_contains(p, &call->d->underlay_addr[f]))
                return api_fail(call, -EINVAL,
                                "prefix \"%s\" contains this host's own underlay address", text);
        if (bits == -1)
                bits = own > names[f].default_block ? own : names[f].default_block;
        if (bits < own || bits > 128 - family_bits)
                return api_fail(call, -EINVAL, "%s %lld is not between %d and %d",
                                names[f].block_bits, (long long)bits, own, 128 - family_bits);
        n->block_bits[f] = (uint8_t)(bits + family_bits);
        return 0;
}

int api_network_create(struct api_call *call)
{
        const char *name, *text[SLIM_FAMILIES] = {}, *other = NULL;
        json_int_t bits[SLIM_FAMILIES] = {-1, -1}; /* an int would be cut out of a larger number */
        char problem[LABELING_PROBLEM_MAX];
        struct network wanted = {}, *n;
        json_t *labels = NULL;
        int r;

        r = api_unpack(call, "{s:s, s?s, s?I, s?s, s?I, s?o}", "name", &name, "prefix",
                       &text[SLIM_V4], "block_bits", &bits[SLIM_V4], "prefix6", &text[SLIM_V6],
                       "block_bits6", &bits[SLIM_V6], "labels", &labels);
        if (r == 0)
                r = api_check_name(call, "name", name);
        if (r == 0 && !text[SLIM_V4] && !text[SLIM_V6])
                return api_fail(call, -EINVAL,
                                "a network has a prefix, as in 10.77.0.0/16, or a prefix6, as in "
                                "fd00:77::/64, or both");
        for (unsigned int f = 0; r == 0 && f < SLIM_FAMILIES; f++)
                r = take_prefix(call, &wanted, (enum slim_family)f, text[f], bits[f]);
        if (r < 0)
                return r;
        r = labeling_check(labels, true, problem);
        if (r < 0)
                return api_fail(call, r, "%s", problem);
        wanted.labels = json_object_size(labels) > 0 ? labels : NULL; /* the call's */
        snprintf(wanted.name, sizeof(wanted.name), "%s", name);
        r = registry_create_network(call->d, &wanted, &n, &other);
        if (r == -EEXIST && other)
                return api_fail(call, r, "prefix %s%s%s overlaps that of network \"%s\"",
                                text[SLIM_V4] ?: "", text[SLIM_V4] && text[SLIM_V6] ? " or " : "",
                                text[SLIM_V6] ?: "", other);
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

int api_network_label(struct api_call *call)
{
        const char *name;
        char problem[LABELING_PROBLEM_MAX] = "";
        const json_t *set = NULL, *remove = NULL;
        const struct network *n;
        int r;

        r = api_unpack(call, "{s:s, s?o, s?o}", "name", &name, "set", &set, "remove", &remove);
        if (r == 0)
                r = api_check_name(call, "name", name);
        if (r < 0)
                return r;
        r = registry_label_network(call->d, name, set, remove, problem);
        n = model_network(&call->d->model, name);
        if (r == -ENOENT || (r == 0 && !n))
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", name);
        if (r < 0)
                return *problem ? api_fail(call, r, "%s", problem)
                                : api_fail(call, r, "cannot label network \"%s\": %s", name,
                                           strerror(-r));
        json_object_set_new(call->answer, "network", describe(call->d, n));
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
        if (r == -ENOTEMPTY)
                return api_fail(call, r, "network \"%s\" still has policies", name);
        if (r < 0)
                return api_fail(call, r, "cannot remove network \"%s\": %s", name, strerror(-r));
        return 0;
}

int api_want_network(struct api_call *call, const char *name, struct network **ret)
{
        struct slimd *d = call->d;
        struct network wanted = {.block_bits[SLIM_V4] = DEFAULT_BLOCK};
        const char *other = NULL;
        int r = 0;

        *ret = model_network(&d->model, name);
        if (*ret)
                return 0;
        if (strcmp(name, POLICY_DEFAULT_NETWORK) != 0)
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", name);
        snprintf(wanted.name, sizeof(wanted.name), "%s", name);
        inaddr_prefix_parse(DEFAULT_PREFIX, &wanted.prefix[SLIM_V4]);
        r = registry_create_network(d, &wanted, ret, &other);
        if (r == -EEXIST && other)
                return api_fail(call, r,
                                "the default network's prefix " DEFAULT_PREFIX
                                " overlaps that of network \"%s\": name a network, or create "
                                "\"" POLICY_DEFAULT_NETWORK "\" with another prefix",
                                other);
        if (r == -EEXIST) {
                *ret = model_network(&d->model, name);
                return *ret ? 0 : -ENOENT;
        }
        if (r < 0)
                return api_fail(call, r, "cannot create the default network: %s", strerror(-r));
        return 0;
}
