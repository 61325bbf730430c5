/* SPDX-License-Identifier: Apache-2.0 */
#include "bandwidth.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "../basic/macro.h"
#include "../basic/name.h"

#define DSCP_MAX 63

bool limits_equal(const struct limits *a, const struct limits *b)
{
        return a->rate[SLIM_POLICY_INGRESS] == b->rate[SLIM_POLICY_INGRESS] &&
               a->rate[SLIM_POLICY_EGRESS] == b->rate[SLIM_POLICY_EGRESS] &&
               a->has_dscp == b->has_dscp && (!a->has_dscp || a->dscp == b->dscp) &&
               a->has_priority == b->has_priority &&
               (!a->has_priority || a->priority == b->priority);
}

bool limits_are_none(const struct limits *l)
{
        return limits_equal(l, &(struct limits){});
}

/* --- as people write them --------------------------------------------------------------------- */

static int wrong(char *problem, int r, const char *text)
{
        snprintf(problem, LIMITS_PROBLEM_MAX, "%s", text);
        return r;
}

static int check_rate(uint64_t rate, char *problem)
{
        if (rate < LIMITS_RATE_MIN)
                return wrong(problem, -ERANGE, "a rate is 1k (1000 bits a second) at least");
        if (rate > LIMITS_RATE_MAX)
                return wrong(problem, -ERANGE, "a rate is 1P (10^15 bits a second) at most");
        return 0;
}

static int unit(const char *text, uint64_t *ret)
{
        static const struct {
                const char *suffix;
                uint64_t factor;
        } units[] = {
            {"", 1},
            {"k", 1000},
            {"M", 1000000},
            {"G", 1000000000},
            {"T", 1000000000000},
            {"P", 1000000000000000},
            {"Ki", 1ULL << 10},
            {"Mi", 1ULL << 20},
            {"Gi", 1ULL << 30},
            {"Ti", 1ULL << 40},
        };

        for (size_t i = 0; i < ARRAY_SIZE(units); i++)
                if (strcmp(text, units[i].suffix) == 0) {
                        *ret = units[i].factor;
                        return 0;
                }
        return -EINVAL;
}

int limits_parse_rate(const char *text, uint64_t *ret, char *problem)
{
        static const char bad[] = "is no rate in bits a second, as in 750k, 10M or 1.5G";
        unsigned __int128 number = 0;
        uint64_t factor, scale = 1;
        const char *p = text;
        int digits = 0;

        for (bool behind = false; isdigit((unsigned char)*p) || (*p == '.' && !behind); p++) {
                if (*p == '.') {
                        behind = true;
                        continue;
                }
                if (++digits > 18)
                        return wrong(problem, -EINVAL, bad);
                number = number * 10 + (unsigned int)(*p - '0');
                if (behind)
                        scale *= 10;
        }
        if (!digits || unit(p, &factor) < 0)
                return wrong(problem, -EINVAL, bad);
        number = number * factor / scale;
        if (number > LIMITS_RATE_MAX)
                number = LIMITS_RATE_MAX + 1;
        *ret = (uint64_t)number;
        return check_rate(*ret, problem);
}

int limits_parse_dscp(const char *text, uint8_t *ret, char *problem)
{
        static const struct {
                const char *name;
                uint8_t dscp;
        } names[] = {
            {"DF", 0},    {"LE", 1},    {"CS0", 0},   {"CS1", 8},   {"AF11", 10}, {"AF12", 12},
            {"AF13", 14}, {"CS2", 16},  {"AF21", 18}, {"AF22", 20}, {"AF23", 22}, {"CS3", 24},
            {"AF31", 26}, {"AF32", 28}, {"AF33", 30}, {"CS4", 32},  {"AF41", 34}, {"AF42", 36},
            {"AF43", 38}, {"CS5", 40},  {"VA", 44},   {"EF", 46},   {"CS6", 48},  {"CS7", 56},
        };
        uint64_t n;

        for (size_t i = 0; i < ARRAY_SIZE(names); i++)
                if (strcasecmp(text, names[i].name) == 0) {
                        *ret = names[i].dscp;
                        return 0;
                }
        if (parse_uint(text, 0, DSCP_MAX, &n) < 0)
                return wrong(problem, -EINVAL,
                             "is no DSCP: a number from 0 to 63, or a name as in EF, AF41 or CS1");
        *ret = (uint8_t)n;
        return 0;
}

int limits_parse_priority(const char *text, uint8_t *ret, char *problem)
{
        uint64_t n;

        if (parse_uint(text, 0, LIMITS_PRIORITY_MAX, &n) < 0)
                return wrong(problem, -EINVAL, "is no priority: a number from 0 to 15");
        *ret = (uint8_t)n;
        return 0;
}

/* --- JSON ------------------------------------------------------------------------------------- */

static const char *const rate_names[SLIM_POLICY_DIRECTIONS] = {
    [SLIM_POLICY_INGRESS] = "ingress",
    [SLIM_POLICY_EGRESS] = "egress",
};

/* Which direction's rate a member is, or -1. */
static int rate_of(const char *key)
{
        for (int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                if (strcmp(key, rate_names[i]) == 0)
                        return i;
        return -1;
}

json_t *limits_to_json(const struct limits *l)
{
        json_t *j;

        if (limits_are_none(l))
                return NULL;
        j = json_object();
        for (int i = 0; i < SLIM_POLICY_DIRECTIONS; i++)
                if (l->rate[i])
                        json_object_set_new(j, rate_names[i], json_integer((json_int_t)l->rate[i]));
        if (l->has_dscp)
                json_object_set_new(j, "dscp", json_integer(l->dscp));
        if (l->has_priority)
                json_object_set_new(j, "priority", json_integer(l->priority));
        return j;
}

static int take_small(const char *key, json_int_t value, json_int_t max, uint8_t *ret,
                      bool *ret_has, char *problem)
{
        if (value < 0 || value > max) {
                snprintf(problem, LIMITS_PROBLEM_MAX, "%s %lld is not from 0 to %lld", key,
                         (long long)value, (long long)max);
                return -ERANGE;
        }
        *ret = (uint8_t)value;
        *ret_has = true;
        return 0;
}

static int take_member(struct limits *l, const char *key, const json_t *value, char *problem)
{
        json_int_t number = json_integer_value(value);
        int direction = rate_of(key), r;

        if (!json_is_integer(value)) {
                snprintf(problem, LIMITS_PROBLEM_MAX, "limits: \"%.32s\" is not an integer", key);
                return -EINVAL;
        }
        if (direction >= 0) {
                r = check_rate(number < 0 ? 0 : (uint64_t)number, problem);
                if (r == 0)
                        l->rate[direction] = (uint64_t)number;
                return r;
        }
        if (strcmp(key, "dscp") == 0)
                return take_small(key, number, DSCP_MAX, &l->dscp, &l->has_dscp, problem);
        if (strcmp(key, "priority") == 0)
                return take_small(key, number, LIMITS_PRIORITY_MAX, &l->priority, &l->has_priority,
                                  problem);
        snprintf(problem, LIMITS_PROBLEM_MAX,
                 "limits: \"%.32s\" is none of egress, ingress, dscp and priority", key);
        return -EINVAL;
}

static int take_all(struct limits *l, const json_t *object, char *problem)
{
        const char *key;
        json_t *value;
        int r = 0;

        if (object && !json_is_object(object))
                return wrong(problem, -EINVAL, "limits are not an object");
        json_object_foreach ((json_t *)object, key, value) {
                r = take_member(l, key, value, problem);
                if (r < 0)
                        break;
        }
        return r;
}

int limits_from_json(const json_t *object, struct limits *ret, char *problem)
{
        struct limits l = {};
        int r = take_all(&l, object, problem);

        if (r == 0)
                *ret = l;
        return r;
}

static int remove_member(struct limits *l, const char *key, char *problem)
{
        int direction = key ? rate_of(key) : -1;

        if (direction >= 0) {
                l->rate[direction] = 0;
        } else if (key && strcmp(key, "dscp") == 0) {
                l->has_dscp = false;
        } else if (key && strcmp(key, "priority") == 0) {
                l->has_priority = false;
        } else {
                snprintf(problem, LIMITS_PROBLEM_MAX,
                         "remove: %.32s is none of \"egress\", \"ingress\", \"dscp\" and "
                         "\"priority\"",
                         key ? key : "what is no text");
                return -EINVAL;
        }
        return 0;
}

int limits_change(struct limits *l, const json_t *set, const json_t *remove, char *problem)
{
        struct limits after = *l;
        const json_t *item;
        size_t i;
        int r;

        if (remove && !json_is_array(remove))
                return wrong(problem, -EINVAL, "remove is not an array");
        json_array_foreach (remove, i, item) {
                const char *key = json_string_value(item);

                r = remove_member(&after, key, problem);
                if (r < 0)
                        return r;
                if (json_object_get(set, key)) {
                        snprintf(problem, LIMITS_PROBLEM_MAX, "%s is both set and removed", key);
                        return -EINVAL;
                }
        }
        r = take_all(&after, set, problem);
        if (r == 0)
                *l = after;
        return r;
}
