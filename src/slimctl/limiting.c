/* SPDX-License-Identifier: Apache-2.0 */
#include "limiting.h"

#include <errno.h>
#include <string.h>

#include "../shared/bandwidth.h"

static int parse_rate(const char *text, json_int_t *ret, char *problem)
{
        uint64_t rate;
        int r = limits_parse_rate(text, &rate, problem);

        if (r == 0)
                *ret = (json_int_t)rate;
        return r;
}

static int parse_dscp(const char *text, json_int_t *ret, char *problem)
{
        uint8_t dscp;
        int r = limits_parse_dscp(text, &dscp, problem);

        if (r == 0)
                *ret = dscp;
        return r;
}

static int parse_priority(const char *text, json_int_t *ret, char *problem)
{
        uint8_t priority;
        int r = limits_parse_priority(text, &priority, problem);

        if (r == 0)
                *ret = priority;
        return r;
}

int limit_options_take(const struct cli *cli, const struct limit_options *o, json_t *set,
                       json_t *remove)
{
        const struct {
                const char *name, *text;
                int (*parse)(const char *text, json_int_t *ret, char *problem);
        } options[] = {
            {"egress", o->egress, parse_rate},
            {"ingress", o->ingress, parse_rate},
            {"dscp", o->dscp, parse_dscp},
            {"priority", o->priority, parse_priority},
        };
        char problem[LIMITS_PROBLEM_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(options); i++) {
                json_int_t value = 0;

                if (!options[i].text)
                        continue;
                if (remove && strcmp(options[i].text, "none") == 0) {
                        json_array_append_new(remove, json_string(options[i].name));
                        continue;
                }
                if (options[i].parse(options[i].text, &value, problem) < 0) {
                        cli_usage(cli, "--%s \"%s\" %s", options[i].name, options[i].text, problem);
                        return -EINVAL;
                }
                json_object_set_new(set, options[i].name, json_integer(value));
        }
        return 0;
}
