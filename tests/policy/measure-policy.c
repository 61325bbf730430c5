/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a change costs, in time and in entries of the maps, next to compiling everything: with
 * 10,000 endpoints and 1,000 policies, and each change done and undone ROUNDS times.
 *
 * Each policy is about one of 1,000 applications: it lets in the next one, a network of monitoring,
 * and a prefix with an exception, to two ports. An endpoint in 100 is on this host. What stands for
 * the maps takes the entries and forgets them.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "basic/macro.h"
#include "policy/policy-engine.h"

#define ENDPOINTS 10000
#define POLICIES  1000
#define LOCAL     100 /* one in … */
#define ROUNDS    21

static void check(int r, const char *what)
{
        if (r == 0)
                return;
        fprintf(stderr, "measure-policy: %s: %s\n", what, strerror(-r));
        exit(EXIT_FAILURE);
}

/* --- a sink that counts ----------------------------------------------------------------------- */

static int count_rule(const struct slim_policy_key *key, void *userdata)
{
        ++*(size_t *)userdata;
        return 0;
}

static int count_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        ++*(size_t *)userdata;
        return 0;
}

static int count_no_cidr(const struct slim_prefix_key *key, void *userdata)
{
        ++*(size_t *)userdata;
        return 0;
}

static int count_subject(uint32_t identity, const struct slim_policy_subject *subject,
                         void *userdata)
{
        ++*(size_t *)userdata;
        return 0;
}

static int count_no_subject(uint32_t identity, void *userdata)
{
        ++*(size_t *)userdata;
        return 0;
}

static const struct policy_sink counting = {
    .put_rule = count_rule,
    .put_cidr = count_cidr,
    .put_subject = count_subject,
    .drop_subject = count_no_subject,
    .drop_cidr = count_no_cidr,
    .drop_rule = count_rule,
};

static size_t flush(struct policy_engine *engine)
{
        size_t n = 0;

        check(policy_engine_flush(engine, &counting, &n), "flush");
        return n;
}

/* --- the cluster ------------------------------------------------------------------------------ */

static struct policy *policy_of(unsigned int i)
{
        struct policy_error error;
        struct policy *p;
        char text[1024];
        json_t *json;

        snprintf(text, sizeof(text),
                 "{'apiVersion': 'networking.k8s.io/v1', 'kind': 'NetworkPolicy',"
                 "'metadata': {'name': 'policy-%u'}, 'spec': {"
                 "'podSelector': {'matchLabels': {'app': 'app-%u'}}, 'ingress': [{'from': ["
                 "{'podSelector': {'matchLabels': {'app': 'app-%u'}}},"
                 "{'namespaceSelector': {'matchLabels': {'team': 'monitoring'}}},"
                 "{'ipBlock': {'cidr': '10.0.0.0/8', 'except': ['10.1.0.0/16']}}],"
                 "'ports': [{'port': 80}, {'port': 443, 'protocol': 'UDP'}]}]}}",
                 i, i, (i + 1) % POLICIES);
        for (char *c = text; *c; c++)
                if (*c == '\'')
                        *c = '"';
        json = json_loads(text, 0, NULL);
        check(json ? policy_from_json(json, &p, &error) : -EINVAL, "policy");
        json_decref(json);
        return p;
}

/* The ith endpoint; all of an application are alike, or each is its own. */
static uint32_t ref(struct policy_engine *engine, unsigned int i, bool alike, bool local)
{
        struct policy_identity identity = {.network = "default"};
        char problem[LABEL_PROBLEM_MAX], text[32];
        uint32_t id;

        snprintf(text, sizeof(text), "app=app-%u", i % POLICIES);
        check(labels_add_text(&identity.labels, text, problem), "label");
        check(labels_add_text(&identity.labels, "tier=backend", problem), "label");
        snprintf(text, sizeof(text), "replica=%u", alike ? 0 : i);
        check(labels_add_text(&identity.labels, text, problem), "label");
        check(policy_engine_identity_ref(engine, &identity, local, &id), "identity");
        labels_clear(&identity.labels);
        return id;
}

static struct policy_engine *compile(bool alike, size_t *ret_entries)
{
        struct policy_engine *engine;

        check(policy_engine_new(&engine), "engine");
        for (unsigned int i = 0; i < ENDPOINTS; i++)
                ref(engine, i, alike, i % LOCAL == 0);
        for (unsigned int i = 0; i < POLICIES; i++) {
                struct policy *p = policy_of(i);

                check(policy_engine_put(engine, &p), "policy");
        }
        *ret_entries = flush(engine);
        return engine;
}

/* --- the changes ------------------------------------------------------------------------------ */

static double now_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int compare_times(const void *a, const void *b)
{
        double x = *(const double *)a, y = *(const double *)b;

        return (x > y) - (x < y);
}

static void print(const char *what, double us, size_t entries)
{
        printf("%-52s %12.1f us %9zu entries\n", what, us, entries);
}

/* An endpoint comes (and goes again, which is not measured). */
static void measure_endpoint(struct policy_engine *engine, const char *what, unsigned int i,
                             bool alike, bool local)
{
        double us[ROUNDS];
        size_t entries = 0;

        for (unsigned int round = 0; round < ROUNDS; round++) {
                double begin = now_us();
                uint32_t id = ref(engine, i, alike, local);

                entries = flush(engine);
                us[round] = now_us() - begin;
                check(policy_engine_identity_unref(engine, id, local), "unref");
                flush(engine);
        }
        qsort(us, ROUNDS, sizeof(us[0]), compare_times);
        print(what, us[ROUNDS / 2], entries);
}

static void measure_policy(struct policy_engine *engine, const char *what, unsigned int i)
{
        double us[ROUNDS];
        size_t entries = 0;

        for (unsigned int round = 0; round < ROUNDS; round++) {
                struct policy *p = policy_of(i);
                double begin;

                check(policy_engine_drop(engine, p->network, p->name), "drop");
                flush(engine);
                begin = now_us();
                check(policy_engine_put(engine, &p), "policy");
                entries = flush(engine);
                us[round] = now_us() - begin;
        }
        qsort(us, ROUNDS, sizeof(us[0]), compare_times);
        print(what, us[ROUNDS / 2], entries);
}

static void measure(bool alike)
{
        struct policy_engine_stats stats;
        struct policy_engine *engine;
        double begin = now_us();
        size_t entries;

        engine = compile(alike, &entries);
        begin = now_us() - begin;
        policy_engine_stats(engine, &stats);
        printf("%d endpoints of %zu identities, %zu of them here; %zu policies\n", ENDPOINTS,
               stats.identities, stats.subjects, stats.policies);
        print("  everything", begin, entries);
        measure_endpoint(engine, "  one endpoint of an identity that there is", 0, alike, true);
        measure_endpoint(engine, "  one elsewhere of a new identity, a peer of some here",
                         ENDPOINTS + LOCAL + 1, false, false);
        measure_endpoint(engine, "  one here of a new identity", ENDPOINTS + LOCAL, false, true);
        measure_policy(engine, "  one policy that selects somebody here", LOCAL);
        measure_policy(engine, "  one policy that selects nobody here", LOCAL + 1);
        policy_engine_free(engine);
}

int main(void)
{
        measure(true);
        measure(false);
        return 0;
}
