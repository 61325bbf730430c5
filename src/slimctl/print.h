/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/*
 * The one way things reach standard output: text for people, or JSON for programs.
 *
 * What comes from slimd may have been written by another host: control characters in it are
 * printed as "?", so that nothing drives the terminal.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

enum print_kind {
        PRINT_TEXT,  /* strings, numbers, yes or no; null and what is missing: "-" */
        PRINT_BYTES, /* a number of bytes, in the unit that suits it */
        PRINT_LIST,  /* a list of strings, with commas between; an empty one: "-" */
        PRINT_PAIRS, /* an object of strings and integers, as KEY=VALUE with commas between; empty:
                        "-" */
};

struct print_column {
        const char *title;
        const char *key; /* of the objects in the list */
        enum print_kind kind;
        int width; /* of a column of print_row(), which knows no other rows */
};

/* A JSON document and a line end. */
void print_json(const json_t *value);

/* An object as YAML, which reads back as what it was. */
void print_yaml(const json_t *value);

/* A list of objects as a table, with a line of titles; numbers stand to the right. */
void print_table(const json_t *list, const struct print_column *columns, size_t n);

/* One row of a table that has no end; NULL: its titles. A text that is too long pushes the others.
 */
void print_row(const json_t *row, const struct print_column *columns, size_t n);

/* JSON in one line. */
void print_json_line(const json_t *value);

/* "title  value" lines. Values are given as text or as JSON (either NULL: the line is left out). */
struct print_field {
        const char *title;
        const char *text;
        const json_t *value;
        enum print_kind kind;
};
void print_fields(const struct print_field *fields, size_t n);

/* 0, or -EIO and the like when standard output did not take everything. */
int print_finish(void);
