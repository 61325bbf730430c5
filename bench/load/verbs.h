/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What the load generators can do; main.c has the table. All return 0 or a negative errno, and have
 * said then what it was.
 */
#include "options.h"

/* serve.c: servers, until they are killed. They say "ready" on standard output. */
int run_echo(const struct options *o);
int run_accept(const struct options *o);
int run_greet(const struct options *o);

/* many.c: servers of many connections, on many ports */
int run_echo_many(const struct options *o);
int run_greet_many(const struct options *o);

/* one.c: one thing after another, on one blocking socket at a time */
int run_ping(const struct options *o);
int run_connect(const struct options *o);
int run_first_byte(const struct options *o);

/* many connections at once, by drive.h */
int run_storm(const struct options *o);
int run_crowd(const struct options *o);
int run_http(const struct options *o);
int run_cache(const struct options *o);

/* flood.c: packets that nobody wants */
int run_flood(const struct options *o);

/* log-server.c, log-load.c: the log broker and its load */
int run_log_server(const struct options *o);
int run_log(const struct options *o);
