/* SPDX-License-Identifier: Apache-2.0 */
#include "selector.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

static const char *const operator_names[] = {
    [SELECTOR_IN] = "In",
    [SELECTOR_NOT_IN] = "NotIn",
    [SELECTOR_EXISTS] = "Exists",
    [SELECTOR_DOES_NOT_EXIST] = "DoesNotExist",
};
_Static_assert(ARRAY_SIZE(operator_names) == SELECTOR_OPERATOR_MAX, "an operator has no name");

const char *selector_operator_name(enum selector_operator op)
{
        return operator_names[op];
}

enum selector_operator selector_operator_by_name(const char *name)
{
        unsigned int i = 0;

        while (i < SELECTOR_OPERATOR_MAX && strcmp(operator_names[i], name) != 0)
                i++;
        return (enum selector_operator)i;
}

static void requirement_clear(struct requirement *r)
{
        for (size_t i = 0; i < r->n_values; i++)
                free(r->values[i]);
        free(r->values);
        free(r->key);
        *r = (struct requirement){};
}
DEFINE_CLEANUP(struct requirement *, requirement_clear)

void selector_clear(struct selector *s)
{
        for (size_t i = 0; i < s->n; i++)
                requirement_clear(&s->v[i]);
        free(s->v);
        *s = (struct selector){};
}

static int compare_texts(const void *a, const void *b)
{
        return strcmp(*(char *const *)a, *(char *const *)b);
}

static int compare_requirements(const struct requirement *a, const struct requirement *b)
{
        int order = strcmp(a->key, b->key);

        if (order != 0)
                return order;
        if (a->op != b->op)
                return a->op < b->op ? -1 : 1;
        for (size_t i = 0; i < a->n_values && i < b->n_values; i++) {
                order = strcmp(a->values[i], b->values[i]);
                if (order != 0)
                        return order;
        }
        return (a->n_values > b->n_values) - (a->n_values < b->n_values);
}

static int requirement_set(struct requirement *r, const char *key, enum selector_operator op,
                           const char *const *values, size_t n_values)
{
        size_t kept = 0;

        r->op = op;
        r->key = strdup(key);
        r->values = new0(char *, n_values + 1);
        if (!r->key || !r->values)
                return -ENOMEM;
        for (; r->n_values < n_values; r->n_values++) {
                r->values[r->n_values] = strdup(values[r->n_values]);
                if (!r->values[r->n_values])
                        return -ENOMEM;
        }
        qsort(r->values, r->n_values, sizeof(r->values[0]), compare_texts);
        for (size_t i = 0; i < r->n_values; i++) {
                if (kept > 0 && strcmp(r->values[kept - 1], r->values[i]) == 0)
                        free(r->values[i]);
                else
                        r->values[kept++] = r->values[i];
        }
        r->n_values = kept;
        return 0;
}

int selector_add(struct selector *s, const char *key, enum selector_operator op,
                 const char *const *values, size_t n_values)
{
        _cleanup_(requirement_clearp) struct requirement *new = &(struct requirement){};
        struct requirement *v;
        size_t at = 0;
        int r;

        r = requirement_set(new, key, op, values, n_values);
        if (r < 0)
                return r;
        v = reallocarray(s->v, s->n + 1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        s->v = v;
        while (at < s->n && compare_requirements(&v[at], new) < 0)
                at++;
        memmove(&v[at + 1], &v[at], (s->n - at) * sizeof(*v));
        v[at] = *TAKE_PTR(new);
        s->n++;
        return 0;
}

static bool has_value(const struct requirement *r, const char *value)
{
        return bsearch(&value, r->values, r->n_values, sizeof(r->values[0]), compare_texts) != NULL;
}

static bool is_met(const struct requirement *r, const struct labels *l)
{
        const char *value = labels_get(l, r->key);

        switch (r->op) {
        case SELECTOR_IN:
                return value && has_value(r, value);
        case SELECTOR_NOT_IN:
                return !value || !has_value(r, value);
        case SELECTOR_EXISTS:
                return value != NULL;
        case SELECTOR_DOES_NOT_EXIST:
                return !value;
        case SELECTOR_OPERATOR_MAX:
                break;
        }
        return false;
}

bool selector_matches(const struct selector *s, const struct labels *l)
{
        for (size_t i = 0; i < s->n; i++)
                if (!is_met(&s->v[i], l))
                        return false;
        return true;
}

bool selector_requires(const struct selector *s, const char *key, const char *value)
{
        for (size_t i = 0; i < s->n; i++)
                if (s->v[i].op == SELECTOR_IN && s->v[i].n_values == 1 &&
                    strcmp(s->v[i].key, key) == 0 && strcmp(s->v[i].values[0], value) == 0)
                        return true;
        return false;
}
