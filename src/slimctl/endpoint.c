/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl endpoint: the containers of the cluster and where they are.
 */
#include <errno.h>

#include "../shared/rpc.h"
#include "cli.h"
#include "limiting.h"
#include "print.h"

int endpoint_ls(struct cli *cli)
{
        static const struct print_column columns[] = {
            {.title = "NAME", .key = "name"},
            {.title = "NETWORK", .key = "network"},
            {.title = "ADDRESS", .key = "address"},
            {.title = "IPV6 ADDRESS", .key = "address6"},
            {.title = "KIND", .key = "kind"},
            {.title = "HOST", .key = "host"},
            {.title = "HOST ADDRESS", .key = "host_address"},
            {.title = "HOST IPV6 ADDRESS", .key = "host_address6"},
            {.title = "LOCAL", .key = "local"},
            {.title = "PUBLISHED", .key = "publish", .kind = PRINT_LIST},
            {.title = "LABELS", .key = "labels", .kind = PRINT_PAIRS},
        };
        const char *network = NULL;
        bool all = false, labels = false;
        const struct option_spec options[] = {
            {.name = "network", .value = &network},
            {.name = "all", .flag = &all},
            {.name = "labels", .flag = &labels},
            {},
        };
        _cleanup_json_ json_t *answer = NULL;
        const json_t *endpoints;
        json_t *parameters;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        parameters = cli_parameters("network", network, NULL);
        if (all)
                json_object_set_new(parameters, "all", json_true());
        if (cli_call(cli, "list the endpoints", "Endpoint.List", parameters, &answer) < 0)
                return CLI_FAILED;
        endpoints = cli_member(answer, "endpoints", JSON_ARRAY);
        if (!endpoints)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_table(endpoints, columns, ARRAY_SIZE(columns) - !labels);
        return CLI_OK;
}

static void print_endpoint(const json_t *e)
{
        const struct print_field fields[] = {
            {.title = "name", .value = json_object_get(e, "name")},
            {.title = "network", .value = json_object_get(e, "network")},
            {.title = "address", .value = json_object_get(e, "address")},
            {.title = "IPv6 address", .value = json_object_get(e, "address6")},
            {.title = "kind", .value = json_object_get(e, "kind")},
            {.title = "id", .value = json_object_get(e, "id")},
            {.title = "host", .value = json_object_get(e, "host")},
            {.title = "host address", .value = json_object_get(e, "host_address")},
            {.title = "host IPv6 address", .value = json_object_get(e, "host_address6")},
            {.title = "published", .value = json_object_get(e, "publish"), .kind = PRINT_LIST},
            {.title = "labels", .value = json_object_get(e, "labels"), .kind = PRINT_PAIRS},
            {.title = "ports", .value = json_object_get(e, "ports"), .kind = PRINT_PAIRS},
            {.title = "limits", .value = json_object_get(e, "limits"), .kind = PRINT_PAIRS},
            {.title = "local", .value = json_object_get(e, "local")},
            {.title = "device", .value = json_object_get(e, "device")},
            {.title = "interface", .value = json_object_get(e, "interface")},
            {.title = "attachment", .value = json_object_get(e, "attachment")},
            {.title = "namespace", .value = json_object_get(e, "netns")},
            {.title = "cgroup", .value = json_object_get(e, "cgroup")},
            {.title = "processes", .value = json_object_get(e, "pids")},
            {.title = "broker", .value = json_object_get(e, "broker_pid")},
        };

        print_fields(fields, ARRAY_SIZE(fields));
}

int endpoint_show(struct cli *cli)
{
        const char *name = NULL, *network = NULL;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        _cleanup_json_ json_t *answer = NULL;
        const json_t *endpoint;

        if (cli_parse(cli, options, &name, 1, NULL) < 0 ||
            cli_check_name(cli, "the endpoint's name", name) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        if (cli_call(cli, "show the endpoint", "Endpoint.Show",
                     cli_parameters("name", name, "network", network, NULL), &answer) < 0)
                return CLI_FAILED;
        endpoint = cli_member(answer, "endpoint", JSON_OBJECT);
        if (!endpoint)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_endpoint(endpoint);
        return CLI_OK;
}

int endpoint_label(struct cli *cli)
{
        const char *words[1 + CLI_CHANGES_MAX + 1] = {}, *network = NULL;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        _cleanup_json_ json_t *answer = NULL, *parameters = NULL;

        if (cli_parse(cli, options, words, ARRAY_SIZE(words) - 1, NULL) < 0 ||
            cli_check_name(cli, "the endpoint's name", words[0]) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        parameters = cli_parameters("name", words[0], "network", network, NULL);
        if (cli_take_label_changes(cli, words + 1, parameters) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "label the endpoint", "Endpoint.Label", TAKE_PTR(parameters), &answer) <
            0)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        return CLI_OK;
}

int endpoint_limit(struct cli *cli)
{
        const char *name = NULL, *network = NULL;
        struct limit_options o = {};
        const struct option_spec options[] = {
            {.name = "network", .value = &network}, LIMIT_OPTIONS(&o), {}};
        _cleanup_json_ json_t *answer = NULL, *set = json_object(), *remove = json_array();
        json_t *parameters;

        if (cli_parse(cli, options, &name, 1, NULL) < 0 ||
            cli_check_name(cli, "the endpoint's name", name) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0) ||
            limit_options_take(cli, &o, set, remove) < 0)
                return CLI_USAGE;
        if (json_object_size(set) == 0 && json_array_size(remove) == 0)
                return cli_usage(cli, "what is limited? Give --egress, --ingress, --dscp or "
                                      "--priority");
        parameters = cli_parameters("name", name, "network", network, NULL);
        json_object_set(parameters, "set", set);
        json_object_set(parameters, "remove", remove);
        if (cli_call(cli, "limit the endpoint", "Endpoint.Limit", parameters, &answer) < 0)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        return CLI_OK;
}
