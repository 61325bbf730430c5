/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl key: the cluster key that signs the SYNs between hosts.
 */
#include <errno.h>
#include <stdio.h>
#include <time.h>

#include "../basic/alloc.h"
#include "../basic/log.h"
#include "../basic/name.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

#define TIMEOUT_S 120 /* twice a lease: who is dead by then is none of the cluster's hosts */
#define POLL_NS   50000000

/* "h1, h2"; the caller frees it. */
static char *join(const json_t *names)
{
        char *text = NULL;
        size_t size = 0, i;
        FILE *f = open_memstream(&text, &size);
        const json_t *name;

        if (!f)
                return NULL;
        json_array_foreach (names, i, name) {
                fprintf(f, "%s%s", i ? ", " : "", json_string_value(name) ?: "?");
        }
        fclose(f);
        return text;
}

static int print_key(const struct cli *cli, const json_t *answer, const json_t *key)
{
        _cleanup_free_ char *waiting = join(json_object_get(key, "waiting"));

        if (cli->json) {
                print_json(answer);
                return CLI_OK;
        }
        printf("epoch %lld\n", (long long)json_integer_value(json_object_get(key, "epoch")));
        if (json_is_true(json_object_get(key, "rotating")))
                printf("a next one is being handed out; it waits for: %s\n",
                       waiting && *waiting ? waiting : "nobody");
        return CLI_OK;
}

int key_show(struct cli *cli)
{
        _cleanup_json_ json_t *answer = NULL;
        const json_t *key;

        if (cli_parse(cli, NULL, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (cli_call(cli, "look at the key", "Key.Show", NULL, &answer) < 0)
                return CLI_FAILED;
        key = cli_member(answer, "key", JSON_OBJECT);
        return key ? print_key(cli, answer, key) : CLI_FAILED;
}

static int64_t now_s(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return t.tv_sec;
}

int key_rotate(struct cli *cli)
{
        const struct timespec pause = {.tv_nsec = POLL_NS};
        const char *timeout_text = NULL;
        const struct option_spec options[] = {{.name = "timeout", .value = &timeout_text}, {}};
        _cleanup_json_ json_t *answer = NULL;
        _cleanup_free_ char *waiting = NULL;
        uint64_t timeout = TIMEOUT_S;
        const json_t *key;
        int64_t end;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0)
                return CLI_USAGE;
        if (timeout_text && parse_uint(timeout_text, 0, 86400, &timeout) < 0)
                return cli_usage(cli, "--timeout \"%s\" is not a number of seconds", timeout_text);
        end = now_s() + (int64_t)timeout;
        if (cli_call(cli, "rotate the key", "Key.Rotate", NULL, &answer) < 0)
                return CLI_FAILED;
        for (;;) {
                key = cli_member(answer, "key", JSON_OBJECT);
                if (!key)
                        return CLI_FAILED;
                if (!json_is_true(json_object_get(key, "rotating")))
                        return print_key(cli, answer, key);
                if (now_s() >= end)
                        break;
                nanosleep(&pause, NULL);
                json_decref(answer);
                answer = NULL;
                if (cli_call(cli, "look at the key", "Key.Show", NULL, &answer) < 0)
                        return CLI_FAILED;
        }
        waiting = join(json_object_get(key, "waiting"));
        log_error("the next key is handed out, but not in force yet: it waits for %s",
                  waiting && *waiting ? waiting : "nobody");
        return CLI_FAILED;
}
