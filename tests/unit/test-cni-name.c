/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cni/name.h"

static const char *name_of(const char *container, const char *interface)
{
        static char name[2][NAME_LEN_MAX + 1];
        static int turn;

        turn = !turn;
        cni_endpoint_name(container, interface, name[turn]);
        assert_true(name_is_valid(name[turn]));
        return name[turn];
}

static void test_as_it_is(void **state)
{
        assert_string_equal(name_of("web-0", "eth0"), "web-0");
        assert_string_equal(name_of("a", "eth0"), "a");
        assert_string_equal(name_of("web.shop.example", "eth0"), "web.shop.example");
        assert_string_equal(name_of("web-0", "net1"), "web-0-net1");
}

static void test_longest(void **state)
{
        char text[NAME_LEN_MAX + 2];

        memset(text, 'x', sizeof(text));
        text[NAME_LEN_MAX] = '\0';
        assert_string_equal(name_of(text, "eth0"), text);
        text[NAME_LEN_MAX] = 'x';
        text[NAME_LEN_MAX + 1] = '\0';
        assert_int_equal(strlen(name_of(text, "eth0")), NAME_LEN_MAX);
        assert_string_not_equal(name_of(text, "eth0"), text);
}

/* Two that differ only in what a name cannot have, or far behind, do not meet. */
static void test_distinct(void **state)
{
        static const char *const pairs[][2] = {
            {"web_0", "web-0"},
            {"Web", "web"},
            {"web-", "web"},
            {"..web", "web"},
            {"_", "-"},
            {"\xc3\xa4", "\xc3\xb6"},
            {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
             "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcde0"},
            {"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef-",
             "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"},
            {"a..b", "a.b"},
            {"", "eth0"},
        };

        for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
                assert_string_not_equal(name_of(pairs[i][0], "eth0"), name_of(pairs[i][1], "eth0"));
        assert_string_not_equal(name_of("web", "eth0"), name_of("web", "eth1"));
        assert_string_not_equal(name_of("web", "Eth1"), name_of("web", "eth1"));
}

/* The same at every call: a container that comes again has its name again. */
static void test_known(void **state)
{
        assert_string_equal(name_of("My_Container", "eth0"), "my-container-1cf5dd73");
        assert_memory_equal(name_of("_x_", "eth0"), "x-", 2);
}

/* Whatever the text, of any length: a name (name_of() says so). */
static void test_any(void **state)
{
        char text[300];

        for (int c = 1; c < 256; c++)
                for (size_t len = 1; len < sizeof(text); len += len < 80 ? 1 : 50) {
                        memset(text, c, len);
                        text[len] = '\0';
                        name_of(text, "eth0");
                        name_of(text, "a.-b_");
                        name_of(text, "..");
                        text[0] = 'a';
                        name_of(text, "eth0");
                }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_as_it_is), cmocka_unit_test(test_longest),
            cmocka_unit_test(test_distinct), cmocka_unit_test(test_known),
            cmocka_unit_test(test_any),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
