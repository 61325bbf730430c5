/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/macro.h"
#include "shared/publication.h"
#include "shared/rpc.h"

static char problem[PUBLICATION_PROBLEM_MAX];

static struct publication parsed(const char *text)
{
        struct publication p;

        if (publication_parse(text, &p, problem) < 0)
                fail_msg("%s: %s", text, problem);
        return p;
}

static void test_good(void **state)
{
        static const struct {
                const char *text, *canonical;
                uint16_t any, host_port, port, count;
                uint8_t protocol;
        } good[] = {
            {"8080:80", "8080:80/tcp", true, 8080, 80, 1, IPPROTO_TCP},
            {"1:65535/tcp", "1:65535/tcp", true, 1, 65535, 1, IPPROTO_TCP},
            {"65535:1/udp", "65535:1/udp", true, 65535, 1, 1, IPPROTO_UDP},
            {"8000-8010:9000-9010", "8000-8010:9000-9010/tcp", true, 8000, 9000, 11, IPPROTO_TCP},
            {"8000-8000:9000", "8000:9000/tcp", true, 8000, 9000, 1, IPPROTO_TCP},
            {"192.0.2.1:53:5353/udp", "192.0.2.1:53:5353/udp", false, 53, 5353, 1, IPPROTO_UDP},
            {"0.0.0.0:80:80", "0.0.0.0:80:80/tcp", false, 80, 80, 1, IPPROTO_TCP},
            {"[::]:80:80", "[::]:80:80/tcp", false, 80, 80, 1, IPPROTO_TCP},
            {"[2001:DB8::1]:80-81:8-9/udp", "[2001:db8::1]:80-81:8-9/udp", false, 80, 8, 2,
             IPPROTO_UDP},
            {"[::ffff:192.0.2.1]:80:80", "192.0.2.1:80:80/tcp", false, 80, 80, 1, IPPROTO_TCP},
            {"1-65535:1-65535", "1-65535:1-65535/tcp", true, 1, 1, 65535, IPPROTO_TCP},
        };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct publication p = parsed(good[i].text), again;
                char text[PUBLICATION_TEXT_MAX];

                assert_int_equal(p.any, good[i].any);
                assert_int_equal(p.host_port, good[i].host_port);
                assert_int_equal(p.port, good[i].port);
                assert_int_equal(p.count, good[i].count);
                assert_int_equal(p.protocol, good[i].protocol);
                assert_string_equal(publication_format(&p, text), good[i].canonical);
                again = parsed(text);
                assert_memory_equal(&again.addr, &p.addr, sizeof(p.addr));
                assert_int_equal(again.any, p.any);
        }
}

/* Nothing of these is guessed at, and each says what is the matter. */
static void test_bad(void **state)
{
        static const struct {
                const char *text, *says;
        } bad[] = {
            {"", "container's port is missing"},
            {"80", "cannot be told"},
            {"80/udp", "cannot be told"},
            {":80", "host's port \"\""},
            {"80:", "container's port \"\""},
            {":", "host's port"},
            {"0:80", "from 1 to 65535"},
            {"80:0", "from 1 to 65535"},
            {"65536:80", "from 1 to 65535"},
            {"80:65536", "from 1 to 65535"},
            {"-1:80", "host's port \"-1\""},
            {"+80:80", "host's port \"+80\""},
            {"80:80x", "container's port \"80x\""},
            {" 80:80", "host's port \" 80\""},
            {"80 :80", "host's port"},
            {"0x50:80", "host's port"},
            {"8e1:80", "host's port"},
            {"80-:80", "host's port \"80-\""},
            {"-:80", "host's port"},
            {"80-81-82:80", "host's port"},
            {"81-80:80-81", "host's range 81-80 runs backwards"},
            {"80-81:81-80", "container's range 81-80 runs backwards"},
            {"8000-8010:80", "differ in length: 11 ports of the host, 1 of the container"},
            {"80:8000-8010", "differ in length: 1 ports of the host, 11 of the container"},
            {"80:80/sctp", "tcp or udp"},
            {"80:80/", "tcp or udp"},
            {"80:80/TCP", "tcp or udp"},
            {"80:80/tcp/udp", "tcp or udp"},
            {"80/tcp:80", "tcp or udp"},
            {"8080:80:81", "\"8080\" is not an IPv4 address"},
            {"localhost:80:80", "\"localhost\" is not an IPv4 address"},
            {"192.0.2:80:80", "\"192.0.2\" is not an IPv4 address"},
            {"192.0.2.1:80", "host's port \"192.0.2.1\""},
            {":80:80", "\"\" is not an IPv4 address"},
            {"::1:80:80", "too many colons"},
            {"2001:db8::1:80:80", "too many colons"},
            {"1.2.3.4:80:80:80", "too many colons"},
            {"[::1]80:80", "after an address in brackets"},
            {"[::1:80:80", "after an address in brackets"},
            {"[::1]:80", "container's port is missing"},
            {"[::1]", "after an address in brackets"},
            {"[::1]:", "container's port is missing"},
            {"[::1]:80:80:80", "container's port \"80:80\""},
            {"[192.0.2.1]:80:80", "\"192.0.2.1\" is not an IPv6 address"},
            {"[fe80::1%eth0]:80:80", "is not an IPv6 address"},
            {"[]:80:80", "\"\" is not an IPv6 address"},
            {"999999999999999999999999:80", "from 1 to 65535"},
        };

        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                struct publication p;
                int r = publication_parse(bad[i].text, &p, problem);

                if (r != -EINVAL && r != -ERANGE)
                        fail_msg("\"%s\" gave %d", bad[i].text, r);
                if (!strstr(problem, bad[i].says))
                        fail_msg("\"%s\": %s", bad[i].text, problem);
        }
}

static void test_long(void **state)
{
        char text[4096];
        struct publication p;

        for (size_t len = 1; len < sizeof(text); len += len < 200 ? 1 : 500) {
                memset(text, '8', len);
                text[len] = '\0';
                assert_true(publication_parse(text, &p, problem) < 0);
                text[len / 2] = ':';
                (void)publication_parse(text, &p, problem);
                text[0] = '[';
                (void)publication_parse(text, &p, problem);
                assert_true(strlen(problem) < sizeof(problem));
        }
}

static void test_host_form(void **state)
{
        char text[PUBLICATION_TEXT_MAX];
        struct publication p = parsed("8000-8010:1-11");

        assert_string_equal(publication_format_host(&p, 8003, text), "8003");
        p = parsed("192.0.2.1:8000:1/udp");
        assert_string_equal(publication_format_host(&p, 8000, text), "192.0.2.1:8000/udp");
        p = parsed("[::1]:8000:1");
        assert_string_equal(publication_format_host(&p, 8000, text), "[::1]:8000");
}

static void test_overlap(void **state)
{
        static const struct {
                const char *a, *b;
                int port; /* 0: no overlap */
        } pairs[] = {
            {"80:1", "80:2", 80},
            {"80:1", "81:1", 0},
            {"80:1", "80:1/udp", 0},
            {"80-90:1-11", "85:1", 85},
            {"80-90:1-11", "90-95:1-6", 90},
            {"80-90:1-11", "91:1", 0},
            {"80:1", "192.0.2.1:80:1", 80},
            {"80:1", "[2001:db8::1]:80:1", 80},
            {"80:1", "0.0.0.0:80:1", 80},
            {"80:1", "[::]:80:1", 80},
            {"0.0.0.0:80:1", "[::]:80:1", 0},
            {"0.0.0.0:80:1", "192.0.2.1:80:1", 80},
            {"0.0.0.0:80:1", "[2001:db8::1]:80:1", 0},
            {"[::]:80:1", "[2001:db8::1]:80:1", 80},
            {"[::]:80:1", "192.0.2.1:80:1", 0},
            {"192.0.2.1:80:1", "192.0.2.1:80:1", 80},
            {"192.0.2.1:80:1", "192.0.2.2:80:1", 0},
            {"1-65535:1-65535", "65535:1", 65535},
        };

        for (size_t i = 0; i < ARRAY_SIZE(pairs); i++) {
                struct publication a = parsed(pairs[i].a), b = parsed(pairs[i].b);
                uint16_t port = 0;

                if (publication_overlaps(&a, &b, &port) != (pairs[i].port != 0) ||
                    port != pairs[i].port)
                        fail_msg("%s and %s", pairs[i].a, pairs[i].b);
                port = 0;
                assert_int_equal(publication_overlaps(&b, &a, &port), pairs[i].port != 0);
                assert_int_equal(port, pairs[i].port);
        }
}

static void test_list(void **state)
{
        struct publications list = {}, back;
        _cleanup_json_ json_t *j = NULL;
        char text[64];

        assert_int_equal(publications_add(&list, "8000-8010:80-90", problem), 0);
        assert_int_equal(publications_add(&list, "8005:80", problem), -EEXIST);
        assert_non_null(strstr(problem, "8005"));
        assert_non_null(strstr(problem, "\"8000-8010:80-90/tcp\""));
        assert_int_equal(publications_add(&list, "8005:80/udp", problem), 0);
        assert_int_equal(publications_add(&list, "x", problem), -EINVAL);
        assert_int_equal(list.n, 2);
        assert_int_equal(publications_ports(&list), 12);

        j = publications_to_json(&list);
        assert_int_equal(publications_from_json(j, &back, problem), 0);
        assert_int_equal(back.n, 2);
        assert_memory_equal(back.v, list.v, 2 * sizeof(list.v[0]));

        /* As many as there may be, and one more: by the count of ports, then of texts. */
        assert_int_equal(publications_add(&list, "10000-10243:1-244", problem), 0);
        assert_int_equal(publications_ports(&list), PUBLICATION_PORTS_MAX);
        assert_int_equal(publications_add(&list, "9000:1", problem), -E2BIG);
        list = (struct publications){};
        for (int i = 0; i < PUBLICATIONS_MAX; i++) {
                snprintf(text, sizeof(text), "%d:1", i + 1);
                assert_int_equal(publications_add(&list, text, problem), 0);
        }
        assert_int_equal(publications_add(&list, "9000:1", problem), -E2BIG);
        assert_int_equal(publications_add(&list, "1-65535:1-65535/udp", problem), -E2BIG);
}

static void test_json_bad(void **state)
{
        struct publications back = {.n = 7};
        _cleanup_json_ json_t *text = json_string("80:80"), *number = json_pack("[i]", 80),
                              *bad = json_pack("[s,s]", "80:80", "80:81"), *empty = json_array();

        assert_int_equal(publications_from_json(text, &back, problem), -EINVAL);
        assert_int_equal(publications_from_json(number, &back, problem), -EINVAL);
        assert_int_equal(publications_from_json(bad, &back, problem), -EEXIST);
        assert_non_null(strstr(problem, "publish \"80:81\": port 80"));
        assert_int_equal(back.n, 7);
        assert_int_equal(publications_from_json(NULL, &back, problem), 0);
        assert_int_equal(back.n, 0);
        assert_int_equal(publications_from_json(empty, &back, problem), 0);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_good),     cmocka_unit_test(test_bad),
            cmocka_unit_test(test_long),     cmocka_unit_test(test_host_form),
            cmocka_unit_test(test_overlap),  cmocka_unit_test(test_list),
            cmocka_unit_test(test_json_bad),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
