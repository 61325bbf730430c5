/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Endpoint.List, .Show, .Label, .Limit. (Endpoint.Add is in api-endpoint-add.c.)
 */
#include <errno.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"
#include "address.h"
#include "api.h"
#include "cluster.h"
#include "host.h"
#include "ipv6.h"
#include "limit.h"
#include "local.h"
#include "mirror.h"
#include "registry.h"

static json_t *labels_of(const struct endpoint *e)
{
        _cleanup_(labels_clear) struct labels labels = {};

        return endpoint_labels(e, &labels) < 0 ? NULL : labels_to_json(&labels);
}

json_t *api_describe_endpoint(const struct slimd *d, const struct endpoint *e)
{
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX], host_buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
        const char *addr[SLIM_FAMILIES], *host[SLIM_FAMILIES];
        const struct local *l = local_find(d, e->id);
        json_t *j;

        addrs_format(e->addr, buf, addr);
        addrs_format(e->host_addr, host_buf, host);
        j = json_pack("{s:s, s:s, s:I, s:s?, s:s?, s:s, s:s?, s:s?, s:s, s:b}", "name", e->name,
                      "network", e->network, "id", (json_int_t)e->id, "address", addr[SLIM_V4],
                      "address6", addr[SLIM_V6], "host", e->host, "host_address", host[SLIM_V4],
                      "host_address6", host[SLIM_V6], "kind", endpoint_kind(e), "local",
                      mirror_is_local(d, e));
        if (j) {
                json_object_set_new(j, "publish", publications_to_json(&e->publish));
                json_object_set_new(j, "labels", labels_of(e));
                json_object_set_new(j, "ports", e->ports ? json_incref(e->ports) : json_object());
                json_object_set_new(j, "limits", limits_to_json(&e->limits) ?: json_object());
        }
        if (j && l)
                local_describe(l, j);
        return j;
}

static bool is_attached(const struct slimd *d, const struct endpoint *e, const char *prefix)
{
        const struct local *l = local_find(d, e->id);
        const char *id = l ? local_attachment(l) : NULL;

        return id && strncmp(id, prefix, strlen(prefix)) == 0;
}

int api_endpoint_list(struct api_call *call)
{
        const char *network = NULL, *attached = NULL;
        json_t *list;
        int all = 0, r;

        r = api_unpack(call, "{s?s, s?b, s?s}", "network", &network, "all", &all, "attached",
                       &attached);
        if (r == 0 && network)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        if (network && !model_network(&call->d->model, network))
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", network);
        list = json_array();
        for (struct endpoint *e = call->d->model.endpoints; e; e = e->hh.next)
                if ((all || !e->is_host) && (!network || strcmp(network, e->network) == 0) &&
                    (!attached || is_attached(call->d, e, attached)))
                        json_array_append_new(list, api_describe_endpoint(call->d, e));
        json_object_set_new(call->answer, "endpoints", list);
        return 0;
}

/* A container that a call names. */
static int find(struct api_call *call, const char *name, const char *network,
                const struct endpoint **ret)
{
        int r = api_check_name(call, "name", name);

        if (r == 0)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        *ret = model_endpoint_by_name(&call->d->model, network, name);
        return *ret ? 0
                    : api_fail(call, -ENOENT, "endpoint \"%s\" does not exist in network \"%s\"",
                               name, network);
}

int api_endpoint_show(struct api_call *call)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        const struct endpoint *e = NULL;
        int r;

        r = api_unpack(call, "{s:s, s?s}", "name", &name, "network", &network);
        if (r == 0)
                r = find(call, name, network, &e);
        if (!e)
                return r;
        json_object_set_new(call->answer, "endpoint", api_describe_endpoint(call->d, e));
        return 0;
}

/* What a call changes about a container of this host: its labels or its limits. */
struct change {
        const char *verb, *what;
        int (*change)(struct slimd *d, const struct endpoint *e, const json_t *set,
                      const json_t *remove, char *problem);
};

static int change(struct api_call *call, const struct change *c, const struct endpoint **ret)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        char problem[LABELING_PROBLEM_MAX] = "";
        _Static_assert(sizeof(problem) >= LIMITS_PROBLEM_MAX, "a limit's problem is longer");
        const json_t *set = NULL, *remove = NULL;
        const struct endpoint *e = NULL;
        uint32_t id;
        int r;

        r = api_unpack(call, "{s:s, s?s, s?o, s?o}", "name", &name, "network", &network, "set",
                       &set, "remove", &remove);
        if (r == 0)
                r = find(call, name, network, &e);
        if (!e)
                return r;
        /* Its entry hangs on its host's lease, which nobody else can put it on again. */
        if (!mirror_is_local(call->d, e))
                return api_fail(call, -EREMOTE,
                                "endpoint \"%s\" lives on host %s, and only there its %s are "
                                "changed",
                                name, e->host, c->what);
        id = e->id;
        r = c->change(call->d, e, set, remove, problem);
        e = model_endpoint(&call->d->model, id);
        if (r < 0 && *problem)
                return api_fail(call, r, "%s", problem);
        if (r == 0 && !e)
                r = -ENOENT;
        if (r < 0)
                return api_fail(call, r, "cannot %s endpoint \"%s\": %s", c->verb, name,
                                strerror(-r));
        *ret = e;
        json_object_set_new(call->answer, "endpoint", api_describe_endpoint(call->d, e));
        return 0;
}

int api_endpoint_label(struct api_call *call)
{
        static const struct change labels = {"label", "labels", registry_label_endpoint};
        const struct endpoint *e = NULL;

        return change(call, &labels, &e);
}

int api_endpoint_limit(struct api_call *call)
{
        static const struct change limits = {"limit", "limits", registry_limit_endpoint};
        const struct endpoint *e = NULL;
        const struct local *l;
        int r;

        /* Whether this host can is said before anything is written. */
        if (json_object_size(json_object_get(call->parameters, "set")) > 0) {
                r = limit_prepare(call->d, &call->error);
                if (r < 0)
                        return r;
        }
        r = change(call, &limits, &e);
        limit_tidy(call->d);
        if (!e)
                return r;
        l = local_find(call->d, e->id);
        r = l ? local_limits_error(l) : 0;
        return r < 0 ? api_fail(call, r, "its limits are stored but not in force: %s", strerror(-r))
                     : 0;
}
