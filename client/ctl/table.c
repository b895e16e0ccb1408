/* SPDX-License-Identifier: Apache-2.0 */
/* table: see table.h. */
#include "client/ctl/table.h"

#include <errno.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#define COLUMN_GAP 2

struct table {
	struct table_column *columns;
	size_t column_count;
	char **cells; /* row by row */
	size_t cell_count, cell_room;
	bool incomplete; /* an allocation failed */
};

struct table *table_new(const struct table_column *columns, size_t count)
{
	struct table *table = calloc(1, sizeof(*table));
	struct table_column *copy = calloc(count, sizeof(*copy));
	if (!table || !copy) {
		free(table);
		free(copy);
		return NULL;
	}

	memcpy(copy, columns, count * sizeof(*copy));
	table->columns = copy;
	table->column_count = count;

	return table;
}

struct table *table_free(struct table *table)
{
	if (!table)
		return NULL;

	for (size_t i = 0; i < table->cell_count; i++)
		free(table->cells[i]);
	free(table->cells);
	free(table->columns);
	free(table);

	return NULL;
}

static bool table_make_room(struct table *table)
{
	if (table->cell_count < table->cell_room)
		return true;

	size_t room = table->cell_room ? 2 * table->cell_room : 64;
	char **cells = reallocarray(table->cells, room, sizeof(*cells));
	if (!cells)
		return false;

	table->cells = cells;
	table->cell_room = room;

	return true;
}

/* The C0 set, DEL, and the C1 set as UTF-8 writes it: terminals act on all of them. */
static void table_replace_controls(char *text)
{
	for (unsigned char *c = (unsigned char *)text; *c; c++) {
		if (*c < 0x20 || *c == 0x7f)
			*c = '?';
		else if (c[0] == 0xc2 && c[1] >= 0x80 && c[1] <= 0x9f)
			c[0] = c[1] = '?';
	}
}

void table_cell(struct table *table, const char *format, ...)
{
	if (!table)
		return;

	char *text = NULL;
	va_list arguments;
	va_start(arguments, format);
	int length = vasprintf(&text, format, arguments);
	va_end(arguments);

	if (length < 0 || !table_make_room(table)) {
		table->incomplete = true;
		free(length < 0 ? NULL : text);
		return;
	}

	table_replace_controls(text);
	table->cells[table->cell_count++] = text;
}

/* Columns on a terminal, counting each UTF-8 character as one. */
static size_t table_width_of(const char *text)
{
	size_t width = 0;
	for (; *text; text++)
		width += ((unsigned char)*text & 0xc0) != 0x80;
	return width;
}

static size_t table_column_width(const struct table *table, size_t column)
{
	const char *header = table->columns[column].header;
	size_t width = header ? table_width_of(header) : 0;
	for (size_t i = column; i < table->cell_count; i += table->column_count) {
		size_t w = table_width_of(table->cells[i]);
		width = w > width ? w : width;
	}

	return width;
}

/* Spaces are printed before the next text, so that no line ends in them. *owed counts the
 * spaces not printed yet. */
static void table_print_cell(const struct table *table, size_t column, size_t width,
			     const char *text, size_t *owed, FILE *out)
{
	size_t pad = width - table_width_of(text);
	bool right = table->columns[column].right;
	if (right)
		*owed += pad;

	if (*text) {
		fprintf(out, "%*s%s", (int)*owed, "", text);
		*owed = 0;
	}

	if (!right)
		*owed += pad;

	*owed += COLUMN_GAP;
	if (column + 1 == table->column_count) {
		putc('\n', out);
		*owed = 0;
	}
}

static bool table_has_header(const struct table *table)
{
	for (size_t i = 0; i < table->column_count; i++) {
		if (table->columns[i].header)
			return true;
	}
	return false;
}

static void table_print_rows(const struct table *table, const size_t *widths, FILE *out)
{
	size_t columns = table->column_count, owed = 0;
	for (size_t i = 0; table_has_header(table) && i < columns; i++)
		table_print_cell(table, i, widths[i],
				 table->columns[i].header ? table->columns[i].header : "", &owed,
				 out);

	size_t rows = (table->cell_count + columns - 1) / columns;
	for (size_t i = 0; i < rows * columns; i++)
		table_print_cell(table, i % columns, widths[i % columns],
				 i < table->cell_count ? table->cells[i] : "", &owed, out);
}

int table_print(const struct table *table, FILE *out)
{
	if (!table || table->incomplete)
		return -ENOMEM;

	size_t *widths = calloc(table->column_count, sizeof(*widths));
	if (!widths)
		return -ENOMEM;

	for (size_t i = 0; i < table->column_count; i++)
		widths[i] = table_column_width(table, i);
	table_print_rows(table, widths, out);
	free(widths);

	return 0;
}

int table_finish(struct table *table, FILE *out)
{
	int r = table_print(table, out);
	table_free(table);
	return r;
}
