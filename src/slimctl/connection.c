/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl connection: the TCP sockets of this host's containers, with both pairs of addresses.
 */
#include <errno.h>

#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

int connection_ls(struct cli *cli)
{
        static const struct print_column columns[] = {
            {.title = "ENDPOINT", .key = "endpoint"},
            {.title = "STATE", .key = "state"},
            {.title = "LOCAL", .key = "local"},
            {.title = "PEER", .key = "peer"},
            {.title = "PEER ENDPOINT", .key = "peer_endpoint"},
            {.title = "HOST LOCAL", .key = "host_local"},
            {.title = "HOST PEER", .key = "host_peer"},
            {.title = "SENT", .key = "bytes_sent", .kind = PRINT_BYTES},
            {.title = "RECEIVED", .key = "bytes_received", .kind = PRINT_BYTES},
        };
        const char *name = NULL, *network = NULL;
        const struct option_spec options[] = {
            {.name = "name", .value = &name},
            {.name = "network", .value = &network},
            {},
        };
        _cleanup_json_ json_t *answer = NULL;
        const json_t *connections;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0 ||
            (name && cli_check_name(cli, "--name", name) < 0) ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        if (cli_call(cli, "list the connections", "Connection.List",
                     cli_parameters("name", name, "network", network, NULL), &answer) < 0)
                return CLI_FAILED;
        connections = cli_member(answer, "connections", JSON_ARRAY);
        if (!connections)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_table(connections, columns, ARRAY_SIZE(columns));
        return CLI_OK;
}
