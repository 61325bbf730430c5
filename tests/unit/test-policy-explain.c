/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "policy/texts.h"
#include "policy/world.h"

static struct policy_engine *engine;
static uint64_t seed;

static int setup(void **state)
{
        return policy_engine_new(&engine);
}

static int teardown(void **state)
{
        policy_engine_free(engine);
        return 0;
}

static void explained(uint32_t subject, uint32_t peer, uint16_t port, const char *expected)
{
        struct policy_flow flow = {
            .subject = subject,
            .direction = SLIM_POLICY_INGRESS,
            .peer = peer,
            .protocol = IPPROTO_TCP,
            .port = port,
        };
        struct policy_explanation e;
        char *text;

        assert_int_equal(inaddr_parse("10.0.0.1", &flow.addr), 0);
        assert_int_equal(policy_engine_explain(engine, &flow, &e), 0);
        text = policy_explanation_format(&e);
        assert_string_equal(text, expected);
        free(text);
        policy_explanation_clear(&e);
}

static void test_sentences(void **state)
{
        uint32_t a = ref_identity(engine, "default", "app=a", "", true);
        uint32_t b = ref_identity(engine, "default", "app=b", "", false);
        struct policy *p = policy_of("r", "{'podSelector': {'matchLabels': {'app': 'b'}}}");

        explained(a, b, 80, "allowed: no policy selects it for ingress");
        put_policy(engine, "z", "{'podSelector': {}}");
        put_policy(engine, "blue/z", "{'podSelector': {}}");
        put_policy(engine, "e", "{'podSelector': {}, 'policyTypes': ['Egress']}");
        explained(a, b, 80, "denied (drop): no ingress rule allows it of default/z");
        put_policy(engine, "p",
                   "{'podSelector': {'matchLabels': {'app': 'a'}}, 'ingress': [{'from':"
                   "[{'podSelector': {'matchLabels': {'app': 'c'}}}]}, {'ports': [{'port': 80}]},"
                   "{'from': [{'ipBlock': {'cidr': '10.0.0.0/24'}}], 'ports': [{'port': 81}]}]}");
        explained(a, b, 80, "allowed by default/p ingress[1]");
        explained(a, 0, 81, "allowed by default/p ingress[2]");
        explained(a, b, 82, "denied (drop): no ingress rule allows it of default/p, default/z");
        /* Also of one that is no subject here. */
        p->reject = true;
        assert_int_equal(policy_engine_put(engine, &p), 0);
        explained(b, a, 80, "denied (reject): no ingress rule allows it of default/r, default/z");
}

static void test_unknown(void **state)
{
        struct policy_flow flow = {.subject = 1};
        struct policy_explanation e;

        assert_int_equal(policy_engine_explain(engine, &flow, &e), -ENOENT);
        ref_identity(engine, "default", "", "", true);
        assert_int_equal(policy_engine_explain(engine, &flow, &e), 0);
        policy_explanation_clear(&e);
        flow.peer = 2;
        assert_int_equal(policy_engine_explain(engine, &flow, &e), -ENOENT);
        flow.peer = ref_identity(engine, "default", "a=b", "", true);
        assert_int_equal(policy_engine_identity_unref(engine, flow.peer, true), 0);
        assert_int_equal(policy_engine_explain(engine, &flow, &e), -ENOENT);
}

/* It says what the reference says, and the rule that it names allows the flow by itself. */
static void test_model(void **state)
{
        size_t allowed = 0;

        for (size_t n = 0; n < 300; n++) {
                struct world w;

                world_init(&w, seed + 3000000 + n);
                world_fill(&w);
                for (size_t i = 0; i < 100; i++) {
                        struct policy_explanation e;
                        struct world_flow flow;
                        struct policy_flow asked;

                        if (!world_random_flow(&w, &flow))
                                break;
                        asked = (struct policy_flow){
                            .subject = flow.check.subject,
                            .direction = flow.as.direction,
                            .peer = flow.check.peer,
                            .addr = flow.check.addr,
                            .protocol = flow.check.protocol,
                            .port = flow.check.port,
                        };
                        assert_int_equal(policy_engine_explain(w.engine, &asked, &e), 0);
                        assert_int_equal(e.verdict, world_verdict(&w, &flow));
                        assert_int_equal(e.verdict == SLIM_POLICY_ALLOWED,
                                         e.allowed_by || e.n_selecting == 0);
                        if (e.allowed_by) {
                                json_t *policy = policy_to_json(e.allowed_by);
                                json_t *list = json_pack("[o]", policy);
                                json_t *rules =
                                    json_object_get(json_object_get(policy, "spec"),
                                                    policy_direction_name(flow.as.direction));
                                json_t *rule = json_incref(json_array_get(rules, e.rule));

                                json_array_clear(rules);
                                json_array_append_new(rules, rule);
                                assert_int_equal(reference_verdict(list, w.networks, &flow.as),
                                                 SLIM_POLICY_ALLOWED);
                                json_decref(list);
                                allowed++;
                        }
                        policy_explanation_clear(&e);
                }
                world_clear(&w);
        }
        assert_true(allowed > 3000);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test_setup_teardown(test_sentences, setup, teardown),
            cmocka_unit_test_setup_teardown(test_unknown, setup, teardown),
            cmocka_unit_test(test_model),
        };

        seed = world_seed();
        return cmocka_run_group_tests(tests, NULL, NULL);
}
