/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Event.Monitor: the one call that has more than one answer.
 */
#include <errno.h>
#include <string.h>

#include "../basic/name.h"
#include "api.h"
#include "monitor.h"

static int take_endpoint(struct api_call *call, const char *name, struct event_filter *f)
{
        const char *bare = strncmp(name, "host:", 5) == 0 ? name + 5 : name;
        int r = api_check_name(call, "endpoint", bare);

        if (r == 0)
                memcpy(f->endpoint, name, strlen(name) + 1);
        return r;
}

static int take_reasons(struct api_call *call, const json_t *reasons, struct event_filter *f)
{
        enum slim_reason reason = SLIM_REASON_NONE;
        const json_t *item;
        size_t i;

        if (!json_is_array(reasons))
                return api_fail(call, -EINVAL, "reasons is not a list of texts");
        json_array_foreach (reasons, i, item) {
                const char *name = json_string_value(item);

                if (!name)
                        return api_fail(call, -EINVAL, "reasons is not a list of texts");
                if (reason_from_name(name, &reason) < 0)
                        return api_fail(call, -EINVAL,
                                        "there are no events of a reason \"%.64s\": "
                                        "docs/monitor.md has them all",
                                        name);
                f->reasons[reason] = true;
        }
        f->by_reason = true;
        return 0;
}

int api_event_monitor(struct api_call *call)
{
        const char *endpoint = NULL, *network = NULL;
        struct event_filter f = {};
        json_t *reasons = NULL;
        int r;

        r = api_unpack(call, "{s?s, s?s, s?o}", "endpoint", &endpoint, "network", &network,
                       "reasons", &reasons);
        if (r == 0 && endpoint)
                r = take_endpoint(call, endpoint, &f);
        if (r == 0 && network)
                r = api_check_name(call, "network", network);
        if (r == 0 && reasons)
                r = take_reasons(call, reasons, &f);
        if (r < 0)
                return r;
        if (network)
                memcpy(f.network, network, strlen(network) + 1);
        r = monitor_add(call->d, &f, call->client);
        if (r == -EBUSY)
                return api_fail(call, r, "this connection watches events already");
        if (r == -EUSERS)
                return api_fail(call, r, "%d clients watch events already, and no more can",
                                MONITORS_MAX);
        if (r < 0)
                return api_fail(call, r, "cannot watch events: %s", strerror(-r));
        call->continues = true;
        json_object_set_new(call->answer, "events", json_array());
        json_object_set_new(call->answer, "lost", json_integer(0));
        return 0;
}
