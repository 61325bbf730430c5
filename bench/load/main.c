/* SPDX-License-Identifier: Apache-2.0 */
/*
 * load: what the benchmark and the demo measure with, where Debian has no program for it. Not
 * installed.
 *
 * Clients print one JSON object on standard output; its times are in microseconds. An answer that
 * is not what it should be ends them with one line on standard error and status 1: what is counted
 * is right. IPv4 only, as the overlays of the lab's measurements are, but for the flood.
 */
#include <stdio.h>
#include <string.h>

#include "basic/log.h"
#include "verbs.h"

static const struct verb verbs[] = {
    {"echo", true, "", {}, run_echo, "sends back what comes, one connection at a time"},
    {"accept", true, "", {}, run_accept, "accepts and closes"},
    {"greet", true, "", {}, run_greet, "accepts, sends one byte and closes"},
    {"echo-many",
     true,
     "ports",
     {.ports = 1},
     run_echo_many,
     "sends back what comes, of any number of connections"},
    {"greet-many",
     true,
     "ports",
     {.ports = 1},
     run_greet_many,
     "`greet` on --ports ports, from PORT on"},
    {"ping",
     false,
     "count seconds size",
     {.size = 1, .seconds = 1},
     run_ping,
     "round trips of a small message with `echo`"},
    {"connect",
     false,
     "count",
     {.count = 2000},
     run_connect,
     "socket() + connect() + close() with `accept`"},
    {"first-byte",
     false,
     "count",
     {.count = 2000},
     run_first_byte,
     "from socket() to the first byte of `greet`"},
    {"storm",
     false,
     "connections seconds ports",
     {.connections = 1, .seconds = 1, .ports = 1},
     run_storm,
     "connections to `greet`, as many at once as --connections"},
    {"crowd",
     false,
     "connections seconds",
     {.connections = 32, .seconds = 1},
     run_crowd,
     "a byte there and back with `echo-many`, on all connections at once"},
    {"http",
     false,
     "connections seconds rate size path close",
     {.connections = 32, .seconds = 1, .size = 1024, .path = "/1k"},
     run_http,
     "GET, of a page of --size bytes"},
    {"cache",
     false,
     "connections threads seconds rate size",
     {.connections = 50, .threads = 4, .seconds = 1, .size = 32},
     run_cache,
     "set and get 1:10 with memcached, values of --size bytes"},
    {"flood",
     false,
     "kind rate seconds count ports from client server inner network",
     {.kind = "none", .seconds = 3600, .ports = 1, .inner = "10.77.0.0/16", .family6 = true},
     run_flood,
     "packets that nobody wants (kinds: flood-packet.h); root only"},
    {"log-server", true, "", {}, run_log_server, "a log broker, in memory"},
    {"log",
     false,
     "connections seconds rate size batch",
     {.connections = 8, .seconds = 1, .size = 100, .batch = 16},
     run_log,
     "--connections producers of batches of records, and a consumer"},
    {},
};

static void print_help(void)
{
        puts("load VERB [ADDRESS] PORT [--OPTION VALUE]…\n");
        for (const struct verb *v = verbs; v->name; v++)
                printf("  %-11s %s%s%s%s\n", v->name, v->help, *v->takes ? " (options: " : "",
                       v->takes, *v->takes ? ")" : "");
}

int main(int argc, char **argv)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const struct verb *verb;
        struct options o;

        log_setup("load");
        if (argc == 2 && strcmp(argv[1], "--help") == 0) {
                print_help();
                return 0;
        }
        if (options_parse(verbs, argc - 1, argv + 1, &verb, &o, problem) < 0) {
                log_error("%s (load --help)", problem);
                return 2;
        }
        return verb->run(&o) < 0 ? 1 : 0;
}
