/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Status.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "api.h"
#include "cluster.h"
#include "local.h"
#include "monitor.h"

static json_t *time_text(time_t t)
{
        char text[32];
        struct tm tm;

        if (!t)
                return json_null();
        gmtime_r(&t, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &tm);
        return json_string(text);
}

static json_t *hosts(const struct slimd *d)
{
        json_t *list = json_array();

        for (struct host *h = d->model.hosts; h; h = h->hh.next) {
                char buf[SLIM_FAMILIES][INADDR_TEXT_MAX];
                const char *addr[SLIM_FAMILIES];

                addrs_format(h->addr, buf, addr);
                json_array_append_new(list,
                                      json_pack("{s:s, s:s?, s:s?}", "name", h->name, "address",
                                                addr[SLIM_V4], "address6", addr[SLIM_V6]));
        }
        return list;
}

static int counters(const struct slimd *d, json_t *to)
{
        uint64_t n[SLIM_REASON_MAX];
        json_t *list;
        int r = datapath_counters(d->dp, n);

        if (r < 0)
                return r;
        list = json_object();
        for (int i = SLIM_REASON_NONE + 1; i < SLIM_REASON_MAX; i++)
                json_object_set_new(list, reason_name((unsigned int)i),
                                    json_integer((json_int_t)n[i]));
        return json_object_set_new(to, "counters", list) < 0 ? -ENOMEM : 0;
}

static int maps(const struct slimd *d, json_t *to)
{
        static const enum datapath_map shown[] = {DATAPATH_ENDPOINTS,    DATAPATH_PORTS,
                                                  DATAPATH_LISTENERS,    DATAPATH_SYNS,
                                                  DATAPATH_PUBLISHED,    DATAPATH_POLICY_SUBJECTS,
                                                  DATAPATH_POLICY_CIDRS, DATAPATH_POLICY_RULES};
        json_t *list = json_object();

        json_object_set_new(to, "maps", list);
        for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
                uint64_t n;
                int r = datapath_map_count(d->dp, shown[i], &n);

                if (r < 0)
                        return r;
                json_object_set_new(list, datapath_map_name(shown[i]), json_integer((json_int_t)n));
        }
        return 0;
}

int api_status(struct api_call *call)
{
        struct slimd *d = call->d;
        json_t *j = call->answer;
        char buf[SLIM_FAMILIES][INADDR_TEXT_MAX], ports[32];
        const char *addr[SLIM_FAMILIES];
        json_int_t locals = 0;
        int r;

        r = api_unpack(call, "{}");
        if (r < 0)
                return r;
        (void)cluster_sync(d);
        for (struct local *l = local_next(d, NULL); l; l = local_next(d, l))
                locals++;
        snprintf(ports, sizeof(ports), "%d-%d", SLIM_PORT_BASE,
                 SLIM_PORT_BASE + SLIM_PORT_COUNT - 1);
        json_object_set_new(j, "host", json_string(d->opt.host_name));
        json_object_set_new(j, "underlay", json_string(d->underlay.name));
        addrs_format(d->underlay_addr, buf, addr);
        json_object_set_new(j, "underlay_address",
                            addr[SLIM_V4] ? json_string(addr[SLIM_V4]) : json_null());
        json_object_set_new(j, "underlay_address6",
                            addr[SLIM_V6] ? json_string(addr[SLIM_V6]) : json_null());
        json_object_set_new(j, "version", json_string(SLIM_VERSION));
        json_object_set_new(j, "pid", json_integer(getpid()));
        json_object_set_new(j, "since", time_text(d->since));
        json_object_set_new(j, "store", json_string(d->opt.store));
        json_object_set_new(j, "store_error",
                            d->store_error ? json_string(d->store_error) : json_null());
        json_object_set_new(j, "store_down_since", time_text(d->store_down_since));
        json_object_set_new(j, "networks", json_integer(HASH_COUNT(d->model.networks)));
        json_object_set_new(j, "endpoints", json_integer((json_int_t)model_containers(&d->model)));
        json_object_set_new(j, "local_endpoints", json_integer(locals));
        json_object_set_new(j, "policies", json_integer(HASH_COUNT(d->model.policies)));
        json_object_set_new(j, "policy_error",
                            d->policy_error ? json_string(strerror(-d->policy_error))
                                            : json_null());
        json_object_set_new(j, "hosts", hosts(d));
        json_object_set_new(j, "slim_ports", json_string(ports));
        json_object_set_new(j, "monitors", json_integer(monitor_count(d)));
        r = counters(d, j);
        if (r == 0)
                r = maps(d, j);
        if (r < 0)
                return api_fail(call, r, "cannot read the maps: %s", strerror(-r));
        return 0;
}
