/* SPDX-License-Identifier: Apache-2.0 */
#include "policy-yaml.h"

#include <assert.h>
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "../basic/alloc.h"

/*
 * Where a member is. By its parent, since the JSON library has one null, one true and one false
 * for all who need one. The index of an object's member is that of its insertion.
 */
struct yaml_position {
        const json_t *parent; /* NULL: a document */
        uint32_t index;
        uint32_t line, column; /* from 0 on, as libyaml has them */
        uint32_t key_line, key_column;
};

struct reader {
        const char *text;
        size_t len;
        yaml_parser_t parser;
        struct yaml_documents *docs;
        size_t positions_allocated, docs_allocated;
        struct policy_error *error;
};

DEFINE_CLEANUP(yaml_parser_t *, yaml_parser_delete)
DEFINE_CLEANUP(yaml_event_t *, yaml_event_delete)

void yaml_documents_free(struct yaml_documents *docs)
{
        for (size_t i = 0; i < docs->n; i++)
                json_decref(docs->v[i]);
        free(docs->v);
        free(docs->positions);
        free(docs);
}

/* --- refusals --------------------------------------------------------------------------------- */

/* Returns -EINVAL. */
static _printf_(3, 4) int refuse(const struct reader *r, const yaml_mark_t *at, const char *format,
                                 ...)
{
        struct policy_error *e = r->error;
        va_list ap;

        *e = (struct policy_error){.line = at->line + 1, .column = at->column + 1};
        va_start(ap, format);
        vsnprintf(e->text, sizeof(e->text), format, ap);
        va_end(ap);
        return -EINVAL;
}

/* Where a byte of the text is; in characters, of which further bytes of UTF-8 are none. */
static yaml_mark_t mark_of(const struct reader *r, size_t offset)
{
        yaml_mark_t at = {};

        for (size_t i = 0; i < offset; i++) {
                bool ends = r->text[i] == '\n';

                at.line += ends;
                at.column = ends ? 0 : at.column + (((unsigned char)r->text[i] & 0xc0) != 0x80);
        }
        return at;
}

/* What libyaml has to say: what is no UTF-8 has an offset only, all else a line. */
static int refuse_syntax(const struct reader *r)
{
        const yaml_parser_t *p = &r->parser;
        yaml_mark_t at = p->problem_mark;

        if (p->error == YAML_MEMORY_ERROR)
                return -ENOMEM;
        if (p->error == YAML_READER_ERROR) {
                at = mark_of(r, p->problem_offset);
                return refuse(r, &at, "this is not UTF-8 text: %s", p->problem);
        }
        /* What the end of the file lacks: where that began is of more use; and for libyaml the end
         * is on a line of its own. */
        if (at.index == p->mark.index && !*p->buffer.pointer)
                at = p->context && p->context_mark.index < at.index ? p->context_mark
                                                                    : mark_of(r, r->len);
        return refuse(r, &at, "%s%s%s", p->problem, p->context ? " " : "",
                      p->context ? p->context : "");
}

/* --- scalars ---------------------------------------------------------------------------------- */

static bool is_one_of(const char *text, const char *const *words, size_t n)
{
        for (size_t i = 0; i < n; i++)
                if (strcmp(text, words[i]) == 0)
                        return true;
        return false;
}

/* The words of YAML 1.1, as sigs.k8s.io/yaml takes them. */
static const char *const nulls[] = {"", "~", "null", "Null", "NULL"};
static const char *const trues[] = {"y",    "Y",    "yes", "Yes", "YES", "true",
                                    "True", "TRUE", "on",  "On",  "ON"};
static const char *const falses[] = {"n",     "N",     "no",  "No",  "NO", "false",
                                     "False", "FALSE", "off", "Off", "OFF"};
static const char *const not_finite[] = {".inf",  ".Inf",  ".INF",  "+.inf", "+.Inf", "+.INF",
                                         "-.inf", "-.Inf", "-.INF", ".nan",  ".NaN",  ".NAN"};

static bool is_digit(char c)
{
        return c >= '0' && c <= '9';
}

/* A number that is read alike by all: [-+] digits [. digits] [e [-+] digits], no 0 in front. */
static bool is_number(const char *s, bool *ret_whole)
{
        const char *digits;

        s += *s == '-' || *s == '+';
        digits = s;
        while (is_digit(*s))
                s++;
        *ret_whole = s > digits && !*s;
        if (*s == '.')
                for (s++; is_digit(*s); s++)
                        ;
        if (s - digits < 1 || (s - digits == 1 && *digits == '.'))
                return false;
        if (*s == 'e' || *s == 'E') {
                s++;
                s += *s == '-' || *s == '+';
                if (!is_digit(*s))
                        return false;
                while (is_digit(*s))
                        s++;
        }
        return !*s;
}

/* 010, 0x1f, 0o17, 0b1, 1_000: numbers of one YAML or the other, and not the same ones. */
static bool is_ambiguous(const char *s)
{
        bool underscores = false, leading, based;

        s += *s == '-' || *s == '+';
        if (!is_digit(*s))
                return false;
        leading = s[0] == '0' && is_digit(s[1]);
        based = s[0] == '0' && s[1] && strchr("xXoObB", s[1]);
        for (const char *c = s + (based ? 2 : 0); *c; c++) {
                underscores |= *c == '_';
                if (!is_digit(*c) && *c != '_' &&
                    !(based && ((*c >= 'a' && *c <= 'f') || (*c >= 'A' && *c <= 'F'))))
                        return false;
        }
        return (based && s[2]) || leading || underscores;
}

/* Whole ones as integers as long as they fit. JSON has no infinity. */
static int number(const struct reader *r, const yaml_event_t *event, bool whole, json_t **ret)
{
        const char *text = (const char *)event->data.scalar.value;
        double fraction = strtod(text, NULL);
        long long integer;

        errno = 0;
        integer = strtoll(text, NULL, 10);
        if (whole && !errno)
                *ret = json_integer(integer);
        else if (isfinite(fraction))
                *ret = json_real(fraction);
        else
                return refuse(r, &event->start_mark, "%.64s is too large a number", text);
        return *ret ? 0 : -ENOMEM;
}

static int plain_scalar(const struct reader *r, const yaml_event_t *event, json_t **ret)
{
        const char *text = (const char *)event->data.scalar.value;
        bool whole = false;

        if (is_one_of(text, nulls, ARRAY_SIZE(nulls)))
                *ret = json_null();
        else if (is_one_of(text, trues, ARRAY_SIZE(trues)))
                *ret = json_true();
        else if (is_one_of(text, falses, ARRAY_SIZE(falses)))
                *ret = json_false();
        else if (is_ambiguous(text))
                return refuse(r, &event->start_mark,
                              "%.64s is one number in YAML 1.1 and another in 1.2: write it in "
                              "decimal, or in quotes if it is text",
                              text);
        else if (is_one_of(text, not_finite, ARRAY_SIZE(not_finite)))
                return refuse(r, &event->start_mark, "%s is not a number here", text);
        else if (is_number(text, &whole))
                return number(r, event, whole, ret);
        else
                *ret = json_string(text);
        return *ret ? 0 : -ENOMEM;
}

static int scalar(const struct reader *r, const yaml_event_t *event, json_t **ret)
{
        /* A plain scalar has no NUL character in it; one in quotes can, as "\0". */
        if (event->data.scalar.style == YAML_PLAIN_SCALAR_STYLE)
                return plain_scalar(r, event, ret);
        *ret = json_stringn((const char *)event->data.scalar.value, event->data.scalar.length);
        return *ret ? 0 : -ENOMEM;
}

/* --- nodes ------------------------------------------------------------------------------------ */

static int next_event(struct reader *r, yaml_event_t *ret)
{
        const yaml_char_t *anchor = NULL, *tag = NULL;

        if (!yaml_parser_parse(&r->parser, ret))
                return refuse_syntax(r);
        switch (ret->type) {
        case YAML_ALIAS_EVENT:
                return refuse(r, &ret->start_mark, "aliases are not supported: write it out");
        case YAML_SCALAR_EVENT:
                anchor = ret->data.scalar.anchor;
                tag = ret->data.scalar.tag;
                break;
        case YAML_SEQUENCE_START_EVENT:
                anchor = ret->data.sequence_start.anchor;
                tag = ret->data.sequence_start.tag;
                break;
        case YAML_MAPPING_START_EVENT:
                anchor = ret->data.mapping_start.anchor;
                tag = ret->data.mapping_start.tag;
                break;
        default:
                break;
        }
        if (anchor)
                return refuse(r, &ret->start_mark, "anchors are not supported");
        if (tag)
                return refuse(r, &ret->start_mark, "tags are not supported");
        return 0;
}

static int record(struct reader *r, const json_t *parent, size_t index, const yaml_mark_t *key,
                  const yaml_mark_t *value)
{
        struct yaml_documents *docs = r->docs;

        if (docs->n_positions == POLICY_NODES_MAX)
                return refuse(r, value, "there are more than %u values in this file",
                              POLICY_NODES_MAX);
        if (docs->n_positions == r->positions_allocated) {
                size_t more = r->positions_allocated ? 2 * r->positions_allocated : 256;
                struct yaml_position *v = reallocarray(docs->positions, more, sizeof(*v));

                if (!v)
                        return -ENOMEM;
                docs->positions = v;
                r->positions_allocated = more;
        }
        docs->positions[docs->n_positions++] = (struct yaml_position){
            .parent = parent,
            .index = (uint32_t)index,
            .line = (uint32_t)value->line,
            .column = (uint32_t)value->column,
            .key_line = (uint32_t)key->line,
            .key_column = (uint32_t)key->column,
        };
        return 0;
}

static int node(struct reader *r, const yaml_event_t *event, unsigned int depth, json_t **ret);

static int sequence(struct reader *r, unsigned int depth, json_t **ret)
{
        _cleanup_(json_decrefp) json_t *array = json_array();

        if (!array)
                return -ENOMEM;
        for (;;) {
                _cleanup_(yaml_event_deletep) yaml_event_t *event = &(yaml_event_t){};
                json_t *value = NULL;
                int q;

                q = next_event(r, event);
                if (q < 0)
                        return q;
                if (event->type == YAML_SEQUENCE_END_EVENT)
                        break;
                q = record(r, array, json_array_size(array), &event->start_mark,
                           &event->start_mark);
                if (q == 0)
                        q = node(r, event, depth, &value);
                if (q < 0)
                        return q;
                if (json_array_append_new(array, value) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(array);
        return 0;
}

/* A key that is a text, as JSON's are; 80 and true are taken for theirs. */
static int check_key(const struct reader *r, const json_t *object, const yaml_event_t *event)
{
        const char *key = (const char *)event->data.scalar.value;
        char quoted[POLICY_QUOTE_MAX];

        if (event->type != YAML_SCALAR_EVENT)
                return refuse(r, &event->start_mark, "a key has to be a text");
        if (strlen(key) != event->data.scalar.length)
                return refuse(r, &event->start_mark, "a key has a NUL character in it");
        if (json_object_get(object, key))
                return refuse(r, &event->start_mark, "%s is here twice",
                              policy_quote(key, strlen(key), quoted));
        return 0;
}

static int mapping(struct reader *r, unsigned int depth, json_t **ret)
{
        _cleanup_(json_decrefp) json_t *object = json_object();

        if (!object)
                return -ENOMEM;
        for (;;) {
                _cleanup_(yaml_event_deletep) yaml_event_t *key = &(yaml_event_t){};
                _cleanup_(yaml_event_deletep) yaml_event_t *event = &(yaml_event_t){};
                json_t *value = NULL;
                int q;

                q = next_event(r, key);
                if (q < 0)
                        return q;
                if (key->type == YAML_MAPPING_END_EVENT)
                        break;
                q = check_key(r, object, key);
                if (q == 0)
                        q = next_event(r, event);
                if (q == 0)
                        q = record(r, object, json_object_size(object), &key->start_mark,
                                   &event->start_mark);
                if (q == 0)
                        q = node(r, event, depth, &value);
                if (q < 0)
                        return q;
                if (json_object_set_new(object, (const char *)key->data.scalar.value, value) < 0)
                        return -ENOMEM;
        }
        *ret = TAKE_PTR(object);
        return 0;
}

/* The value that begins with an event, which is a scalar's or a collection's. */
static int node(struct reader *r, const yaml_event_t *event, unsigned int depth, json_t **ret)
{
        if (event->type == YAML_SCALAR_EVENT)
                return scalar(r, event, ret);
        if (depth == POLICY_DEPTH_MAX)
                return refuse(r, &event->start_mark, "this is nested more than %d deep",
                              POLICY_DEPTH_MAX);
        return event->type == YAML_SEQUENCE_START_EVENT ? sequence(r, depth + 1, ret)
                                                        : mapping(r, depth + 1, ret);
}

/* --- documents -------------------------------------------------------------------------------- */

static int document(struct reader *r)
{
        _cleanup_(yaml_event_deletep) yaml_event_t *event = &(yaml_event_t){};
        _cleanup_(yaml_event_deletep) yaml_event_t *end = &(yaml_event_t){};
        _cleanup_(json_decrefp) json_t *value = NULL;
        struct yaml_documents *docs = r->docs;
        int q;

        q = next_event(r, event);
        if (q == 0)
                q = node(r, event, 0, &value);
        if (q == 0)
                q = next_event(r, end);
        if (q < 0 || json_is_null(value))
                return q;
        if (docs->n == POLICY_POLICIES_MAX)
                return refuse(r, &event->start_mark, "there are more than %d policies in this file",
                              POLICY_POLICIES_MAX);
        q = record(r, NULL, docs->n, &event->start_mark, &event->start_mark);
        if (q < 0)
                return q;
        if (docs->n == r->docs_allocated) {
                size_t more = r->docs_allocated ? 2 * r->docs_allocated : 16;
                json_t **v = reallocarray(docs->v, more, sizeof(json_t *));

                if (!v)
                        return -ENOMEM;
                docs->v = v;
                r->docs_allocated = more;
        }
        docs->v[docs->n++] = TAKE_PTR(value);
        return 0;
}

static int documents(struct reader *r)
{
        for (;;) {
                _cleanup_(yaml_event_deletep) yaml_event_t *event = &(yaml_event_t){};
                int q;

                q = next_event(r, event);
                if (q < 0)
                        return q;
                if (event->type == YAML_STREAM_END_EVENT)
                        return 0;
                if (event->type != YAML_DOCUMENT_START_EVENT)
                        continue; /* the stream's start */
                if (event->data.document_start.tag_directives.start !=
                    event->data.document_start.tag_directives.end)
                        return refuse(r, &event->start_mark, "tags are not supported");
                q = document(r);
                if (q < 0)
                        return q;
        }
}

int yaml_documents_parse(const char *text, size_t len, struct yaml_documents **ret,
                         struct policy_error *ret_error)
{
        _cleanup_(yaml_documents_freep) struct yaml_documents *docs = NULL;
        _cleanup_(yaml_parser_deletep) yaml_parser_t *parser = NULL;
        struct reader r = {.text = text, .len = len, .error = ret_error};
        int q;

        if (len > POLICY_FILE_MAX)
                return refuse(&r, &(yaml_mark_t){}, "the file is larger than %u MiB",
                              POLICY_FILE_MAX >> 20);
        docs = new0(struct yaml_documents, 1);
        if (!docs || !yaml_parser_initialize(&r.parser))
                return -ENOMEM;
        parser = &r.parser;
        r.docs = docs;
        yaml_parser_set_encoding(parser, YAML_UTF8_ENCODING);
        yaml_parser_set_input_string(parser, (const unsigned char *)text, len);
        q = documents(&r);
        if (q < 0)
                return q;
        *ret = TAKE_PTR(docs);
        return 0;
}

void yaml_documents_locate(const struct yaml_documents *docs, size_t n, struct policy_error *error)
{
        size_t index = error->parent ? error->index : n;

        for (size_t i = 0; i < docs->n_positions; i++) {
                const struct yaml_position *p = &docs->positions[i];

                if (p->parent != error->parent || p->index != index)
                        continue;
                error->line = (error->on_key ? p->key_line : p->line) + 1UL;
                error->column = (error->on_key ? p->key_column : p->column) + 1UL;
                return;
        }
}

/* --- policies --------------------------------------------------------------------------------- */

void policy_list_clear(struct policy_list *list)
{
        for (size_t i = 0; i < list->n; i++)
                policy_free(list->v[i]);
        free(list->v);
        *list = (struct policy_list){};
}

/* For sorting: policies with the same name beside one another, in the order of the file. */
struct named {
        const struct policy *policy;
        size_t index;
};

static int compare_names(const void *a, const void *b)
{
        const struct named *x = a, *y = b;
        int order = strcmp(x->policy->network, y->policy->network);

        if (order == 0)
                order = strcmp(x->policy->name, y->policy->name);
        if (order == 0)
                order = x->index < y->index ? -1 : 1;
        return order;
}

/* The first policy whose name one before it has. */
static int check_names(const struct yaml_documents *docs, const struct policy_list *list,
                       struct policy_error *error)
{
        _cleanup_free_ struct named *names = new0(struct named, list->n + 1);
        size_t second = list->n;

        if (!names)
                return -ENOMEM;
        for (size_t i = 0; i < list->n; i++)
                names[i] = (struct named){list->v[i], i};
        qsort(names, list->n, sizeof(*names), compare_names);
        for (size_t i = 1; i < list->n; i++) {
                const struct policy *a = names[i - 1].policy, *b = names[i].policy;

                if (strcmp(a->name, b->name) == 0 && strcmp(a->network, b->network) == 0 &&
                    names[i].index < second)
                        second = names[i].index;
        }
        if (second == list->n)
                return 0;
        *error = (struct policy_error){};
        snprintf(error->text, sizeof(error->text), "the policy %s/%s is in this file twice",
                 list->v[second]->network, list->v[second]->name);
        yaml_documents_locate(docs, second, error);
        return -EINVAL;
}

int policy_list_from_yaml(const char *text, size_t len, struct policy_list *ret,
                          struct policy_error *ret_error)
{
        _cleanup_(yaml_documents_freep) struct yaml_documents *docs = NULL;
        _cleanup_(policy_list_clearp) struct policy_list *list = &(struct policy_list){};
        int r;

        r = yaml_documents_parse(text, len, &docs, ret_error);
        if (r < 0)
                return r;
        assert(docs); /* which clang-tidy 14 does not see */
        list->v = new0(struct policy *, docs->n + 1);
        if (!list->v)
                return -ENOMEM;
        for (; list->n < docs->n; list->n++) {
                r = policy_from_json(docs->v[list->n], &list->v[list->n], ret_error);
                if (r == -EINVAL)
                        yaml_documents_locate(docs, list->n, ret_error);
                if (r < 0)
                        return r;
        }
        r = check_names(docs, list, ret_error);
        if (r < 0)
                return r;
        *ret = *TAKE_PTR(list);
        return 0;
}
