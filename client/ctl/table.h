/* SPDX-License-Identifier: Apache-2.0 */
/*
 * table: aligned columns for people. Cells are added row by row, left to right; the table
 * is printed once it is whole, because only then the widths are known. Cells may hold
 * untrusted text (the name of a session), so control characters are shown as '?'.
 *
 * A failed allocation is remembered and returned by table_print(); the calls before it
 * need no check.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct table;

struct table_column {
	const char *header; /* NULL in every column: the table has no header line */
	bool right;         /* numbers */
};

/* The columns are copied, their headers borrowed. NULL: out of memory; every other call
 * accepts NULL. */
struct table *table_new(const struct table_column *columns, size_t count);
struct table *table_free(struct table *table); /* takes NULL, returns NULL */
/* Appends one cell to the current row; after `count` cells the next row begins. */
void table_cell(struct table *table, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* A last row that is not full is padded. 0, or -ENOMEM if something is missing (then
 * nothing is printed). */
int table_print(const struct table *table, FILE *out);
/* table_print and table_free. */
int table_finish(struct table *table, FILE *out);
