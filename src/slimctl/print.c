/* SPDX-License-Identifier: Apache-2.0 */
#include "print.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "../basic/alloc.h"

#define GAP 2 /* blanks between two columns */

/* How many columns of a terminal UTF-8 text takes: one for each character will do here. */
static int width_of(const char *text)
{
        int w = 0;

        for (; *text; text++)
                w += ((unsigned char)*text & 0xc0) != 0x80;
        return w;
}

static void disarm(char *text)
{
        for (; *text; text++) {
                unsigned char c = (unsigned char)*text;

                /* C0, DEL, and C1, which in UTF-8 is 0xc2 0x80 to 0xc2 0x9f. */
                if (c < 0x20 || c == 0x7f)
                        *text = '?';
                else if (c == 0xc2 && (unsigned char)text[1] < 0xa0 && text[1] != '\0')
                        text[0] = text[1] = '?';
        }
}

static char *format_bytes(json_int_t n)
{
        static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
        double v = (double)n;
        size_t u = 0;
        char *s;

        while (v >= 1024 && u + 1 < ARRAY_SIZE(units)) {
                v /= 1024;
                u++;
        }
        if (asprintf(&s, u == 0 ? "%.0f %s" : "%.1f %s", v, units[u]) < 0)
                return NULL;
        return s;
}

static int compare_texts(const void *a, const void *b)
{
        return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* A list of texts, which are few. */
static char *format_list(const json_t *list)
{
        char *text = strdup("");
        const json_t *item;
        size_t i;

        json_array_foreach (list, i, item) {
                _cleanup_free_ char *before = text;

                if (!before || asprintf(&text, "%s%s%s", before, i ? ", " : "",
                                        json_string_value(item) ?: "?") < 0)
                        return NULL;
        }
        return text;
}

/* By their keys, which is how one looks for one. */
static char *format_pairs(const json_t *pairs)
{
        _cleanup_free_ const char **keys = new0(const char *, json_object_size(pairs) + 1);
        char *text = strdup("");
        size_t n = 0;
        const char *key;
        json_t *value;

        if (!keys) {
                free(text);
                return NULL;
        }
        json_object_foreach ((json_t *)pairs, key, value)
                keys[n++] = key;
        qsort(keys, n, sizeof(*keys), compare_texts);
        for (size_t i = 0; i < n; i++) {
                const json_t *v = json_object_get(pairs, keys[i]);
                _cleanup_free_ char *before = text, *number = NULL;

                if (json_is_integer(v))
                        number = json_dumps(v, JSON_ENCODE_ANY);
                if (!before || asprintf(&text, "%s%s%s=%s", before, i ? "," : "", keys[i],
                                        number ?: json_string_value(v) ?: "?") < 0)
                        return NULL;
        }
        return text;
}

static char *format_value(const json_t *v, enum print_kind kind)
{
        char *s = NULL;

        if (kind == PRINT_BYTES && json_is_integer(v))
                return format_bytes(json_integer_value(v));
        if (kind == PRINT_LIST && json_array_size(v) > 0)
                s = format_list(v);
        else if (kind == PRINT_PAIRS && json_object_size(v) > 0)
                s = format_pairs(v);
        else if (!v || kind == PRINT_LIST || kind == PRINT_PAIRS || json_is_null(v))
                s = strdup("-");
        else if (json_is_string(v))
                s = strdup(json_string_length(v) > 0 ? json_string_value(v) : "-");
        else if (json_is_boolean(v))
                s = strdup(json_is_true(v) ? "yes" : "no");
        else
                s = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
        if (s)
                disarm(s);
        return s;
}

void print_json(const json_t *value)
{
        json_dumpf(value, stdout, JSON_INDENT(2) | JSON_ENCODE_ANY);
        putchar('\n');
}

/* Of these, the keys are a person's, who may have called one "no" or "1". */
static bool has_any_keys(const char *key)
{
        return key && (strcmp(key, "matchLabels") == 0 || strcmp(key, "labels") == 0 ||
                       strcmp(key, "annotations") == 0);
}

static bool is_empty(const json_t *v)
{
        return (json_is_object(v) && json_object_size(v) == 0) ||
               (json_is_array(v) && json_array_size(v) == 0);
}

/* A value behind "KEY:", or behind "-" in a list, whose first member stands on the same line. */
static void put_yaml(const json_t *v, const char *key_of_v, int indent, bool in_list)
{
        bool quoted = has_any_keys(key_of_v), on_line = in_list;
        const char *key;
        json_t *item;
        size_t i;

        if (is_empty(v) || (!json_is_object(v) && !json_is_array(v))) {
                putchar(' ');
                json_dumpf(v, stdout, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
                putchar('\n');
                return;
        }
        if (!in_list)
                putchar('\n');
        json_array_foreach (v, i, item) {
                printf("%*s-", on_line ? 1 : indent, "");
                on_line = false;
                put_yaml(item, NULL, indent + 2, true);
        }
        json_object_foreach ((json_t *)v, key, item) {
                printf("%*s%s%s%s:", on_line ? 1 : indent, "", quoted ? "\"" : "", key,
                       quoted ? "\"" : "");
                on_line = false;
                put_yaml(item, key, indent + 2, false);
        }
}

void print_yaml(const json_t *value)
{
        const char *key;
        json_t *item;

        json_object_foreach ((json_t *)value, key, item) {
                printf("%s:", key);
                put_yaml(item, key, 2, false);
        }
}

/* Prints a cell. The last one of a line has no blanks behind it. */
static void put_cell(const char *text, int width, bool right, bool last)
{
        int blanks = width - width_of(text);

        if (blanks < 0)
                blanks = 0;
        if (right)
                printf("%*s%s", blanks, "", text);
        else
                printf("%s%*s", text, last ? 0 : blanks, "");
        printf(last ? "\n" : "%*s", GAP, "");
}

/* Frees a matrix of texts. */
struct cells {
        char **text;
        size_t n;
};

static void cells_clear(struct cells *c)
{
        for (size_t i = 0; c->text && i < c->n; i++)
                free(c->text[i]);
        free(c->text);
}

void print_table(const json_t *list, const struct print_column *columns, size_t n)
{
        _cleanup_(cells_clear) struct cells cells = {.n = json_array_size(list) * n};
        _cleanup_free_ int *width = new0(int, n);
        _cleanup_free_ bool *right = new0(bool, n);
        const json_t *row;
        size_t i;

        cells.text = new0(char *, cells.n + 1);
        if (!cells.text || !width || !right)
                return;
        for (size_t c = 0; c < n; c++)
                width[c] = width_of(columns[c].title);
        json_array_foreach (list, i, row) {
                for (size_t c = 0; c < n; c++) {
                        const json_t *v = json_object_get(row, columns[c].key);
                        char *s = format_value(v, columns[c].kind);
                        int w = width_of(s ?: "?");

                        cells.text[i * n + c] = s;
                        right[c] |= json_is_number(v);
                        if (w > width[c])
                                width[c] = w;
                }
        }

        for (size_t c = 0; c < n; c++)
                put_cell(columns[c].title, width[c], right[c], c + 1 == n);
        for (i = 0; i < cells.n; i++)
                put_cell(cells.text[i] ?: "?", width[i % n], right[i % n], i % n + 1 == n);
}

void print_row(const json_t *row, const struct print_column *columns, size_t n)
{
        for (size_t c = 0; c < n; c++) {
                _cleanup_free_ char *s =
                    row ? format_value(json_object_get(row, columns[c].key), columns[c].kind)
                        : strdup(columns[c].title);

                put_cell(s ?: "?", columns[c].width, false, c + 1 == n);
        }
}

void print_json_line(const json_t *value)
{
        json_dumpf(value, stdout, JSON_COMPACT | JSON_ENCODE_ANY);
        putchar('\n');
}

void print_fields(const struct print_field *fields, size_t n)
{
        int width = 0;

        for (size_t i = 0; i < n; i++)
                if ((fields[i].text || fields[i].value) && width_of(fields[i].title) > width)
                        width = width_of(fields[i].title);
        for (size_t i = 0; i < n; i++) {
                _cleanup_free_ char *s = NULL;

                if (fields[i].text) {
                        s = strdup(fields[i].text);
                        if (s)
                                disarm(s);
                } else if (fields[i].value) {
                        s = format_value(fields[i].value, fields[i].kind);
                } else {
                        continue;
                }
                put_cell(fields[i].title, width, false, false);
                put_cell(s ?: "?", 0, false, true);
        }
}

int print_finish(void)
{
        if (fflush(stdout) != 0 || ferror(stdout))
                return errno ? -errno : -EIO;
        return 0;
}
