/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Published ports as people and JSON write them: [ADDRESS:]PORTS:PORTS[/tcp|/udp], where PORTS is
 * N or N-M, an IPv6 address stands in brackets, and the host's side comes first.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "../basic/inaddr.h"

#define PUBLICATIONS_MAX        32  /* of one container */
#define PUBLICATION_PORTS_MAX   256 /* of one container, ranges counted out */
#define PUBLICATION_TEXT_MAX    96
#define PUBLICATION_PROBLEM_MAX 256

/* `count` ports of the host, from host_port on, which are the container's from `port` on. */
struct publication {
        union slim_addr addr; /* of the host; 0.0.0.0 and ::: all of their family */
        uint16_t host_port, port, count;
        uint8_t protocol; /* IPPROTO_TCP or IPPROTO_UDP */
        bool any;         /* every address of both families; addr is :: */
};

struct publications {
        unsigned int n;
        struct publication v[PUBLICATIONS_MAX];
};

/*
 * Parses one. -EINVAL, -ERANGE: `problem`, a buffer of PUBLICATION_PROBLEM_MAX bytes, has what is
 * wrong, to follow the quoted text.
 */
int publication_parse(const char *text, struct publication *ret, char *problem);
/* Its text, into a buffer of PUBLICATION_TEXT_MAX bytes, which is returned. */
const char *publication_format(const struct publication *p, char *buf);
/* One of its ports as errors name it: 8080, 192.0.2.1:8080, [::1]:53/udp. Same buffer. */
const char *publication_format_host(const struct publication *p, uint16_t host_port, char *buf);

/* Would both take the same packets? Then *ret_port is a host port of both. */
bool publication_overlaps(const struct publication *a, const struct publication *b,
                          uint16_t *ret_port);
/* Is it for every address of a family? */
bool publication_is_wildcard(const struct publication *p);
/* Does it take packets to addresses of this family? */
bool publication_takes(const struct publication *p, bool v6);

/* Adds what a text says. As publication_parse(), and -EEXIST: overlaps one before it; -E2BIG. */
int publications_add(struct publications *list, const char *text, char *problem);
/* How many ports these are. */
unsigned int publications_ports(const struct publications *list);

/* An array of texts, a new reference; and back. NULL (not given) is none. problem: a sentence. */
json_t *publications_to_json(const struct publications *list);
int publications_from_json(const json_t *array, struct publications *ret, char *problem);
