/* SPDX-License-Identifier: Apache-2.0 */
#include "publication.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "../basic/name.h"

#define FORM "it is [ADDRESS:]HOST-PORT:PORT[/tcp|/udp]"

/* --- one text --------------------------------------------------------------------------------- */

static int fail(char *problem, int r, const char *what)
{
        snprintf(problem, PUBLICATION_PROBLEM_MAX, "%s", what);
        return r;
}

/* "8080" or "8000-8010". */
static int parse_ports(const char *text, const char *whose, uint16_t *ret_first,
                       uint16_t *ret_count, char *problem)
{
        char first[8];
        const char *dash = strchr(text, '-');
        size_t len = dash ? (size_t)(dash - text) : strlen(text);
        uint64_t a = 0, b = 0;
        int r = -EINVAL;

        if (len < sizeof(first)) {
                memcpy(first, text, len);
                first[len] = '\0';
                r = parse_uint(first, 1, UINT16_MAX, &a);
        }
        b = a;
        if (r == 0 && dash)
                r = parse_uint(dash + 1, 1, UINT16_MAX, &b);
        if (r < 0) {
                snprintf(problem, PUBLICATION_PROBLEM_MAX,
                         "the %s port \"%.32s\" is not a number from 1 to 65535, nor a range of "
                         "two of them",
                         whose, text);
                return r;
        }
        if (b < a) {
                snprintf(problem, PUBLICATION_PROBLEM_MAX, "the %s range %.32s runs backwards",
                         whose, text);
                return -ERANGE;
        }
        *ret_first = (uint16_t)a;
        *ret_count = (uint16_t)(b - a + 1);
        return 0;
}

/* Cuts the address off the front of "ADDRESS:PORTS:PORTS"; *text is what follows it. */
static int parse_address(char **text, struct publication *p, char *problem)
{
        char *at = *text, *end;
        bool brackets = at[0] == '[';

        end = brackets ? strchr(at, ']') : strchr(at, ':');
        if (brackets && (!end || end[1] != ':'))
                return fail(problem, -EINVAL,
                            "after an address in brackets comes \"]:\" and the host's port");
        if (!brackets && strchr(end + 1, ':') != strrchr(at, ':'))
                return fail(
                    problem, -EINVAL,
                    "there are too many colons (an IPv6 address stands in brackets): " FORM);
        *text = end + (brackets ? 2 : 1);
        *end = '\0';
        at += brackets;
        if (inaddr_parse(at, &p->addr) < 0 || (strchr(at, ':') != NULL) != brackets) {
                snprintf(problem, PUBLICATION_PROBLEM_MAX, "\"%.64s\" is not an %s address", at,
                         brackets ? "IPv6" : "IPv4");
                return -EINVAL;
        }
        p->any = false;
        return 0;
}

static int parse_protocol(char *text, struct publication *p, char *problem)
{
        char *slash = strchr(text, '/');

        p->protocol = IPPROTO_TCP;
        if (!slash)
                return 0;
        if (strcmp(slash, "/udp") == 0)
                p->protocol = IPPROTO_UDP;
        else if (strcmp(slash, "/tcp") != 0)
                return fail(problem, -EINVAL, "after the slash comes tcp or udp");
        *slash = '\0';
        return 0;
}

int publication_parse(const char *text, struct publication *ret, char *problem)
{
        struct publication p = {.any = true};
        char copy[PUBLICATION_TEXT_MAX], *at = copy, *colon;
        uint16_t count = 0;
        int r;

        if (strlen(text) >= sizeof(copy))
                return fail(problem, -EINVAL, "it is too long: " FORM);
        strcpy(copy, text);
        r = parse_protocol(copy, &p, problem);
        if (r < 0)
                return r;
        colon = strchr(copy, ':');
        if (!colon)
                return fail(problem, -EINVAL,
                            "the container's port is missing: which of the two ports this is "
                            "cannot be told; " FORM);
        if (copy[0] == '[' || strchr(colon + 1, ':')) {
                r = parse_address(&at, &p, problem);
                if (r < 0)
                        return r;
                colon = strchr(at, ':');
                if (!colon)
                        return fail(problem, -EINVAL, "the container's port is missing: " FORM);
        }
        *colon = '\0';
        r = parse_ports(at, "host's", &p.host_port, &p.count, problem);
        if (r == 0)
                r = parse_ports(colon + 1, "container's", &p.port, &count, problem);
        if (r < 0)
                return r;
        if (count != p.count) {
                snprintf(problem, PUBLICATION_PROBLEM_MAX,
                         "the ranges differ in length: %u ports of the host, %u of the container",
                         p.count, count);
                return -ERANGE;
        }
        *ret = p;
        return 0;
}

static const char *format_address(const struct publication *p, char *buf)
{
        if (p->any) {
                buf[0] = '\0';
                return buf;
        }
        if (inaddr_is_v4(&p->addr)) {
                inaddr_format(&p->addr, buf);
        } else {
                buf[0] = '[';
                inaddr_format(&p->addr, buf + 1);
                strcat(buf, "]");
        }
        return strcat(buf, ":");
}

static const char *format_protocol(const struct publication *p)
{
        return p->protocol == IPPROTO_UDP ? "/udp" : "/tcp";
}

const char *publication_format(const struct publication *p, char *buf)
{
        char addr[INADDR_TEXT_MAX + 4];
        unsigned int more = p->count - 1U;

        format_address(p, addr);
        if (more)
                snprintf(buf, PUBLICATION_TEXT_MAX, "%s%u-%u:%u-%u%s", addr, p->host_port,
                         p->host_port + more, p->port, p->port + more, format_protocol(p));
        else
                snprintf(buf, PUBLICATION_TEXT_MAX, "%s%u:%u%s", addr, p->host_port, p->port,
                         format_protocol(p));
        return buf;
}

const char *publication_format_host(const struct publication *p, uint16_t host_port, char *buf)
{
        char addr[INADDR_TEXT_MAX + 4];

        snprintf(buf, PUBLICATION_TEXT_MAX, "%s%u%s", format_address(p, addr), host_port,
                 p->protocol == IPPROTO_UDP ? "/udp" : "");
        return buf;
}

/* --- several ---------------------------------------------------------------------------------- */

static bool is_zero(const union slim_addr *a)
{
        return !(a->w[0] | a->w[1] | a->w[2] | a->w[3]);
}

bool publication_is_wildcard(const struct publication *p)
{
        return p->any || is_zero(&p->addr) || (inaddr_is_v4(&p->addr) && !p->addr.w[3]);
}

bool publication_takes(const struct publication *p, bool v6)
{
        return p->any || inaddr_is_v4(&p->addr) != v6;
}

bool publication_overlaps(const struct publication *a, const struct publication *b,
                          uint16_t *ret_port)
{
        uint16_t first = a->host_port > b->host_port ? a->host_port : b->host_port;

        if (a->protocol != b->protocol || first > a->host_port + (a->count - 1) ||
            first > b->host_port + (b->count - 1))
                return false;
        if (!(publication_takes(a, false) && publication_takes(b, false)) &&
            !(publication_takes(a, true) && publication_takes(b, true)))
                return false;
        if (!publication_is_wildcard(a) && !publication_is_wildcard(b) &&
            !inaddr_equal(&a->addr, &b->addr))
                return false;
        *ret_port = first;
        return true;
}

unsigned int publications_ports(const struct publications *list)
{
        unsigned int ports = 0;

        for (unsigned int i = 0; i < list->n; i++)
                ports += list->v[i].count;
        return ports;
}

int publications_add(struct publications *list, const char *text, char *problem)
{
        struct publication p;
        char other[PUBLICATION_TEXT_MAX];
        uint16_t port;
        int r;

        r = publication_parse(text, &p, problem);
        if (r < 0)
                return r;
        for (unsigned int i = 0; i < list->n; i++)
                if (publication_overlaps(&p, &list->v[i], &port)) {
                        snprintf(problem, PUBLICATION_PROBLEM_MAX,
                                 "port %u of the host is in \"%s\" already", port,
                                 publication_format(&list->v[i], other));
                        return -EEXIST;
                }
        if (list->n == PUBLICATIONS_MAX ||
            publications_ports(list) + p.count > PUBLICATION_PORTS_MAX) {
                snprintf(problem, PUBLICATION_PROBLEM_MAX,
                         "a container publishes at most %d ports in %d ranges",
                         PUBLICATION_PORTS_MAX, PUBLICATIONS_MAX);
                return -E2BIG;
        }
        list->v[list->n++] = p;
        return 0;
}

json_t *publications_to_json(const struct publications *list)
{
        json_t *array = json_array();
        char text[PUBLICATION_TEXT_MAX];

        for (unsigned int i = 0; i < list->n; i++)
                json_array_append_new(array, json_string(publication_format(&list->v[i], text)));
        return array;
}

int publications_from_json(const json_t *array, struct publications *ret, char *problem)
{
        struct publications list = {};
        const json_t *item;
        size_t i;

        if (array && !json_is_array(array))
                return fail(problem, -EINVAL, "publish is not an array");
        json_array_foreach (array, i, item) {
                const char *text = json_string_value(item);
                char why[PUBLICATION_PROBLEM_MAX];
                int r;

                if (!text)
                        return fail(problem, -EINVAL, "publish has an element that is no text");
                r = publications_add(&list, text, why);
                if (r < 0) {
                        snprintf(problem, PUBLICATION_PROBLEM_MAX, "publish \"%.64s\": %.170s",
                                 text, why);
                        return r;
                }
        }
        *ret = list;
        return 0;
}
