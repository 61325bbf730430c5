/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl status: one look at this host's slimd.
 */
#include <errno.h>
#include <stdio.h>

#include "../basic/alloc.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

/* "A (B)", or only A; NULL when A is missing. */
static char *with_detail(const json_t *a, const char *before, const json_t *b)
{
        char *s;

        if (!json_is_string(a))
                return NULL;
        if (asprintf(&s, json_is_string(b) ? "%s (%s%s)" : "%s", json_string_value(a), before,
                     json_string_value(b)) < 0)
                return NULL;
        return s;
}

/* "DEVICE (ADDRESS)", "DEVICE (ADDRESS, ADDRESS)" */
static char *underlay_text(const json_t *s)
{
        const json_t *v4 = json_object_get(s, "underlay_address"),
                     *v6 = json_object_get(s, "underlay_address6");
        _cleanup_json_ json_t *both = NULL;

        if (json_is_string(v4) && json_is_string(v6))
                both = json_sprintf("%s, %s", json_string_value(v4), json_string_value(v6));
        return with_detail(json_object_get(s, "underlay"), "",
                           both                 ? both
                           : json_is_string(v4) ? v4
                                                : v6);
}

static char *counted(const json_t *all, const json_t *local)
{
        char *s;

        if (!json_is_integer(all) || !json_is_integer(local))
                return NULL;
        if (asprintf(&s, "%lld (%lld here)", (long long)json_integer_value(all),
                     (long long)json_integer_value(local)) < 0)
                return NULL;
        return s;
}

/* {NAME: N…} as lines; a counter that is 0 says nothing. */
static void print_numbers(const char *title, const json_t *numbers, bool zeroes)
{
        _cleanup_json_ json_t *rows = json_array();
        const struct print_column columns[] = {
            {.title = title, .key = "name"},
            {.title = "COUNT", .key = "value"},
        };
        const char *name;
        json_t *n;

        json_object_foreach ((json_t *)numbers, name, n) {
                if (zeroes || json_integer_value(n) != 0)
                        json_array_append_new(rows,
                                              json_pack("{ss, sO}", "name", name, "value", n));
        }
        if (json_array_size(rows) == 0)
                return;
        putchar('\n');
        print_table(rows, columns, ARRAY_SIZE(columns));
}

static void print_status(const json_t *s)
{
        static const struct print_column host_columns[] = {
            {.title = "HOST", .key = "name"},
            {.title = "ADDRESS", .key = "address"},
            {.title = "IPV6 ADDRESS", .key = "address6"},
        };
        _cleanup_free_ char *underlay = underlay_text(s),
                            *store =
                                with_detail(json_object_get(s, "store"),
                                            "does not answer: ", json_object_get(s, "store_error")),
                            *endpoints = counted(json_object_get(s, "endpoints"),
                                                 json_object_get(s, "local_endpoints"));
        const json_t *down = json_object_get(s, "store_down_since"),
                     *error = json_object_get(s, "policy_error");
        const struct print_field fields[] = {
            {.title = "host", .value = json_object_get(s, "host")},
            {.title = "underlay", .text = underlay},
            {.title = "slimd", .value = json_object_get(s, "version")},
            {.title = "process", .value = json_object_get(s, "pid")},
            {.title = "running since", .value = json_object_get(s, "since")},
            {.title = "store", .text = store},
            {.title = "store down since", .value = json_is_null(down) ? NULL : down},
            {.title = "networks", .value = json_object_get(s, "networks")},
            {.title = "endpoints", .text = endpoints},
            {.title = "policies", .value = json_object_get(s, "policies")},
            {.title = "policies not in force", .value = json_is_null(error) ? NULL : error},
            {.title = "monitors", .value = json_object_get(s, "monitors")},
            {.title = "slim ports", .value = json_object_get(s, "slim_ports")},
        };
        const json_t *hosts = json_object_get(s, "hosts");

        print_fields(fields, ARRAY_SIZE(fields));
        if (json_array_size(hosts) > 0) {
                putchar('\n');
                print_table(hosts, host_columns, ARRAY_SIZE(host_columns));
        }
        print_numbers("MAP ENTRIES", json_object_get(s, "maps"), true);
        print_numbers("COUNTER", json_object_get(s, "counters"), false);
}

int status_show(struct cli *cli)
{
        _cleanup_json_ json_t *status = NULL;

        if (cli_parse(cli, NULL, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "get the status", "Status", NULL, &status) < 0)
                return CLI_FAILED;
        if (cli->json)
                print_json(status);
        else
                print_status(status);
        return CLI_OK;
}
