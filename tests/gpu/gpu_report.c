/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_report: makes one document of records (record.h) on standard input.
 *
 *	gpu_report json [KEY=VALUE...]
 *		{"run": {KEY: VALUE}, "summary": {OUTCOME: count}, "parts": {PART: [...]}}
 *	gpu_report markdown [KEY=VALUE...]
 *		a paragraph and a table for each part
 *	gpu_report fails
 *		nothing; exit status 1 if there is a FAIL, or no record
 *
 * A line that is not a record makes the exit status 3; what was written before it stays.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FIELDS 6
#define BAD_RECORD 3

enum field { PART, NAME, OUTCOME, VALUE, UNIT, NOTE };

static json_t *value_of(const char *text)
{
	char *end;
	double number = strtod(text, &end);

	if (text[0] == '\0')
		return json_null();
	return *end == '\0' ? json_real(number) : json_string(text);
}

/* Cuts the line at its tabs. */
static bool split(char *line, char *fields[FIELDS])
{
	line[strcspn(line, "\n")] = '\0';
	for (int i = 0; i < FIELDS; i++) {
		fields[i] = strsep(&line, "\t");
		if (!fields[i])
			return false;
	}

	return line == NULL && fields[PART][0] != '\0' && fields[NAME][0] != '\0';
}

static void count_outcome(json_t *summary, const char *outcome)
{
	json_int_t count = json_integer_value(json_object_get(summary, outcome));
	json_object_set_new(summary, outcome, json_integer(count + 1));
}

static void add_record(json_t *document, char *fields[FIELDS])
{
	json_t *parts = json_object_get(document, "parts");
	json_t *part = json_object_get(parts, fields[PART]);

	if (!part) {
		part = json_array();
		json_object_set_new(parts, fields[PART], part);
	}

	json_array_append_new(part,
			      json_pack("{s:s,s:s,s:o,s:s,s:s}", "name", fields[NAME], "outcome",
					fields[OUTCOME], "value", value_of(fields[VALUE]), "unit",
					fields[UNIT], "note", fields[NOTE]));
	count_outcome(json_object_get(document, "summary"), fields[OUTCOME]);
}

static bool read_records(json_t *document)
{
	char *line = NULL;
	size_t size = 0;
	bool good = true;

	while (getline(&line, &size, stdin) > 0) {
		char *fields[FIELDS];
		bool whole = split(line, fields);

		if (whole)
			add_record(document, fields);
		good = good && whole;
	}

	free(line);

	return good;
}

static void read_run(json_t *document, char **arguments)
{
	json_t *run = json_object_get(document, "run");

	for (; *arguments; arguments++) {
		char *equals = strchr(*arguments, '=');

		if (!equals)
			continue;
		*equals = '\0';
		json_object_set_new(run, *arguments, json_string(equals + 1));
	}
}

/* ---- Markdown ---- */

/* A cell, in which a bar would end it. */
static void put_cell(const char *text)
{
	for (; *text; text++)
		printf(*text == '|' ? "\\|" : "%c", *text);
}

static void put_value(const json_t *record)
{
	const json_t *value = json_object_get(record, "value");

	if (json_is_real(value))
		printf("%.10g", json_real_value(value));
	else if (json_is_string(value))
		put_cell(json_string_value(value));

	printf(" %s", json_string_value(json_object_get(record, "unit")));
}

static void put_part(const char *part, json_t *records)
{
	json_t *record;
	size_t i;

	printf("\n## %s\n\n| what | outcome | value | seen |\n|---|---|---|---|\n", part);

	json_array_foreach(records, i, record)
	{
		printf("| ");
		put_cell(json_string_value(json_object_get(record, "name")));
		printf(" | %s | ", json_string_value(json_object_get(record, "outcome")));
		put_value(record);
		printf(" | ");
		put_cell(json_string_value(json_object_get(record, "note")));
		printf(" |\n");
	}
}

static void put_markdown(json_t *document)
{
	const char *key;
	json_t *value;

	json_object_foreach(json_object_get(document, "run"), key, value)
		printf("%s: %s  \n", key, json_string_value(value));
	json_object_foreach(json_object_get(document, "summary"), key, value)
		printf("%s: %lld  \n", key, (long long)json_integer_value(value));
	json_object_foreach(json_object_get(document, "parts"), key, value) put_part(key, value);
}

static bool has_failed(json_t *document)
{
	json_t *summary = json_object_get(document, "summary");
	return json_object_size(summary) == 0 || json_object_get(summary, "FAIL") != NULL;
}

int main(int argc, char **argv)
{
	json_t *document = json_pack("{s:{},s:{},s:{}}", "run", "summary", "parts");
	bool good;
	int status = 0;

	if (argc < 2 || !document) {
		fprintf(stderr, "usage: gpu_report json|markdown|fails [KEY=VALUE...] <RECORDS\n");
		return 2;
	}

	read_run(document, argv + 2);
	good = read_records(document);
	if (strcmp(argv[1], "json") == 0)
		good = json_dumpf(document, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(10)) ==
			       0 &&
		       putchar('\n') && good;
	else if (strcmp(argv[1], "markdown") == 0)
		put_markdown(document);
	else
		status = has_failed(document);

	json_decref(document);

	return good ? status : BAD_RECORD;
}
