/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What every command has: its words, the global options, and its exit status.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "../basic/macro.h"
#include "options.h"

/* Exit statuses of slimctl itself; `run` has its program's. */
enum {
        CLI_OK = 0,
        CLI_FAILED = 1,
        CLI_USAGE = 2,
};

struct cli;

struct cli_command {
        const char *noun;
        const char *verb;            /* NULL: the noun alone is the command */
        int (*run)(struct cli *cli); /* answers with an exit status */
        const char *arguments;
        const char *description;
};

struct cli {
        const char *run_dir;
        bool json, help, version;
        struct words words;
        const struct cli_command *command;
        const struct option_spec *globals;
};

/*
 * Reads the rest of the command line: options of the table and the global ones, exactly n words,
 * and, when ret_rest is not NULL, "--" and at least one word after it. -EINVAL: wrong, and a line
 * about it was printed. A value or word that is not there stays as it was.
 */
int cli_parse(struct cli *cli, const struct option_spec *options, const char **words, size_t n,
              char ***ret_rest);

/* Prints "slimctl: NOUN VERB: …" with a hint at --help; returns CLI_USAGE. */
int cli_usage(const struct cli *cli, const char *format, ...) _printf_(2, 3);

/* Checks what a person typed; what: how the line calls it. -EINVAL, said in one line. */
int cli_check_name(const struct cli *cli, const char *what, const char *name);
int cli_check_address(const struct cli *cli, const char *what, const char *address);

/*
 * One call to slimd. parameters may be NULL and is consumed. `doing` completes "cannot …". 0 or a
 * negative errno, said in one line. *ret: what the answer's parameters are, a new reference.
 */
int cli_call(struct cli *cli, const char *doing, const char *method, json_t *parameters,
             json_t **ret);

/* Says in one line why slimd could not be reached, and how it is started. Returns r. */
int cli_no_slimd(const struct cli *cli, int r);

/* As cli_call(), for a connection that is open, with descriptors beside the call. */
struct rpc;
int cli_call_on(struct rpc *rpc, const char *doing, const char *method, json_t *parameters,
                const int *fds, size_t n_fds, json_t **ret);

/* {"KEY": VALUE, …} of pairs ended by NULL; pairs whose value is NULL are left out. */
json_t *cli_parameters(const char *key, const char *value, ...) __attribute__((sentinel));

/* {"KEY": "VALUE"} of texts KEY=VALUE that an option was given with, into parameters' "labels",
 * unless there are none. -EINVAL, said in one line. */
int cli_take_labels(const struct cli *cli, const struct option_values *given, bool of_network,
                    json_t *parameters);
/* "set" and "remove" of words KEY=VALUE and KEY-, up to a NULL. The same. */
int cli_take_label_changes(const struct cli *cli, const char *const *words, json_t *parameters);
#define CLI_CHANGES_MAX 64

/* The member of an answer, of this JSON type. NULL: it is not there, said in one line. */
json_t *cli_member(const json_t *answer, const char *key, json_type type);

/* The commands, one file per noun. */
int network_create(struct cli *cli);
int network_ls(struct cli *cli);
int network_rm(struct cli *cli);
int network_label(struct cli *cli);
int endpoint_ls(struct cli *cli);
int endpoint_show(struct cli *cli);
int endpoint_label(struct cli *cli);
int endpoint_limit(struct cli *cli);
int connection_ls(struct cli *cli);
int monitor_run(struct cli *cli);
int key_show(struct cli *cli);
int key_rotate(struct cli *cli);
int policy_apply(struct cli *cli);
int policy_ls(struct cli *cli);
int policy_show(struct cli *cli);
int policy_rm(struct cli *cli);
int policy_check(struct cli *cli);
int status_show(struct cli *cli);
int doctor_run(struct cli *cli);
int run_run(struct cli *cli);
