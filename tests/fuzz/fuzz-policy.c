/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Files of policies that nobody would write: a refusal is one line with a place that is in the
 * file, and what is taken can be written as JSON and read again as the same policy.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined. Otherwise replay.c.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/alloc.h"
#include "policy/policy-yaml.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "fuzz-policy: %s\n", what);
        abort();
}

static void check_error(const struct policy_error *e, const char *text, size_t size)
{
        char line[POLICY_PATH_MAX + POLICY_TEXT_MAX];
        unsigned long lines = 1;

        /* libyaml counts NEL, LS and PS as ends of lines too. */
        for (size_t i = 0; i < size; i++)
                lines += text[i] == '\n' || text[i] == '\r' || text[i] == '\x85' ||
                         text[i] == '\xa8' || text[i] == '\xa9';
        check(e->line >= 1 && e->line <= lines, "a line that there is not");
        check(e->column >= 1 && e->column <= size + 1, "a column that there is not");
        check(*e->text != '\0', "no reason");
        policy_error_format(e, "file", line, sizeof(line));
        for (const char *c = line; *c; c++)
                check((unsigned char)*c >= 0x20 && *c != 0x7f, "a control character in an error");
}

static void check_policy(const struct policy *p)
{
        json_t *json = policy_to_json(p), *json_again;
        struct policy_error error;
        struct policy *again;

        check(json != NULL, "a policy that cannot be written");
        check(policy_from_json(json, &again, &error) == 0, "a policy that is not read again");
        json_again = policy_to_json(again);
        check(json_equal(json, json_again), "a policy that is not read as it was written");
        check(policy_expanded(p) <= POLICY_EXPANDED_MAX, "a policy that is too large");
        json_decref(json);
        json_decref(json_again);
        policy_free(again);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        /* On the heap, at its own size: the sanitizer sees a byte too far. */
        _cleanup_free_ char *text = malloc(size + !size);
        struct policy_error error = {};
        struct policy_list list;
        int r;

        check(text != NULL, "no memory");
        if (size > 0)
                memcpy(text, data, size);
        r = policy_list_from_yaml(text, size, &list, &error);
        check(r == 0 || r == -EINVAL, "another error than its own");
        if (r < 0) {
                check_error(&error, text, size);
                return 0;
        }
        for (size_t i = 0; i < list.n; i++)
                check_policy(list.v[i]);
        policy_list_clear(&list);
        return 0;
}
