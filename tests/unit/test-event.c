/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "shared/rpc.h"
#include "slimd/event.h"

static struct model model;
static struct event_past past;

static struct event_place place(void)
{
        return (struct event_place){
            .model = &model,
            .past = &past,
            .host = "h1",
            .clock_offset = 1700000000000000000, /* 2023-11-14T22:13:20Z */
        };
}

static union slim_addr addr(const char *text)
{
        union slim_addr a;

        assert_int_equal(inaddr_parse(text, &a), 0);
        return a;
}

static struct endpoint an_endpoint(uint32_t id, const char *name, bool is_host)
{
        struct endpoint e = {.id = id, .network_id = 7, .is_host = is_host, .slim = true};

        strcpy(e.name, name);
        strcpy(e.network, "default");
        strcpy(e.host, "h2");
        return e;
}

static int setup(void **state)
{
        struct endpoint web = an_endpoint(1, "web", false), host = an_endpoint(2, "h2", true), *e;
        struct network network = {.id = 7}, *n;

        memset(&past, 0, sizeof(past));
        strcpy(network.name, "default");
        assert_int_equal(model_put_network(&model, &network, &n), 0);
        assert_int_equal(model_put_endpoint(&model, &web, &e), 0);
        assert_int_equal(model_put_endpoint(&model, &host, &e), 0);
        return 0;
}

static int teardown(void **state)
{
        model_clear(&model);
        return 0;
}

static void is(const struct slim_event *e, const char *want)
{
        struct event_place at = place();
        _cleanup_json_ json_t *got = event_describe(&at, e);
        _cleanup_free_ char *text = json_dumps(got, JSON_COMPACT);

        assert_string_equal(text, want);
}

static void test_describe(void **state)
{
        struct slim_event e = {
            .time = 1500000999,
            .from = addr("10.77.0.2"),
            .to = addr("10.77.0.3"),
            .endpoint = 1,
            .peer = 2,
            .network = 7,
            .from_port = 4711,
            .to_port = 80,
            .reason = SLIM_REASON_POLICY_EGRESS,
            .hook = SLIM_HOOK_CONNECT,
            .protocol = IPPROTO_TCP,
            .error = EPERM,
        };

        is(&e, "{\"time\":\"2023-11-14T22:13:21.500000Z\",\"reason\":\"policy_egress\","
               "\"hook\":\"connect\",\"host\":\"h1\",\"network\":\"default\",\"endpoint\":\"web\","
               "\"endpoint_id\":1,\"peer_endpoint\":\"host:h2\",\"peer_id\":2,\"peer_host\":\"h2\","
               "\"from\":\"10.77.0.2:4711\",\"to\":\"10.77.0.3:80\",\"protocol\":\"tcp\","
               "\"errno\":1,\"option\":null}");
        e.from = addr("fd00::1");
        e.to = addr("::");
        e.endpoint = 9; /* whom nobody knows */
        e.peer = 0;
        e.network = 8;
        e.hook = SLIM_HOOK_SETSOCKOPT;
        e.reason = SLIM_REASON_OPTION_REFUSED;
        e.level = 1;
        e.option = 0x10024;
        e.error = 0;
        is(&e, "{\"time\":\"2023-11-14T22:13:21.500000Z\",\"reason\":\"option_refused\","
               "\"hook\":\"setsockopt\",\"host\":\"h1\",\"network\":null,\"endpoint\":null,"
               "\"endpoint_id\":9,\"peer_endpoint\":null,\"peer_id\":null,\"peer_host\":null,"
               "\"from\":\"[fd00::1]:4711\",\"to\":\"[::]:80\",\"protocol\":\"tcp\","
               "\"errno\":null,\"option\":{\"level\":1,\"name\":65572}}");
}

/* Of a program that this slimd does not know, or with nothing in it. */
static void test_describe_nothing(void **state)
{
        struct slim_event e = {.reason = UINT16_MAX, .hook = UINT8_MAX, .protocol = 253};

        is(&e, "{\"time\":\"2023-11-14T22:13:20.000000Z\",\"reason\":\"unknown\","
               "\"hook\":\"unknown\",\"host\":\"h1\",\"network\":null,\"endpoint\":null,"
               "\"endpoint_id\":null,\"peer_endpoint\":null,\"peer_id\":null,\"peer_host\":null,"
               "\"from\":null,\"to\":null,\"protocol\":\"253\",\"errno\":null,\"option\":null}");
}

static void protocol_is(uint8_t protocol, const char *want)
{
        struct slim_event e = {.protocol = protocol};
        struct event_place at = place();
        _cleanup_json_ json_t *got = event_describe(&at, &e);
        const char *text = json_string_value(json_object_get(got, "protocol"));

        if (want)
                assert_string_equal(text, want);
        else
                assert_null(text);
}

static void test_protocols(void **state)
{
        protocol_is(0, NULL);
        protocol_is(IPPROTO_TCP, "tcp");
        protocol_is(IPPROTO_UDP, "udp");
        protocol_is(IPPROTO_SCTP, "sctp");
        protocol_is(IPPROTO_ICMP, "icmp");
        protocol_is(IPPROTO_ICMPV6, "icmpv6");
        protocol_is(IPPROTO_GRE, "47");
}

static const char *name_of(uint32_t id, char buf[EVENT_NAME_MAX])
{
        struct slim_event e = {.endpoint = id};
        struct event_place at = place();
        _cleanup_json_ json_t *got = event_describe(&at, &e);
        const char *text = json_string_value(json_object_get(got, "endpoint"));

        if (!text)
                return NULL;
        snprintf(buf, EVENT_NAME_MAX, "%s", text);
        return buf;
}

/* The names of those who are gone, as long as there is room for them. */
static void test_past(void **state)
{
        char buf[EVENT_NAME_MAX];

        for (uint32_t i = 0; i < EVENT_PAST; i++) {
                struct endpoint gone = an_endpoint(100 + i, "gone", false);

                snprintf(gone.name, sizeof(gone.name), "gone%u", i);
                event_remember(&past, &gone);
        }
        assert_string_equal(name_of(100, buf), "gone0");
        assert_string_equal(name_of(100 + EVENT_PAST - 1, buf), "gone255");
        event_remember(&past, model_endpoint(&model, 1));
        assert_null(name_of(100, buf)); /* the oldest */
        assert_string_equal(name_of(101, buf), "gone1");
        assert_string_equal(name_of(1, buf), "web");
        model_drop_endpoint(&model, model_endpoint(&model, 1));
        assert_string_equal(name_of(1, buf), "web");
        assert_null(name_of(0, buf));
}

static bool matches(const struct event_filter *f, const struct slim_event *e)
{
        struct event_place at = place();
        _cleanup_json_ json_t *event = event_describe(&at, e);

        return event_matches(f, e, event);
}

static void test_filter(void **state)
{
        struct slim_event e = {
            .endpoint = 1, .peer = 2, .network = 7, .reason = SLIM_REASON_POLICY_EGRESS};
        struct slim_event bare = {.reason = SLIM_REASON_SYN_NO_OPTION};
        struct event_filter f = {};

        assert_true(matches(&f, &e) && matches(&f, &bare));
        strcpy(f.endpoint, "web");
        assert_true(matches(&f, &e));
        assert_false(matches(&f, &bare));
        strcpy(f.endpoint, "host:h2"); /* at the other end */
        assert_true(matches(&f, &e));
        strcpy(f.endpoint, "h2"); /* a container of that name */
        assert_false(matches(&f, &e));
        strcpy(f.endpoint, "web");
        strcpy(f.network, "default");
        assert_true(matches(&f, &e));
        strcpy(f.network, "blue");
        assert_false(matches(&f, &e));

        f = (struct event_filter){.by_reason = true};
        assert_false(matches(&f, &e));
        f.reasons[SLIM_REASON_POLICY_EGRESS] = true;
        assert_true(matches(&f, &e));
        assert_false(matches(&f, &bare));
        e.reason = SLIM_REASON_MAX;
        assert_false(matches(&f, &e));
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
        static const struct CMUnitTest tests[] = {
            TEST(test_describe), TEST(test_describe_nothing), TEST(test_protocols),
            TEST(test_past),     TEST(test_filter),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
