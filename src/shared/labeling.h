/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * What people and programs say of a container or network for policies to go by: its labels, and
 * names for a container's ports. As JSON these are objects of texts; NULL is the empty one.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "../policy/labels.h"
#include "../policy/policy-engine.h"

#define LABELING_PROBLEM_MAX LABEL_PROBLEM_MAX

/*
 * Labels as somebody gives them: every key but slim.io/…, and kubernetes.io/metadata.name of a
 * network, which are Slim's own. -EINVAL, -E2BIG: `problem`, a buffer of LABELING_PROBLEM_MAX
 * bytes, has a sentence. -ENOMEM.
 */
int labeling_check(const json_t *labels, bool of_network, char *problem);

/*
 * Labels as they are after a change: all of `set` (an object) added or replaced, all of `remove`
 * (an array of keys) taken away if it is there; either may be NULL. *ret is a new reference, NULL
 * when no label is left. As labeling_check(), and -EINVAL for a key in both.
 */
int labeling_change(const json_t *labels, const json_t *set, const json_t *remove, bool of_network,
                    json_t **ret, char *problem);

/* What a person types for a change: "KEY=VALUE" goes to `set`, "KEY-" to `remove`. As
 * labeling_check(), and -EEXIST for a key that is there already. */
int labeling_change_add(json_t *set, json_t *remove, const char *text, char *problem);

/* A container's named ports: {"http": "8080/tcp"}. */
struct named_ports {
        size_t n;
        struct named_port v[POLICY_NAMED_PORTS_MAX];
};

/* Adds what "NAME=NUMBER[/tcp|/udp|/sctp]" says. As labeling_check(), and -EEXIST. */
int named_ports_add(struct named_ports *list, const char *text, char *problem);
/* A new reference, NULL for none or without memory; and back. As named_ports_add(). */
json_t *named_ports_to_json(const struct named_ports *list);
int named_ports_from_json(const json_t *object, struct named_ports *ret, char *problem);
