/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Labels as Kubernetes has them: a set of keys, each with one value, and the syntax of both.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "../basic/macro.h"

#define LABELS_MAX        64  /* of one set */
#define LABEL_PREFIX_MAX  253 /* of a key, before its slash */
#define LABEL_NAME_MAX    63  /* of a key, behind it; and of a value */
#define LABEL_KEY_MAX     (LABEL_PREFIX_MAX + 1 + LABEL_NAME_MAX)
#define LABEL_PROBLEM_MAX 256

/* What Slim itself says of a network and of a host. */
#define LABEL_NETWORK_NAME "kubernetes.io/metadata.name"
#define LABEL_KIND         "slim.io/kind"
#define LABEL_KIND_HOST    "host"
#define LABEL_HOST         "slim.io/host"

struct label {
        char *key;         /* owns the memory of both */
        const char *value; /* may be empty */
};

/* {} is the empty set. */
struct labels {
        size_t n;
        struct label *v; /* by key, in the order of strcmp() */
};

/* An RFC 1123 subdomain: labels of a-z 0-9 - between dots, 253 characters at most. */
bool subdomain_is_valid(const char *name);
/* [SUBDOMAIN/]NAME, where NAME is 1 to 63 of A-Z a-z 0-9 - _ . between letters or digits. */
bool label_key_is_valid(const char *key);
/* The empty text, or as the NAME of a key. */
bool label_value_is_valid(const char *value);

void labels_clear(struct labels *l);
DEFINE_CLEANUP(struct labels *, labels_clear)

/*
 * Adds one. -EINVAL: key or value is none; -EEXIST: the key is there already; -E2BIG: the set is
 * full: `problem`, a buffer of LABEL_PROBLEM_MAX bytes, has a sentence. -ENOMEM.
 */
int labels_add(struct labels *l, const char *key, const char *value, char *problem);
/* Adds what "KEY=VALUE" says; as labels_add(). */
int labels_add_text(struct labels *l, const char *text, char *problem);
/* The value of a key, or NULL. */
const char *labels_get(const struct labels *l, const char *key);
bool labels_equal(const struct labels *a, const struct labels *b);
/* -ENOMEM. The caller clears *ret. */
int labels_copy(const struct labels *l, struct labels *ret);

/* An object of texts, a new reference (NULL: no memory); and back, as labels_add(). NULL (not
 * given) is the empty set. */
json_t *labels_to_json(const struct labels *l);
int labels_from_json(const json_t *object, struct labels *ret, char *problem);
