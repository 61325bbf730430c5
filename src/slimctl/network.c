/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl network: the overlay networks of the cluster.
 */
#include <errno.h>

#include "../basic/inaddr.h"
#include "../basic/name.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

/* The prefix and the length of a host's block, which lies within it. */
static int check_prefix(const struct cli *cli, const char *prefix, const char *bits,
                        json_t *parameters)
{
        struct inaddr_prefix p;
        unsigned int shortest;
        uint64_t n;
        bool v4;
        int r;

        if (!prefix) {
                cli_usage(cli, "--prefix is missing");
                return -EINVAL;
        }
        r = inaddr_prefix_parse(prefix, &p);
        if (r < 0) {
                cli_usage(cli,
                          r == -ERANGE ? "--prefix \"%s\" has bits set behind the prefix"
                                       : "--prefix \"%s\" is not an address with a prefix length, "
                                         "as in 10.77.0.0/16",
                          prefix);
                return r;
        }
        json_object_set_new(parameters, "prefix", json_string(prefix));
        if (!bits)
                return 0;
        v4 = p.bits >= 96 && inaddr_is_v4(&p.addr);
        shortest = v4 ? p.bits - 96U : p.bits;
        r = parse_uint(bits, shortest, v4 ? 32 : 128, &n);
        if (r < 0) {
                cli_usage(cli, "--block-bits \"%s\" is not a number from %u to %u", bits, shortest,
                          v4 ? 32U : 128U);
                return r;
        }
        json_object_set_new(parameters, "block_bits", json_integer((json_int_t)n));
        return 0;
}

int network_create(struct cli *cli)
{
        const char *name = NULL, *prefix = NULL, *bits = NULL;
        const struct option_spec options[] = {
            {.name = "prefix", .value = &prefix},
            {.name = "block-bits", .value = &bits},
            {},
        };
        _cleanup_json_ json_t *parameters = NULL, *answer = NULL;
        const json_t *network;

        if (cli_parse(cli, options, &name, 1, NULL) < 0 ||
            cli_check_name(cli, "the network's name", name) < 0)
                return CLI_USAGE;
        parameters = cli_parameters("name", name, NULL);
        if (check_prefix(cli, prefix, bits, parameters) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "create the network", "Network.Create", TAKE_PTR(parameters), &answer) <
            0)
                return CLI_FAILED;
        network = cli_member(answer, "network", JSON_OBJECT);
        if (!network)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        return CLI_OK;
}

int network_ls(struct cli *cli)
{
        static const struct print_column columns[] = {
            {.title = "NAME", .key = "name"},
            {.title = "PREFIX", .key = "prefix"},
            {.title = "BLOCK BITS", .key = "block_bits"},
            {.title = "ENDPOINTS", .key = "endpoints"},
            {.title = "ID", .key = "id"},
        };
        _cleanup_json_ json_t *answer = NULL;
        const json_t *networks;

        if (cli_parse(cli, NULL, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "list the networks", "Network.List", NULL, &answer) < 0)
                return CLI_FAILED;
        networks = cli_member(answer, "networks", JSON_ARRAY);
        if (!networks)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_table(networks, columns, ARRAY_SIZE(columns));
        return CLI_OK;
}

int network_rm(struct cli *cli)
{
        _cleanup_json_ json_t *answer = NULL;
        const char *name = NULL;

        if (cli_parse(cli, NULL, &name, 1, NULL) < 0 ||
            cli_check_name(cli, "the network's name", name) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "remove the network", "Network.Remove",
                     cli_parameters("name", name, NULL), &answer) < 0)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        return CLI_OK;
}
