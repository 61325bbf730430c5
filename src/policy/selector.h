/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * Label selectors: requirements that a set of labels meets, all of them.
 */
#include <stdbool.h>
#include <stddef.h>

#include "labels.h"

#define SELECTOR_REQUIREMENTS_MAX 64  /* of one selector */
#define SELECTOR_VALUES_MAX       256 /* of one requirement */

enum selector_operator {
        SELECTOR_IN,
        SELECTOR_NOT_IN, /* also where there is no such label */
        SELECTOR_EXISTS,
        SELECTOR_DOES_NOT_EXIST,
        SELECTOR_OPERATOR_MAX,
};

struct requirement {
        char *key;
        enum selector_operator op;
        size_t n_values;
        char **values; /* of In and NotIn: sorted, each once */
};

/* {} is the empty selector, which selects all. */
struct selector {
        size_t n;
        struct requirement *v; /* sorted */
};

/* "In", "NotIn", …; and back: SELECTOR_OPERATOR_MAX for what is none. */
const char *selector_operator_name(enum selector_operator op);
enum selector_operator selector_operator_by_name(const char *name);

void selector_clear(struct selector *s);
DEFINE_CLEANUP(struct selector *, selector_clear)
/* Adds a requirement. What is valid the caller knows. -ENOMEM. */
int selector_add(struct selector *s, const char *key, enum selector_operator op,
                 const char *const *values, size_t n_values);

bool selector_matches(const struct selector *s, const struct labels *l);
/* Does it ask for this value of this key and no other? */
bool selector_requires(const struct selector *s, const char *key, const char *value);
