/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine under operations in any order, with a sink that fails at times. Each byte is an
 * operation on one of a few policies, identities or networks. What is emitted is exactly what
 * changes; in the end everything is taken away, and no entry is left.
 *
 * With libFuzzer: clang -fsanitize=fuzzer,address,undefined. Otherwise replay.c.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "basic/alloc.h"
#include "policy/policy-engine.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check(int ok, const char *what)
{
        if (ok)
                return;
        fprintf(stderr, "fuzz-engine: %s\n", what);
        abort();
}

/* --- the maps, as lists ----------------------------------------------------------------------- */

#define ENTRIES_MAX 8192

struct maps {
        size_t n_rules, n_cidrs, n_subjects;
        struct slim_policy_key rules[ENTRIES_MAX];
        struct slim_prefix_key cidrs[ENTRIES_MAX];
        uint32_t subjects[ENTRIES_MAX];
        size_t fail_in; /* steps; 0: never */
};

/* Where an element is in a list of n, or n. */
static size_t find(const void *list, size_t n, const void *what, size_t size)
{
        size_t i = 0;

        while (i < n && memcmp((const uint8_t *)list + i * size, what, size) != 0)
                i++;
        return i;
}

static bool fails(struct maps *maps)
{
        return maps->fail_in && --maps->fail_in == 0;
}

static int put(struct maps *maps, void *list, size_t *n, const void *what, size_t size)
{
        if (fails(maps))
                return -ENOSPC;
        check(find(list, *n, what, size) == *n, "an entry is put that is there");
        check(*n < ENTRIES_MAX, "more entries than there can be");
        memcpy((uint8_t *)list + (*n)++ * size, what, size);
        return 0;
}

static int drop(struct maps *maps, void *list, size_t *n, const void *what, size_t size)
{
        size_t at = find(list, *n, what, size);

        if (fails(maps))
                return -EIO;
        check(at < *n, "an entry is taken away that is not there");
        memmove((uint8_t *)list + at * size, (uint8_t *)list + --*n * size, size);
        return 0;
}

static int put_rule(const struct slim_policy_key *key, void *userdata)
{
        struct maps *m = userdata;

        return put(m, m->rules, &m->n_rules, key, sizeof(*key));
}

static int drop_rule(const struct slim_policy_key *key, void *userdata)
{
        struct maps *m = userdata;

        return drop(m, m->rules, &m->n_rules, key, sizeof(*key));
}

static int put_cidr(const struct slim_prefix_key *key, uint32_t id, void *userdata)
{
        struct maps *m = userdata;

        return put(m, m->cidrs, &m->n_cidrs, key, sizeof(*key));
}

static int drop_cidr(const struct slim_prefix_key *key, void *userdata)
{
        struct maps *m = userdata;

        return drop(m, m->cidrs, &m->n_cidrs, key, sizeof(*key));
}

static int put_subject(uint32_t identity, const struct slim_policy_subject *subject, void *userdata)
{
        struct maps *m = userdata;

        check(subject->flags != 0, "a subject of no policy");
        if (find(m->subjects, m->n_subjects, &identity, sizeof(identity)) < m->n_subjects)
                return fails(m) ? -ENOSPC : 0;
        return put(m, m->subjects, &m->n_subjects, &identity, sizeof(identity));
}

static int drop_subject(uint32_t identity, void *userdata)
{
        struct maps *m = userdata;

        return drop(m, m->subjects, &m->n_subjects, &identity, sizeof(identity));
}

static const struct policy_sink sink = {
    .put_rule = put_rule,
    .put_cidr = put_cidr,
    .put_subject = put_subject,
    .drop_subject = drop_subject,
    .drop_cidr = drop_cidr,
    .drop_rule = drop_rule,
};

/* --- what there is to choose from ------------------------------------------------------------- */

#define CHOICES 8

static const char *const labels[CHOICES] = {"a=1", "a=2", "b=1", "b=2", "c=1", "c=2", "d=1", "d=2"};
static const char *const networks[2] = {"default", "blue"};
static const char *const specs[CHOICES] = {
    "{}",
    "{'podSelector': {'matchLabels': {'a': '1'}}, 'ingress': [{'ports': [{'port': 'web'}]}]}",
    "{'ingress': [{'from': [{'ipBlock': {'cidr': '10.0.0.0/8', 'except': ['10.1.0.0/16']}}]}]}",
    "{'egress': [{'to': [{'ipBlock': {'cidr': '::/0', 'except': ['fd00::/8']}}]}]}",
    "{'egress': [{'ports': [{'port': 'web'}, {'port': 1000, 'endPort': 2000}]}]}",
    "{'ingress': [{'from': [{'namespaceSelector': {'matchLabels': {'a': '1'}}}]}]}",
    "{'ingress': [{'from': [{'podSelector': {}}], 'ports': [{'port': 80}]}, {}], 'egress': [{}]}",
    "{'egress': [{'to': [{'ipBlock': {'cidr': '0.0.0.0/0'}}]}], 'policyTypes': ['Egress']}",
};

static struct policy *policy_of(unsigned int name, unsigned int spec)
{
        struct policy_error error;
        struct policy *p = NULL;
        char text[1024];
        json_t *json;

        snprintf(text, sizeof(text),
                 "{'apiVersion': 'networking.k8s.io/v1', 'kind': 'NetworkPolicy',"
                 "'metadata': {'name': 'p%u', 'namespace': '%s'}, 'spec': %s}",
                 name, networks[name % 2], specs[spec]);
        for (char *c = text; *c; c++)
                if (*c == '\'')
                        *c = '"';
        json = json_loads(text, 0, NULL);
        check(json && policy_from_json(json, &p, &error) == 0, "no policy");
        json_decref(json);
        return p;
}

static void labels_of(unsigned int which, struct labels *ret)
{
        char problem[LABEL_PROBLEM_MAX];

        *ret = (struct labels){};
        check(labels_add_text(ret, labels[which], problem) == 0, "no label");
}

/* --- operations ------------------------------------------------------------------------------- */

struct fuzz {
        struct policy_engine *engine;
        struct maps *maps;
        size_t refs[CHOICES][2]; /* not local, local */
        uint32_t ids[CHOICES];
};

static void ref(struct fuzz *f, unsigned int which, bool local)
{
        static const struct named_port web = {"web", 6, 8080};
        struct policy_identity identity = {
            .network = networks[which / 4],
            .n_ports = which % 2,
            .ports = &web,
        };
        uint32_t id;

        labels_of(which, &identity.labels);
        check(policy_engine_identity_ref(f->engine, &identity, local, &id) == 0, "no identity");
        check(!(f->refs[which][0] + f->refs[which][1]) || f->ids[which] == id, "another number");
        f->ids[which] = id;
        f->refs[which][local]++;
        labels_clear(&identity.labels);
}

static void unref(struct fuzz *f, unsigned int which, bool local)
{
        bool there = f->refs[which][local] > 0;

        /* A number that was given back can be another's by now. */
        if (!there)
                return;
        check(policy_engine_identity_unref(f->engine, f->ids[which], local) == 0, "no unref");
        f->refs[which][local]--;
}

static void flush(struct fuzz *f, size_t fail_in)
{
        int r;

        f->maps->fail_in = fail_in;
        r = policy_engine_flush(f->engine, &sink, f->maps);
        check(r == 0 || (fail_in && (r == -ENOSPC || r == -EIO)), "another error than the sink's");
}

static void operate(struct fuzz *f, unsigned int op, unsigned int which)
{
        struct policy *p = NULL;
        struct labels l;
        char name[8];

        switch (op) {
        case 0:
        case 1:
        case 2:
        case 3:
        case 4:
        case 5:
        case 6:
        case 7:
        case 8:
        case 9:
        case 10:
        case 11:
        case 12:
        case 13:
        case 14:
        case 15:
                p = policy_of(op / 2, which);
                check(policy_engine_put(f->engine, &p) == 0, "no policy");
                break;
        case 16:
                snprintf(name, sizeof(name), "p%u", which);
                (void)policy_engine_drop(f->engine, networks[which % 2], name);
                break;
        case 17:
        case 18:
                ref(f, which, op == 18);
                break;
        case 19:
        case 20:
                unref(f, which, op == 20);
                break;
        case 21:
                labels_of(which, &l);
                check(policy_engine_put_network(f->engine, networks[which / 4], &l) == 0,
                      "network");
                labels_clear(&l);
                break;
        case 22:
                check(policy_engine_drop_network(f->engine, networks[which / 4]) == 0, "network");
                break;
        default:
                flush(f, op % 2 ? 0 : 1 + which * 4);
        }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct fuzz f = {.maps = new0(struct maps, 1)};
        struct policy_engine_stats stats;

        check(f.maps && policy_engine_new(&f.engine) == 0, "no memory");
        for (size_t i = 0; i < size && i < 2048; i++)
                operate(&f, data[i] >> 3, data[i] & 7);
        flush(&f, 0);
        policy_engine_stats(f.engine, &stats);
        check(stats.rules == f.maps->n_rules && stats.cidrs == f.maps->n_cidrs, "another number");
        for (unsigned int i = 0; i < CHOICES; i++) {
                operate(&f, 16, i);
                while (f.refs[i][0])
                        unref(&f, i, false);
                while (f.refs[i][1])
                        unref(&f, i, true);
        }
        flush(&f, 0);
        check(f.maps->n_rules + f.maps->n_cidrs + f.maps->n_subjects == 0, "an entry is left");
        policy_engine_free(f.engine);
        free(f.maps);
        return 0;
}
