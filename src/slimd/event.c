/* SPDX-License-Identifier: Apache-2.0 */
#include "event.h"

#include <netinet/in.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define NSEC_PER_SEC 1000000000LL

/* With microseconds: two events in one second have an order. */
static json_t *time_text(int64_t ns)
{
        time_t seconds = (time_t)(ns / NSEC_PER_SEC);
        char text[32];
        struct tm tm;

        gmtime_r(&seconds, &tm);
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
        return json_sprintf("%s.%06lldZ", text, (long long)(ns % NSEC_PER_SEC / 1000));
}

/* ADDRESS, or ADDRESS:PORT where there is a port. :: with a port is a wildcard, without it nothing.
 */
static json_t *address(const union slim_addr *a, uint16_t port)
{
        char addr[INADDR_TEXT_MAX];

        if (inaddr_is_none(a) && !port)
                return json_null();
        inaddr_format(a, addr);
        if (!port)
                return json_string(addr);
        return json_sprintf(strchr(addr, ':') ? "[%s]:%u" : "%s:%u", addr, port);
}

static json_t *endpoint_name(const struct endpoint *e)
{
        if (!e)
                return json_null();
        return e->is_host ? json_sprintf("host:%s", e->name) : json_string(e->name);
}

static json_t *network_name(const struct model *m, uint32_t id)
{
        for (const struct network *n = m->networks; n; n = n->hh.next)
                if (n->id == id)
                        return json_string(n->name);
        return json_null();
}

static json_t *protocol_name(uint8_t protocol)
{
        switch (protocol) {
        case 0:
                return json_null();
        case IPPROTO_TCP:
                return json_string("tcp");
        case IPPROTO_UDP:
                return json_string("udp");
        case IPPROTO_SCTP:
                return json_string("sctp");
        case IPPROTO_ICMP:
                return json_string("icmp");
        case IPPROTO_ICMPV6:
                return json_string("icmpv6");
        default:
                return json_sprintf("%u", protocol);
        }
}

static json_t *number(uint32_t n)
{
        return n ? json_integer(n) : json_null();
}

static json_t *option(const struct slim_event *e)
{
        if (e->hook != SLIM_HOOK_SETSOCKOPT && e->hook != SLIM_HOOK_GETSOCKOPT)
                return json_null();
        return json_pack("{s:I, s:I}", "level", (json_int_t)e->level, "name",
                         (json_int_t)e->option);
}

json_t *event_describe(const struct event_place *place, const struct slim_event *e)
{
        const struct model *m = place->model;
        const struct endpoint *own = e->endpoint ? model_endpoint(m, e->endpoint) : NULL;
        const struct endpoint *peer = e->peer ? model_endpoint(m, e->peer) : NULL;

        return json_pack(
            "{s:o, s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, "
            "s:o}",
            "time", time_text((int64_t)e->time + place->clock_offset), "reason",
            reason_name(e->reason), "hook", hook_name(e->hook), "host", place->host, "network",
            network_name(m, e->network), "endpoint", endpoint_name(own), "endpoint_id",
            number(e->endpoint), "peer_endpoint", endpoint_name(peer), "peer_id", number(e->peer),
            "peer_host", peer ? json_string(peer->host) : json_null(), "from",
            address(&e->from, e->from_port), "to", address(&e->to, e->to_port), "protocol",
            protocol_name(e->protocol), "errno", number(e->error), "option", option(e));
}

static bool is_text(const json_t *event, const char *key, const char *text)
{
        const char *value = json_string_value(json_object_get(event, key));

        return value && strcmp(value, text) == 0;
}

bool event_matches(const struct event_filter *f, const struct slim_event *e, const json_t *event)
{
        if (f->by_reason && (e->reason >= SLIM_REASON_MAX || !f->reasons[e->reason]))
                return false;
        if (f->network[0] && !is_text(event, "network", f->network))
                return false;
        return !f->endpoint[0] || is_text(event, "endpoint", f->endpoint) ||
               is_text(event, "peer_endpoint", f->endpoint);
}
