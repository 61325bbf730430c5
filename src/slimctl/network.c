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

/* What a person says of each family. */
struct prefix_options {
        const char *prefix[SLIM_FAMILIES], *bits[SLIM_FAMILIES];
};

static const struct {
        const char *prefix, *bits; /* the options */
        const char *prefix_key, *bits_key;
        unsigned int most;
        const char *example;
} families[SLIM_FAMILIES] = {
    [SLIM_V4] = {"--prefix", "--block-bits", "prefix", "block_bits", 32, "10.77.0.0/16"},
    [SLIM_V6] = {"--prefix6", "--block-bits6", "prefix6", "block_bits6", 128, "fd00:77::/64"},
};

/* One family's prefix and the length of a host's block, which lies within it. */
static int check_prefix(const struct cli *cli, const struct prefix_options *o, enum slim_family f,
                        json_t *parameters)
{
        const char *prefix = o->prefix[f], *bits = o->bits[f];
        struct inaddr_prefix p;
        unsigned int shortest;
        uint64_t n;
        int r;

        if (!prefix && bits) {
                cli_usage(cli, "%s is there without %s", families[f].bits, families[f].prefix);
                return -EINVAL;
        }
        if (!prefix)
                return 0;
        r = inaddr_prefix_parse(prefix, &p);
        if (r == -ERANGE) {
                cli_usage(cli, "%s \"%s\" has bits set behind the prefix", families[f].prefix,
                          prefix);
                return r;
        }
        if (r < 0 || inaddr_family(&p.addr) != f) {
                cli_usage(cli, "%s \"%s\" is not an IPv%d address with a prefix length, as in %s",
                          families[f].prefix, prefix, f == SLIM_V4 ? 4 : 6, families[f].example);
                return -EINVAL;
        }
        json_object_set_new(parameters, families[f].prefix_key, json_string(prefix));
        if (!bits)
                return 0;
        shortest = inaddr_prefix_len(&p);
        r = parse_uint(bits, shortest, families[f].most, &n);
        if (r < 0) {
                cli_usage(cli, "%s \"%s\" is not a number from %u to %u", families[f].bits, bits,
                          shortest, families[f].most);
                return r;
        }
        json_object_set_new(parameters, families[f].bits_key, json_integer((json_int_t)n));
        return 0;
}

int network_create(struct cli *cli)
{
        struct prefix_options o = {};
        struct option_values labels = {};
        const char *name = NULL;
        const struct option_spec options[] = {
            {.name = "prefix", .value = &o.prefix[SLIM_V4]},
            {.name = "block-bits", .value = &o.bits[SLIM_V4]},
            {.name = "prefix6", .value = &o.prefix[SLIM_V6]},
            {.name = "block-bits6", .value = &o.bits[SLIM_V6]},
            {.name = "label", .values = &labels},
            {},
        };
        _cleanup_json_ json_t *parameters = NULL, *answer = NULL;
        const json_t *network;

        if (cli_parse(cli, options, &name, 1, NULL) < 0 ||
            cli_check_name(cli, "the network's name", name) < 0)
                return CLI_USAGE;
        if (!o.prefix[SLIM_V4] && !o.prefix[SLIM_V6])
                return cli_usage(cli, "--prefix is missing (or --prefix6, or both)");
        parameters = cli_parameters("name", name, NULL);
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (check_prefix(cli, &o, (enum slim_family)f, parameters) < 0)
                        return CLI_USAGE;
        if (cli_take_labels(cli, &labels, true, parameters) < 0)
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
            {.title = "IPV6 PREFIX", .key = "prefix6"},
            {.title = "BLOCK BITS", .key = "block_bits6"},
            {.title = "ENDPOINTS", .key = "endpoints"},
            {.title = "ID", .key = "id"},
            {.title = "LABELS", .key = "labels", .kind = PRINT_PAIRS},
        };
        bool labels = false;
        const struct option_spec options[] = {{.name = "labels", .flag = &labels}, {}};
        _cleanup_json_ json_t *answer = NULL;
        const json_t *networks;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "list the networks", "Network.List", NULL, &answer) < 0)
                return CLI_FAILED;
        networks = cli_member(answer, "networks", JSON_ARRAY);
        if (!networks)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_table(networks, columns, ARRAY_SIZE(columns) - !labels);
        return CLI_OK;
}

int network_label(struct cli *cli)
{
        const char *words[1 + CLI_CHANGES_MAX + 1] = {};
        _cleanup_json_ json_t *answer = NULL, *parameters = NULL;

        if (cli_parse(cli, NULL, words, ARRAY_SIZE(words) - 1, NULL) < 0 ||
            cli_check_name(cli, "the network's name", words[0]) < 0)
                return CLI_USAGE;
        parameters = cli_parameters("name", words[0], NULL);
        if (cli_take_label_changes(cli, words + 1, parameters) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "label the network", "Network.Label", TAKE_PTR(parameters), &answer) < 0)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
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
