/* SPDX-License-Identifier: Apache-2.0 */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "shared/rpc.h"
#include "slimctl/print.h"

/* What is printed between begin() and end() comes out of end(). */
static int saved_stdout, memfd;

static void begin(void)
{
        fflush(stdout);
        saved_stdout = dup(STDOUT_FILENO);
        memfd = memfd_create("out", MFD_CLOEXEC);
        assert_true(saved_stdout >= 0 && memfd >= 0);
        assert_true(dup2(memfd, STDOUT_FILENO) >= 0);
}

static const char *end(void)
{
        static char text[4096];
        ssize_t n;

        fflush(stdout);
        dup2(saved_stdout, STDOUT_FILENO);
        close(saved_stdout);
        n = pread(memfd, text, sizeof(text) - 1, 0);
        close(memfd);
        assert_true(n >= 0);
        text[n] = '\0';
        return text;
}

static void test_table(void **state)
{
        static const struct print_column columns[] = {
            {.title = "NAME", .key = "name"},
            {.title = "N", .key = "n"},
            {.title = "LOCAL", .key = "local"},
            {.title = "SENT", .key = "sent", .kind = PRINT_BYTES},
            {.title = "PEER", .key = "peer"},
            {.title = "LIST", .key = "list", .kind = PRINT_LIST},
        };
        _cleanup_json_ json_t *list = json_pack(
            "[{ss, si, sb, sI, sn, s[ss]}, {ss, si, sb, sI, ss, s[]}, {ss}]", "name", "a", "n", 7,
            "local", 1, "sent", (json_int_t)1023, "peer", "list", "x", "y", "name", "größer", "n",
            12345, "local", 0, "sent", (json_int_t)3 << 29, "peer", "b", "list", "name", "");

        begin();
        print_table(list, columns, ARRAY_SIZE(columns));
        assert_string_equal(end(), "NAME        N  LOCAL     SENT  PEER  LIST\n"
                                   "a           7  yes     1023 B  -     x, y\n"
                                   "größer  12345  no     1.5 GiB  b     -\n"
                                   "-           -  -            -  -     -\n");
}

/* Of a table that has no end: what is too long pushes what follows. */
static void test_rows(void **state)
{
        static const struct print_column columns[] = {
            {.title = "NAME", .key = "name", .width = 6},
            {.title = "N", .key = "n", .width = 3},
            {.title = "PEER", .key = "peer"},
        };
        _cleanup_json_ json_t *row =
            json_pack("{ss, si, ss}", "name", "größer", "n", 7, "peer", "x\n");
        _cleanup_json_ json_t *longer = json_pack("{ss, si}", "name", "much longer", "n", 12345);

        begin();
        print_row(NULL, columns, ARRAY_SIZE(columns));
        print_row(row, columns, ARRAY_SIZE(columns));
        print_row(longer, columns, ARRAY_SIZE(columns));
        print_json_line(row);
        assert_string_equal(end(), "NAME    N    PEER\n"
                                   "größer  7    x?\n"
                                   "much longer  12345  -\n"
                                   "{\"name\":\"größer\",\"n\":7,\"peer\":\"x\\n\"}\n");
}

static void test_pairs(void **state)
{
        static const struct print_column columns[] = {
            {.title = "NAME", .key = "name"},
            {.title = "LABELS", .key = "labels", .kind = PRINT_PAIRS},
        };
        _cleanup_json_ json_t *list =
            json_pack("[{ss, s{ss, ss, ss}}, {ss, s{}}, {ss}]", "name", "a", "labels", "tier", "",
                      "app", "web", "x", "\033", "name", "b", "labels", "name", "c");

        begin();
        print_table(list, columns, ARRAY_SIZE(columns));
        assert_string_equal(end(), "NAME  LABELS\n"
                                   "a     app=web,tier=,x=?\n"
                                   "b     -\n"
                                   "c     -\n");
}

static void test_yaml(void **state)
{
        _cleanup_json_ json_t *value = json_loads(
            "{\"kind\": \"NetworkPolicy\", \"spec\": {\"podSelector\": {\"matchLabels\": "
            "{\"no\": \"yes\"}}, \"ingress\": [{}, {\"from\": [{\"ipBlock\": {\"cidr\": "
            "\"::/0\", \"except\": [\"fd00::/8\"]}}], \"ports\": [{\"port\": 80, "
            "\"name\": \"\\u001b\"}]}], \"egress\": [], \"nested\": [[1, 2], [3]]}}",
            0, NULL);

        assert_non_null(value);
        begin();
        print_yaml(value);
        assert_string_equal(end(), "kind: \"NetworkPolicy\"\n"
                                   "spec:\n"
                                   "  podSelector:\n"
                                   "    matchLabels:\n"
                                   "      \"no\": \"yes\"\n"
                                   "  ingress:\n"
                                   "    - {}\n"
                                   "    - from:\n"
                                   "        - ipBlock:\n"
                                   "            cidr: \"::/0\"\n"
                                   "            except:\n"
                                   "              - \"fd00::/8\"\n"
                                   "      ports:\n"
                                   "        - port: 80\n"
                                   "          name: \"\\u001B\"\n"
                                   "  egress: []\n"
                                   "  nested:\n"
                                   "    - - 1\n"
                                   "      - 2\n"
                                   "    - - 3\n");
}

static void test_empty_table(void **state)
{
        static const struct print_column columns[] = {{.title = "NAME", .key = "name"}};
        _cleanup_json_ json_t *list = json_array();

        begin();
        print_table(list, columns, ARRAY_SIZE(columns));
        assert_string_equal(end(), "NAME\n");
}

/* Escape sequences, C1 controls, line ends: another host may have put them into a name. */
static void test_controls_are_disarmed(void **state)
{
        static const struct print_column columns[] = {{.title = "NAME", .key = "name"},
                                                      {.title = "X", .key = "x"}};
        _cleanup_json_ json_t *list = json_pack("[{ss, ss}]", "name", "\033[2J\n\x7f", "x",
                                                "\xc2\x9b"
                                                "31m\xc3\xa9");

        begin();
        print_table(list, columns, ARRAY_SIZE(columns));
        assert_string_equal(end(), "NAME    X\n"
                                   "?[2J??  ??31m\xc3\xa9\n");
}

static void test_fields(void **state)
{
        _cleanup_json_ json_t *o =
            json_pack("{ss, si, sn, s[ss]}", "name", "a", "id", 4, "none", "list", "x", "y");
        const struct print_field fields[] = {
            {.title = "name", .value = json_object_get(o, "name")},
            {.title = "not there, and long", .value = json_object_get(o, "missing")},
            {.title = "id", .value = json_object_get(o, "id")},
            {.title = "none", .value = json_object_get(o, "none")},
            {.title = "listed", .value = json_object_get(o, "list")},
            {.title = "text", .text = "a\tb"},
        };

        begin();
        print_fields(fields, ARRAY_SIZE(fields));
        assert_string_equal(end(), "name    a\n"
                                   "id      4\n"
                                   "none    -\n"
                                   "listed  [\"x\",\"y\"]\n"
                                   "text    a?b\n");
}

static void test_json(void **state)
{
        _cleanup_json_ json_t *o = json_pack("{s[i]}", "a", 1), *back = NULL;
        const char *text;

        begin();
        print_json(o);
        text = end();
        assert_int_equal(text[strlen(text) - 1], '\n');
        back = json_loads(text, 0, NULL);
        assert_true(json_equal(o, back));
}

static void test_full_output(void **state)
{
        int fd, saved;

        fflush(stdout);
        saved = dup(STDOUT_FILENO);
        fd = open("/dev/full", O_WRONLY | O_CLOEXEC);
        assert_true(saved >= 0 && fd >= 0);
        dup2(fd, STDOUT_FILENO);
        printf("lost\n");
        assert_true(print_finish() < 0);
        dup2(saved, STDOUT_FILENO);
        close(saved);
        close(fd);
        clearerr(stdout);
        assert_int_equal(print_finish(), 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_table),       cmocka_unit_test(test_rows),
            cmocka_unit_test(test_pairs),       cmocka_unit_test(test_yaml),
            cmocka_unit_test(test_empty_table), cmocka_unit_test(test_controls_are_disarmed),
            cmocka_unit_test(test_fields),      cmocka_unit_test(test_json),
            cmocka_unit_test(test_full_output),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
