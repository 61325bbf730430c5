/* SPDX-License-Identifier: Apache-2.0 */
#include "labeling.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <string.h>

#include "../basic/name.h"
#include "rpc.h"

#define OWN_PREFIX "slim.io/"

/* --- labels ----------------------------------------------------------------------------------- */

static bool is_own(const char *key, bool of_network)
{
        return strncmp(key, OWN_PREFIX, strlen(OWN_PREFIX)) == 0 ||
               (of_network && strcmp(key, LABEL_NETWORK_NAME) == 0);
}

int labeling_check(const json_t *labels, bool of_network, char *problem)
{
        _cleanup_(labels_clear) struct labels l = {};
        int r = labels_from_json(labels, &l, problem);

        for (size_t i = 0; r == 0 && i < l.n; i++)
                if (is_own(l.v[i].key, of_network)) {
                        snprintf(problem, LABELING_PROBLEM_MAX,
                                 "the label \"%.200s\" is Slim's own and cannot be given",
                                 l.v[i].key);
                        return -EINVAL;
                }
        return r;
}

static int check_key(const char *key, bool of_network, char *problem)
{
        if (!label_key_is_valid(key)) {
                snprintf(problem, LABELING_PROBLEM_MAX, "\"%.64s\" is not a label's key", key);
                return -EINVAL;
        }
        if (is_own(key, of_network)) {
                snprintf(problem, LABELING_PROBLEM_MAX,
                         "the label \"%.200s\" is Slim's own and cannot be removed", key);
                return -EINVAL;
        }
        return 0;
}

/* The keys that go, out of `labels`. */
static int take_away(json_t *labels, const json_t *set, const json_t *remove, bool of_network,
                     char *problem)
{
        const json_t *item;
        size_t i;

        if (remove && !json_is_array(remove)) {
                snprintf(problem, LABELING_PROBLEM_MAX, "remove is not an array");
                return -EINVAL;
        }
        json_array_foreach (remove, i, item) {
                const char *key = json_string_value(item);
                int r;

                if (!key) {
                        snprintf(problem, LABELING_PROBLEM_MAX,
                                 "remove has an element that is no text");
                        return -EINVAL;
                }
                r = check_key(key, of_network, problem);
                if (r < 0)
                        return r;
                if (json_object_get(set, key)) {
                        snprintf(problem, LABELING_PROBLEM_MAX,
                                 "the label \"%.200s\" is both set and removed", key);
                        return -EINVAL;
                }
                (void)json_object_del(labels, key);
        }
        return 0;
}

int labeling_change(const json_t *labels, const json_t *set, const json_t *remove, bool of_network,
                    json_t **ret, char *problem)
{
        _cleanup_json_ json_t *after = labels ? json_copy((json_t *)labels) : json_object();
        int r;

        if (!after)
                return -ENOMEM;
        r = labeling_check(set, of_network, problem);
        if (r == 0)
                r = take_away(after, set, remove, of_network, problem);
        if (r < 0)
                return r;
        if (set && json_object_update(after, (json_t *)set) < 0)
                return -ENOMEM;
        /* Each was right; all together may be too many. */
        r = labeling_check(after, of_network, problem);
        if (r < 0)
                return r;
        *ret = json_object_size(after) > 0 ? TAKE_PTR(after) : NULL;
        return 0;
}

int labeling_change_add(json_t *set, json_t *remove, const char *text, char *problem)
{
        _cleanup_(labels_clear) struct labels l = {};
        size_t len = strlen(text);
        char key[LABEL_KEY_MAX + 1];
        int r;

        if (!strchr(text, '=') && len > 1 && len <= sizeof(key) && text[len - 1] == '-') {
                memcpy(key, text, len - 1);
                key[len - 1] = '\0';
                r = check_key(key, false, problem);
                if (r < 0)
                        return r;
                return json_array_append_new(remove, json_string(key)) < 0 ? -ENOMEM : 0;
        }
        if (!strchr(text, '=')) {
                snprintf(problem, LABELING_PROBLEM_MAX,
                         "\"%.64s\" changes no label: it is KEY=VALUE, or KEY- to remove one",
                         text);
                return -EINVAL;
        }
        r = labels_add_text(&l, text, problem);
        if (r < 0)
                return r;
        if (json_object_get(set, l.v[0].key)) {
                snprintf(problem, LABELING_PROBLEM_MAX, "the label \"%.200s\" is given twice",
                         l.v[0].key);
                return -EEXIST;
        }
        return json_object_set_new(set, l.v[0].key, json_string(l.v[0].value)) < 0 ? -ENOMEM : 0;
}

/* --- named ports ------------------------------------------------------------------------------ */

static const struct {
        const char *name;
        uint8_t number;
} protocols[] = {
    {"tcp", IPPROTO_TCP},
    {"udp", IPPROTO_UDP},
    {"sctp", IPPROTO_SCTP},
};

/* "8080", "53/udp" */
static int parse_port(const char *text, struct named_port *ret, char *problem)
{
        const char *slash = strchr(text, '/');
        size_t len = slash ? (size_t)(slash - text) : strlen(text);
        char number[8] = "";
        uint64_t port = 0;

        if (len < sizeof(number))
                memcpy(number, text, len);
        if (parse_uint(number, 1, UINT16_MAX, &port) < 0) {
                snprintf(problem, LABELING_PROBLEM_MAX,
                         "the port \"%.32s\" is not NUMBER[/tcp|/udp|/sctp], a number from 1 to "
                         "65535",
                         text);
                return -EINVAL;
        }
        ret->port = (uint16_t)port;
        ret->protocol = slash ? 0 : IPPROTO_TCP;
        for (size_t i = 0; slash && i < ARRAY_SIZE(protocols); i++)
                if (strcmp(slash + 1, protocols[i].name) == 0)
                        ret->protocol = protocols[i].number;
        if (ret->protocol)
                return 0;
        snprintf(problem, LABELING_PROBLEM_MAX,
                 "after the slash of the port \"%.32s\" comes tcp, udp or sctp", text);
        return -EINVAL;
}

static int add(struct named_ports *list, const char *name, const char *port, char *problem)
{
        struct named_port *p = &list->v[list->n];
        int r;

        if (!policy_port_name_is_valid(name)) {
                snprintf(problem, LABELING_PROBLEM_MAX,
                         "\"%.32s\" is not a port's name: 1 to 15 of a-z 0-9 -, a letter among "
                         "them, and no - at an end or beside another",
                         name);
                return -EINVAL;
        }
        for (size_t i = 0; i < list->n; i++)
                if (strcmp(list->v[i].name, name) == 0) {
                        snprintf(problem, LABELING_PROBLEM_MAX, "the port \"%s\" is given twice",
                                 name);
                        return -EEXIST;
                }
        if (list->n == POLICY_NAMED_PORTS_MAX) {
                snprintf(problem, LABELING_PROBLEM_MAX, "there are more than %d named ports",
                         POLICY_NAMED_PORTS_MAX);
                return -E2BIG;
        }
        r = parse_port(port, p, problem);
        if (r < 0)
                return r;
        strcpy(p->name, name);
        list->n++;
        return 0;
}

int named_ports_add(struct named_ports *list, const char *text, char *problem)
{
        const char *equals = strchr(text, '=');
        char name[64] = "";

        if (!equals) {
                snprintf(problem, LABELING_PROBLEM_MAX,
                         "\"%.64s\" is not a named port: it is NAME=NUMBER[/tcp|/udp|/sctp]", text);
                return -EINVAL;
        }
        snprintf(name, sizeof(name), "%.*s", (int)(equals - text), text);
        return add(list, name, equals + 1, problem);
}

json_t *named_ports_to_json(const struct named_ports *list)
{
        json_t *object;

        if (list->n == 0)
                return NULL;
        object = json_object();
        for (size_t i = 0; i < list->n; i++) {
                const struct named_port *p = &list->v[i];
                const char *protocol = "";

                for (size_t k = 0; k < ARRAY_SIZE(protocols); k++)
                        if (protocols[k].number == p->protocol)
                                protocol = protocols[k].name;
                if (json_object_set_new(object, p->name, json_sprintf("%u/%s", p->port, protocol)) <
                    0) {
                        json_decref(object);
                        return NULL;
                }
        }
        return object;
}

int named_ports_from_json(const json_t *object, struct named_ports *ret, char *problem)
{
        struct named_ports list = {};
        const char *name;
        json_t *value;

        if (object && !json_is_object(object)) {
                snprintf(problem, LABELING_PROBLEM_MAX, "ports are not an object");
                return -EINVAL;
        }
        json_object_foreach ((json_t *)object, name, value) {
                int r;

                if (!json_is_string(value)) {
                        snprintf(problem, LABELING_PROBLEM_MAX, "the port \"%.64s\" is not a text",
                                 name);
                        return -EINVAL;
                }
                r = add(&list, name, json_string_value(value), problem);
                if (r < 0)
                        return r;
        }
        *ret = list;
        return 0;
}
