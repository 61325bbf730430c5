// SPDX-License-Identifier: Apache-2.0
#include <arpa/inet.h>
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"

static union slim_addr addr(const char *text)
{
        union slim_addr a;

        assert_int_equal(inaddr_parse(text, &a), 0);
        return a;
}

static struct inaddr_prefix prefix(const char *text)
{
        struct inaddr_prefix p;

        assert_int_equal(inaddr_prefix_parse(text, &p), 0);
        return p;
}

static void test_parse_v4(void **state)
{
        static const uint8_t mapped[16] = {[10] = 0xff, [11] = 0xff, 10, 77, 0, 2};
        union slim_addr a = addr("10.77.0.2");

        assert_memory_equal(a.b, mapped, sizeof(mapped));
        assert_true(inaddr_is_v4(&a));
        assert_int_equal(inaddr_to_v4(&a), htonl(0x0a4d0002));
}

static void test_parse_v6(void **state)
{
        static const uint8_t bytes[16] = {0xfd, [15] = 1};
        union slim_addr a = addr("fd00::1"), mapped = addr("::ffff:10.0.0.1"), v4;

        assert_memory_equal(a.b, bytes, sizeof(bytes));
        assert_false(inaddr_is_v4(&a));
        v4 = addr("10.0.0.1");
        assert_true(inaddr_equal(&mapped, &v4));
        assert_false(inaddr_equal(&mapped, &a));
}

static void test_parse_rejects(void **state)
{
        static const char *const bad[] = {
            "",       " ",         "10.0.0",  "10.0.0.256", "10.0.0.1 ", "10.0.0.1/8", "010.0.0.1",
            "0x7f.1", "localhost", "fd00::g", "::1%lo",     "1.2.3.4.5", "fd00:::1",   "-1.0.0.0"};
        union slim_addr before, a;

        memset(&before, 0x5a, sizeof(before));
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                a = before;
                if (inaddr_parse(bad[i], &a) != -EINVAL)
                        fail_msg("\"%s\" was taken for an address", bad[i]);
                /* Outputs are set only on success. */
                assert_true(inaddr_equal(&a, &before));
        }
}

static void test_from_v4(void **state)
{
        static const uint32_t values[] = {0, 1, 0x7f000001, 0x0a4d0002, 0xffffffff};

        for (size_t i = 0; i < ARRAY_SIZE(values); i++) {
                union slim_addr a = inaddr_from_v4(htonl(values[i]));

                assert_true(inaddr_is_v4(&a));
                assert_int_equal(inaddr_to_v4(&a), htonl(values[i]));
        }
}

static void test_format(void **state)
{
        /* The text that goes in is the canonical one, so that it must come out. */
        static const char *const texts[] = {
            "0.0.0.0", "255.255.255.255", "10.77.0.2",           "::",
            "::1",     "fd00::1",         "2001:db8:1:2:3:4:5:6"};
        char buf[INADDR_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                union slim_addr a = addr(texts[i]);

                assert_ptr_equal(inaddr_format(&a, buf), buf);
                assert_string_equal(buf, texts[i]);
        }
}

static void test_prefix_parse(void **state)
{
        assert_int_equal(prefix("10.77.0.0/16").bits, 112);
        assert_int_equal(prefix("0.0.0.0/0").bits, 96);
        assert_int_equal(prefix("10.0.0.1/32").bits, 128);
        assert_int_equal(prefix("fd00::/64").bits, 64);
        assert_int_equal(prefix("::/0").bits, 0);
        assert_int_equal(prefix("fd00::1/128").bits, 128);
        /* Written as IPv6, the bits count on all 16 bytes. */
        assert_int_equal(prefix("::ffff:10.0.0.0/104").bits, 104);
}

static void test_prefix_parse_rejects(void **state)
{
        static const char *const malformed[] = {
            "",
            "/",
            "/8",
            "10.0.0.0",
            "10.0.0.0/",
            "10.0.0.0/33",
            "10.0.0.0/-1",
            "10.0.0.0/+8",
            "10.0.0.0/ 8",
            "10.0.0.0/8x",
            "10.0.0.0/8/8",
            "10.0.0/8",
            "fd00::/129",
            "fd00::/99999999999999999999",
            "10.0.0.0/18446744073709551624", /* 2^64 + 8 */
            "1111111111111111111111111111111111111111111111111111111111111111111111/8",
        };
        static const char *const host_bits[] = {"10.0.0.1/31", "10.77.1.0/16", "fd00::1/64",
                                                "128.0.0.0/0", "10.0.0.64/25"};
        struct inaddr_prefix p;

        for (size_t i = 0; i < ARRAY_SIZE(malformed); i++)
                if (inaddr_prefix_parse(malformed[i], &p) != -EINVAL)
                        fail_msg("\"%s\" was taken for a prefix", malformed[i]);
        for (size_t i = 0; i < ARRAY_SIZE(host_bits); i++)
                if (inaddr_prefix_parse(host_bits[i], &p) != -ERANGE)
                        fail_msg("the host bits of \"%s\" went unseen", host_bits[i]);
}

static void test_prefix_format(void **state)
{
        static const char *const texts[] = {"10.77.0.0/16", "0.0.0.0/0", "10.0.0.1/32",
                                            "fd00::/64",    "::/0",      "2001:db8::/33"};
        char buf[INADDR_TEXT_MAX];

        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                struct inaddr_prefix p = prefix(texts[i]);

                assert_ptr_equal(inaddr_prefix_format(&p, buf), buf);
                assert_string_equal(buf, texts[i]);
        }
}

static void test_prefix_contains(void **state)
{
        static const struct {
                const char *prefix, *address;
                bool inside;
        } cases[] = {
            {"10.77.0.0/16", "10.77.0.0", true},    {"10.77.0.0/16", "10.77.255.255", true},
            {"10.77.0.0/16", "10.78.0.0", false},   {"10.77.0.0/16", "10.76.255.255", false},
            {"10.77.0.64/26", "10.77.0.127", true}, {"10.77.0.64/26", "10.77.0.128", false},
            {"10.77.0.64/26", "10.77.0.63", false}, {"0.0.0.0/0", "255.1.2.3", true},
            {"0.0.0.0/0", "fd00::1", false},        {"::/0", "10.0.0.1", true},
            {"10.0.0.1/32", "10.0.0.1", true},      {"10.0.0.1/32", "10.0.0.0", false},
            {"fd00::/63", "fd00:0:0:1::9", true},   {"fd00::/64", "fd00:0:0:1::9", false},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct inaddr_prefix p = prefix(cases[i].prefix);
                union slim_addr a = addr(cases[i].address);

                if (inaddr_prefix_contains(&p, &a) != cases[i].inside)
                        fail_msg("%s in %s: wrong", cases[i].address, cases[i].prefix);
        }
}

static void test_prefix_overlaps(void **state)
{
        static const struct {
                const char *a, *b;
                bool overlap;
        } cases[] = {
            {"10.77.0.0/16", "10.77.0.0/16", true},  {"10.0.0.0/8", "10.77.0.0/16", true},
            {"10.77.0.0/16", "10.78.0.0/16", false}, {"10.77.0.0/17", "10.77.128.0/17", false},
            {"0.0.0.0/0", "10.0.0.1/32", true},      {"fd00::/64", "10.0.0.0/8", false},
            {"fd00::/8", "fd12::/16", true},         {"::/0", "10.0.0.0/8", true},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct inaddr_prefix a = prefix(cases[i].a), b = prefix(cases[i].b);

                if (inaddr_prefix_overlaps(&a, &b) != cases[i].overlap ||
                    inaddr_prefix_overlaps(&b, &a) != cases[i].overlap)
                        fail_msg("%s and %s: wrong", cases[i].a, cases[i].b);
        }
}

static void test_prefix_nth(void **state)
{
        static const struct {
                const char *prefix;
                uint32_t n;
                const char *address;
        } cases[] = {
            {"10.77.0.0/16", 0, "10.77.0.0"},     {"10.77.0.0/16", 2, "10.77.0.2"},
            {"10.77.0.0/16", 256, "10.77.1.0"},   {"10.77.0.0/16", 65535, "10.77.255.255"},
            {"10.77.0.64/26", 63, "10.77.0.127"}, {"fd00::/64", 0x10001, "fd00::1:1"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(cases); i++) {
                struct inaddr_prefix p = prefix(cases[i].prefix);
                union slim_addr got = inaddr_prefix_nth(&p, cases[i].n);
                union slim_addr want = addr(cases[i].address);

                if (!inaddr_equal(&got, &want))
                        fail_msg("address %u of %s: wrong", cases[i].n, cases[i].prefix);
        }
}

int main(void)
{
        const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_parse_v4),
            cmocka_unit_test(test_parse_v6),
            cmocka_unit_test(test_parse_rejects),
            cmocka_unit_test(test_from_v4),
            cmocka_unit_test(test_format),
            cmocka_unit_test(test_prefix_parse),
            cmocka_unit_test(test_prefix_parse_rejects),
            cmocka_unit_test(test_prefix_format),
            cmocka_unit_test(test_prefix_contains),
            cmocka_unit_test(test_prefix_overlaps),
            cmocka_unit_test(test_prefix_nth),
        };

        return cmocka_run_group_tests_name("inaddr", tests, NULL, NULL);
}
