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

static struct event_name name_of(const struct endpoint *e)
{
        struct event_name name = {.id = e->id};

        snprintf(name.text, sizeof(name.text), "%s%s", e->is_host ? "host:" : "", e->name);
        memcpy(name.host, e->host, sizeof(name.host));
        return name;
}

void event_remember(struct event_past *past, const struct endpoint *e)
{
        past->name[past->next] = name_of(e);
        past->next = (past->next + 1) % EVENT_PAST;
}

/* All of it empty where it is nobody who is known. */
static struct event_name find_name(const struct event_place *place, uint32_t id)
{
        const struct endpoint *e = id ? model_endpoint(place->model, id) : NULL;
        struct event_name none = {};

        if (e)
                return name_of(e);
        for (unsigned int i = 0; id && i < EVENT_PAST; i++)
                if (place->past->name[i].id == id)
                        return place->past->name[i];
        return none;
}

static json_t *text_or_null(const char *text)
{
        return *text ? json_string(text) : json_null();
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
        struct event_name own = find_name(place, e->endpoint), peer = find_name(place, e->peer);
        json_t *j = json_object();

        json_object_set_new(j, "time", time_text((int64_t)e->time + place->clock_offset));
        json_object_set_new(j, "reason", json_string(reason_name(e->reason)));
        json_object_set_new(j, "hook", json_string(hook_name(e->hook)));
        json_object_set_new(j, "host", json_string(place->host));
        json_object_set_new(j, "network", network_name(place->model, e->network));
        json_object_set_new(j, "endpoint", text_or_null(own.text));
        json_object_set_new(j, "endpoint_id", number(e->endpoint));
        json_object_set_new(j, "peer_endpoint", text_or_null(peer.text));
        json_object_set_new(j, "peer_id", number(e->peer));
        json_object_set_new(j, "peer_host", text_or_null(peer.host));
        json_object_set_new(j, "from", address(&e->from, e->from_port));
        json_object_set_new(j, "to", address(&e->to, e->to_port));
        json_object_set_new(j, "protocol", protocol_name(e->protocol));
        json_object_set_new(j, "errno", number(e->error));
        json_object_set_new(j, "option", option(e));
        return j;
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
