/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl policy: who may talk to whom.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../basic/alloc.h"
#include "../basic/fd.h"
#include "../basic/log.h"
#include "../basic/name.h"
#include "../policy/policy-yaml.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

static int check_policy_name(const struct cli *cli, const char *name)
{
        if (name && subdomain_is_valid(name))
                return 0;
        if (name)
                cli_usage(cli,
                          "\"%.64s\" is not a policy's name: up to 253 characters of a-z 0-9 - ., "
                          "with letters or digits around each dot and at both ends",
                          name);
        else
                cli_usage(cli, "the policy's name is missing");
        return -EINVAL;
}

/* --- apply ------------------------------------------------------------------------------------ */

/* All of a file, or of standard input. *ret is the caller's. Said in one line. */
static int read_policies(const char *file, char **ret, size_t *ret_len)
{
        bool is_stdin = strcmp(file, "-") == 0;
        _cleanup_close_ int fd =
            is_stdin ? fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3) : open(file, O_RDONLY | O_CLOEXEC);
        _cleanup_free_ char *text = malloc(POLICY_FILE_MAX + 1UL);
        size_t len = 0;
        ssize_t n = 1;

        if (fd < 0)
                return log_error_errno(-errno, "cannot open %s: %m", file);
        if (!text)
                return log_error_errno(-ENOMEM, "cannot read %s: %m", file);
        while (n > 0 && len <= POLICY_FILE_MAX) {
                n = read(fd, text + len, POLICY_FILE_MAX + 1UL - len);
                if (n < 0 && errno != EINTR)
                        return log_error_errno(-errno, "cannot read %s: %m", file);
                len += n > 0 ? (size_t)n : 0;
                n = n < 0 ? 1 : n;
        }
        if (len > POLICY_FILE_MAX) {
                log_error("%s is longer than %u MiB", file, POLICY_FILE_MAX >> 20);
                return -E2BIG;
        }
        *ret = TAKE_PTR(text);
        *ret_len = len;
        return 0;
}

/* The parameters of Policy.Apply. Said in one line. */
static int parse_policies(const char *file, const char *text, size_t len, json_t **ret)
{
        _cleanup_(policy_list_clear) struct policy_list list = {};
        char line[4096 + POLICY_PATH_MAX + POLICY_TEXT_MAX];
        _cleanup_json_ json_t *array = json_array();
        struct policy_error error;
        int r;

        r = policy_list_from_yaml(text, len, &list, &error);
        if (r == -EINVAL) {
                /* As compilers do, which editors understand. */
                fprintf(stderr, "%s\n", policy_error_format(&error, file, line, sizeof(line)));
                return r;
        }
        if (r < 0)
                return log_error_errno(r, "cannot read %s: %m", file);
        if (list.n == 0) {
                log_error("%s has no policy in it", file);
                return -ENOENT;
        }
        for (size_t i = 0; i < list.n; i++)
                if (json_array_append_new(array, policy_to_json(list.v[i])) < 0)
                        return log_error_errno(-ENOMEM, "cannot read %s: %m", file);
        *ret = json_pack("{s:O}", "policies", array);
        return 0;
}

int policy_apply(struct cli *cli)
{
        const char *file = NULL;
        const struct option_spec options[] = {{.name = "file", .letter = 'f', .value = &file}, {}};
        _cleanup_json_ json_t *parameters = NULL, *answer = NULL;
        _cleanup_free_ char *text = NULL;
        const json_t *policies, *p;
        size_t len = 0, i;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (!file)
                return cli_usage(cli, "-f FILE is missing (- is standard input)");
        if (read_policies(file, &text, &len) < 0 ||
            parse_policies(file, text, len, &parameters) < 0 ||
            cli_call(cli, "apply the policies", "Policy.Apply", TAKE_PTR(parameters), &answer) < 0)
                return CLI_FAILED;
        policies = cli_member(answer, "policies", JSON_ARRAY);
        if (!policies)
                return CLI_FAILED;
        if (cli->json) {
                print_json(answer);
                return CLI_OK;
        }
        json_array_foreach (policies, i, p) {
                printf("policy %s/%s %s\n", json_string_value(json_object_get(p, "network")) ?: "?",
                       json_string_value(json_object_get(p, "name")) ?: "?",
                       json_string_value(json_object_get(p, "result")) ?: "?");
        }
        return CLI_OK;
}

/* --- ls, show, rm ----------------------------------------------------------------------------- */

int policy_ls(struct cli *cli)
{
        static const struct print_column columns[] = {
            {.title = "NETWORK", .key = "network"},
            {.title = "NAME", .key = "name"},
            {.title = "TYPES", .key = "types", .kind = PRINT_LIST},
            {.title = "DENY", .key = "deny"},
        };
        const char *network = NULL;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        _cleanup_json_ json_t *answer = NULL;
        const json_t *policies;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        if (cli_call(cli, "list the policies", "Policy.List",
                     cli_parameters("network", network, NULL), &answer) < 0)
                return CLI_FAILED;
        policies = cli_member(answer, "policies", JSON_ARRAY);
        if (!policies)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_table(policies, columns, ARRAY_SIZE(columns));
        return CLI_OK;
}

int policy_show(struct cli *cli)
{
        const char *name = NULL, *network = NULL;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        _cleanup_json_ json_t *answer = NULL;
        const json_t *policy, *endpoints;

        if (cli_parse(cli, options, &name, 1, NULL) < 0 || check_policy_name(cli, name) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        if (cli_call(cli, "show the policy", "Policy.Show",
                     cli_parameters("name", name, "network", network, NULL), &answer) < 0)
                return CLI_FAILED;
        policy = cli_member(answer, "policy", JSON_OBJECT);
        endpoints = cli_member(answer, "endpoints", JSON_INTEGER);
        if (!policy || !endpoints)
                return CLI_FAILED;
        if (cli->json) {
                print_json(answer);
                return CLI_OK;
        }
        printf("# endpoints that it selects: %lld\n", (long long)json_integer_value(endpoints));
        print_yaml(policy);
        return CLI_OK;
}

#define RM_MAX 256 /* names on one command line */

int policy_rm(struct cli *cli)
{
        const char *names[RM_MAX + 1] = {}, *network = NULL;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        int status = CLI_OK;

        if (cli_parse(cli, options, names, RM_MAX, NULL) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        for (size_t i = 0; i == 0 || names[i]; i++)
                if (check_policy_name(cli, names[i]) < 0)
                        return CLI_USAGE;
        for (size_t i = 0; names[i]; i++) {
                _cleanup_json_ json_t *answer = NULL;

                if (cli_call(cli, "remove the policy", "Policy.Remove",
                             cli_parameters("name", names[i], "network", network, NULL),
                             &answer) < 0)
                        status = CLI_FAILED;
        }
        if (cli->json && status == CLI_OK) {
                _cleanup_json_ json_t *nothing = json_object();

                print_json(nothing);
        }
        return status;
}

/* --- check ------------------------------------------------------------------------------------ */

/* "80", "53/udp", "icmp" */
static int take_port(const struct cli *cli, const char *text, json_t *parameters)
{
        const char *slash = strchr(text, '/'), *protocol = slash ? slash + 1 : NULL;
        char number[8] = "";
        uint64_t port;

        if (!slash && (*text < '0' || *text > '9')) {
                json_object_set_new(parameters, "protocol", json_string(text));
                return 0;
        }
        snprintf(number, sizeof(number), "%.*s", (int)(slash ? slash - text : 7), text);
        if (parse_uint(number, 1, UINT16_MAX, &port) < 0 || (protocol && !*protocol)) {
                cli_usage(cli,
                          "\"%.32s\" is not PORT[/tcp|/udp|/sctp], with a number from 1 to 65535, "
                          "nor a protocol",
                          text);
                return -EINVAL;
        }
        json_object_set_new(parameters, "port", json_integer((json_int_t)port));
        if (protocol)
                json_object_set_new(parameters, "protocol", json_string(protocol));
        return 0;
}

/* Loudly, where the kernel does not do what the policies say. */
static void complain(const json_t *answer, const char *direction)
{
        const json_t *side = json_object_get(answer, direction);
        const char *verdict = json_string_value(json_object_get(side, "verdict")),
                   *kernel = json_string_value(json_object_get(side, "kernel"));

        if (verdict && kernel && strcmp(verdict, kernel) != 0)
                log_error("THE KERNEL DIFFERS: by the policies %s is \"%s\", in the kernel it is "
                          "\"%s\": restart slimd, and report this",
                          direction, verdict, kernel);
}

static const char *sentence(const json_t *answer, const char *direction)
{
        return json_string_value(json_object_get(json_object_get(answer, direction), "why"))
                   ?: "it is no endpoint, and no policy is about it";
}

static void print_answer(const json_t *answer, const char *verdict)
{
        bool allowed = strcmp(verdict, "allowed") == 0;
        _cleanup_json_ json_t *text =
            allowed ? json_string(verdict) : json_sprintf("denied (%s)", verdict);
        const struct print_field fields[] = {
            {.title = "egress", .text = sentence(answer, "egress")},
            {.title = "ingress", .text = sentence(answer, "ingress")},
            {.title = "verdict", .value = text},
        };

        print_fields(fields, ARRAY_SIZE(fields));
}

int policy_check(struct cli *cli)
{
        const char *words[3] = {}, *network = NULL, *verdict;
        const struct option_spec options[] = {{.name = "network", .value = &network}, {}};
        _cleanup_json_ json_t *parameters = NULL, *answer = NULL;

        if (cli_parse(cli, options, words, ARRAY_SIZE(words), NULL) < 0 ||
            (network && cli_check_name(cli, "--network", network) < 0))
                return CLI_USAGE;
        if (!words[1])
                return cli_usage(cli,
                                 "%s is missing: the name of a container, host:NAME, or an "
                                 "IP address",
                                 words[0] ? "whom it connects to" : "who connects");
        parameters = cli_parameters("from", words[0], "to", words[1], "network", network, NULL);
        if (words[2] && take_port(cli, words[2], parameters) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "check the policies", "Policy.Check", TAKE_PTR(parameters), &answer) < 0)
                return CLI_FAILED;
        verdict = json_string_value(cli_member(answer, "verdict", JSON_STRING));
        if (!verdict)
                return CLI_FAILED;
        if (cli->json)
                print_json(answer);
        else
                print_answer(answer, verdict);
        complain(answer, "egress");
        complain(answer, "ingress");
        return strcmp(verdict, "allowed") == 0 && !json_is_true(json_object_get(answer, "differs"))
                   ? CLI_OK
                   : CLI_FAILED;
}
