/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl doctor: what Slim needs of this machine, found or not, and what to do.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/log.h"
#include "../shared/probe.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

/* Advice, not a need: this is also run before slimd is started for the first time. */
static int probe_slimd(const struct cli *cli, char *detail, size_t size)
{
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        _cleanup_json_ json_t *status = NULL;
        int r;

        r = rpc_connect(cli->run_dir, &rpc);
        if (r >= 0)
                r = rpc_call(rpc, "Status", NULL, NULL, 0, &status, NULL);
        errno = -r;
        if (r < 0)
                snprintf(detail, size, "%s/%s: %m", cli->run_dir, RPC_SOCKET_NAME);
        else
                snprintf(detail, size, "version %s",
                         json_string_value(json_object_get(status, "version")) ?: "unknown");
        return r;
}

static void add_row(json_t *rows, const struct probe *p, int r, const char *detail,
                    const char *remedy)
{
        const char *state = r >= 0 ? "yes" : p->required ? "NO" : "no (optional)";
        json_t *row;

        row =
            json_pack("{ss, sb, sb, ss, ss, ss, ss}", "id", p->id, "required", p->required, "found",
                      r >= 0, "state", state, "what", p->what, "detail", detail, "remedy", remedy);
        json_array_append_new(rows, row);
}

static bool missing_with(const json_t *row, const char *remedy)
{
        const char *other = json_string_value(json_object_get(row, "remedy"));

        return !json_is_true(json_object_get(row, "found")) &&
               (!remedy || strcmp(other, remedy) == 0);
}

/* What to do, each thing once, with all that it is good for. */
static void print_remedies(const json_t *rows)
{
        for (size_t i = 0; i < json_array_size(rows); i++) {
                const json_t *row = json_array_get(rows, i);
                const char *remedy = json_string_value(json_object_get(row, "remedy"));
                bool said = false;

                if (!missing_with(row, NULL))
                        continue;
                for (size_t k = 0; k < i; k++)
                        said |= missing_with(json_array_get(rows, k), remedy);
                if (said)
                        continue;
                putchar('\n');
                for (size_t k = i; k < json_array_size(rows); k++) {
                        const json_t *other = json_array_get(rows, k);

                        if (missing_with(other, remedy))
                                printf("%s%s", k == i ? "" : ", ",
                                       json_string_value(json_object_get(other, "id")));
                }
                printf(":\n    %s\n", remedy);
        }
}

static void print_rows(const json_t *rows)
{
        static const struct print_column columns[] = {
            {.title = "CHECK", .key = "id"},
            {.title = "FOUND", .key = "state"},
            {.title = "WHAT IT IS", .key = "what"},
            {.title = "SEEN", .key = "detail"},
        };

        print_table(rows, columns, ARRAY_SIZE(columns));
        print_remedies(rows);
}

int doctor_run(struct cli *cli)
{
        _cleanup_json_ json_t *rows = json_array();
        const struct probe *probes,
            slimd = {
                .id = "slimd",
                .what = "slimd, in the run directory",
                .remedy = "start it with \"slimd\", or give the --run-dir of the one that runs",
            };
        const char *privileges = NULL; /* the remedy for all that is refused without them */
        char detail[PROBE_DETAIL_MAX];
        size_t n, missing = 0;
        int r;

        if (cli_parse(cli, NULL, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        probes = probe_list(&n);
        for (size_t i = 0; i < n; i++) {
                detail[0] = '\0';
                r = probes[i].run(detail, sizeof(detail));
                if (r < 0 && probes[i].required)
                        missing++;
                if (r < 0 && strcmp(probes[i].id, "privileges") == 0)
                        privileges = probes[i].remedy;
                add_row(rows, &probes[i], r, detail,
                        privileges && (r == -EPERM || r == -EACCES) ? privileges
                                                                    : probes[i].remedy);
        }
        r = probe_slimd(cli, detail, sizeof(detail));
        add_row(rows, &slimd, r, detail, slimd.remedy);

        if (cli->json)
                print_json(rows);
        else
                print_rows(rows);
        if (missing == 0)
                return CLI_OK;
        log_error("%zu of the things that Slim needs %s missing: do what is said above", missing,
                  missing == 1 ? "is" : "are");
        return CLI_FAILED;
}
