/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/fd.h"
#include "shared/reason.h"

/* Appended to, and nothing else: the numbers are in maps that outlive slimd, the names in metrics.
 */
static void test_numbers(void **state)
{
        assert_int_equal(SLIM_REASON_NONE, 0);
        assert_int_equal(SLIM_REASON_SYN_ACCEPTED, 1);
        assert_int_equal(SLIM_REASON_POLICY_INGRESS, 31);
        assert_int_equal(SLIM_HOOK_CONNECT, 1);
        assert_int_equal(SLIM_HOOK_REVOKE, 13);
        assert_string_equal(reason_name(SLIM_REASON_ENCAP_SPOOFED), "encap_spoofed");
        assert_string_equal(hook_name(SLIM_HOOK_FROM_CONTAINER), "from_container");
        assert_string_equal(reason_name(SLIM_REASON_MAX), "unknown");
        assert_string_equal(reason_name(UINT16_MAX), "unknown");
        assert_string_equal(hook_name(SLIM_HOOK_MAX), "unknown");
        assert_string_equal(hook_name(UINT8_MAX), "unknown");
}

static void test_names(void **state)
{
        enum slim_reason reason = SLIM_REASON_MAX;

        for (unsigned int i = 0; i < SLIM_REASON_MAX; i++) {
                int r = reason_from_name(reason_name(i), &reason);

                if (reason_is_event((enum slim_reason)i)) {
                        assert_int_equal(r, 0);
                        assert_int_equal(reason, i); /* no two have one name */
                } else {
                        assert_int_equal(r, -ENOENT);
                }
        }
        assert_int_equal(reason_from_name("policy_egres", &reason), -ENOENT);
        assert_int_equal(reason_from_name("POLICY_EGRESS", &reason), -ENOENT);
        assert_int_equal(reason_from_name("", &reason), -ENOENT);
        assert_int_equal(reason_from_name("none", &reason), -ENOENT);
        assert_int_equal(reason_from_name("syn_accepted", &reason), -ENOENT);
        assert_int_equal(reason_from_name("event_lost", &reason), -ENOENT);
}

/* docs/monitor.md explains each of them in a row of a table, before its metrics, and none that is
 * not there. */
static void test_documentation(void **state)
{
        _cleanup_free_ char *text = NULL;
        bool explained[SLIM_REASON_MAX + SLIM_HOOK_MAX] = {};
        char *save = NULL;

        assert_int_equal(
            read_file_at(AT_FDCWD, SLIM_SOURCE "/docs/monitor.md", 1 << 20, &text, NULL), 0);
        for (char *line = strtok_r(text, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
                char name[64] = "";
                bool known = false;

                if (strcmp(line, "## Metrics") == 0)
                        break;
                if (sscanf(line, "| `%63[a-z_]` |", name) != 1)
                        continue;
                for (unsigned int i = 0; i < SLIM_REASON_MAX; i++)
                        if (strcmp(name, reason_name(i)) == 0) {
                                assert_false(explained[i]);
                                known = explained[i] = true;
                        }
                for (unsigned int i = 0; i < SLIM_HOOK_MAX; i++)
                        if (strcmp(name, hook_name(i)) == 0)
                                known = explained[SLIM_REASON_MAX + i] = true;
                if (!known)
                        fail_msg("docs/monitor.md explains \"%s\", which is nothing", name);
        }
        for (unsigned int i = SLIM_REASON_NONE + 1; i < SLIM_REASON_MAX; i++)
                if (!explained[i])
                        fail_msg("docs/monitor.md does not explain \"%s\"", reason_name(i));
        for (unsigned int i = SLIM_HOOK_NONE + 1; i < SLIM_HOOK_MAX; i++)
                if (!explained[SLIM_REASON_MAX + i])
                        fail_msg("docs/monitor.md does not explain \"%s\"", hook_name(i));
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_numbers),
            cmocka_unit_test(test_names),
            cmocka_unit_test(test_documentation),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
