/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl: the command line of Slim.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "../basic/log.h"
#include "cli.h"
#include "print.h"

#define RUN_DIR_DEFAULT "/run/slim"

static const struct cli_command commands[] = {
    {"network", "create", network_create,
     "NAME [--prefix PREFIX [--block-bits N]] [--prefix6 PREFIX [--block-bits6 N]] "
     "[--label KEY=VALUE]…",
     "make an overlay network"},
    {"network", "ls", network_ls, "[--labels]", "list the networks"},
    {"network", "label", network_label, "NAME KEY=VALUE… KEY-…", "set or remove labels of one"},
    {"network", "rm", network_rm, "NAME", "remove a network that has no endpoints"},
    {"endpoint", "ls", endpoint_ls, "[--network NET] [--all] [--labels]",
     "list the containers of the cluster; --all: the hosts' own addresses too"},
    {"endpoint", "show", endpoint_show, "NAME [--network NET]", "show one of them"},
    {"endpoint", "label", endpoint_label, "NAME KEY=VALUE… KEY-… [--network NET]",
     "set or remove labels of a container of this host"},
    {"endpoint", "limit", endpoint_limit,
     "NAME [--egress RATE|none] [--ingress RATE|none] [--dscp DSCP|none] [--priority N|none] "
     "[--network NET]",
     "limit the bandwidth of a container of this host, in bits a second (10M), and set its traffic "
     "class"},
    {"connection", "ls", connection_ls, "[--name NAME] [--network NET]",
     "list the TCP sockets of this host's containers"},
    {"monitor", NULL, monitor_run,
     "[--endpoint NAME] [--network NET] [--reason REASON]… [--count N]",
     "show denials, drops and ended connections as they happen; docs/monitor.md has the reasons"},
    {"key", "show", key_show, "", "show which key signs connections between hosts"},
    {"key", "rotate", key_rotate, "[--timeout SECONDS]",
     "replace that key; no connection is refused meanwhile"},
    {"policy", "apply", policy_apply, "-f FILE",
     "put the network policies of a YAML file into force; -f -: of standard input"},
    {"policy", "ls", policy_ls, "[--network NET]", "list the network policies"},
    {"policy", "show", policy_show, "NAME [--network NET]", "show one of them, as YAML"},
    {"policy", "rm", policy_rm, "NAME… [--network NET]", "remove network policies"},
    {"policy", "check", policy_check, "FROM TO [PORT[/tcp|/udp|/sctp]|PROTOCOL] [--network NET]",
     "say whether FROM may connect to TO, and why; each is a container's name, host:NAME or an IP "
     "address"},
    {"status", NULL, status_show, "", "show this host's slimd (also without a command)"},
    {"doctor", NULL, doctor_run, "", "check what Slim needs of this machine"},
    {"run", NULL, run_run,
     "--name NAME [--network NET] [--address ADDR]… [--plain] [--hostname H] [--cpus LIST] "
     "[--publish [ADDR:]PORT:PORT[/tcp|/udp]]… [--label KEY=VALUE]… "
     "[--port NAME=PORT[/tcp|/udp|/sctp]]… [--egress RATE] [--ingress RATE] [--dscp DSCP] "
     "[--priority N] [--no-accelerator] -- CMD…",
     "run a program in a container over this machine's file system"},
};

static void print_help(void)
{
        printf("usage: slimctl [--run-dir DIR] [--json] COMMAND\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                const struct cli_command *c = &commands[i];

                printf("  %s%s%s%s%s\n        %s\n", c->noun, c->verb ? " " : "", c->verb ?: "",
                       c->arguments[0] ? " " : "", c->arguments, c->description);
        }
        printf("\n"
               "  --run-dir DIR  where slimd's socket is (default %s)\n"
               "  --json         print JSON\n"
               "  --help         show this, or a command's own line after it\n"
               "  --version      show the version\n",
               RUN_DIR_DEFAULT);
}

static void print_command_help(const struct cli_command *c)
{
        printf("usage: slimctl %s%s%s%s%s\n\n%s\n", c->noun, c->verb ? " " : "", c->verb ?: "",
               c->arguments[0] ? " " : "", c->arguments, c->description);
}

/* The verbs of a noun, for the line that says which there are. */
static void list_verbs(const char *noun, char *buf, size_t size)
{
        size_t at = 0;

        buf[0] = '\0';
        for (size_t i = 0; i < ARRAY_SIZE(commands) && at < size; i++)
                if (strcmp(commands[i].noun, noun) == 0)
                        at += (size_t)snprintf(buf + at, size - at, "%s%s", at ? ", " : "",
                                               commands[i].verb ?: "");
}

/* The next word that is no option; NULL: there is none. Global options before it are taken. */
static int next_word(struct cli *cli, const char **ret)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const char *word = NULL;

        for (;;) {
                switch (words_next(&cli->words, cli->globals, NULL, &word, problem)) {
                case WORDS_OPTION:
                        break;
                case WORDS_BAD:
                        cli_usage(cli, "%s", problem);
                        return -EINVAL;
                case WORDS_REST:
                        cli_usage(cli, "\"--\" stands before the command");
                        return -EINVAL;
                case WORDS_END:
                case WORDS_POSITIONAL:
                        *ret = word;
                        return 0;
                }
        }
}

/* The command that the words name: 0 and *ret, which is NULL when there are no words. */
static int find_command(struct cli *cli, const struct cli_command **ret)
{
        const char *noun, *verb = NULL;
        const struct cli_command *found = NULL;
        bool known = false;
        char verbs[128];
        int r;

        r = next_word(cli, &noun);
        if (r < 0)
                return r;
        if (!noun) {
                *ret = NULL;
                return 0;
        }
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++) {
                const struct cli_command *c = &commands[i];

                if (strcmp(c->noun, noun) != 0)
                        continue;
                if (!c->verb) {
                        *ret = c;
                        return 0;
                }
                if (!known) {
                        r = next_word(cli, &verb);
                        if (r < 0)
                                return r;
                        known = true;
                }
                if (verb && strcmp(c->verb, verb) == 0)
                        found = c;
        }
        if (!known) {
                cli_usage(cli, "there is no command \"%s\"", noun);
                return -EINVAL;
        }
        if (!found) {
                if (!verb && cli->help) {
                        *ret = NULL;
                        return 0;
                }
                list_verbs(noun, verbs, sizeof(verbs));
                if (verb)
                        cli_usage(cli, "there is no \"%s %s\", only %s", noun, verb, verbs);
                else
                        cli_usage(cli, "\"%s\" needs one of: %s", noun, verbs);
                return -EINVAL;
        }
        *ret = found;
        return 0;
}

/*
 * --help and --version count wherever they stand before "--", and then nothing else on the line
 * has to be right, so that a person may add --help to what did not work.
 */
static bool asked_for(const struct words *w, const char *option)
{
        for (int i = w->at; w->argv[i] && strcmp(w->argv[i], "--") != 0; i++)
                if (strcmp(w->argv[i], option) == 0)
                        return true;
        return false;
}

static int dispatch(struct cli *cli)
{
        static const struct cli_command status = {"status", NULL, status_show, "", ""};
        const struct cli_command *command = NULL;

        if (find_command(cli, &command) < 0)
                return CLI_USAGE;
        if (cli->version || asked_for(&cli->words, "--version")) {
                printf("slimctl %s\n", SLIM_VERSION);
                return CLI_OK;
        }
        if (cli->help || asked_for(&cli->words, "--help")) {
                if (command)
                        print_command_help(command);
                else
                        print_help();
                return CLI_OK;
        }
        cli->command = command ?: &status;
        if (cli->run_dir[0] == '\0')
                return cli_usage(cli, "--run-dir is empty");
        return cli->command->run(cli);
}

/* With descriptor 0, 1 or 2 closed, the next file opened would become standard input or output. */
static int fill_standard_fds(void)
{
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_RDONLY : O_WRONLY) < 0)
                        return -errno;
        return 0;
}

int main(int argc, char **argv)
{
        struct cli cli = {.run_dir = RUN_DIR_DEFAULT,
                          .words = {.argv = argv, .at = argc > 0 ? 1 : 0}};
        const struct option_spec globals[] = {
            {.name = "run-dir", .value = &cli.run_dir},
            {.name = "json", .flag = &cli.json},
            {.name = "help", .flag = &cli.help},
            {.name = "version", .flag = &cli.version},
            {},
        };
        int status, r;

        log_setup("slimctl");
        r = fill_standard_fds();
        if (r < 0)
                return CLI_FAILED;
        cli.globals = globals;
        status = dispatch(&cli);
        r = print_finish();
        if (r < 0) {
                log_error_errno(r, "cannot write to standard output: %m");
                return status == CLI_OK ? CLI_FAILED : status;
        }
        return status;
}
