/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The command line of the load generators: VERB [ADDRESS] PORT [--OPTION VALUE]…
 *
 * A verb says which options it takes and what they are unless they are given.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct options {
        const char *address;  /* IPv4; NULL for a server */
        const char *path;     /* --path */
        const char *kind;     /* --kind of a flood */
        const char *from;     /* --from: a prefix of source addresses; NULL: this machine's own */
        const char *inner;    /* --inner: a prefix of the addresses within VXLAN */
        uint16_t port;        /* */
        uint64_t count;       /* --count: how many, instead of how long */
        uint64_t seconds;     /* --seconds: how long */
        uint64_t connections; /* --connections, of each thread */
        uint64_t threads;     /* --threads */
        uint64_t rate;        /* --rate: requests a second in all; 0: as many as there can be */
        uint64_t size;        /* --size of a message, a page, a value, a record, in bytes */
        uint64_t batch;       /* --batch: records of one message */
        uint64_t hold;        /* --hold: connections that are there besides, and idle */
        uint64_t ports;       /* --ports: how many from PORT on */
        uint64_t client;      /* --client: an endpoint's id */
        uint64_t server;      /* --server: another's */
        uint64_t network;     /* --network: a VNI */
        bool close;           /* --close: a connection for each request */
        bool family6;         /* of the verb: the address may be of IPv6 */
};

struct verb {
        const char *name;
        bool server;             /* takes PORT alone */
        const char *takes;       /* names of its options, a blank between */
        struct options defaults; /* */
        int (*run)(const struct options *o);
        const char *help; /* one line */
};

#define OPTIONS_PROBLEM_MAX 160

/*
 * Reads a command line, without the program's name, by a table that an entry without a name ends.
 * Strings stay the caller's. -EINVAL: wrong, and problem, of OPTIONS_PROBLEM_MAX bytes, says what.
 */
int options_parse(const struct verb *verbs, int argc, char **argv, const struct verb **ret_verb,
                  struct options *ret, char *problem);
