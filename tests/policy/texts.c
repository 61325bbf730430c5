/* SPDX-License-Identifier: Apache-2.0 */
#include "texts.h"

#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"

struct policy *policy_of(const char *name, const char *spec)
{
        const char *slash = strchr(name, '/');
        struct policy_error error;
        struct policy *p = NULL;
        char text[4096];
        json_t *json;

        snprintf(text, sizeof(text),
                 "{'apiVersion': 'networking.k8s.io/v1', 'kind': 'NetworkPolicy',"
                 "'metadata': {'name': '%s', 'namespace': '%.*s'}, 'spec': %s}",
                 slash ? slash + 1 : name, slash ? (int)(slash - name) : 7,
                 slash ? name : "default", spec);
        for (char *c = text; *c; c++)
                if (*c == '\'')
                        *c = '"';
        json = json_loads(text, 0, NULL);
        if (policy_from_json(json, &p, &error) < 0)
                fail_msg("%s: %s", spec, error.text);
        json_decref(json);
        return p;
}

void put_policy(struct policy_engine *engine, const char *name, const char *spec)
{
        struct policy *p = policy_of(name, spec);

        assert_int_equal(policy_engine_put(engine, &p), 0);
}

static void parse_labels(const char *text, struct labels *ret)
{
        char problem[LABEL_PROBLEM_MAX], copy[256], *save = NULL;

        *ret = (struct labels){};
        snprintf(copy, sizeof(copy), "%s", text);
        for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save))
                if (labels_add_text(ret, t, problem) < 0)
                        fail_msg("%s", problem);
}

static uint32_t ref(struct policy_engine *engine, const char *network, const char *labels,
                    const char *ports, bool is_host, bool local)
{
        struct policy_identity identity = {.network = network, .is_host = is_host};
        struct named_port v[8] = {};
        char copy[256], *save = NULL;
        uint32_t id;

        snprintf(copy, sizeof(copy), "%s", ports);
        for (char *t = strtok_r(copy, " ", &save); t; t = strtok_r(NULL, " ", &save)) {
                char *equals = strchr(t, '='), *slash = strchr(t, '/');

                assert_true(equals && slash && identity.n_ports < ARRAY_SIZE(v));
                *equals = *slash = '\0';
                strcpy(v[identity.n_ports].name, t);
                v[identity.n_ports].port = (uint16_t)strtoul(equals + 1, NULL, 10);
                v[identity.n_ports++].protocol =
                    strcmp(slash + 1, "UDP") == 0 ? IPPROTO_UDP : IPPROTO_TCP;
        }
        identity.ports = v;
        parse_labels(labels, &identity.labels);
        assert_int_equal(policy_engine_identity_ref(engine, &identity, local, &id), 0);
        labels_clear(&identity.labels);
        return id;
}

uint32_t ref_identity(struct policy_engine *engine, const char *network, const char *labels,
                      const char *ports, bool local)
{
        return ref(engine, network, labels, ports, false, local);
}

uint32_t ref_host(struct policy_engine *engine, const char *network, const char *name, bool local)
{
        char labels[128];

        snprintf(labels, sizeof(labels), LABEL_KIND "=" LABEL_KIND_HOST " " LABEL_HOST "=%s", name);
        return ref(engine, network, labels, "", true, local);
}

void put_network(struct policy_engine *engine, const char *network, const char *labels)
{
        struct labels l;

        parse_labels(labels, &l);
        assert_int_equal(policy_engine_put_network(engine, network, &l), 0);
        labels_clear(&l);
}

size_t flush(struct policy_engine *engine, struct maps *maps)
{
        maps->steps = 0;
        assert_int_equal(policy_engine_flush(engine, &maps_sink, maps), 0);
        return maps->steps;
}

static bool may(const struct maps *maps, uint32_t subject, enum slim_policy_direction direction,
                uint32_t peer, const char *addr, uint16_t port)
{
        struct slim_policy_check check = {
            .subject = subject,
            .peer = peer,
            .port = port,
            .direction = (uint8_t)direction,
            .protocol = IPPROTO_TCP,
        };

        assert_int_equal(inaddr_parse(addr, &check.addr), 0);
        return maps_verdict(maps, &check) == SLIM_POLICY_ALLOWED;
}

bool may_enter(const struct maps *maps, uint32_t subject, uint32_t peer, const char *addr,
               uint16_t port)
{
        return may(maps, subject, SLIM_POLICY_INGRESS, peer, addr, port);
}

bool may_leave(const struct maps *maps, uint32_t subject, uint32_t peer, const char *addr,
               uint16_t port)
{
        return may(maps, subject, SLIM_POLICY_EGRESS, peer, addr, port);
}
