/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/trace_file.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct seen {
	uint64_t id;
	size_t at;
};

static int by_id(const void *a, const void *b)
{
	const struct seen *x = a, *y = b;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return 0;
}

/* Gives equal ids one number. */
static void number_blocks(struct trace_file *trace, struct seen *seen, size_t count)
{
	qsort(seen, count, sizeof(*seen), by_id);
	for (size_t i = 0; i < count; i++) {
		trace->distinct += i == 0 || seen[i].id != seen[i - 1].id;
		trace->blocks[seen[i].at] = trace->distinct - 1;
	}
}

static size_t add_request(struct seen **seen, size_t count, const char *line)
{
	json_t *request = json_loads(line, 0, NULL);

	assert_non_null(request);
	json_t *ids = json_object_get(request, "hash_ids");
	size_t added = json_array_size(ids);
	*seen = realloc(*seen, (count + added + 1) * sizeof(**seen));
	assert_non_null(*seen);

	for (size_t i = 0; i < added; i++)
		(*seen)[count + i] = (struct seen){
			(uint64_t)json_integer_value(json_array_get(ids, i)), count + i};

	json_decref(request);

	return count + added;
}

void trace_file_read(struct trace_file *trace, const char *path, size_t limit)
{
	FILE *in = fopen(path, "r");
	char *line = NULL;
	size_t size = 0, count = 0;
	struct seen *seen = NULL;

	*trace = (struct trace_file){.starts = calloc(limit + 1, sizeof(*trace->starts))};
	assert_non_null(in);
	assert_non_null(trace->starts);

	while (trace->request_count < limit && getline(&line, &size, in) > 0) {
		count = add_request(&seen, count, line);
		trace->starts[++trace->request_count] = count;
	}

	trace->blocks = calloc(count + 1, sizeof(*trace->blocks));
	assert_non_null(trace->blocks);
	number_blocks(trace, seen, count);
	free(seen);
	free(line);
	fclose(in);
}

void trace_file_free(struct trace_file *trace)
{
	free(trace->blocks);
	free(trace->starts);
}
