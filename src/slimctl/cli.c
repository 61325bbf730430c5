/* SPDX-License-Identifier: Apache-2.0 */
#include "cli.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>

#include "../basic/alloc.h"
#include "../basic/inaddr.h"
#include "../basic/log.h"
#include "../basic/name.h"
#include "../shared/labeling.h"
#include "../shared/rpc.h"

int cli_usage(const struct cli *cli, const char *format, ...)
{
        const struct cli_command *c = cli->command;
        char problem[512];
        va_list ap;

        va_start(ap, format);
        vsnprintf(problem, sizeof(problem), format, ap);
        va_end(ap);
        if (c)
                log_error("%s%s%s: %s (\"slimctl %s%s%s --help\" shows how)", c->noun,
                          c->verb ? " " : "", c->verb ?: "", problem, c->noun, c->verb ? " " : "",
                          c->verb ?: "");
        else
                log_error("%s (\"slimctl --help\" shows how)", problem);
        return CLI_USAGE;
}

int cli_parse(struct cli *cli, const struct option_spec *options, const char **words, size_t n,
              char ***ret_rest)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const char *word;
        size_t have = 0;

        for (;;) {
                switch (words_next(&cli->words, options, cli->globals, &word, problem)) {
                case WORDS_OPTION:
                        break;
                case WORDS_POSITIONAL:
                        if (have == n) {
                                cli_usage(cli, "\"%s\" is one argument too many%s", word,
                                          ret_rest ? "; the program stands after --" : "");
                                return -EINVAL;
                        }
                        words[have++] = word;
                        break;
                case WORDS_REST:
                        if (!ret_rest) {
                                cli_usage(cli, "\"--\" is one argument too many");
                                return -EINVAL;
                        }
                        *ret_rest = cli->words.argv + cli->words.at;
                        return 0;
                case WORDS_BAD:
                        cli_usage(cli, "%s", problem);
                        return -EINVAL;
                case WORDS_END:
                        return 0;
                }
        }
}

int cli_check_name(const struct cli *cli, const char *what, const char *name)
{
        if (!name) {
                cli_usage(cli, "%s is missing", what);
                return -EINVAL;
        }
        if (!name_is_valid(name)) {
                cli_usage(cli,
                          "%s \"%s\" is not a name: 1 to 63 characters of a-z 0-9 - . that begin "
                          "and end with a letter or digit",
                          what, name);
                return -EINVAL;
        }
        return 0;
}

int cli_check_address(const struct cli *cli, const char *what, const char *address)
{
        union slim_addr a;

        if (inaddr_parse(address, &a) < 0) {
                cli_usage(cli, "%s \"%s\" is not an IP address", what, address);
                return -EINVAL;
        }
        return 0;
}

int cli_no_slimd(const struct cli *cli, int r)
{
        if (r == -ENOENT || r == -ECONNREFUSED)
                return log_error_errno(r,
                                       "slimd does not run here (%s/%s: %m): start it with "
                                       "\"slimd --run-dir %s\", or give its --run-dir",
                                       cli->run_dir, RPC_SOCKET_NAME, cli->run_dir);
        if (r == -EACCES || r == -EPERM)
                return log_error_errno(r, "cannot talk to slimd at %s/%s: %m: run slimctl as root",
                                       cli->run_dir, RPC_SOCKET_NAME);
        return log_error_errno(r, "cannot talk to slimd at %s/%s: %m", cli->run_dir,
                               RPC_SOCKET_NAME);
}

int cli_call_on(struct rpc *rpc, const char *doing, const char *method, json_t *parameters,
                const int *fds, size_t n_fds, json_t **ret)
{
        _cleanup_json_ json_t *owned = parameters;
        _cleanup_free_ char *sentence = NULL;
        int r;

        r = rpc_call(rpc, method, owned, fds, n_fds, ret, &sentence);
        if (r == -ECONNRESET && !sentence)
                return log_error_errno(r, "cannot %s: slimd ended before it answered: see its log",
                                       doing);
        if (r < 0)
                return sentence ? log_error_errno(r, "cannot %s: %s", doing, sentence)
                                : log_error_errno(r, "cannot %s: %m", doing);
        return 0;
}

int cli_call(struct cli *cli, const char *doing, const char *method, json_t *parameters,
             json_t **ret)
{
        _cleanup_json_ json_t *owned = parameters;
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        int r;

        r = rpc_connect(cli->run_dir, &rpc);
        if (r < 0)
                return cli_no_slimd(cli, r);
        return cli_call_on(rpc, doing, method, TAKE_PTR(owned), NULL, 0, ret);
}

json_t *cli_parameters(const char *key, const char *value, ...)
{
        json_t *o = json_object();
        va_list ap;

        va_start(ap, value);
        for (; key; key = va_arg(ap, const char *), value = key ? va_arg(ap, const char *) : NULL)
                if (value)
                        json_object_set_new(o, key, json_string(value));
        va_end(ap);
        return o;
}

int cli_take_labels(const struct cli *cli, const struct option_values *given, bool of_network,
                    json_t *parameters)
{
        _cleanup_(labels_clear) struct labels l = {};
        _cleanup_json_ json_t *labels = NULL;
        char problem[LABELING_PROBLEM_MAX] = "";
        int r = 0;

        for (unsigned int i = 0; r == 0 && i < given->n; i++)
                r = labels_add_text(&l, given->v[i], problem);
        if (r == 0)
                labels = labels_to_json(&l);
        if (r == 0)
                r = labeling_check(labels, of_network, problem);
        if (r < 0) {
                cli_usage(cli, "--label: %s", problem);
                return r;
        }
        if (l.n > 0)
                json_object_set(parameters, "labels", labels);
        return 0;
}

int cli_take_label_changes(const struct cli *cli, const char *const *words, json_t *parameters)
{
        _cleanup_json_ json_t *set = json_object(), *remove = json_array();
        char problem[LABELING_PROBLEM_MAX] = "";

        if (!*words) {
                cli_usage(cli, "a label is missing: KEY=VALUE, or KEY- to remove one");
                return -EINVAL;
        }
        for (; *words; words++) {
                int r = labeling_change_add(set, remove, *words, problem);

                if (r < 0) {
                        cli_usage(cli, "%s", problem);
                        return r;
                }
        }
        json_object_set(parameters, "set", set);
        json_object_set(parameters, "remove", remove);
        return 0;
}

json_t *cli_member(const json_t *answer, const char *key, json_type type)
{
        json_t *m = json_object_get(answer, key);

        if (!m || json_typeof(m) != type) {
                log_error("slimd's answer has no \"%s\": is it another version than slimctl's "
                          "(" SLIM_VERSION ")?",
                          key);
                return NULL;
        }
        return m;
}
