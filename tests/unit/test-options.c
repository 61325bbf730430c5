/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "slimctl/options.h"

static const char *name, *address, *run_dir, *file;
static bool json, plain;
static struct option_values ports;

static const struct option_spec own[] = {
    {.name = "name", .value = &name},
    {.name = "address", .value = &address},
    {.name = "plain", .flag = &plain},
    {.name = "port", .values = &ports},
    {.name = "file", .letter = 'f', .value = &file},
    {},
};
static const struct option_spec global[] = {
    {.name = "run-dir", .value = &run_dir},
    {.name = "json", .flag = &json},
    {},
};

static int clear(void **state)
{
        name = address = run_dir = file = NULL;
        json = plain = false;
        ports.n = 0;
        return 0;
}

/* Reads all words; returns how the reading ended, and what the last word or problem was. */
static enum words_kind read_all(char **argv, const char **ret_last, int *ret_at, char *problem)
{
        struct words w = {.argv = argv};
        enum words_kind kind;

        *ret_last = NULL;
        do {
                kind = words_next(&w, own, global, ret_last, problem);
        } while (kind == WORDS_OPTION || kind == WORDS_POSITIONAL);
        *ret_at = w.at;
        return kind;
}

#define WORDS(...) ((char **)(const char *[]){__VA_ARGS__, NULL})

static void test_good(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const char *last;
        int at;

        assert_int_equal(
            read_all(WORDS("--name", "web", "--json", "word", "--run-dir=/x", "--plain"), &last,
                     &at, problem),
            WORDS_END);
        assert_string_equal(name, "web");
        assert_string_equal(run_dir, "/x");
        assert_string_equal(last, "word");
        assert_true(json);
        assert_true(plain);
        assert_null(address);
}

static void test_values(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const char *last;
        int at;

        /* The word behind an option is its value, whatever it looks like; the last one counts. */
        assert_int_equal(read_all(WORDS("--name", "--json", "--address=", "--address", "a=b"),
                                  &last, &at, problem),
                         WORDS_END);
        assert_string_equal(name, "--json");
        assert_string_equal(address, "a=b");
        assert_false(json);
        assert_int_equal(read_all(WORDS("--address="), &last, &at, problem), WORDS_END);
        assert_string_equal(address, "");
}

static void test_letters(void **state)
{
        static const char *const bad[] = {"-F", "-ff", "-f=x", "-fx", "--f"};
        char problem[OPTIONS_PROBLEM_MAX];
        const char *last;
        int at;

        assert_int_equal(read_all(WORDS("-f", "policies.yaml", "--json"), &last, &at, problem),
                         WORDS_END);
        assert_string_equal(file, "policies.yaml");
        assert_true(json);
        assert_int_equal(read_all(WORDS("-f", "-"), &last, &at, problem), WORDS_END);
        assert_string_equal(file, "-");
        assert_int_equal(read_all(WORDS("--file", "x"), &last, &at, problem), WORDS_END);
        assert_string_equal(file, "x");
        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                assert_int_equal(read_all(WORDS(bad[i], "y"), &last, &at, problem), WORDS_BAD);
                assert_non_null(strstr(problem, bad[i]));
        }
        assert_int_equal(read_all(WORDS("-f"), &last, &at, problem), WORDS_BAD);
        assert_string_equal(problem, "option --file needs a value");
}

static void test_rest(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        const char *last;
        int at;

        assert_int_equal(read_all(WORDS("--plain", "--", "--json", "--bogus"), &last, &at, problem),
                         WORDS_REST);
        assert_int_equal(at, 2);
        assert_true(plain);
        assert_false(json);
        /* … but as a value it is a value. */
        assert_int_equal(read_all(WORDS("--name", "--"), &last, &at, problem), WORDS_END);
        assert_string_equal(name, "--");
}

static void test_bad(void **state)
{
        static const struct {
                const char *word, *problem;
        } bad[] = {
            {"--bogus", "unknown option \"--bogus\""},
            {"--bogus=1", "unknown option \"--bogus=1\""},
            {"--nam", "unknown option \"--nam\""}, /* no abbreviations */
            {"--names", "unknown option \"--names\""},
            {"--=x", "unknown option \"--=x\""},
            {"-n", "unknown option \"-n\""},
            {"-name", "unknown option \"-name\""},
            {"-", "unknown option \"-\""},
            {"--json=yes", "option --json takes no value"},
            {"--name", "option --name needs a value"},
        };

        for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
                char problem[OPTIONS_PROBLEM_MAX];
                const char *last;
                int at;

                assert_int_equal(read_all(WORDS(bad[i].word), &last, &at, problem), WORDS_BAD);
                assert_string_equal(problem, bad[i].problem);
        }
        assert_null(name);
        assert_false(json);
}

static void test_more_than_once(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX];
        char *words[OPTION_VALUES_MAX + 2] = {};
        const char *last;
        int at;

        assert_int_equal(read_all(WORDS("--port", "1", "--plain", "--port=2", "--port", ""), &last,
                                  &at, problem),
                         WORDS_END);
        assert_int_equal(ports.n, 3);
        assert_string_equal(ports.v[0], "1");
        assert_string_equal(ports.v[1], "2");
        assert_string_equal(ports.v[2], "");
        assert_int_equal(read_all(WORDS("--port"), &last, &at, problem), WORDS_BAD);
        assert_string_equal(problem, "option --port needs a value");

        ports.n = 0;
        for (int i = 0; i <= OPTION_VALUES_MAX; i++)
                words[i] = (char *)"--port=x";
        assert_int_equal(read_all(words, &last, &at, problem), WORDS_BAD);
        assert_string_equal(problem, "option --port is given more than 32 times");
        assert_int_equal(ports.n, OPTION_VALUES_MAX);
}

static void test_long_word(void **state)
{
        char problem[OPTIONS_PROBLEM_MAX], word[4096];
        const char *last;
        int at;

        memset(word, '-', sizeof(word) - 1);
        word[sizeof(word) - 1] = '\0';
        assert_int_equal(read_all(WORDS(word), &last, &at, problem), WORDS_BAD);
        assert_true(strlen(problem) < OPTIONS_PROBLEM_MAX);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup(test_good, clear),
            cmocka_unit_test_setup(test_values, clear),
            cmocka_unit_test_setup(test_letters, clear),
            cmocka_unit_test_setup(test_rest, clear),
            cmocka_unit_test_setup(test_bad, clear),
            cmocka_unit_test_setup(test_more_than_once, clear),
            cmocka_unit_test_setup(test_long_word, clear),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
