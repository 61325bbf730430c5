/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What slimd's metrics say. Names and units are Prometheus' conventions: a counter ends in _total,
 * and what a figure is of is a label.
 */
#include <errno.h>
#include <stdio.h>

#include "../shared/reason.h"
#include "local.h"
#include "metrics.h"
#include "monitor.h"

static void head(FILE *f, const char *name, const char *type, const char *help)
{
        fprintf(f, "# HELP slim_%s %s\n# TYPE slim_%s %s\n", name, help, name, type);
}

static void gauge(FILE *f, const char *name, uint64_t value, const char *help)
{
        head(f, name, "gauge", help);
        fprintf(f, "slim_%s %llu\n", name, (unsigned long long)value);
}

static void counter(FILE *f, const char *name, uint64_t value, const char *help)
{
        head(f, name, "counter", help);
        fprintf(f, "slim_%s %llu\n", name, (unsigned long long)value);
}

static int events(const struct slimd *d, FILE *f)
{
        uint64_t n[SLIM_REASON_MAX];
        int r = datapath_counters(d->dp, n);

        if (r < 0)
                return r;
        head(f, "events_total", "counter", "Denials, drops and revocations, by their reason.");
        for (unsigned int i = 0; i < SLIM_REASON_MAX; i++)
                if (reason_is_event((enum slim_reason)i))
                        fprintf(f, "slim_events_total{reason=\"%s\"} %llu\n", reason_name(i),
                                (unsigned long long)n[i]);
        counter(f, "events_lost_total", n[SLIM_REASON_EVENT_LOST],
                "Events that were counted and told nobody, though somebody watched.");
        counter(f, "syns_accepted_total", n[SLIM_REASON_SYN_ACCEPTED],
                "Connections that came in and were let pass.");
        return 0;
}

static int maps(const struct slimd *d, FILE *f)
{
        static const enum datapath_map shown[] = {
            DATAPATH_ENDPOINTS,    DATAPATH_IDENTITIES,      DATAPATH_PREFIXES,
            DATAPATH_HOSTS,        DATAPATH_DEVICES,         DATAPATH_HOST_ENDPOINTS,
            DATAPATH_PORTS,        DATAPATH_LISTENERS,       DATAPATH_SYNS,
            DATAPATH_PUBLISHED,    DATAPATH_POLICY_SUBJECTS, DATAPATH_POLICY_CIDRS,
            DATAPATH_POLICY_RULES, DATAPATH_LIMITS,          DATAPATH_LIMIT_CLASSES,
        };

        head(f, "map_entries", "gauge", "Entries of a BPF map.");
        for (size_t i = 0; i < ARRAY_SIZE(shown); i++) {
                uint64_t n = 0;
                int r = datapath_map_count(d->dp, shown[i], &n);

                if (r < 0)
                        return r;
                fprintf(f, "slim_map_entries{map=\"%s\"} %llu\n", datapath_map_name(shown[i]),
                        (unsigned long long)n);
        }
        head(f, "map_max_entries", "gauge", "How many entries a BPF map can have.");
        for (size_t i = 0; i < ARRAY_SIZE(shown); i++)
                fprintf(f, "slim_map_max_entries{map=\"%s\"} %u\n", datapath_map_name(shown[i]),
                        datapath_map_capacity(d->dp, shown[i]));
        return 0;
}

static void cluster(const struct slimd *d, FILE *f)
{
        uint64_t locals = 0, brokers = 0;

        for (struct local *l = local_next(d, NULL); l; l = local_next(d, l)) {
                locals++;
                brokers += local_broker_pid(l) != 0;
        }
        gauge(f, "networks", HASH_COUNT(d->model.networks), "Networks of the cluster.");
        gauge(f, "hosts", HASH_COUNT(d->model.hosts), "Hosts of the cluster.");
        gauge(f, "endpoints", model_containers(&d->model), "Containers of the cluster.");
        gauge(f, "policies", HASH_COUNT(d->model.policies), "Network policies.");
        gauge(f, "local_endpoints", locals, "Containers of this host.");
        gauge(f, "brokers", brokers, "Brokers that run on this host.");
        gauge(f, "monitors", monitor_count(d), "Clients that watch events.");
        gauge(f, "store_up", !d->store_error, "Whether the store answers.");
        gauge(f, "policies_in_force", !d->policy_error,
              "Whether the kernel has all that the policies say.");
}

static int write_text(const struct slimd *d, FILE *f)
{
        int r;

        head(f, "build_info", "gauge", "What runs here.");
        fprintf(f, "slim_build_info{version=\"" SLIM_VERSION "\"} 1\n");
        gauge(f, "start_time_seconds", (uint64_t)d->since, "When slimd started, in Unix time.");
        cluster(d, f);
        r = events(d, f);
        return r < 0 ? r : maps(d, f);
}

int metrics_text(const struct slimd *d, char **ret, size_t *ret_len)
{
        char *text = NULL;
        size_t len = 0;
        FILE *f = open_memstream(&text, &len);
        int r;

        if (!f)
                return -errno;
        r = write_text(d, f);
        if (fclose(f) != 0 && r == 0)
                r = -ENOMEM;
        if (r < 0) {
                free(text);
                return r;
        }
        *ret = text;
        *ret_len = len;
        return 0;
}
