/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WORDS 16
#define HBMCTL_LABEL 64

char hbmctl_output[HBMCTL_OUTPUT];
struct kv hbmctl_kv;
static unsigned fds_before;

void hbmctl_begin(void)
{
	spawn_start(&daemon_, NULL, NULL);
	fds_before = spawn_fds(&daemon_);
	kv_open(&hbmctl_kv, &daemon_, 0, HBMCTL_BLOCK, HBMCTL_STORED);
	assert_int_equal(kv_store(&hbmctl_kv, 0, 1, HBMCTL_STORED, 0, NULL), 0);
}

void hbmctl_finish(void)
{
	kv_close(&hbmctl_kv);
	stage_finish(fds_before);
}

int hbmctl_run(const char *line)
{
	char copy[1024], *rest = copy;
	const char *words[WORDS + 1] = {NULL};
	size_t count = 0;

	snprintf(copy, sizeof(copy), "%s", line);

	for (char *word; (word = strsep(&rest, " ")) != NULL && count < WORDS;) {
		if (*word)
			words[count++] = word;
	}

	int status = spawn_hbmctl(&daemon_, words, hbmctl_output, HBMCTL_OUTPUT);
	assert_in_range(strlen(hbmctl_output), 0, HBMCTL_OUTPUT - 2);

	return status;
}

void hbmctl_expect(const char *line, int expected)
{
	int status = hbmctl_run(line);
	if (status != expected)
		fail_msg("hbmctl %s: exit status %d, not %d: %s", line, status, expected,
			 hbmctl_output);
}

void hbmctl_expect_text(const char *line, const char *text)
{
	if (!strstr(hbmctl_output, text))
		fail_msg("hbmctl %s: there is no \"%s\" in: %s", line, text, hbmctl_output);
}

void hbmctl_expect_row(const char *line, const char *label, const char *value)
{
	char begin[HBMCTL_LABEL];

	snprintf(begin, sizeof(begin), "\n%s ", label);
	const char *row = strstr(hbmctl_output, begin);
	const char *found = row ? row + strlen(begin) + strspn(row + strlen(begin), " ") : "\n";
	if (strncmp(found, value, strlen(value)) != 0 || found[strlen(value)] != '\n')
		fail_msg("hbmctl %s: %s is not %s in: %s", line, label, value, hbmctl_output);
}

size_t hbmctl_line_count(void)
{
	size_t count = 0;
	for (const char *c = hbmctl_output; *c; c++)
		count += *c == '\n';
	return count;
}

void hbmctl_expect_refusal(const char *line, int status, const char *text)
{
	hbmctl_expect(line, status);
	hbmctl_expect_text(line, text);
	if (hbmctl_line_count() != 1)
		fail_msg("hbmctl %s: not one line: %s", line, hbmctl_output);
	assert_memory_equal(hbmctl_output, "hbmctl: ", strlen("hbmctl: "));
}

json_t *hbmctl_json(const char *line)
{
	char all[1024];
	json_error_t error;

	snprintf(all, sizeof(all), "--json %s", line);
	hbmctl_expect(all, 0);
	json_t *document = json_loads(hbmctl_output, JSON_REJECT_DUPLICATES, &error);
	if (!document)
		fail_msg("hbmctl %s: %s: %s", all, error.text, hbmctl_output);

	return document;
}

/* ---- Reading what it printed ---- */

json_t *hbmctl_member(const json_t *object, const char *name)
{
	json_t *value = json_object_get(object, name);
	if (!value)
		fail_msg("there is no \"%s\" in: %s", name, hbmctl_output);
	return value;
}

uint64_t hbmctl_count(const json_t *object, const char *name)
{
	const json_t *value = hbmctl_member(object, name);
	assert_int_equal(json_typeof(value), JSON_INTEGER);
	assert_in_range(json_integer_value(value), 0, INT64_MAX);
	return (uint64_t)json_integer_value(value);
}

const char *hbmctl_text(const json_t *object, const char *name)
{
	const json_t *value = hbmctl_member(object, name);
	assert_int_equal(json_typeof(value), JSON_STRING);
	return json_string_value(value);
}

double hbmctl_real(const json_t *object, const char *name)
{
	const json_t *value = hbmctl_member(object, name);
	assert_int_equal(json_typeof(value), JSON_REAL);
	return json_real_value(value);
}

json_t *hbmctl_array(const json_t *object, const char *name)
{
	json_t *value = hbmctl_member(object, name);
	assert_int_equal(json_typeof(value), JSON_ARRAY);
	return value;
}

uint64_t hbmctl_limit_used(const char *name)
{
	json_t *document = hbmctl_json("--json limits");
	const json_t *limits = hbmctl_array(document, "limits");
	uint64_t used = UINT64_MAX;

	for (size_t i = 0; i < json_array_size(limits); i++)
		if (strcmp(hbmctl_text(json_array_get(limits, i), "name"), name) == 0)
			used = hbmctl_count(json_array_get(limits, i), "used");

	assert_int_not_equal(used, UINT64_MAX);
	json_decref(document);

	return used;
}
