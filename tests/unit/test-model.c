// SPDX-License-Identifier: Apache-2.0
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "basic/alloc.h"
#include "basic/macro.h"
#include "shared/rpc.h"
#include "slimd/model.h"

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

static struct network a_network(const char *name, uint32_t id, const char *text, uint8_t block)
{
        struct inaddr_prefix p = prefix(text);
        enum slim_family f = inaddr_family(&p.addr);
        struct network n = {.id = id};

        n.prefix[f] = p;
        n.block_bits[f] = block;
        strcpy(n.name, name);
        return n;
}

static struct host a_host(const char *name, const char *text)
{
        union slim_addr a = addr(text);
        struct host h = {};

        h.addr[inaddr_family(&a)] = a;
        strcpy(h.name, name);
        return h;
}

static struct endpoint an_endpoint(uint32_t id, const char *network, const char *name,
                                   const char *text)
{
        union slim_addr a = addr(text);
        struct endpoint e = {
            .id = id,
            .network_id = 7,
            .host_addr[SLIM_V4] = addr("192.0.2.1"),
            .slim = true,
        };

        e.addr[inaddr_family(&a)] = a;
        strcpy(e.name, name);
        strcpy(e.network, network);
        strcpy(e.host, "h1");
        return e;
}

/* --- the tables ------------------------------------------------------------------------------- */

static void test_empty(void **state)
{
        struct model m = {0};
        union slim_addr a = addr("10.0.0.1");

        assert_null(model_network(&m, "blue"));
        assert_null(model_host(&m, "h1"));
        assert_null(model_endpoint(&m, 1));
        assert_null(model_endpoint_by_name(&m, "blue", "web"));
        assert_null(model_endpoint_by_addr(&m, 1, &a));
        assert_int_equal(model_network_endpoints(&m, "blue"), 0);
        model_clear(&m);
}

static void test_networks(void **state)
{
        struct network blue = a_network("blue", 3, "10.1.0.0/16", 120), red = blue;
        struct model m = {0};
        struct network *in, *again;

        strcpy(red.name, "red");
        red.id = 4;
        assert_int_equal(model_put_network(&m, &blue, &in), 0);
        assert_ptr_not_equal(in, &blue);
        assert_ptr_equal(model_network(&m, "blue"), in);
        assert_int_equal(in->id, 3);
        assert_null(model_network(&m, "red"));
        assert_null(model_network(&m, "blu"));
        assert_null(model_network(&m, "blue2"));
        assert_int_equal(model_put_network(&m, &red, &again), 0);
        assert_ptr_not_equal(again, in);

        /* The same name again is the same element, whole in the table. */
        blue.id = 9;
        blue.block_bits[SLIM_V4] = 122;
        assert_int_equal(model_put_network(&m, &blue, &again), 0);
        assert_ptr_equal(again, in);
        assert_int_equal(in->id, 9);
        assert_int_equal(in->block_bits[SLIM_V4], 122);
        assert_int_equal(HASH_COUNT(m.networks), 2);

        model_drop_network(&m, in);
        assert_null(model_network(&m, "blue"));
        assert_int_equal(model_network(&m, "red")->id, 4);
        model_clear(&m);
        assert_null(m.networks);
}

static void test_hosts(void **state)
{
        struct host h = a_host("h1", "192.0.2.1");
        struct model m = {0};
        struct host *in, *again;

        assert_int_equal(model_put_host(&m, &h, &in), 0);
        assert_ptr_equal(model_host(&m, "h1"), in);
        h.addr[SLIM_V6] = addr("fd00::1");
        assert_int_equal(model_put_host(&m, &h, &again), 0);
        assert_ptr_equal(again, in);
        assert_true(addrs_equal(in->addr, h.addr));
        assert_int_equal(HASH_COUNT(m.hosts), 1);
        strcpy(h.name, "h2");
        assert_int_equal(model_put_host(&m, &h, &again), 0);
        assert_int_equal(HASH_COUNT(m.hosts), 2);
        model_drop_host(&m, in);
        assert_null(model_host(&m, "h1"));
        assert_ptr_equal(model_host(&m, "h2"), again);
        model_clear(&m);
        assert_null(m.hosts);
}

static void test_endpoints(void **state)
{
        struct endpoint web = an_endpoint(1, "blue", "web", "10.1.0.1"),
                        db = an_endpoint(0x01000000, "blue", "db", "10.1.0.2"),
                        other = an_endpoint(0xffffffff, "red", "web", "10.1.0.1");
        struct endpoint *in_web, *in_db, *in_other, *again;
        struct model m = {0};

        other.network_id = 8;
        assert_int_equal(model_put_endpoint(&m, &web, &in_web), 0);
        assert_int_equal(model_put_endpoint(&m, &db, &in_db), 0);
        assert_int_equal(model_put_endpoint(&m, &other, &in_other), 0);
        assert_ptr_equal(model_endpoint(&m, 1), in_web);
        assert_ptr_equal(model_endpoint(&m, 0x01000000), in_db);
        assert_ptr_equal(model_endpoint(&m, 0xffffffff), in_other);
        assert_null(model_endpoint(&m, 0));
        assert_null(model_endpoint(&m, 2));

        /* Names and addresses are a network's own. */
        assert_ptr_equal(model_endpoint_by_name(&m, "blue", "web"), in_web);
        assert_ptr_equal(model_endpoint_by_name(&m, "red", "web"), in_other);
        assert_null(model_endpoint_by_name(&m, "red", "db"));
        assert_null(model_endpoint_by_name(&m, "blu", "web"));
        assert_ptr_equal(model_endpoint_by_addr(&m, 7, &web.addr[SLIM_V4]), in_web);
        assert_ptr_equal(model_endpoint_by_addr(&m, 8, &web.addr[SLIM_V4]), in_other);
        assert_null(model_endpoint_by_addr(&m, 8, &db.addr[SLIM_V4]));
        assert_null(model_endpoint_by_addr(&m, 9, &web.addr[SLIM_V4]));
        /* What web has not, nobody is found by. */
        assert_null(model_endpoint_by_addr(&m, 7, &web.addr[SLIM_V6]));
        assert_int_equal(model_network_endpoints(&m, "blue"), 2);
        assert_int_equal(model_network_endpoints(&m, "red"), 1);
        assert_int_equal(model_network_endpoints(&m, "green"), 0);

        /* Overwritten: found by what it is now, not by what it was. */
        strcpy(db.name, "mail");
        db.addr[SLIM_V4] = addr("10.1.0.3");
        db.addr[SLIM_V6] = addr("fd00::3");
        assert_int_equal(model_put_endpoint(&m, &db, &again), 0);
        assert_ptr_equal(again, in_db);
        assert_null(model_endpoint_by_name(&m, "blue", "db"));
        assert_ptr_equal(model_endpoint_by_name(&m, "blue", "mail"), in_db);
        assert_ptr_equal(model_endpoint_by_addr(&m, 7, &db.addr[SLIM_V4]), in_db);
        assert_ptr_equal(model_endpoint_by_addr(&m, 7, &db.addr[SLIM_V6]), in_db);
        assert_int_equal(HASH_COUNT(m.endpoints), 3);

        model_drop_endpoint(&m, in_web);
        assert_null(model_endpoint(&m, 1));
        assert_null(model_endpoint_by_name(&m, "blue", "web"));
        assert_ptr_equal(model_endpoint(&m, 0x01000000), in_db);
        model_clear(&m);
        assert_null(m.endpoints);
}

static void test_policies(void **state)
{
        struct model m = {};

        assert_null(model_policy(&m, "blue/web"));
        assert_int_equal(model_put_policy(&m, "blue", "web"), 0);
        assert_int_equal(model_put_policy(&m, "blue", "web"), 0);
        assert_int_equal(model_put_policy(&m, "red", "web"), 0);
        assert_int_equal(HASH_COUNT(m.policies), 2);
        assert_string_equal(model_policy(&m, "blue/web")->network, "blue");
        assert_string_equal(model_policy(&m, "blue/web")->name, "web");
        assert_int_equal(model_network_policies(&m, "blue"), 1);
        assert_int_equal(model_network_policies(&m, "blu"), 0);
        model_drop_policy(&m, "blue/web");
        model_drop_policy(&m, "blue/web");
        assert_null(model_policy(&m, "blue/web"));
        assert_non_null(model_policy(&m, "red/web"));
        model_clear(&m);
        assert_null(m.policies);
}

static void test_many(void **state)
{
        enum { MANY = 5000 };
        struct model m = {0};

        for (uint32_t i = 1; i <= MANY; i++) {
                struct endpoint e = an_endpoint(i * 2654435761U, "blue", "x", "10.1.0.0"), *in;

                e.addr[SLIM_V4].w[3] += i;
                assert_int_equal(model_put_endpoint(&m, &e, &in), 0);
        }
        assert_int_equal(HASH_COUNT(m.endpoints), MANY);
        for (uint32_t i = 1; i <= MANY; i += 2)
                model_drop_endpoint(&m, model_endpoint(&m, i * 2654435761U));
        for (uint32_t i = 1; i <= MANY; i++)
                assert_int_equal(model_endpoint(&m, i * 2654435761U) != NULL, i % 2 == 0);
        model_clear(&m);
        assert_null(m.endpoints);
}

/* --- JSON ------------------------------------------------------------------------------------- */

static bool same_prefixes(const struct network *a, const struct network *b)
{
        for (unsigned int f = 0; f < SLIM_FAMILIES; f++)
                if (a->prefix[f].bits != b->prefix[f].bits ||
                    !inaddr_equal(&a->prefix[f].addr, &b->prefix[f].addr))
                        return false;
        return true;
}

static void test_network_json(void **state)
{
        static const struct {
                const char *prefix;
                uint32_t id;
                uint8_t block_bits;
        } good[] = {
            {"10.1.0.0/16", 1, 120}, {"0.0.0.0/0", 2, 128},      {"10.1.2.3/32", 3, 128},
            {"fd00::/64", 4, 64},    {"fd00::/8", 0xffffff, 10}, {"10.1.0.0/16", 5, 112},
        };

        for (size_t i = 0; i < ARRAY_SIZE(good); i++) {
                struct network n = a_network("blue", good[i].id, good[i].prefix,
                                             good[i].block_bits),
                               back;
                _cleanup_free_ char *text = network_to_json(&n);

                assert_non_null(text);
                assert_int_equal(network_from_json("blue", text, &back), 0);
                assert_string_equal(back.name, "blue");
                assert_int_equal(back.id, n.id);
                assert_memory_equal(back.block_bits, n.block_bits, sizeof(n.block_bits));
                assert_true(same_prefixes(&back, &n));
        }
}

static void test_network_json_both(void **state)
{
        struct network n = a_network("blue", 7, "10.1.0.0/16", 120), back;
        _cleanup_free_ char *text = NULL;

        n.prefix[SLIM_V6] = prefix("fd00:1::/64");
        n.block_bits[SLIM_V6] = 122;
        text = network_to_json(&n);
        assert_string_equal(text, "{\"id\":7,\"prefix\":\"10.1.0.0/16\",\"block_bits\":120,"
                                  "\"prefix6\":\"fd00:1::/64\",\"block_bits6\":122}");
        assert_int_equal(network_from_json("blue", text, &back), 0);
        assert_memory_equal(back.block_bits, n.block_bits, sizeof(n.block_bits));
        assert_true(same_prefixes(&back, &n));
}

static void test_network_labels(void **state)
{
        struct network n = a_network("blue", 7, "10.1.0.0/16", 120), back, *in;
        struct model m = {};
        _cleanup_free_ char *text = NULL, *without = NULL;
        json_t *labels = json_pack("{s:s}", "team", "red");

        n.labels = labels;
        text = network_to_json(&n);
        assert_non_null(strstr(text, "\"labels\":{\"team\":\"red\"}"));
        assert_int_equal(network_from_json("blue", text, &back), 0);
        assert_true(json_equal(back.labels, labels));
        /* The model has the value's reference, and gives it back when there is another. */
        assert_int_equal(model_put_network(&m, &n, &in), 0);
        assert_ptr_equal(in->labels, labels);
        json_incref(labels);
        assert_int_equal(model_put_network(&m, &back, &in), 0);
        assert_int_equal(labels->refcount, 1);
        json_decref(labels);
        n.labels = NULL;
        without = network_to_json(&n);
        assert_null(strstr(without, "labels"));
        assert_int_equal(network_from_json("blue", without, &back), 0);
        assert_null(back.labels);
        model_clear(&m);
        assert_int_equal(network_from_json("blue",
                                           "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", "
                                           "\"block_bits\": 120, \"labels\": {}}",
                                           &back),
                         0);
        assert_null(back.labels);
}

/* A longer name than fits, which must not be copied. */
#define NAME_64 "a123456789b123456789c123456789d123456789e123456789f123456789abcd"

static void test_network_json_bad(void **state)
{
        static const char *const bad[] = {
            "",
            "{",
            "[]",
            "null",
            "7",
            "{}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\"}",
            "{\"id\": 1, \"block_bits\": 120}",
            "{\"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": \"1\", \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 1.5, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 0, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": -1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 16777216, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 4294967297, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 9223372036854775808, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}",
            "{\"id\": 1, \"prefix\": 10, \"block_bits\": 120}",
            "{\"id\": 1, \"prefix\": null, \"block_bits\": 120}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0\", \"block_bits\": 120}",
            "{\"id\": 1, \"prefix\": \"10.1.0.1/16\", \"block_bits\": 120}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/33\", \"block_bits\": 128}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 111}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 129}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": -1}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": \"120\"}",
            /* 2^32 + 120 */
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 4294967416}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120} x",
            /* each family in its own member, and nothing of it half */
            "{\"id\": 1, \"prefix\": \"fd00::/64\", \"block_bits\": 122}",
            "{\"id\": 1, \"prefix6\": \"10.1.0.0/16\", \"block_bits6\": 120}",
            "{\"id\": 1, \"prefix6\": \"fd00::/64\", \"block_bits\": 122}",
            "{\"id\": 1, \"prefix6\": \"fd00::/64\", \"block_bits6\": 63}",
            "{\"id\": 1, \"prefix6\": \"::/0\", \"block_bits6\": 122}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120, \"prefix6\": null}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120, \"prefix6\": \"x\"}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120, \"labels\": []}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120, "
            "\"labels\": {\"slim.io/x\": \"\"}}",
            "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120, "
            "\"labels\": {\"kubernetes.io/metadata.name\": \"red\"}}",
        };
        const char *good = "{\"id\": 1, \"prefix\": \"10.1.0.0/16\", \"block_bits\": 120}";
        static const char *const bad_names[] = {"", "Blue", "-blue", "a..b", "a/b", NAME_64};
        struct network untouched, n;

        memset(&untouched, 0xa5, sizeof(untouched));
        n = untouched;
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                if (network_from_json("blue", bad[i], &n) != -EBADMSG)
                        fail_msg("took %s", bad[i]);
                assert_memory_equal(&n, &untouched, sizeof(n));
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad_names); i++)
                assert_int_equal(network_from_json(bad_names[i], good, &n), -EBADMSG);
        assert_memory_equal(&n, &untouched, sizeof(n));
        assert_int_equal(network_from_json("blue", good, &n), 0);
}

static void test_host_json(void **state)
{
        static const char *const addresses[] = {"192.0.2.1", "fd00::1", "255.255.255.255"};
        static const char *const bad[] = {
            "",
            "[]",
            "{}",
            "{\"address\": 1}",
            "{\"address\": \"\"}",
            "{\"address\": null}",
            "{\"address\": \"192.0.2\"}",
            "{\"address\": \"192.0.2.1/24\"}",
            "{\"address\": \"h1\"}",
            "{\"address\": \"fd00::1\"}",
            "{\"address6\": \"192.0.2.1\"}",
            "{\"address6\": \"::\"}",
            "{\"address\": \"192.0.2.1\", \"address6\": 1}",
        };
        struct host back;

        for (size_t i = 0; i < ARRAY_SIZE(addresses); i++) {
                struct host h = a_host("h1", addresses[i]);
                _cleanup_free_ char *text = host_to_json(&h);

                assert_non_null(text);
                assert_int_equal(host_from_json("h1", text, &back), 0);
                assert_string_equal(back.name, "h1");
                assert_true(addrs_equal(back.addr, h.addr));
        }
        {
                struct host h = a_host("h1", "192.0.2.1");
                _cleanup_free_ char *text = NULL;

                h.addr[SLIM_V6] = addr("2001:db8::1");
                text = host_to_json(&h);
                assert_string_equal(text,
                                    "{\"address\":\"192.0.2.1\",\"address6\":\"2001:db8::1\"}");
                assert_int_equal(host_from_json("h1", text, &back), 0);
                assert_true(addrs_equal(back.addr, h.addr));
        }
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
                if (host_from_json("h1", bad[i], &back) != -EBADMSG)
                        fail_msg("took %s", bad[i]);
        assert_int_equal(host_from_json("", "{\"address\": \"192.0.2.1\"}", &back), -EBADMSG);
        assert_int_equal(host_from_json(NAME_64, "{\"address\": \"192.0.2.1\"}", &back), -EBADMSG);
}

static void test_endpoint_json(void **state)
{
        struct endpoint e = an_endpoint(0xfedcba98, "blue", "web", "10.1.0.1"), back;
        char problem[PUBLICATION_PROBLEM_MAX];

        for (int round = 0; round < 4; round++) {
                _cleanup_free_ char *text = NULL;

                if (round >= 1)
                        e.addr[SLIM_V6] = addr("fd00::1");
                if (round >= 2)
                        e.host_addr[SLIM_V6] = addr("2001:db8::1");
                if (round == 3) {
                        e.addr[SLIM_V4] = (union slim_addr){};
                        e.host_addr[SLIM_V4] = (union slim_addr){};
                }
                e.slim = round == 0;
                e.network_id = round == 0 ? 1 : 0xffffff;
                if (round == 1)
                        assert_int_equal(
                            publications_add(&e.publish, "[::1]:80-81:8-9/udp", problem), 0);
                text = endpoint_to_json(&e);
                assert_non_null(text);
                assert_int_equal(endpoint_from_json(e.id, text, &back), 0);
                assert_int_equal(back.id, e.id);
                assert_int_equal(back.network_id, e.network_id);
                assert_string_equal(back.name, "web");
                assert_string_equal(back.network, "blue");
                assert_string_equal(back.host, "h1");
                assert_true(addrs_equal(back.addr, e.addr));
                assert_true(addrs_equal(back.host_addr, e.host_addr));
                assert_int_equal(back.slim, e.slim);
                assert_memory_equal(&back.publish, &e.publish, sizeof(e.publish));
        }
}

static void test_endpoint_labels(void **state)
{
        struct endpoint e = an_endpoint(5, "blue", "web", "10.1.0.1"), back, copy, *in;
        _cleanup_(labels_clear) struct labels labels = {};
        struct model m = {};
        _cleanup_free_ char *text = NULL, *without = endpoint_to_json(&e);
        json_t *given = json_pack("{s:s, s:s}", "app", "web", "tier", "");

        assert_null(strstr(without, "labels"));
        assert_null(strstr(without, "ports"));
        e.labels = given;
        e.ports = json_pack("{s:s, s:s}", "http", "8080", "dns", "53/udp");
        text = endpoint_to_json(&e);
        assert_int_equal(endpoint_from_json(5, text, &back), 0);
        assert_true(json_equal(back.labels, given));
        /* What a person leaves out is there. */
        assert_string_equal(json_string_value(json_object_get(back.ports, "http")), "8080/tcp");
        assert_string_equal(json_string_value(json_object_get(back.ports, "dns")), "53/udp");
        assert_int_equal(endpoint_labels(&back, &labels), 0);
        assert_int_equal(labels.n, 2);
        assert_string_equal(labels_get(&labels, "app"), "web");

        /* The element's references are its own, a copy's too; its identity stays. */
        assert_int_equal(model_put_endpoint(&m, &e, &in), 0);
        assert_int_equal(in->identity, 0);
        in->identity = 17;
        in->identity_local = true;
        copy = endpoint_copy(in);
        back.identity = 3;
        assert_int_equal(model_put_endpoint(&m, &back, &in), 0);
        assert_int_equal(in->identity, 17);
        assert_true(in->identity_local);
        assert_ptr_equal(copy.labels, given);
        assert_int_equal(given->refcount, 1);
        endpoint_clear(&copy);
        assert_null(copy.labels);
        model_clear(&m);
}

static void test_host_labels(void **state)
{
        struct endpoint e = an_endpoint(5, "blue", "h1", "10.1.0.1"), back;
        _cleanup_(labels_clear) struct labels labels = {};
        _cleanup_free_ char *text = NULL;

        e.is_host = true;
        e.slim = false;
        assert_int_equal(endpoint_labels(&e, &labels), 0);
        assert_int_equal(labels.n, 2);
        assert_string_equal(labels_get(&labels, LABEL_KIND), LABEL_KIND_HOST);
        assert_string_equal(labels_get(&labels, LABEL_HOST), "h1");
        text = endpoint_to_json(&e);
        assert_int_equal(endpoint_from_json(5, text, &back), 0);
        for (int i = 0; i < 2; i++) {
                _cleanup_json_ json_t *j = json_loads(text, 0, NULL);
                _cleanup_free_ char *bad = NULL;

                json_object_set_new(j, i ? "ports" : "labels", json_pack("{s:s}", "a", "80"));
                bad = json_dumps(j, 0);
                assert_int_equal(endpoint_from_json(5, bad, &back), -EBADMSG);
        }
}

/* Each field in turn is not there, or is something else. */
static void test_endpoint_json_bad(void **state)
{
        static const struct {
                const char *field, *value;
        } bad[] = {
            {"name", "\"Web\""},
            {"name", "\"\""},
            {"name", "7"},
            {"name", "\"" NAME_64 "\""},
            {"name", "\"../x\""},
            {"network", "\"a b\""},
            {"network", "\"" NAME_64 "\""},
            {"network_id", "0"},
            {"network_id", "-5"},
            {"network_id", "16777216"},
            {"network_id", "4294967303"},
            {"network_id", "\"7\""},
            {"address", "\"10.1.0\""},
            {"address", "\"\""},
            {"address", "[]"},
            {"address", "\"fd00::1\""},
            {"address6", "\"10.1.0.1\""},
            {"address6", "null"},
            {"host_address6", "\"192.0.2.1\""},
            {"host", "\"h_1\""},
            {"host", "null"},
            {"host_address", "\"here\""},
            {"host_address", "3232235777"},
            {"kind", "true"},
            {"publish", "[7]"},
            {"publish", "\"80:80\""},
            {"publish", "[\"80\"]"},
            {"labels", "[]"},
            {"labels", "{\"app\": 7}"},
            {"labels", "{\"-\": \"\"}"},
            {"labels", "{\"slim.io/kind\": \"host\"}"},
            {"ports", "[]"},
            {"ports", "{\"http\": 80}"},
            {"ports", "{\"80\": \"80\"}"},
        };
        static const char *const fields[] = {"name", "network", "network_id",  "address",
                                             "host", "kind",    "host_address"};
        struct endpoint e = an_endpoint(5, "blue", "web", "10.1.0.1"), back;
        _cleanup_free_ char *good = endpoint_to_json(&e);

        assert_non_null(good);
        assert_int_equal(endpoint_from_json(5, good, &back), 0);
        for (size_t i = 0; i < ARRAY_SIZE(bad); i++) {
                _cleanup_json_ json_t *j = json_loads(good, 0, NULL);
                _cleanup_free_ char *text = NULL;

                assert_int_equal(
                    json_object_set_new(j, bad[i].field,
                                        json_loads(bad[i].value, JSON_DECODE_ANY, NULL)),
                    0);
                text = json_dumps(j, 0);
                if (endpoint_from_json(5, text, &back) != -EBADMSG)
                        fail_msg("took %s", text);
        }
        for (size_t i = 0; i < ARRAY_SIZE(fields); i++) {
                _cleanup_json_ json_t *j = json_loads(good, 0, NULL);
                _cleanup_free_ char *text = NULL;

                assert_int_equal(json_object_del(j, fields[i]), 0);
                text = json_dumps(j, 0);
                if (endpoint_from_json(5, text, &back) != -EBADMSG)
                        fail_msg("took %s", text);
        }
        assert_int_equal(endpoint_from_json(5, "", &back), -EBADMSG);
        assert_int_equal(endpoint_from_json(5, "[1]", &back), -EBADMSG);
}

/* Neither of the two kinds: a newer slimd's, which must not be taken for a plain one. */
static void test_endpoint_kind(void **state)
{
        struct endpoint e = an_endpoint(5, "blue", "web", "10.1.0.1"), back;
        _cleanup_free_ char *good = endpoint_to_json(&e);
        static const char *const kinds[] = {"", "Slim", "plain ", "other"};

        for (size_t i = 0; i < ARRAY_SIZE(kinds); i++) {
                _cleanup_json_ json_t *j = json_loads(good, 0, NULL);
                _cleanup_free_ char *text = NULL;

                assert_int_equal(json_object_set_new(j, "kind", json_string(kinds[i])), 0);
                text = json_dumps(j, 0);
                if (endpoint_from_json(5, text, &back) != -EBADMSG)
                        fail_msg("took %s", text);
        }
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_empty),
            cmocka_unit_test(test_networks),
            cmocka_unit_test(test_hosts),
            cmocka_unit_test(test_endpoints),
            cmocka_unit_test(test_policies),
            cmocka_unit_test(test_many),
            cmocka_unit_test(test_network_json),
            cmocka_unit_test(test_network_json_both),
            cmocka_unit_test(test_network_labels),
            cmocka_unit_test(test_endpoint_labels),
            cmocka_unit_test(test_host_labels),
            cmocka_unit_test(test_network_json_bad),
            cmocka_unit_test(test_host_json),
            cmocka_unit_test(test_endpoint_json),
            cmocka_unit_test(test_endpoint_json_bad),
            cmocka_unit_test(test_endpoint_kind),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
