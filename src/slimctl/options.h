/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The command line as words: options by a table, positional words, and what follows "--".
 *
 * Long options, as "--name VALUE" or "--name=VALUE"; a few have a letter, as "-f VALUE". They are
 * never abbreviated, and what is not in a table is refused, so that a typing error cannot become
 * something else.
 */
#include <stdbool.h>
#include <stddef.h>

#define OPTION_VALUES_MAX 32

/* The values of an option that may be given more than once. */
struct option_values {
        const char *v[OPTION_VALUES_MAX];
        unsigned int n;
};

struct option_spec {
        const char *name;             /* without the dashes; NULL ends a table */
        char letter;                  /* "-f VALUE" is the same; 0: there is none */
        const char **value;           /* where the option's value goes … */
        struct option_values *values; /* … or is added, or NULL twice for a flag … */
        bool *flag;                   /* … which is set here */
};

/* Where the reading of a command line stands. */
struct words {
        char **argv; /* NULL-terminated */
        int at;
};

enum words_kind {
        WORDS_END,        /* nothing is left */
        WORDS_OPTION,     /* one option was taken and stored */
        WORDS_POSITIONAL, /* *ret_word is a word that is no option */
        WORDS_REST,       /* "--" was taken: argv + at is the rest */
        WORDS_BAD,        /* `problem` has the sentence */
};

#define OPTIONS_PROBLEM_MAX 256

/*
 * Takes the next word. Options are looked up in both tables (either may be NULL). What was wrong
 * goes to problem, a buffer of OPTIONS_PROBLEM_MAX bytes.
 */
enum words_kind words_next(struct words *w, const struct option_spec *first,
                           const struct option_spec *second, const char **ret_word, char *problem);
