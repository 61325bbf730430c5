/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <stdio.h>
#include <string.h>

static const struct option_spec *find(const struct option_spec *table, const char *name, size_t len)
{
        for (; table && table->name; table++)
                if (strlen(table->name) == len && memcmp(table->name, name, len) == 0)
                        return table;
        return NULL;
}

/* "-f", and nothing behind the letter. */
static const struct option_spec *find_letter(const struct option_spec *table, const char *word)
{
        for (; table && table->name; table++)
                if (table->letter && word[1] == table->letter && word[2] == '\0')
                        return table;
        return NULL;
}

enum words_kind words_next(struct words *w, const struct option_spec *first,
                           const struct option_spec *second, const char **ret_word, char *problem)
{
        const struct option_spec *spec;
        const char *word, *name, *value;
        size_t len;

        word = w->argv[w->at];
        if (!word)
                return WORDS_END;
        w->at++;
        if (word[0] != '-') {
                *ret_word = word;
                return WORDS_POSITIONAL;
        }
        if (strcmp(word, "--") == 0)
                return WORDS_REST;

        name = word[1] == '-' ? word + 2 : "";
        len = strcspn(name, "=");
        spec = len > 0 ? find(first, name, len) : NULL;
        if (!spec && len > 0)
                spec = find(second, name, len);
        if (!spec && word[1] != '-')
                spec = find_letter(first, word) ?: find_letter(second, word);
        if (!spec) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "unknown option \"%s\"", word);
                return WORDS_BAD;
        }
        value = name[len] == '=' ? name + len + 1 : NULL;
        if (spec->flag) {
                if (value) {
                        snprintf(problem, OPTIONS_PROBLEM_MAX, "option --%s takes no value",
                                 spec->name);
                        return WORDS_BAD;
                }
                *spec->flag = true;
                return WORDS_OPTION;
        }
        if (!value) {
                value = w->argv[w->at];
                if (!value) {
                        snprintf(problem, OPTIONS_PROBLEM_MAX, "option --%s needs a value",
                                 spec->name);
                        return WORDS_BAD;
                }
                w->at++;
        }
        if (!spec->values) {
                *spec->value = value;
                return WORDS_OPTION;
        }
        if (spec->values->n == OPTION_VALUES_MAX) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "option --%s is given more than %d times",
                         spec->name, OPTION_VALUES_MAX);
                return WORDS_BAD;
        }
        spec->values->v[spec->values->n++] = value;
        return WORDS_OPTION;
}
