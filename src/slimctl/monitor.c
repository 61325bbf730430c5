/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl monitor: who is refused what, as it happens.
 *
 * Ends well by SIGINT and SIGTERM, after --count events, and when nobody reads its output any more.
 * When slimd goes it says so and fails: what would be missing until slimd is back, whoever reads
 * has to know of.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "../basic/fd.h"
#include "../basic/log.h"
#include "../basic/name.h"
#include "../shared/reason.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "print.h"

static const struct print_column columns[] = {
    {.title = "TIME", .key = "time", .width = 27},
    {.title = "REASON", .key = "reason", .width = 22},
    {.title = "ENDPOINT", .key = "endpoint", .width = 12},
    {.title = "PEER", .key = "peer_endpoint", .width = 12},
    {.title = "FROM", .key = "from", .width = 21},
    {.title = "TO", .key = "to", .width = 21},
    {.title = "PROTOCOL", .key = "protocol", .width = 8},
    {.title = "DETAIL", .key = "detail"},
};

/* What the other columns do not say: which hook, what the program was told, which option. */
static json_t *detail(const json_t *event)
{
        const char *hook = json_string_value(json_object_get(event, "hook")) ?: "?";
        const json_t *option = json_object_get(event, "option");
        int error = (int)json_integer_value(json_object_get(event, "errno"));
        const char *told = error ? strerrorname_np(error) ?: "?" : "";

        if (json_is_object(option))
                return json_sprintf("%s level %lld option %lld %s", hook,
                                    (long long)json_integer_value(json_object_get(option, "level")),
                                    (long long)json_integer_value(json_object_get(option, "name")),
                                    told);
        return json_sprintf("%s%s%s", hook, *told ? " " : "", told);
}

static void print_event(const struct cli *cli, json_t *event)
{
        if (cli->json) {
                print_json_line(event);
                return;
        }
        json_object_set_new(event, "detail", detail(event));
        print_row(event, columns, ARRAY_SIZE(columns));
}

static void print_lost(const struct cli *cli, long long lost)
{
        if (lost == 0)
                return;
        if (cli->json)
                printf("{\"lost\":%lld}\n", lost);
        else
                log_warning("%lld events were lost here: there were more than could be told", lost);
}

/* One answer. left: how many events are still wanted (0: no end). 1: that was the last of them. */
static int print_answer(const struct cli *cli, const json_t *answer, uint64_t *left)
{
        const json_t *parameters = json_object_get(answer, "parameters");
        const json_t *events = json_object_get(parameters, "events");
        json_t *event;
        size_t i;

        if (!json_is_array(events)) {
                log_error("slimd's answer has no events: it is of another version");
                return -EBADMSG;
        }
        json_array_foreach (events, i, event) {
                print_event(cli, event);
                if (*left && --*left == 0)
                        return 1;
        }
        print_lost(cli, json_integer_value(json_object_get(parameters, "lost")));
        return 0;
}

/* All answers that have come. 1: no more are wanted. */
static int read_answers(const struct cli *cli, struct rpc *rpc, uint64_t *left)
{
        for (;;) {
                _cleanup_json_ json_t *answer = NULL;
                int r = rpc_receive(rpc, &answer, NULL, NULL);

                if (r == -ECONNRESET)
                        return log_error_errno(r, "slimd has ended: start this again when it is "
                                                  "back");
                if (r < 0)
                        return log_error_errno(r, "cannot read slimd's answer: %m");
                if (r == 0)
                        return 0;
                r = print_answer(cli, answer, left);
                /* A line at a time, for whoever reads them through a pipe. */
                if (r >= 0 && print_finish() < 0)
                        return -EPIPE; /* main() says why */
                if (r != 0)
                        return r;
        }
}

static int take_signals(int *ret)
{
        sigset_t mask;
        int fd;

        sigemptyset(&mask);
        sigaddset(&mask, SIGINT);
        sigaddset(&mask, SIGTERM);
        if (sigprocmask(SIG_BLOCK, &mask, NULL) < 0)
                return -errno;
        fd = signalfd(-1, &mask, SFD_CLOEXEC);
        if (fd < 0)
                return -errno;
        *ret = fd;
        return 0;
}

static int watch(const struct cli *cli, struct rpc *rpc, uint64_t left)
{
        _cleanup_close_ int signals = -1;
        int r = take_signals(&signals), flags = fcntl(rpc_fd(rpc), F_GETFL);

        if (r == 0 && (flags < 0 || fcntl(rpc_fd(rpc), F_SETFL, flags | O_NONBLOCK) < 0))
                r = -errno;
        if (r < 0)
                return log_error_errno(r, "cannot wait for events: %m");
        for (;;) {
                struct pollfd p[] = {
                    {.fd = rpc_fd(rpc), .events = POLLIN},
                    {.fd = signals, .events = POLLIN},
                    {.fd = STDOUT_FILENO}, /* POLLERR: nobody reads it any more */
                };

                r = poll(p, ARRAY_SIZE(p), -1);
                if (r < 0 && errno != EINTR)
                        return log_error_errno(-errno, "cannot wait for events: %m");
                if (r < 0)
                        continue;
                if (p[1].revents || p[2].revents & POLLERR)
                        return 0;
                r = read_answers(cli, rpc, &left);
                if (r != 0)
                        return r < 0 ? r : 0;
        }
}

/* Checks what was asked for. Said in one line. */
static int check(const struct cli *cli, const char *endpoint, const char *network,
                 const struct option_values *reasons, const char *count, uint64_t *ret_count)
{
        enum slim_reason reason;

        if (endpoint &&
            cli_check_name(cli, "--endpoint",
                           strncmp(endpoint, "host:", 5) == 0 ? endpoint + 5 : endpoint) < 0)
                return -EINVAL;
        if (network && cli_check_name(cli, "--network", network) < 0)
                return -EINVAL;
        for (unsigned int i = 0; i < reasons->n; i++)
                if (reason_from_name(reasons->v[i], &reason) < 0) {
                        cli_usage(cli,
                                  "there are no events of a reason \"%.64s\": docs/monitor.md has "
                                  "them all, and \"slimctl status --json\" their names",
                                  reasons->v[i]);
                        return -EINVAL;
                }
        if (count && parse_uint(count, 1, INT64_MAX, ret_count) < 0) {
                cli_usage(cli, "--count \"%.32s\" is not a number from 1 up", count);
                return -EINVAL;
        }
        return 0;
}

int monitor_run(struct cli *cli)
{
        const char *endpoint = NULL, *network = NULL, *count = NULL;
        struct option_values reasons = {};
        const struct option_spec options[] = {
            {.name = "endpoint", .value = &endpoint},
            {.name = "network", .value = &network},
            {.name = "reason", .values = &reasons},
            {.name = "count", .value = &count},
            {},
        };
        _cleanup_json_ json_t *parameters = NULL, *names = NULL;
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        uint64_t left = 0;
        int r;

        if (cli_parse(cli, options, NULL, 0, NULL) < 0 ||
            check(cli, endpoint, network, &reasons, count, &left) < 0)
                return CLI_USAGE;
        parameters = cli_parameters("endpoint", endpoint, "network", network, NULL);
        if (reasons.n > 0) {
                names = json_array();
                for (unsigned int i = 0; i < reasons.n; i++)
                        json_array_append_new(names, json_string(reasons.v[i]));
                json_object_set(parameters, "reasons", names);
        }
        r = rpc_connect(cli->run_dir, &rpc);
        if (r < 0) {
                cli_no_slimd(cli, r);
                return CLI_FAILED;
        }
        if (cli_call_on(rpc, "watch events", "Event.Monitor", TAKE_PTR(parameters), NULL, 0, NULL) <
            0)
                return CLI_FAILED;
        if (!cli->json) {
                print_row(NULL, columns, ARRAY_SIZE(columns));
                if (print_finish() < 0)
                        return CLI_FAILED;
        }
        return watch(cli, rpc, left) < 0 ? CLI_FAILED : CLI_OK;
}
