/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../shared/rpc.h"

void model_drop_network(struct model *m, struct network *n)
{
        HASH_DEL(m->networks, n);
        free(n);
}

void model_drop_host(struct model *m, struct host *h)
{
        HASH_DEL(m->hosts, h);
        free(h);
}

void model_drop_endpoint(struct model *m, struct endpoint *e)
{
        HASH_DEL(m->endpoints, e);
        free(e);
}

void model_clear(struct model *m)
{
        struct network *n, *next_n;
        struct host *h, *next_h;
        struct endpoint *e, *next_e;

        HASH_ITER(hh, m->networks, n, next_n)
        {
                model_drop_network(m, n);
        }
        HASH_ITER(hh, m->hosts, h, next_h)
        {
                model_drop_host(m, h);
        }
        HASH_ITER(hh, m->endpoints, e, next_e)
        {
                model_drop_endpoint(m, e);
        }
}

struct network *model_network(const struct model *m, const char *name)
{
        struct network *n;

        HASH_FIND_STR(m->networks, name, n);
        return n;
}

struct host *model_host(const struct model *m, const char *name)
{
        struct host *h;

        HASH_FIND_STR(m->hosts, name, h);
        return h;
}

struct endpoint *model_endpoint(const struct model *m, uint32_t id)
{
        struct endpoint *e;

        HASH_FIND(hh, m->endpoints, &id, sizeof(id), e);
        return e;
}

struct endpoint *model_endpoint_by_name(const struct model *m, const char *network,
                                        const char *name)
{
        for (struct endpoint *e = m->endpoints; e; e = e->hh.next)
                if (!e->is_host && strcmp(e->name, name) == 0 && strcmp(e->network, network) == 0)
                        return e;
        return NULL;
}

struct endpoint *model_host_endpoint(const struct model *m, const char *network, const char *host)
{
        for (struct endpoint *e = m->endpoints; e; e = e->hh.next)
                if (e->is_host && strcmp(e->host, host) == 0 && strcmp(e->network, network) == 0)
                        return e;
        return NULL;
}

struct endpoint *model_endpoint_by_addr(const struct model *m, uint32_t network_id,
                                        const union slim_addr *addr)
{
        for (struct endpoint *e = m->endpoints; e; e = e->hh.next)
                if (e->network_id == network_id && inaddr_equal(&e->addr, addr))
                        return e;
        return NULL;
}

size_t model_containers(const struct model *m)
{
        size_t n = 0;

        for (struct endpoint *e = m->endpoints; e; e = e->hh.next)
                n += !e->is_host;
        return n;
}

size_t model_network_endpoints(const struct model *m, const char *network)
{
        size_t n = 0;

        for (struct endpoint *e = m->endpoints; e; e = e->hh.next)
                n += !e->is_host && strcmp(e->network, network) == 0;
        return n;
}

/* The three put functions: keep the hash handle, overwrite the rest. */

int model_put_network(struct model *m, const struct network *value, struct network **ret)
{
        struct network *n = model_network(m, value->name);

        if (!n) {
                n = new0(struct network, 1);
                if (!n)
                        return -ENOMEM;
                *n = *value;
                HASH_ADD_STR(m->networks, name, n);
        } else {
                UT_hash_handle hh = n->hh;

                *n = *value;
                n->hh = hh;
        }
        *ret = n;
        return 0;
}

int model_put_host(struct model *m, const struct host *value, struct host **ret)
{
        struct host *h = model_host(m, value->name);

        if (!h) {
                h = new0(struct host, 1);
                if (!h)
                        return -ENOMEM;
                *h = *value;
                HASH_ADD_STR(m->hosts, name, h);
        } else {
                UT_hash_handle hh = h->hh;

                *h = *value;
                h->hh = hh;
        }
        *ret = h;
        return 0;
}

int model_put_endpoint(struct model *m, const struct endpoint *value, struct endpoint **ret)
{
        struct endpoint *e = model_endpoint(m, value->id);

        if (!e) {
                e = new0(struct endpoint, 1);
                if (!e)
                        return -ENOMEM;
                *e = *value;
                HASH_ADD(hh, m->endpoints, id, sizeof(e->id), e);
        } else {
                UT_hash_handle hh = e->hh;

                *e = *value;
                e->hh = hh;
        }
        *ret = e;
        return 0;
}

static char *dump_and_unref(json_t *j)
{
        char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;

        json_decref(j);
        return text;
}

static int copy_name(char to[NAME_LEN_MAX + 1], const char *from)
{
        if (!name_is_valid(from))
                return -EBADMSG;
        strcpy(to, from); /* at most NAME_LEN_MAX, as name_is_valid() knows */
        return 0;
}

char *network_to_json(const struct network *n)
{
        char prefix[INADDR_TEXT_MAX];

        return dump_and_unref(json_pack("{s:I, s:s, s:i}", "id", (json_int_t)n->id, "prefix",
                                        inaddr_prefix_format(&n->prefix, prefix), "block_bits",
                                        (int)n->block_bits));
}

int network_from_json(const char *name, const char *text, struct network *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        struct network n = {};
        const char *prefix;
        json_int_t id, bits;

        if (!j || json_unpack(j, "{s:I, s:s, s:I}", "id", &id, "prefix", &prefix, "block_bits",
                              &bits) < 0)
                return -EBADMSG;
        if (copy_name(n.name, name) < 0 || inaddr_prefix_parse(prefix, &n.prefix) < 0 || id < 1 ||
            id > 0xffffff || bits < n.prefix.bits || bits > 128)
                return -EBADMSG;
        n.id = (uint32_t)id;
        n.block_bits = (uint8_t)bits;
        *ret = n;
        return 0;
}

char *host_to_json(const struct host *h)
{
        char addr[INADDR_TEXT_MAX];

        return dump_and_unref(json_pack("{s:s}", "address", inaddr_format(&h->addr, addr)));
}

int host_from_json(const char *name, const char *text, struct host *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        struct host h = {};
        const char *addr;

        if (!j || json_unpack(j, "{s:s}", "address", &addr) < 0 || copy_name(h.name, name) < 0 ||
            inaddr_parse(addr, &h.addr) < 0)
                return -EBADMSG;
        *ret = h;
        return 0;
}

const char *endpoint_kind(const struct endpoint *e)
{
        return e->is_host ? "host" : e->slim ? "slim" : "plain";
}

char *endpoint_to_json(const struct endpoint *e)
{
        char addr[INADDR_TEXT_MAX], host_addr[INADDR_TEXT_MAX];
        json_t *j;

        j = json_pack("{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "name", e->name, "network", e->network,
                      "network_id", (json_int_t)e->network_id, "address",
                      inaddr_format(&e->addr, addr), "host", e->host, "host_address",
                      inaddr_format(&e->host_addr, host_addr), "kind", endpoint_kind(e));
        if (j && e->publish.n)
                json_object_set_new(j, "publish", publications_to_json(&e->publish));
        return dump_and_unref(j);
}

int endpoint_from_json(uint32_t id, const char *text, struct endpoint *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        const char *name, *network, *addr, *host, *host_addr, *kind;
        char problem[PUBLICATION_PROBLEM_MAX];
        struct endpoint e = {.id = id};
        json_int_t network_id;

        if (!j || json_unpack(j, "{s:s, s:s, s:I, s:s, s:s, s:s, s:s}", "name", &name, "network",
                              &network, "network_id", &network_id, "address", &addr, "host", &host,
                              "host_address", &host_addr, "kind", &kind) < 0)
                return -EBADMSG;
        if (copy_name(e.name, name) < 0 || copy_name(e.network, network) < 0 ||
            copy_name(e.host, host) < 0 || inaddr_parse(addr, &e.addr) < 0 ||
            inaddr_parse(host_addr, &e.host_addr) < 0 || network_id < 1 || network_id > 0xffffff)
                return -EBADMSG;
        e.slim = strcmp(kind, "slim") == 0;
        e.is_host = strcmp(kind, "host") == 0;
        if (!e.slim && !e.is_host && strcmp(kind, "plain") != 0)
                return -EBADMSG;
        if (publications_from_json(json_object_get(j, "publish"), &e.publish, problem) < 0)
                return -EBADMSG;
        e.network_id = (uint32_t)network_id;
        *ret = e;
        return 0;
}
