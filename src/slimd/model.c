/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"

void network_clear(struct network *n)
{
        json_decref(n->labels);
        n->labels = NULL;
}

void endpoint_clear(struct endpoint *e)
{
        json_decref(e->labels);
        json_decref(e->ports);
        e->labels = e->ports = NULL;
}

struct endpoint endpoint_copy(const struct endpoint *e)
{
        json_incref(e->labels);
        json_incref(e->ports);
        return *e;
}

int endpoint_labels(const struct endpoint *e, struct labels *ret)
{
        struct labels l = {};
        char problem[LABEL_PROBLEM_MAX];
        int r;

        if (!e->is_host)
                return labels_from_json(e->labels, ret, problem);
        r = labels_add(&l, LABEL_KIND, LABEL_KIND_HOST, problem);
        if (r == 0)
                r = labels_add(&l, LABEL_HOST, e->host, problem);
        if (r < 0)
                labels_clear(&l);
        else
                *ret = l;
        return r;
}

void model_drop_network(struct model *m, struct network *n)
{
        HASH_DEL(m->networks, n);
        network_clear(n);
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
        endpoint_clear(e);
        free(e);
}

void model_drop_policy(struct model *m, const char *key)
{
        struct known_policy *p = model_policy(m, key);

        if (!p)
                return;
        HASH_DEL(m->policies, p);
        free(p);
}

void model_clear(struct model *m)
{
        struct known_policy *p, *next_p;
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
        HASH_ITER(hh, m->policies, p, next_p)
        {
                HASH_DEL(m->policies, p);
                free(p);
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

struct known_policy *model_policy(const struct model *m, const char *key)
{
        struct known_policy *p;

        HASH_FIND_STR(m->policies, key, p);
        return p;
}

size_t model_network_policies(const struct model *m, const char *network)
{
        size_t n = 0;

        for (struct known_policy *p = m->policies; p; p = p->hh.next)
                n += strcmp(p->network, network) == 0;
        return n;
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
                if (e->network_id == network_id && inaddr_is_one_of(addr, e->addr))
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

int model_put_network(struct model *m, struct network *value, struct network **ret)
{
        struct network *n = model_network(m, value->name);

        if (!n) {
                n = new0(struct network, 1);
                if (!n) {
                        network_clear(value);
                        return -ENOMEM;
                }
                *n = *value;
                HASH_ADD_STR(m->networks, name, n);
        } else {
                UT_hash_handle hh = n->hh;

                network_clear(n);
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

int model_put_endpoint(struct model *m, struct endpoint *value, struct endpoint **ret)
{
        struct endpoint *e = model_endpoint(m, value->id);

        if (!e) {
                e = new0(struct endpoint, 1);
                if (!e) {
                        endpoint_clear(value);
                        return -ENOMEM;
                }
                *e = *value;
                e->identity = e->replaced = 0;
                e->pending = false;
                HASH_ADD(hh, m->endpoints, id, sizeof(e->id), e);
        } else {
                struct endpoint old = *e;

                *e = *value;
                e->hh = old.hh;
                e->identity = old.identity;
                e->identity_local = old.identity_local;
                e->replaced = old.replaced;
                e->replaced_local = old.replaced_local;
                e->pending = old.pending;
                endpoint_clear(&old);
        }
        *ret = e;
        return 0;
}

int model_put_policy(struct model *m, const char *network, const char *name)
{
        struct known_policy *p = new0(struct known_policy, 1);

        if (!p)
                return -ENOMEM;
        snprintf(p->key, sizeof(p->key), "%s/%s", network, name);
        snprintf(p->network, sizeof(p->network), "%s", network);
        snprintf(p->name, sizeof(p->name), "%s", name);
        if (model_policy(m, p->key))
                free(p);
        else
                HASH_ADD_STR(m->policies, key, p);
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

bool addrs_equal(const union slim_addr a[SLIM_FAMILIES], const union slim_addr b[SLIM_FAMILIES])
{
        return inaddr_equal(&a[SLIM_V4], &b[SLIM_V4]) && inaddr_equal(&a[SLIM_V6], &b[SLIM_V6]);
}

void addrs_format(const union slim_addr a[SLIM_FAMILIES], char buf[SLIM_FAMILIES][INADDR_TEXT_MAX],
                  const char *ret[SLIM_FAMILIES])
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                ret[f] = inaddr_is_none(&a[f]) ? NULL : inaddr_format(&a[f], buf[f]);
}

/* Back from the texts of both families, of which at least one is there. */
static int addrs_parse(const char *const text[SLIM_FAMILIES], union slim_addr ret[SLIM_FAMILIES])
{
        union slim_addr a[SLIM_FAMILIES] = {};

        for (unsigned int f = 0; f < SLIM_FAMILIES; f++) {
                if (!text[f])
                        continue;
                if (inaddr_parse(text[f], &a[f]) < 0 || inaddr_is_none(&a[f]) ||
                    inaddr_family(&a[f]) != f)
                        return -EBADMSG;
        }
        if (!text[SLIM_V4] && !text[SLIM_V6])
                return -EBADMSG;
        memcpy(ret, a, sizeof(a));
        return 0;
}

/* One family's prefix and block length, as numbers on the 16 bytes. Absent: nothing is set. */
static int prefix_parse(const char *text, json_int_t bits, enum slim_family family,
                        struct inaddr_prefix *ret, uint8_t *ret_bits)
{
        struct inaddr_prefix p;

        if (!text)
                return 0;
        if (inaddr_prefix_parse(text, &p) < 0 || !p.bits || inaddr_family(&p.addr) != family ||
            (family == SLIM_V4 && p.bits < 96) || bits < p.bits || bits > 128)
                return -EBADMSG;
        *ret = p;
        *ret_bits = (uint8_t)bits;
        return 0;
}

/* A reference to the labels in an object, NULL for none. */
static int take_labels(const json_t *j, bool of_network, json_t **ret)
{
        json_t *labels = json_object_get(j, "labels");
        char problem[LABELING_PROBLEM_MAX];
        int r = labeling_check(labels, of_network, problem);

        if (r == 0)
                *ret = json_object_size(labels) > 0 ? json_incref(labels) : NULL;
        return r;
}

char *network_to_json(const struct network *n)
{
        static const char *const names[SLIM_FAMILIES][2] = {
            [SLIM_V4] = {"prefix", "block_bits"},
            [SLIM_V6] = {"prefix6", "block_bits6"},
        };
        json_t *j = json_pack("{s:I}", "id", (json_int_t)n->id);

        network_each_family(n, f)
        {
                char prefix[INADDR_TEXT_MAX];

                json_object_set_new(j, names[f][0],
                                    json_string(inaddr_prefix_format(&n->prefix[f], prefix)));
                json_object_set_new(j, names[f][1], json_integer(n->block_bits[f]));
        }
        if (n->labels)
                json_object_set(j, "labels", n->labels);
        return dump_and_unref(j);
}

int network_from_json(const char *name, const char *text, struct network *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        const char *prefix[SLIM_FAMILIES] = {};
        json_int_t id, bits[SLIM_FAMILIES] = {};
        struct network n = {};

        if (!j || json_unpack(j, "{s:I, s?s, s?I, s?s, s?I}", "id", &id, "prefix", &prefix[SLIM_V4],
                              "block_bits", &bits[SLIM_V4], "prefix6", &prefix[SLIM_V6],
                              "block_bits6", &bits[SLIM_V6]) < 0)
                return -EBADMSG;
        if (copy_name(n.name, name) < 0 || id < 1 || id > 0xffffff ||
            (!prefix[SLIM_V4] && !prefix[SLIM_V6]))
                return -EBADMSG;
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (prefix_parse(prefix[f], bits[f], (enum slim_family)f, &n.prefix[f],
                                 &n.block_bits[f]) < 0)
                        return -EBADMSG;
        if (take_labels(j, true, &n.labels) < 0)
                return -EBADMSG;
        n.id = (uint32_t)id;
        *ret = n;
        return 0;
}

char *host_to_json(const struct host *h)
{
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES];

        addrs_format(h->addr, buf, addr);
        return dump_and_unref(
            json_pack("{s:s*, s:s*}", "address", addr[SLIM_V4], "address6", addr[SLIM_V6]));
}

int host_from_json(const char *name, const char *text, struct host *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        const char *addr[SLIM_FAMILIES] = {};
        struct host h = {};

        if (!j ||
            json_unpack(j, "{s?s, s?s}", "address", &addr[SLIM_V4], "address6", &addr[SLIM_V6]) <
                0 ||
            copy_name(h.name, name) < 0 || addrs_parse(addr, h.addr) < 0)
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
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX], host_buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES], *host[SLIM_FAMILIES];
        json_t *j;

        addrs_format(e->addr, buf, addr);
        addrs_format(e->host_addr, host_buf, host);
        j = json_pack("{s:s, s:s, s:I, s:s*, s:s*, s:s, s:s*, s:s*, s:s}", "name", e->name,
                      "network", e->network, "network_id", (json_int_t)e->network_id, "address",
                      addr[SLIM_V4], "address6", addr[SLIM_V6], "host", e->host, "host_address",
                      host[SLIM_V4], "host_address6", host[SLIM_V6], "kind", endpoint_kind(e));
        if (j && e->publish.n)
                json_object_set_new(j, "publish", publications_to_json(&e->publish));
        if (j && e->labels)
                json_object_set(j, "labels", e->labels);
        if (j && e->ports)
                json_object_set(j, "ports", e->ports);
        if (j && !limits_are_none(&e->limits))
                json_object_set_new(j, "limits", limits_to_json(&e->limits));
        return dump_and_unref(j);
}

int endpoint_from_json(uint32_t id, const char *text, struct endpoint *ret)
{
        _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
        const char *name, *network, *host, *kind;
        const char *addr[SLIM_FAMILIES] = {}, *host_addr[SLIM_FAMILIES] = {};
        char problem[PUBLICATION_PROBLEM_MAX];
        _Static_assert(sizeof(problem) >= LABELING_PROBLEM_MAX, "a label's problem is longer");
        _Static_assert(sizeof(problem) >= LIMITS_PROBLEM_MAX, "a limit's problem is longer");
        struct endpoint e = {.id = id};
        struct named_ports ports;
        json_int_t network_id;

        if (!j || json_unpack(j, "{s:s, s:s, s:I, s?s, s?s, s:s, s?s, s?s, s:s}", "name", &name,
                              "network", &network, "network_id", &network_id, "address",
                              &addr[SLIM_V4], "address6", &addr[SLIM_V6], "host", &host,
                              "host_address", &host_addr[SLIM_V4], "host_address6",
                              &host_addr[SLIM_V6], "kind", &kind) < 0)
                return -EBADMSG;
        if (copy_name(e.name, name) < 0 || copy_name(e.network, network) < 0 ||
            copy_name(e.host, host) < 0 || addrs_parse(addr, e.addr) < 0 ||
            addrs_parse(host_addr, e.host_addr) < 0 || network_id < 1 || network_id > 0xffffff)
                return -EBADMSG;
        e.slim = strcmp(kind, "slim") == 0;
        e.is_host = strcmp(kind, "host") == 0;
        if (!e.slim && !e.is_host && strcmp(kind, "plain") != 0)
                return -EBADMSG;
        if (publications_from_json(json_object_get(j, "publish"), &e.publish, problem) < 0 ||
            named_ports_from_json(json_object_get(j, "ports"), &ports, problem) < 0 ||
            limits_from_json(json_object_get(j, "limits"), &e.limits, problem) < 0 ||
            take_labels(j, false, &e.labels) < 0)
                return -EBADMSG;
        e.ports = named_ports_to_json(&ports);
        if ((ports.n && !e.ports) ||
            (e.is_host && (e.labels || e.ports || !limits_are_none(&e.limits)))) {
                endpoint_clear(&e);
                return -EBADMSG;
        }
        e.network_id = (uint32_t)network_id;
        *ret = e;
        return 0;
}
