/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "basic/inaddr.h"
#include "basic/macro.h"
#include "basic/name.h"
#include "flood-packet.h"

/* Numbers, all of them uint64_t. */
static const struct number {
        const char *name;
        size_t offset;
        uint64_t min, max;
} numbers[] = {
    {"count", offsetof(struct options, count), 1, 10000000},
    {"seconds", offsetof(struct options, seconds), 1, 3600},
    {"connections", offsetof(struct options, connections), 1, 16384},
    {"threads", offsetof(struct options, threads), 1, 64},
    {"rate", offsetof(struct options, rate), 0, 10000000},
    {"size", offsetof(struct options, size), 1, 16 << 20},
    {"batch", offsetof(struct options, batch), 1, 4096},
    {"hold", offsetof(struct options, hold), 0, 19000},
    {"ports", offsetof(struct options, ports), 1, 19000},
    {"client", offsetof(struct options, client), 0, UINT32_MAX},
    {"server", offsetof(struct options, server), 0, UINT32_MAX},
    {"network", offsetof(struct options, network), 0, (1 << 24) - 1},
};

static bool is_path(const char *text)
{
        return text[0] == '/' && strlen(text) <= 100 && !strpbrk(text, " \r\n");
}

static bool is_kind(const char *text)
{
        return flood_kind_find(text) >= 0;
}

static bool is_prefix(const char *text)
{
        struct inaddr_prefix p;

        return inaddr_prefix_parse(text, &p) == 0;
}

/* Texts, all of them const char *. */
static const struct text {
        const char *name;
        size_t offset;
        bool (*is_good)(const char *text);
        const char *what;
} texts[] = {
    {"path", offsetof(struct options, path), is_path, "path"},
    {"kind", offsetof(struct options, kind), is_kind, "kind of flood"},
    {"from", offsetof(struct options, from), is_prefix, "prefix of addresses"},
    {"inner", offsetof(struct options, inner), is_prefix, "prefix of addresses"},
};

/* Is the word one of those in the list? */
static bool is_listed(const char *list, const char *word)
{
        size_t len = strlen(word);

        if (len == 0)
                return false;
        for (const char *at = list; at; at = strchr(at, ' ')) {
                at += strspn(at, " ");
                if (strncmp(at, word, len) == 0 && (at[len] == ' ' || at[len] == '\0'))
                        return true;
        }
        return false;
}

static int parse_number(const char *name, const char *text, struct options *o, char *problem)
{
        for (size_t i = 0; i < ARRAY_SIZE(numbers); i++) {
                const struct number *n = &numbers[i];

                if (strcmp(n->name, name) != 0)
                        continue;
                if (parse_uint(text, n->min, n->max, (uint64_t *)((char *)o + n->offset)) >= 0)
                        return 0;
                snprintf(problem, OPTIONS_PROBLEM_MAX,
                         "--%s: \"%.40s\" is no number from %llu to %llu", name, text,
                         (unsigned long long)n->min, (unsigned long long)n->max);
                return -EINVAL;
        }
        snprintf(problem, OPTIONS_PROBLEM_MAX, "there is no option --%.40s", name);
        return -EINVAL;
}

static int parse_value(const char *name, const char *value, struct options *o, char *problem)
{
        for (size_t i = 0; i < ARRAY_SIZE(texts); i++) {
                const struct text *t = &texts[i];

                if (strcmp(t->name, name) != 0)
                        continue;
                if (t->is_good(value)) {
                        *(const char **)((char *)o + t->offset) = value;
                        return 0;
                }
                snprintf(problem, OPTIONS_PROBLEM_MAX, "--%s: \"%.40s\" is no %s", name, value,
                         t->what);
                return -EINVAL;
        }
        return parse_number(name, value, o, problem);
}

static int parse_address(const char *text, struct options *o, char *problem)
{
        union slim_addr a;

        if (inaddr_parse(text, &a) < 0 || (!inaddr_is_v4(&a) && !o->family6)) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "\"%.40s\" is no %saddress", text,
                         o->family6 ? "" : "IPv4 ");
                return -EINVAL;
        }
        o->address = text;
        return 0;
}

/* One option and its value; *at is where it stands, and where it ends afterwards. */
static int parse_option(const struct verb *verb, int argc, char **argv, int *at, struct options *o,
                        char *problem)
{
        const char *name = argv[*at] + 2;

        if (strncmp(argv[*at], "--", 2) != 0 || !is_listed(verb->takes, name)) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "%s takes no \"%.40s\"", verb->name,
                         argv[*at]);
                return -EINVAL;
        }
        if (strcmp(name, "close") == 0) {
                o->close = true;
                return 0;
        }
        if (*at + 1 == argc) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "--%s needs a value", name);
                return -EINVAL;
        }
        return parse_value(name, argv[++*at], o, problem);
}

int options_parse(const struct verb *verbs, int argc, char **argv, const struct verb **ret_verb,
                  struct options *ret, char *problem)
{
        const struct verb *verb = verbs;
        const char *words[2] = {};
        struct options o;
        int n = 0, wanted, r;
        uint64_t port;

        if (argc < 1) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "a verb is missing");
                return -EINVAL;
        }
        while (verb->name && strcmp(verb->name, argv[0]) != 0)
                verb++;
        if (!verb->name) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "there is no verb \"%.40s\"", argv[0]);
                return -EINVAL;
        }
        o = verb->defaults;
        wanted = verb->server ? 1 : 2;
        for (int i = 1; i < argc; i++) {
                if (argv[i][0] != '-' && n < wanted) {
                        words[n++] = argv[i];
                        continue;
                }
                r = parse_option(verb, argc, argv, &i, &o, problem);
                if (r < 0)
                        return r;
        }
        if (n != wanted) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "%s takes %s", verb->name,
                         verb->server ? "PORT" : "ADDRESS PORT");
                return -EINVAL;
        }
        if (parse_uint(words[n - 1], 1, 65535, &port) < 0) {
                snprintf(problem, OPTIONS_PROBLEM_MAX, "\"%.40s\" is no port", words[n - 1]);
                return -EINVAL;
        }
        if (!verb->server) {
                r = parse_address(words[0], &o, problem);
                if (r < 0)
                        return r;
        }
        o.port = (uint16_t)port;
        *ret_verb = verb;
        *ret = o;
        return 0;
}
