/* SPDX-License-Identifier: Apache-2.0 */
/* "runtimeConfig": what the runtime asks for by the capabilities of a configuration. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/inaddr.h"
#include "../basic/name.h"
#include "../shared/bandwidth.h"
#include "../shared/publication.h"
#include "../shared/rpc.h"
#include "config.h"

static int wrong(struct cni_error *e, const char *what, const char *problem)
{
        return cni_fail(e, CNI_ERROR_CONFIG, "\"runtimeConfig\": \"%s\": %s", what, problem);
}

/* --- bandwidth -------------------------------------------------------------------------------- */

/* A number that is not negative; missing, null and 0 are none. */
static int get_number(const json_t *j, const char *key, json_int_t *ret)
{
        const json_t *value = json_object_get(j, key);

        if (value && !json_is_null(value) &&
            (!json_is_integer(value) || json_integer_value(value) < 0))
                return -EINVAL;
        *ret = json_integer_value(value);
        return 0;
}

/* Both sides mean the same by the names: ingress is what comes to the container. */
static int take_bandwidth(const json_t *j, json_t *parameters, struct cni_error *e)
{
        static const struct {
                const char *key, *limit; /* a burst is checked, and not used */
        } members[] = {{"ingressRate", "ingress"},
                       {"egressRate", "egress"},
                       {"ingressBurst", NULL},
                       {"egressBurst", NULL}};
        _cleanup_json_ json_t *limits = json_object();
        char problem[LIMITS_PROBLEM_MAX];
        struct limits parsed;

        if (!json_is_object(j))
                return wrong(e, "bandwidth", "not an object");
        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                json_int_t n;

                if (get_number(j, members[i].key, &n) < 0)
                        return cni_fail(e, CNI_ERROR_CONFIG,
                                        "\"runtimeConfig\": \"bandwidth\": \"%s\" is not a number "
                                        "of bits",
                                        members[i].key);
                if (n > 0 && members[i].limit)
                        json_object_set_new(limits, members[i].limit, json_integer(n));
        }
        if (limits_from_json(limits, &parsed, problem) < 0)
                return wrong(e, "bandwidth", problem);
        if (json_object_size(limits) > 0)
                json_object_set(parameters, "limits", limits);
        return 0;
}

/* --- portMappings ----------------------------------------------------------------------------- */

static int get_port(const json_t *j, const char *key, json_int_t *ret)
{
        return get_number(j, key, ret) < 0 || *ret > UINT16_MAX ? -EINVAL : 0;
}

static int get_host_address(const json_t *j, union slim_addr *ret, bool *ret_any)
{
        const json_t *value = json_object_get(j, "hostIP");
        const char *text = json_string_value(value);

        *ret_any = !value || json_is_null(value) || (text && !text[0]);
        return *ret_any ? 0 : text ? inaddr_parse(text, ret) : -EINVAL;
}

static int get_protocol(const json_t *j, uint8_t *ret)
{
        const json_t *value = json_object_get(j, "protocol");
        const char *text = value && !json_is_null(value) ? json_string_value(value) : "tcp";

        if (!text || (strcasecmp(text, "tcp") != 0 && strcasecmp(text, "udp") != 0 && text[0]))
                return -EINVAL;
        *ret = strcasecmp(text, "udp") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
        return 0;
}

/* What is wrong, or NULL. A host port of 0 is none: then the container's is not published. */
static const char *parse_mapping(const json_t *j, struct publication *ret)
{
        struct publication p = {.count = 1};
        json_int_t host = 0, container = 0;

        if (!json_is_object(j))
                return "a mapping is not an object";
        if (get_port(j, "hostPort", &host) < 0)
                return "\"hostPort\" is not a port";
        if (get_port(j, "containerPort", &container) < 0 || (host && !container))
                return "\"containerPort\" is not a port";
        if (get_protocol(j, &p.protocol) < 0)
                return "\"protocol\" is neither tcp nor udp";
        if (get_host_address(j, &p.addr, &p.any) < 0)
                return "\"hostIP\" is not an IP address";
        p.host_port = (uint16_t)host;
        p.port = (uint16_t)container;
        *ret = p;
        return NULL;
}

static int take_mappings(const json_t *list, json_t *parameters, struct cni_error *e)
{
        struct publications all = {};
        const json_t *item;
        size_t i;

        if (!json_is_array(list))
                return wrong(e, "portMappings", "not a list");
        json_array_foreach (list, i, item) {
                char text[PUBLICATION_TEXT_MAX], problem[PUBLICATION_PROBLEM_MAX];
                struct publication p;
                const char *what = parse_mapping(item, &p);

                if (what)
                        return wrong(e, "portMappings", what);
                if (!p.host_port)
                        continue;
                publication_format(&p, text);
                if (publications_add(&all, text, problem) < 0)
                        return cni_fail(e, CNI_ERROR_CONFIG,
                                        "\"runtimeConfig\": \"portMappings\": %s: %s", text,
                                        problem);
        }
        if (all.n)
                json_object_set_new(parameters, "publish", publications_to_json(&all));
        return 0;
}

/* --- ips -------------------------------------------------------------------------------------- */

/* An address, with or without the length of a prefix, which says nothing here. */
static int parse_address(const char *text, union slim_addr *ret)
{
        _cleanup_free_ char *copy = strdup(text);
        char *slash = copy ? strchr(copy, '/') : NULL;
        int r;

        if (!copy)
                return -ENOMEM;
        if (slash)
                *slash = '\0';
        r = inaddr_parse(copy, ret);
        if (r == 0 && slash) {
                uint64_t bits;

                r = parse_uint(slash + 1, 0, inaddr_is_v4(ret) ? 32 : 128, &bits);
        }
        return r;
}

int cni_address_add(json_t *parameters, const char *text)
{
        char canonical[INADDR_TEXT_MAX];
        union slim_addr a;
        const char *key;

        if (parse_address(text, &a) < 0)
                return -EINVAL;
        key = inaddr_is_v4(&a) ? "address" : "address6";
        if (json_object_get(parameters, key))
                return -EEXIST;
        json_object_set_new(parameters, key, json_string(inaddr_format(&a, canonical)));
        return 0;
}

static int take_addresses(const json_t *list, json_t *parameters, struct cni_error *e)
{
        const json_t *item;
        size_t i;

        if (!json_is_array(list))
                return wrong(e, "ips", "not a list");
        json_array_foreach (list, i, item) {
                int r = cni_address_add(parameters, json_string_value(item) ?: "");

                if (r < 0)
                        return wrong(e, "ips",
                                     r == -EEXIST ? "more than one address of a family"
                                                  : "an element is not an IP address");
        }
        return 0;
}

/* --- all of it -------------------------------------------------------------------------------- */

int cni_runtime_parse(const json_t *runtime, json_t *parameters, struct cni_error *e)
{
        static const struct {
                const char *key;
                int (*take)(const json_t *value, json_t *parameters, struct cni_error *e);
        } members[] = {
            {"bandwidth", take_bandwidth},
            {"portMappings", take_mappings},
            {"ips", take_addresses},
        };

        for (size_t i = 0; i < ARRAY_SIZE(members); i++) {
                const json_t *value = json_object_get(runtime, members[i].key);
                int r = 0;

                if (value && !json_is_null(value))
                        r = members[i].take(value, parameters, e);
                if (r < 0)
                        return r;
        }
        return 0;
}
