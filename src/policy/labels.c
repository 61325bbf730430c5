/* SPDX-License-Identifier: Apache-2.0 */
#include "labels.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../basic/alloc.h"

/* --- syntax (k8s.io/apimachinery, util/validation) ---------------------------------------------
 */

static bool is_lower(char c)
{
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

static bool is_alnum(char c)
{
        return is_lower(c) || (c >= 'A' && c <= 'Z');
}

/* Does a subdomain stand in these bytes? */
static bool is_subdomain(const char *s, size_t len)
{
        if (len == 0 || len > LABEL_PREFIX_MAX)
                return false;
        for (size_t i = 0; i < len; i++) {
                bool edge = i == 0 || i == len - 1 || s[i - 1] == '.' || s[i + 1] == '.';

                if (!is_lower(s[i]) && (edge || (s[i] != '-' && s[i] != '.')))
                        return false;
        }
        return true;
}

bool subdomain_is_valid(const char *name)
{
        return is_subdomain(name, strnlen(name, LABEL_PREFIX_MAX + 1));
}

static bool is_name(const char *s)
{
        size_t len = strnlen(s, LABEL_NAME_MAX + 1);

        if (len == 0 || len > LABEL_NAME_MAX || !is_alnum(s[0]) || !is_alnum(s[len - 1]))
                return false;
        for (size_t i = 0; i < len; i++)
                if (!is_alnum(s[i]) && s[i] != '-' && s[i] != '_' && s[i] != '.')
                        return false;
        return true;
}

bool label_key_is_valid(const char *key)
{
        const char *slash = strchr(key, '/');

        if (!slash)
                return is_name(key);
        return is_subdomain(key, (size_t)(slash - key)) && is_name(slash + 1);
}

bool label_value_is_valid(const char *value)
{
        return !*value || is_name(value);
}

/* --- sets ------------------------------------------------------------------------------------- */

void labels_clear(struct labels *l)
{
        for (size_t i = 0; i < l->n; i++)
                free(l->v[i].key);
        free(l->v);
        *l = (struct labels){};
}

/* Where a key is, or would have to be. */
static size_t place_of(const struct labels *l, const char *key, bool *ret_there)
{
        size_t low = 0, high = l->n;

        *ret_there = false;
        while (low < high) {
                size_t middle = low + (high - low) / 2;
                int order = strcmp(key, l->v[middle].key);

                if (order == 0) {
                        *ret_there = true;
                        return middle;
                }
                if (order < 0)
                        high = middle;
                else
                        low = middle + 1;
        }
        return low;
}

int labels_add(struct labels *l, const char *key, const char *value, char *problem)
{
        size_t key_size = strlen(key) + 1, value_size = strlen(value) + 1, at;
        struct label *v;
        char *text;
        bool there;

        if (!label_key_is_valid(key)) {
                snprintf(problem, LABEL_PROBLEM_MAX,
                         "\"%.64s\" is not a label's key: [DNS-NAME/]NAME, where NAME is 1 to 63 "
                         "letters, digits, - _ . between letters or digits",
                         key);
                return -EINVAL;
        }
        if (!label_value_is_valid(value)) {
                snprintf(problem, LABEL_PROBLEM_MAX,
                         "\"%.64s\" is not a label's value: up to 63 letters, digits, - _ . "
                         "between letters or digits",
                         value);
                return -EINVAL;
        }
        at = place_of(l, key, &there);
        if (there) {
                snprintf(problem, LABEL_PROBLEM_MAX, "the label \"%.200s\" is given twice", key);
                return -EEXIST;
        }
        if (l->n == LABELS_MAX) {
                snprintf(problem, LABEL_PROBLEM_MAX, "there are more than %d labels", LABELS_MAX);
                return -E2BIG;
        }
        v = reallocarray(l->v, l->n + 1, sizeof(*v));
        if (!v)
                return -ENOMEM;
        l->v = v;
        text = malloc(key_size + value_size);
        if (!text)
                return -ENOMEM;
        memcpy(text, key, key_size);
        memcpy(text + key_size, value, value_size);
        memmove(&v[at + 1], &v[at], (l->n - at) * sizeof(*v));
        v[at] = (struct label){text, text + key_size};
        l->n++;
        return 0;
}

int labels_add_text(struct labels *l, const char *text, char *problem)
{
        const char *equals = strchr(text, '=');
        char key[LABEL_KEY_MAX + 1];

        if (!equals || (size_t)(equals - text) >= sizeof(key)) {
                snprintf(problem, LABEL_PROBLEM_MAX, "\"%.64s\" is not a label: it is KEY=VALUE",
                         text);
                return -EINVAL;
        }
        memcpy(key, text, (size_t)(equals - text));
        key[equals - text] = '\0';
        return labels_add(l, key, equals + 1, problem);
}

const char *labels_get(const struct labels *l, const char *key)
{
        bool there;
        size_t at = place_of(l, key, &there);

        return there ? l->v[at].value : NULL;
}

bool labels_equal(const struct labels *a, const struct labels *b)
{
        if (a->n != b->n)
                return false;
        for (size_t i = 0; i < a->n; i++)
                if (strcmp(a->v[i].key, b->v[i].key) != 0 ||
                    strcmp(a->v[i].value, b->v[i].value) != 0)
                        return false;
        return true;
}

int labels_copy(const struct labels *l, struct labels *ret)
{
        _cleanup_(labels_clearp) struct labels *owned = &(struct labels){};
        char problem[LABEL_PROBLEM_MAX];

        for (size_t i = 0; i < l->n; i++) {
                int r = labels_add(owned, l->v[i].key, l->v[i].value, problem);

                if (r < 0)
                        return r;
        }
        *ret = *TAKE_PTR(owned);
        return 0;
}

/* --- JSON ------------------------------------------------------------------------------------- */

json_t *labels_to_json(const struct labels *l)
{
        json_t *object = json_object();

        for (size_t i = 0; i < l->n; i++)
                if (json_object_set_new(object, l->v[i].key, json_string(l->v[i].value)) < 0) {
                        json_decref(object);
                        return NULL;
                }
        return object;
}

int labels_from_json(const json_t *object, struct labels *ret, char *problem)
{
        _cleanup_(labels_clearp) struct labels *owned = &(struct labels){};
        const char *key;
        json_t *value;

        if (object && !json_is_object(object)) {
                snprintf(problem, LABEL_PROBLEM_MAX, "labels are not an object");
                return -EINVAL;
        }
        json_object_foreach ((json_t *)object, key, value) {
                int r;

                if (!json_is_string(value) ||
                    strlen(json_string_value(value)) != json_string_length(value)) {
                        snprintf(problem, LABEL_PROBLEM_MAX,
                                 "the value of the label \"%.64s\" is not a text", key);
                        return -EINVAL;
                }
                r = labels_add(owned, key, json_string_value(value), problem);
                if (r < 0)
                        return r;
        }
        *ret = *TAKE_PTR(owned);
        return 0;
}
