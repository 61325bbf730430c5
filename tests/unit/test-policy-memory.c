/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Without memory: each allocation of the library, and of those that it uses, fails once. Nothing is
 * left behind by what fails, and what is done again afterwards comes out as if it had not.
 *
 * The functions here take the C library's place, which AddressSanitizer does as well: under it this
 * is skipped. It looks for what is lost by counting.
 */
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

#include "basic/macro.h"
#include "policy/policy-yaml.h"
#include "policy/texts.h"

/* gcc says it in one way, clang in another. */
#ifdef __has_feature
#if __has_feature(address_sanitizer)
#define __SANITIZE_ADDRESS__ 1
#endif
#endif

#ifdef __SANITIZE_ADDRESS__
int main(void)
{
        printf("1..0 # SKIP under AddressSanitizer\n");
        return 0;
}
#else

/* --- the heap --------------------------------------------------------------------------------- */

static bool failing;    /* allocations count, … */
static size_t at, fail; /* … and this one fails */
static long blocks;     /* that are held now */

/* glibc's own, under the names that it has for this. */
extern void *__libc_malloc(size_t size);
extern void *__libc_calloc(size_t n, size_t size);
extern void *__libc_realloc(void *p, size_t size);
extern void __libc_free(void *p);

static bool fails_now(void)
{
        return failing && ++at == fail;
}

/* With the parameters' names of stdlib.h. */
void *malloc(size_t __size)
{
        void *p = fails_now() ? NULL : __libc_malloc(__size);

        blocks += p != NULL;
        if (!p)
                errno = ENOMEM;
        return p;
}

void *calloc(size_t __nmemb, size_t __size)
{
        void *p = fails_now() ? NULL : __libc_calloc(__nmemb, __size);

        blocks += p != NULL;
        if (!p)
                errno = ENOMEM;
        return p;
}

void *realloc(void *__ptr, size_t __size)
{
        void *p = fails_now() ? NULL : __libc_realloc(__ptr, __size);

        blocks += p && !__ptr;
        if (!p)
                errno = ENOMEM;
        return p;
}

void free(void *__ptr)
{
        blocks -= __ptr != NULL;
        __libc_free(__ptr);
}

static void begin(size_t n)
{
        at = 0;
        fail = n;
        failing = true;
}

/* Did one fail? */
static bool end(void)
{
        failing = false;
        return at >= fail;
}

/* --- files and documents ---------------------------------------------------------------------- */

static const char file[] =
    "apiVersion: networking.k8s.io/v1\n"
    "kind: NetworkPolicy\n"
    "metadata: {name: web, namespace: blue, labels: {a: b}, annotations: {slim.io/deny: reject}}\n"
    "spec:\n"
    "  podSelector:\n"
    "    matchLabels: {app: web}\n"
    "    matchExpressions:\n"
    "    - {key: tier, operator: In, values: [b, 'a', \"c\"]}\n"
    "    - {key: x, operator: DoesNotExist}\n"
    "  ingress:\n"
    "  - from:\n"
    "    - podSelector: {}\n"
    "    - namespaceSelector: {matchLabels: {a: b}}\n"
    "    - namespaceSelector: {}\n"
    "      podSelector: {matchLabels: {c: d}}\n"
    "    - ipBlock: {cidr: 10.0.0.0/8, except: [10.1.0.0/16, 10.2.0.0/16]}\n"
    "    ports: [{port: 80}, {port: web, protocol: UDP}, {port: 1, endPort: 9}]\n"
    "  egress: [{}]\n"
    "---\n"
    "apiVersion: networking.k8s.io/v1\n"
    "kind: NetworkPolicy\n"
    "metadata: {name: web}\n"
    "spec: {policyTypes: [Egress]}\n";

static void test_yaml(void **state)
{
        struct policy_error error;
        size_t n = 1;
        bool failed;

        do {
                struct policy_list list = {};
                long before = blocks;
                int r;

                begin(n);
                r = policy_list_from_yaml(file, sizeof(file) - 1, &list, &error);
                failed = end();
                if (r != (failed ? -ENOMEM : 0))
                        fail_msg("allocation %zu: %d %s", n, r, error.text);
                policy_list_clear(&list);
                assert_int_equal(blocks, before);
                n++;
        } while (failed);
        printf("# %zu allocations of a file\n", n - 2);
        assert_true(n > 100);
}

static void test_json(void **state)
{
        struct policy_error error;
        struct policy_list list;
        json_t *whole;
        size_t n = 1;
        bool failed;

        assert_int_equal(policy_list_from_yaml(file, sizeof(file) - 1, &list, &error), 0);
        whole = policy_to_json(list.v[0]);
        assert_non_null(whole);
        do {
                long before = blocks;
                json_t *json;

                begin(n);
                json = policy_to_json(list.v[0]);
                failed = end();
                assert_int_equal(json == NULL, failed);
                if (json)
                        assert_true(json_equal(json, whole));
                json_decref(json);
                assert_int_equal(blocks, before);
                n++;
        } while (failed);
        printf("# %zu allocations of its JSON\n", n - 2);
        json_decref(whole);
        policy_list_clear(&list);
}

static void test_labels(void **state)
{
        char problem[LABEL_PROBLEM_MAX];
        struct labels l = {};
        bool failed = true;
        json_t *whole;

        assert_int_equal(labels_add_text(&l, "a=1", problem), 0);
        assert_int_equal(labels_add_text(&l, "b=2", problem), 0);
        whole = labels_to_json(&l);
        for (size_t n = 1; failed; n++) {
                struct labels copy = {};
                long before = blocks;
                json_t *json;
                int r;

                begin(n);
                r = labels_copy(&l, &copy);
                failed = end();
                assert_int_equal(r, failed ? -ENOMEM : 0);
                labels_clear(&copy);
                assert_int_equal(blocks, before);

                begin(n);
                r = labels_from_json(whole, &copy, problem);
                failed |= end();
                assert_int_equal(r, at >= fail ? -ENOMEM : 0);
                labels_clear(&copy);

                begin(n);
                json = labels_to_json(&l);
                failed |= end();
                assert_int_equal(json == NULL, at >= fail);
                json_decref(json);
                assert_int_equal(blocks, before);
        }
        json_decref(whole);
        labels_clear(&l);
}

/* --- the engine ------------------------------------------------------------------------------- */

/* The sink's own memory does not fail: it is not what is tested. */
#define CALM(call)                    \
        ({                            \
                bool _was_ = failing; \
                int _r_;              \
                                      \
                failing = false;      \
                _r_ = maps_sink.call; \
                failing = _was_;      \
                _r_;                  \
        })

static int put_rule(const struct slim_policy_key *key, void *userdata)
{
        return CALM(put_rule(key, userdata));
}

static int put_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        return CALM(put_cidr(key, id, userdata));
}

static int put_subject(uint32_t identity, const struct slim_policy_subject *subject, void *userdata)
{
        return CALM(put_subject(identity, subject, userdata));
}

static int drop_subject(uint32_t identity, void *userdata)
{
        return CALM(drop_subject(identity, userdata));
}

static int drop_cidr(const struct slim_prefix_key *key, void *userdata)
{
        return CALM(drop_cidr(key, userdata));
}

static int drop_rule(const struct slim_policy_key *key, void *userdata)
{
        return CALM(drop_rule(key, userdata));
}

static const struct policy_sink calm = {
    .put_rule = put_rule,
    .put_cidr = put_cidr,
    .put_subject = put_subject,
    .drop_subject = drop_subject,
    .drop_cidr = drop_cidr,
    .drop_rule = drop_rule,
};

static const char *const specs[] = {
    "{'podSelector': {'matchLabels': {'app': 'a'}}, 'ingress': [{'from': [{'podSelector': {}},"
    "{'ipBlock': {'cidr': '::/0', 'except': ['fd00::/8', 'fd01::/16']}}], 'ports': [{'port': 80},"
    "{'port': 'web'}]}, {}], 'egress': [{'to': [{'namespaceSelector': {'matchLabels':"
    "{'team': 'x'}}}]}, {'ports': [{'port': 'web'}]}]}",
    "{'podSelector': {}, 'ingress': [{'from': [{'ipBlock': {'cidr': '10.0.0.0/8'}},"
    "{'ipBlock': {'cidr': '10.0.0.0/9'}}, {'ipBlock': {'cidr': '10.0.0.0/10'}},"
    "{'ipBlock': {'cidr': '10.0.0.0/11'}}, {'ipBlock': {'cidr': '10.0.0.0/12'}}]}]}",
};

/* One operation that may fail; then nothing happened, and without a failure it does not. */
#define TRY(call)                           \
        do {                                \
                int _r_ = call;             \
                if (_r_ == -ENOMEM) {       \
                        assert_true(end()); \
                        _r_ = call;         \
                }                           \
                assert_int_equal(_r_, 0);   \
        } while (0)

static const char *const apps[] = {"app=a", "app=b", "app=c", "app=d", "app=e", "app=f"};

static void parse(const char *text, struct labels *ret)
{
        char problem[LABEL_PROBLEM_MAX];
        bool was = failing;

        failing = false;
        *ret = (struct labels){};
        assert_int_equal(labels_add_text(ret, text, problem), 0);
        failing = was;
}

static void identities(struct policy_engine *engine, uint32_t ids[ARRAY_SIZE(apps)])
{
        static const struct named_port web = {"web", IPPROTO_TCP, 8080};

        for (size_t i = 0; i < ARRAY_SIZE(apps); i++) {
                struct policy_identity identity = {
                    .network = i % 2 ? "blue" : "default",
                    .n_ports = 1,
                    .ports = &web,
                };

                parse(apps[i], &identity.labels);
                TRY(policy_engine_identity_ref(engine, &identity, i < 5, &ids[i]));
                labels_clear(&identity.labels);
        }
}

/* Of policies that are decoded beforehand. */
static void history(struct policy_engine *engine, struct policy *policies[3], struct maps *maps)
{
        uint32_t ids[ARRAY_SIZE(apps)];
        struct labels team;

        TRY(policy_engine_put(engine, &policies[0]));
        identities(engine, ids);
        TRY(policy_engine_put(engine, &policies[1]));
        TRY(policy_engine_flush(engine, &calm, maps));
        parse("team=x", &team);
        TRY(policy_engine_put_network(engine, "blue", &team));
        TRY(policy_engine_put_network(engine, "lilac", &team)); /* where nobody is */
        labels_clear(&team);
        TRY(policy_engine_identity_unref(engine, ids[0], true));
        TRY(policy_engine_put(engine, &policies[2])); /* in place of the first */
        TRY(policy_engine_flush(engine, &calm, maps));
        TRY(policy_engine_drop_network(engine, "green"));
        TRY(policy_engine_identity_unref(engine, ids[5], false));
        TRY(policy_engine_drop(engine, "default", "b"));
        TRY(policy_engine_flush(engine, &calm, maps));
}

static void decode(struct policy *policies[3])
{
        policies[0] = policy_of("a", specs[0]);
        policies[1] = policy_of("b", specs[1]);
        policies[2] = policy_of("a", specs[1]);
}

static bool same(const struct maps *a, const struct maps *b)
{
        const struct maps_rule *rule;

        if (HASH_COUNT(a->rules) != HASH_COUNT(b->rules) ||
            HASH_COUNT(a->cidrs) != HASH_COUNT(b->cidrs) ||
            HASH_COUNT(a->subjects) != HASH_COUNT(b->subjects))
                return false;
        for (rule = a->rules; rule; rule = rule->hh.next)
                if (!maps_have_rule(b, &rule->key) && !(rule->key.peer & SLIM_POLICY_CIDR))
                        return false;
        return true;
}

static void test_engine(void **state)
{
        struct maps whole = {}, maps = {};
        struct policy_engine *engine;
        struct policy *policies[3];
        size_t n = 1;
        bool failed;

        decode(policies);
        assert_int_equal(policy_engine_new(&engine), 0);
        history(engine, policies, &whole);
        policy_engine_free(engine);
        assert_true(maps_entries(&whole) > 5);
        do {
                long before = blocks;

                decode(policies);
                begin(n);
                TRY(policy_engine_new(&engine));
                history(engine, policies, &maps);
                failed = end();
                assert_true(same(&maps, &whole));
                policy_engine_free(engine);
                maps_clear(&maps);
                assert_int_equal(blocks, before);
                n++;
        } while (failed);
        printf("# %zu allocations of an engine\n", n - 2);
        assert_true(n > 100);
        maps_clear(&whole);
}

/* What cannot be compiled is not emitted, and is compiled later, also when that fails once more. */
static void test_recompile(void **state)
{
        struct maps whole = {};
        size_t left = 0;

        for (size_t n = 0; n < 400; n++) {
                uint32_t ids[ARRAY_SIZE(apps)];
                struct policy_engine *engine;
                struct policy *policy = policy_of("a", specs[0]);
                struct maps maps = {};
                int r;

                assert_int_equal(policy_engine_new(&engine), 0);
                identities(engine, ids);
                begin(n); /* 0: none */
                r = policy_engine_put(engine, &policy);
                end();
                if (r < 0) {
                        assert_int_equal(r, -ENOMEM);
                        policy_free(policy);
                }
                begin(n > 0);
                r = r < 0 ? 0 : policy_engine_flush(engine, &calm, &maps);
                if (end() && n > 0 && at > 0) {
                        assert_int_equal(r, -ENOMEM);
                        assert_int_equal(maps_entries(&maps), 0);
                        left++;
                }
                r = policy_engine_flush(engine, &calm, &maps);
                assert_int_equal(r, 0);
                if (n > 0 && policy_engine_get(engine, "default", "a"))
                        assert_true(same(&maps, &whole));
                policy_engine_free(engine);
                if (n > 0)
                        maps_clear(&maps);
                else
                        whole = maps;
        }
        assert_true(left > 20);
        maps_clear(&whole);
}

static void test_explain(void **state)
{
        struct policy_flow flow = {.direction = SLIM_POLICY_INGRESS, .protocol = IPPROTO_TCP};
        struct policy_engine *engine;
        size_t n = 1;
        bool failed;

        assert_int_equal(policy_engine_new(&engine), 0);
        flow.subject = ref_identity(engine, "default", "app=a", "", true);
        put_policy(engine, "a", specs[1]);
        put_policy(engine, "b", specs[1]);
        do {
                struct policy_explanation e = {};
                long before = blocks;
                char *text;
                int r;

                begin(n);
                r = policy_engine_explain(engine, &flow, &e);
                text = r < 0 ? NULL : policy_explanation_format(&e);
                failed = end();
                if (r < 0)
                        assert_int_equal(r, -ENOMEM);
                assert_int_equal(text == NULL, failed);
                free(text);
                policy_explanation_clear(&e);
                assert_int_equal(blocks, before);
                n++;
        } while (failed);
        policy_engine_free(engine);
}

/* Long texts: of many labels, of many policies. */
static void test_long(void **state)
{
        struct policy_identity identity = {.network = "default"};
        struct policy_flow flow = {.direction = SLIM_POLICY_INGRESS, .protocol = IPPROTO_TCP};
        char problem[LABEL_PROBLEM_MAX], key[LABEL_KEY_MAX + 1], name[POLICY_NAME_MAX + 1];
        struct policy_explanation e;
        struct policy_engine *engine;
        bool failed = true;
        char *text;

        assert_int_equal(policy_engine_new(&engine), 0);
        for (unsigned int i = 0; i < LABELS_MAX; i++) {
                snprintf(key, sizeof(key), "%0253u/a", i);
                assert_int_equal(labels_add(&identity.labels, key, "x", problem), 0);
        }
        for (size_t n = 1; failed; n++) {
                int r;

                begin(n);
                r = policy_engine_identity_ref(engine, &identity, true, &flow.subject);
                failed = end();
                assert_int_equal(r, failed ? -ENOMEM : 0);
        }
        for (unsigned int i = 0; i < 100; i++) {
                snprintf(name, sizeof(name), "%0253u", i);
                put_policy(engine, name, "{}");
        }
        assert_int_equal(policy_engine_explain(engine, &flow, &e), 0);
        failed = true;
        for (size_t n = 1; failed; n++) {
                begin(n);
                text = policy_explanation_format(&e);
                failed = end();
                assert_int_equal(text == NULL, failed);
                if (text)
                        assert_true(strlen(text) > 100UL * 253);
                free(text);
        }
        policy_explanation_clear(&e);
        labels_clear(&identity.labels);
        policy_engine_free(engine);
}

int main(void)
{
        static const struct CMUnitTest tests[] = {
            cmocka_unit_test(test_yaml),      cmocka_unit_test(test_json),
            cmocka_unit_test(test_labels),    cmocka_unit_test(test_engine),
            cmocka_unit_test(test_recompile), cmocka_unit_test(test_explain),
            cmocka_unit_test(test_long),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
#endif
