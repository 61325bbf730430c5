/* SPDX-License-Identifier: Apache-2.0 */
/*
 * slimctl run: a program in a container over this machine's own file system.
 *
 * The order is what makes it safe: the container exists and is filtered before slimd hears of it,
 * and its program runs only after slimd has given it an address and a broker. Until then signals do
 * to slimctl what they always do, and the container dies with it; from then on they are the
 * program's.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "../basic/inaddr.h"
#include "../basic/log.h"
#include "../shared/installed.h"
#include "../shared/labeling.h"
#include "../shared/publication.h"
#include "../shared/rpc.h"
#include "cli.h"
#include "container.h"
#include "cpus.h"
#include "forward.h"
#include "limiting.h"

struct run_options {
        const char *name, *network, *hostname, *cpus;
        struct option_values addresses;
        const char *address[SLIM_FAMILIES]; /* of them, or NULL */
        struct option_values publish;
        struct publications publications;
        struct option_values labels, ports;
        struct limit_options limits;
        bool plain, no_accelerator;
};

static int check_cpus(const struct cli *cli, const char *text, struct container_spec *spec)
{
        int r, offline;

        if (!text)
                return 0;
        r = cpus_parse(text, &spec->cpus);
        if (r < 0) {
                cli_usage(cli, "--cpus \"%s\" is not a list of processors, as in 0-1 or 0,3", text);
                return r;
        }
        offline = cpus_first_offline(&spec->cpus);
        if (offline >= 0) {
                cli_usage(cli, "--cpus \"%s\": this machine has no processor %d online", text,
                          offline);
                return -EINVAL;
        }
        spec->pinned = true;
        return 0;
}

/* Here already, so that it is said before anything is made, and as a matter of usage. */
static int check_publish(const struct cli *cli, struct run_options *o)
{
        char problem[PUBLICATION_PROBLEM_MAX];

        for (unsigned int i = 0; i < o->publish.n; i++) {
                int r = publications_add(&o->publications, o->publish.v[i], problem);

                if (r < 0) {
                        cli_usage(cli, "--publish \"%s\": %s", o->publish.v[i], problem);
                        return r;
                }
        }
        return 0;
}

static int take_ports(const struct cli *cli, const struct option_values *given, json_t *parameters)
{
        struct named_ports ports = {};
        char problem[LABELING_PROBLEM_MAX];

        for (unsigned int i = 0; i < given->n; i++) {
                int r = named_ports_add(&ports, given->v[i], problem);

                if (r < 0) {
                        cli_usage(cli, "--port: %s", problem);
                        return r;
                }
        }
        if (ports.n)
                json_object_set_new(parameters, "ports", named_ports_to_json(&ports));
        return 0;
}

static int take_limits(const struct cli *cli, const struct limit_options *given, json_t *parameters)
{
        _cleanup_json_ json_t *limits = json_object();
        int r = limit_options_take(cli, given, limits, NULL);

        if (r == 0 && json_object_size(limits) > 0)
                json_object_set(parameters, "limits", limits);
        return r;
}

/* One of each family at most. */
static int check_addresses(const struct cli *cli, struct run_options *o)
{
        for (unsigned int i = 0; i < o->addresses.n; i++) {
                const char *text = o->addresses.v[i];
                union slim_addr a;
                int r;

                r = cli_check_address(cli, "--address", text);
                if (r < 0)
                        return r;
                inaddr_parse(text, &a);
                if (o->address[inaddr_family(&a)]) {
                        cli_usage(cli, "--address \"%s\": there is an IPv%d address already", text,
                                  inaddr_is_v4(&a) ? 4 : 6);
                        return -EINVAL;
                }
                o->address[inaddr_family(&a)] = text;
        }
        return 0;
}

/* Is it a file that every user of the container can load? Of one that is not, the dynamic linker
 * would complain in each program of another user. */
static bool everybody_reads(const char *path)
{
        char at[PATH_MAX];
        struct stat st;

        snprintf(at, sizeof(at), "%s", path);
        if (stat(at, &st) < 0 || !S_ISREG(st.st_mode) || !(st.st_mode & S_IROTH))
                return false;
        for (char *slash = strrchr(at, '/'); slash; slash = strrchr(at, '/')) {
                *slash = '\0';
                if (stat(at[0] ? at : "/", &st) < 0 || !(st.st_mode & S_IXOTH))
                        return false;
        }
        return true;
}

/* A space or a colon in the path would end it in LD_PRELOAD. */
static void find_accelerator(struct container_spec *spec)
{
        if (installed_path("libslimsocket.so", "../slimsocket/libslimsocket.so", spec->preload) <
                0 ||
            strpbrk(spec->preload, " :") || !everybody_reads(spec->preload)) {
                log_debug("libslimsocket.so is not there or not for everybody, going without");
                spec->preload[0] = '\0';
        }
}

/* *parameters gets what the endpoint is labelled with. */
static int parse(struct cli *cli, struct run_options *o, struct container_spec *spec,
                 json_t *parameters)
{
        const struct option_spec options[] = {
            {.name = "name", .value = &o->name},
            {.name = "network", .value = &o->network},
            {.name = "address", .values = &o->addresses},
            {.name = "plain", .flag = &o->plain},
            {.name = "hostname", .value = &o->hostname},
            {.name = "cpus", .value = &o->cpus},
            {.name = "publish", .values = &o->publish},
            {.name = "label", .values = &o->labels},
            {.name = "port", .values = &o->ports},
            LIMIT_OPTIONS(&o->limits),
            {.name = "no-accelerator", .flag = &o->no_accelerator},
            {},
        };

        if (cli_parse(cli, options, NULL, 0, &spec->argv) < 0 ||
            cli_check_name(cli, "--name", o->name) < 0 ||
            (o->network && cli_check_name(cli, "--network", o->network) < 0) ||
            check_addresses(cli, o) < 0 ||
            (o->hostname && cli_check_name(cli, "--hostname", o->hostname) < 0) ||
            check_publish(cli, o) < 0 || cli_take_labels(cli, &o->labels, false, parameters) < 0 ||
            take_ports(cli, &o->ports, parameters) < 0 ||
            take_limits(cli, &o->limits, parameters) < 0 || check_cpus(cli, o->cpus, spec) < 0)
                return -EINVAL;
        if (!spec->argv || !spec->argv[0]) {
                cli_usage(cli, "the program is missing: it stands after --");
                return -EINVAL;
        }
        spec->hostname = o->hostname ?: o->name;
        spec->slim = !o->plain;
        if (spec->slim && !o->no_accelerator)
                find_accelerator(spec);
        return 0;
}

/* What the program gets back, and a SIGCHLD that slimctl's own waiting works with. */
static int save_signals(struct container_spec *spec)
{
        struct sigaction dfl = {.sa_handler = SIG_DFL};

        if (sigprocmask(SIG_SETMASK, NULL, &spec->mask) < 0 ||
            sigaction(SIGCHLD, &dfl, &spec->child_action) < 0)
                return log_error_errno(-errno, "cannot set signals up: %m");
        return 0;
}

static void take_address(const json_t *endpoint, const char *key, char ret[INADDR_TEXT_MAX])
{
        snprintf(ret, INADDR_TEXT_MAX, "%s",
                 json_string_value(json_object_get(endpoint, key)) ?: "");
}

static int add_endpoint(struct cli *cli, struct rpc *rpc, const struct run_options *o,
                        const json_t *labels, const struct container *c,
                        struct container_addresses *ret)
{
        _cleanup_json_ json_t *answer = NULL;
        json_t *parameters;
        const int fds[] = {c->netns_fd, c->pidfd, c->notify_fd};
        const json_t *endpoint;
        char doing[128];
        int r;

        parameters = cli_parameters("name", o->name, "network", o->network, "address",
                                    o->address[SLIM_V4], "address6", o->address[SLIM_V6], "kind",
                                    o->plain ? "plain" : "slim", NULL);
        json_object_update(parameters, (json_t *)labels);
        json_object_set_new(parameters, "pid", json_integer(c->pid));
        if (o->publications.n)
                json_object_set_new(parameters, "publish", publications_to_json(&o->publications));
        snprintf(doing, sizeof(doing), "start the container %s", o->name);
        r = cli_call_on(rpc, doing, "Endpoint.Add", parameters, fds, o->plain ? 2 : 3, &answer);
        if (r < 0)
                return r;
        endpoint = cli_member(answer, "endpoint", JSON_OBJECT);
        if (!endpoint)
                return -EBADMSG;
        take_address(endpoint, "address", ret->text[SLIM_V4]);
        take_address(endpoint, "address6", ret->text[SLIM_V6]);
        /* Standard output is the program's. */
        if (cli->json) {
                json_dumpf(endpoint, stderr, JSON_COMPACT);
                fputc('\n', stderr);
        }
        return 0;
}

int run_run(struct cli *cli)
{
        _cleanup_(container_clear) struct container c = CONTAINER_NONE;
        _cleanup_(rpc_freep) struct rpc *rpc = NULL;
        struct container_spec spec = {};
        struct run_options o = {};
        _cleanup_json_ json_t *labels = json_object();
        struct container_addresses addresses;
        sigset_t signals;
        int r, status;

        if (parse(cli, &o, &spec, labels) < 0)
                return CLI_USAGE;
        r = rpc_connect(cli->run_dir, &rpc);
        if (r < 0) {
                cli_no_slimd(cli, r);
                return CLI_FAILED;
        }
        if (save_signals(&spec) < 0 || container_start(&spec, &c) < 0 ||
            add_endpoint(cli, rpc, &o, labels, &c, &addresses) < 0)
                return CLI_FAILED;
        rpc_free(TAKE_PTR(rpc));

        forward_signals(&signals);
        sigprocmask(SIG_BLOCK, &signals, NULL);
        if (container_go(&c, &addresses) < 0 || container_wait(&c, &status) < 0)
                return CLI_FAILED;
        return status;
}
