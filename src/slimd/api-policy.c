/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Policy.Apply, .List, .Show, .Remove, .Check.
 */
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../policy/policy-yaml.h"
#include "../shared/rpc.h"
#include "api.h"
#include "cluster.h"
#include "mirror.h"
#include "policy.h"
#include "registry.h"

/* --- what is in force ------------------------------------------------------------------------- */

static int check_names(struct api_call *call, const char *network, const char *name)
{
        if (!subdomain_is_valid(name))
                return api_fail(call, -EINVAL,
                                "name \"%.64s\" is not a policy's: up to 253 of a-z 0-9 - ., "
                                "letters or digits around each dot and at both ends",
                                name);
        return api_check_name(call, "network", network);
}

static const struct policy *find(struct slimd *d, const char *network, const char *name)
{
        (void)cluster_sync(d); /* what is known is shown in any case */
        return policy_engine_get(d->engine, network, name);
}

static int no_such_policy(struct api_call *call, const char *network, const char *name)
{
        return api_fail(call, -ENOENT, "policy \"%s\" does not exist in network \"%s\"", name,
                        network);
}

static const char *const type_names[] = {
    [SLIM_POLICY_INGRESS] = "Ingress",
    [SLIM_POLICY_EGRESS] = "Egress",
};
_Static_assert(ARRAY_SIZE(type_names) == SLIM_POLICY_DIRECTIONS, "a direction has no type");

static json_t *summary(const struct policy *p)
{
        json_t *types = json_array();

        for (unsigned int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                if (p->selects[i])
                        json_array_append_new(types, json_string(type_names[i]));
        return json_pack("{s:s, s:s, s:o, s:s}", "network", p->network, "name", p->name, "types",
                         types, "deny", p->reject ? "reject" : "drop");
}

static int compare_policies(const struct known_policy *a, const struct known_policy *b)
{
        return strcmp(a->key, b->key);
}

int api_policy_list(struct api_call *call)
{
        struct slimd *d = call->d;
        const char *network = NULL;
        json_t *list;
        int r;

        r = api_unpack(call, "{s?s}", "network", &network);
        if (r == 0 && network)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(d);
        if (network && !model_network(&d->model, network))
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", network);
        list = json_array();
        HASH_SORT(d->model.policies, compare_policies);
        for (struct known_policy *k = d->model.policies; k; k = k->hh.next) {
                const struct policy *p = policy_engine_get(d->engine, k->network, k->name);

                if (p && (!network || strcmp(network, k->network) == 0))
                        json_array_append_new(list, summary(p));
        }
        json_object_set_new(call->answer, "policies", list);
        return 0;
}

/* How many endpoints are its subjects, in the whole cluster. */
static int count_selected(const struct slimd *d, const struct policy *p, json_int_t *ret)
{
        json_int_t n = 0;

        for (struct endpoint *e = d->model.endpoints; e; e = e->hh.next) {
                _cleanup_(labels_clear) struct labels labels = {};
                int r;

                if (strcmp(e->network, p->network) != 0)
                        continue;
                r = endpoint_labels(e, &labels);
                if (r < 0)
                        return r;
                n += policy_pods_match(&p->pods, &labels, e->is_host);
        }
        *ret = n;
        return 0;
}

int api_policy_show(struct api_call *call)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        const struct policy *p;
        json_int_t selected;
        int r;

        r = api_unpack(call, "{s:s, s?s}", "name", &name, "network", &network);
        if (r == 0)
                r = check_names(call, network, name);
        if (r < 0)
                return r;
        p = find(call->d, network, name);
        if (!p)
                return no_such_policy(call, network, name);
        r = count_selected(call->d, p, &selected);
        if (r < 0)
                return r;
        json_object_set_new(call->answer, "policy", policy_to_json(p));
        json_object_set_new(call->answer, "endpoints", json_integer(selected));
        return 0;
}

/* --- changes ---------------------------------------------------------------------------------- */

/* All of a call's, in a list that the caller clears. */
static int decode(struct api_call *call, const json_t *list, struct policy_list *ret)
{
        _cleanup_json_ json_t *seen = json_object();
        const json_t *item;
        size_t i;

        if (!json_is_array(list))
                return api_fail(call, -EINVAL, "policies is not an array");
        if (json_array_size(list) > POLICY_POLICIES_MAX)
                return api_fail(call, -E2BIG, "there are more than %d policies",
                                POLICY_POLICIES_MAX);
        ret->v = new0(struct policy *, json_array_size(list) + 1);
        if (!ret->v || !seen)
                return -ENOMEM;
        json_array_foreach (list, i, item) {
                char text[POLICY_PATH_MAX + POLICY_TEXT_MAX], key[POLICY_KEY_MAX];
                struct policy_error error;
                struct policy *p;
                int r = policy_from_json(item, &p, &error);

                if (r == -EINVAL)
                        return api_fail(call, r, "policies[%zu]: %s", i,
                                        policy_error_format(&error, NULL, text, sizeof(text)));
                if (r < 0)
                        return r;
                ret->v[ret->n++] = p;
                snprintf(key, sizeof(key), "%s/%s", p->network, p->name);
                if (json_object_get(seen, key))
                        return api_fail(call, -EINVAL, "policies[%zu]: %s is given twice", i, key);
                if (json_object_set_new(seen, key, json_true()) < 0)
                        return -ENOMEM;
        }
        return 0;
}

/* The default network is there when it is first wanted, be it by its policies. */
static int want_default(struct api_call *call, const struct policy_list *list)
{
        struct network *network;

        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->v[i]->network, POLICY_DEFAULT_NETWORK) == 0)
                        return api_want_network(call, POLICY_DEFAULT_NETWORK, &network);
        return 0;
}

int api_policy_apply(struct api_call *call)
{
        static const char *const names[] = {
            [REGISTRY_UNCHANGED] = "unchanged",
            [REGISTRY_CREATED] = "created",
            [REGISTRY_CHANGED] = "changed",
        };
        _cleanup_(policy_list_clear) struct policy_list list = {};
        _cleanup_free_ enum registry_result *results = NULL;
        const struct policy *homeless = NULL;
        const json_t *given;
        json_t *answer;
        int r;

        r = api_unpack(call, "{s:o}", "policies", &given);
        if (r == 0)
                r = decode(call, given, &list);
        if (r == 0)
                r = want_default(call, &list);
        if (r < 0)
                return r;
        results = new0(enum registry_result, list.n + 1);
        if (!results)
                return -ENOMEM;
        r = registry_apply_policies(call->d, list.v, list.n, results, &homeless);
        if (r == -ENETUNREACH)
                return api_fail(call, -ENOENT, "network \"%s\" of the policy %s does not exist",
                                homeless->network, homeless->name);
        if (r < 0)
                return api_fail(call, r, "cannot write the policies: %s", strerror(-r));
        answer = json_array();
        for (size_t i = 0; i < list.n; i++)
                json_array_append_new(answer, json_pack("{s:s, s:s, s:s}", "network",
                                                        list.v[i]->network, "name", list.v[i]->name,
                                                        "result", names[results[i]]));
        json_object_set_new(call->answer, "policies", answer);
        return 0;
}

int api_policy_remove(struct api_call *call)
{
        const char *name, *network = POLICY_DEFAULT_NETWORK;
        int r;

        r = api_unpack(call, "{s:s, s?s}", "name", &name, "network", &network);
        if (r == 0)
                r = check_names(call, network, name);
        if (r < 0)
                return r;
        r = registry_remove_policy(call->d, network, name);
        if (r == -ENOENT)
                return no_such_policy(call, network, name);
        if (r < 0)
                return api_fail(call, r, "cannot remove policy \"%s\": %s", name, strerror(-r));
        return 0;
}

/* --- a question ------------------------------------------------------------------------------- */

/* An end of a flow: an endpoint, or an address that is none's. */
struct end {
        const char *text;
        const struct endpoint *e;
        union slim_addr addr[SLIM_FAMILIES];
};

static int find_end(struct api_call *call, const struct network *n, const char *what,
                    const char *text, struct end *ret)
{
        const struct model *m = &call->d->model;
        struct end end = {.text = text};
        union slim_addr addr;
        int r;

        if (inaddr_parse(text, &addr) == 0) {
                end.e = model_endpoint_by_addr(m, n->id, &addr);
                end.addr[inaddr_family(&addr)] = addr; /* this one, whatever else it has */
                *ret = end;
                return 0;
        }
        if (strncmp(text, "host:", 5) == 0) {
                end.e = model_host_endpoint(m, n->name, text + 5);
                if (!end.e)
                        return api_fail(call, -ENOENT,
                                        "host \"%.64s\" has no address in network \"%s\"", text + 5,
                                        n->name);
        } else {
                r = api_check_name(call, what, text);
                if (r < 0)
                        return r;
                end.e = model_endpoint_by_name(m, n->name, text);
                if (!end.e)
                        return api_fail(call, -ENOENT,
                                        "endpoint \"%s\" does not exist in network \"%s\"", text,
                                        n->name);
        }
        memcpy(end.addr, end.e->addr, sizeof(end.addr));
        *ret = end;
        return 0;
}

static const char *const verdict_names[] = {
    [SLIM_POLICY_ALLOWED] = "allowed",
    [SLIM_POLICY_DROP] = "drop",
    [SLIM_POLICY_REJECT] = "reject",
};

struct question {
        enum slim_family family;
        uint8_t protocol;
        uint16_t port;
        enum slim_policy_verdict verdict; /* of the directions so far */
        bool differs;
};

/* What the kernel says, of an endpoint that is here. */
static int ask_kernel(struct api_call *call, struct question *q, const struct policy_flow *flow,
                      const struct end *subject, enum slim_policy_verdict expected, json_t *answer)
{
        struct slim_policy_check check = {
            .subject = flow->subject,
            .peer = flow->peer,
            .addr = flow->addr,
            .port = flow->port,
            .direction = (uint8_t)flow->direction,
            .protocol = flow->protocol,
        };
        enum slim_policy_verdict verdict;
        int r;

        if (!mirror_is_local(call->d, subject->e))
                return json_object_set_new(answer, "kernel", json_null()) < 0 ? -ENOMEM : 0;
        r = datapath_policy_check(call->d->dp, &check, &verdict);
        if (r < 0)
                return api_fail(call, r, "cannot ask the kernel: %s", strerror(-r));
        if (verdict != expected) {
                log_error("the kernel's verdict on %s of %s is \"%s\", and by the policies it is "
                          "\"%s\": its maps are not as they should be",
                          policy_direction_name(flow->direction), subject->text,
                          verdict_names[verdict], verdict_names[expected]);
                q->differs = true;
        }
        return json_object_set_new(answer, "kernel", json_string(verdict_names[verdict])) < 0
                   ? -ENOMEM
                   : 0;
}

/* One direction, into the answer under its name; null for what is no endpoint. */
static int judge(struct api_call *call, struct question *q, enum slim_policy_direction direction,
                 const struct end *subject, const struct end *peer)
{
        _cleanup_(policy_explanation_clear) struct policy_explanation e = {};
        struct policy_flow flow = {
            .direction = direction,
            .addr = peer->addr[q->family],
            .protocol = q->protocol,
            .port = q->port,
        };
        _cleanup_json_ json_t *answer = NULL;
        _cleanup_free_ char *why = NULL;
        int r;

        if (!subject->e) {
                json_object_set_new(call->answer, policy_direction_name(direction), json_null());
                return 0;
        }
        flow.subject = subject->e->identity;
        flow.peer = peer->e ? peer->e->identity : 0;
        r = policy_engine_explain(call->d->engine, &flow, &e);
        if (r < 0)
                return r;
        why = policy_explanation_format(&e);
        answer = json_pack("{s:s, s:s}", "verdict", verdict_names[e.verdict], "why", why ?: "");
        if (!why || !answer)
                return -ENOMEM;
        r = ask_kernel(call, q, &flow, subject, e.verdict, answer);
        if (r < 0)
                return r;
        if (q->verdict == SLIM_POLICY_ALLOWED)
                q->verdict = e.verdict;
        return json_object_set(call->answer, policy_direction_name(direction), answer) < 0 ? -ENOMEM
                                                                                           : 0;
}

/* The protocol, and a port if it has ports and one was given. */
static int take_port(struct api_call *call, const char *protocol, json_int_t port,
                     struct question *q)
{
        static const struct {
                const char *name;
                uint8_t number[SLIM_FAMILIES];
                bool has_ports;
        } protocols[] = {
            {"tcp", {IPPROTO_TCP, IPPROTO_TCP}, true},
            {"udp", {IPPROTO_UDP, IPPROTO_UDP}, true},
            {"sctp", {IPPROTO_SCTP, IPPROTO_SCTP}, true},
            {"icmp", {IPPROTO_ICMP, IPPROTO_ICMPV6}, false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(protocols); i++) {
                if (strcmp(protocol, protocols[i].name) != 0)
                        continue;
                if (port != -1 && !protocols[i].has_ports)
                        return api_fail(call, -EINVAL, "%s has no ports", protocol);
                if (port != -1 && (port < 1 || port > UINT16_MAX))
                        return api_fail(call, -EINVAL, "port %lld is not between 1 and 65535",
                                        (long long)port);
                q->protocol = protocols[i].number[q->family];
                q->port = port == -1 ? 0 : (uint16_t)port;
                return 0;
        }
        return api_fail(call, -EINVAL, "protocol \"%.32s\" is not tcp, udp, sctp or icmp",
                        protocol);
}

static int find_family(struct api_call *call, const struct end *from, const struct end *to,
                       enum slim_family *ret)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (!inaddr_is_none(&from->addr[f]) && !inaddr_is_none(&to->addr[f])) {
                        *ret = (enum slim_family)f;
                        return 0;
                }
        return api_fail(call, -EINVAL, "%s and %s have no addresses of one family", from->text,
                        to->text);
}

int api_policy_check(struct api_call *call)
{
        const char *from_text, *to_text, *protocol = "tcp", *network = POLICY_DEFAULT_NETWORK;
        struct question q = {.verdict = SLIM_POLICY_ALLOWED};
        const struct network *n;
        struct end from = {}, to = {};
        json_int_t port = -1;
        int r;

        r = api_unpack(call, "{s:s, s:s, s?I, s?s, s?s}", "from", &from_text, "to", &to_text,
                       "port", &port, "protocol", &protocol, "network", &network);
        if (r == 0)
                r = api_check_name(call, "network", network);
        if (r < 0)
                return r;
        (void)cluster_sync(call->d);
        n = model_network(&call->d->model, network);
        if (!n)
                return api_fail(call, -ENOENT, "network \"%s\" does not exist", network);
        r = find_end(call, n, "from", from_text, &from);
        if (r == 0)
                r = find_end(call, n, "to", to_text, &to);
        if (r < 0)
                return r;
        if (!from.e && !to.e)
                return api_fail(call, -EINVAL, "neither %s nor %s is in network \"%s\"", from_text,
                                to_text, network);
        r = find_family(call, &from, &to, &q.family);
        if (r == 0)
                r = take_port(call, protocol, port, &q);
        if (r == 0)
                r = judge(call, &q, SLIM_POLICY_EGRESS, &from, &to);
        if (r == 0)
                r = judge(call, &q, SLIM_POLICY_INGRESS, &to, &from);
        if (r < 0)
                return r;
        json_object_set_new(call->answer, "verdict", json_string(verdict_names[q.verdict]));
        json_object_set_new(call->answer, "differs", json_boolean(q.differs));
        return 0;
}
