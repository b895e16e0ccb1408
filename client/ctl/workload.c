/* SPDX-License-Identifier: Apache-2.0 */
/* workload: see workload.h. */
#include "client/ctl/workload.h"

#include <errno.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>

#define TIMESTAMP_MAX 9007199254740992.0 /* 2^53: to there a double counts each millisecond */

/* Room for one more line's worth of ids, kept between lines. */
struct id_buffer {
	uint64_t *ids;
	size_t count, room;
};

static int workload_grow(void **array, size_t *room, size_t needed, size_t element)
{
	if (needed <= *room)
		return 0;

	size_t more = *room ? 2 * *room : 64;
	more = more < needed ? needed : more;
	void *larger = reallocarray(*array, more, element);
	if (!larger)
		return -ENOMEM;

	*array = larger;
	*room = more;

	return 0;
}

struct workload *workload_free(struct workload *workload)
{
	if (!workload)
		return NULL;

	free(workload->requests);
	free(workload->ids);
	free(workload);

	return NULL;
}

int workload_add(struct workload *workload, const struct workload_request *request,
		 const uint64_t *ids, size_t count)
{
	struct workload *w = workload;
	if (workload_grow((void **)&w->requests, &w->request_room, w->request_count + 1,
			  sizeof(*w->requests)) < 0 ||
	    workload_grow((void **)&w->ids, &w->id_room, w->id_count + count, sizeof(*w->ids)) < 0)
		return -ENOMEM;

	struct workload_request *slot = &w->requests[w->request_count++];
	*slot = *request;
	slot->first = w->id_count;
	slot->count = count;
	if (count)
		memcpy(w->ids + w->id_count, ids, count * sizeof(*ids));

	w->id_count += count;
	w->longest = count > w->longest ? count : w->longest;

	return 0;
}

/* Describes what is wrong with the ids; NULL: nothing. */
static const char *workload_read_ids(const json_t *array, struct id_buffer *buffer)
{
	size_t count = json_array_size(array);

	if (!json_is_array(array))
		return "\"hash_ids\" is missing or no array";
	if (workload_grow((void **)&buffer->ids, &buffer->room, count, sizeof(*buffer->ids)) < 0)
		return "out of memory";

	for (size_t i = 0; i < count; i++) {
		const json_t *id = json_array_get(array, i);
		if (!json_is_integer(id) || json_integer_value(id) < 0)
			return "\"hash_ids\" holds something else than whole numbers from 0 on";
		buffer->ids[i] = (uint64_t)json_integer_value(id);
	}

	buffer->count = count;

	return NULL;
}

/* Optional lengths: absent is 0. */
static bool workload_read_length(const json_t *object, const char *name, uint64_t *length)
{
	const json_t *value = json_object_get(object, name);
	if (value && (!json_is_integer(value) || json_integer_value(value) < 0))
		return false;
	*length = value ? (uint64_t)json_integer_value(value) : 0;
	return true;
}

static const char *workload_read_request(const json_t *object, struct workload_request *request,
					 struct id_buffer *buffer)
{
	const json_t *timestamp = json_object_get(object, "timestamp");

	if (!json_is_object(object))
		return "expected an object";
	if (!json_is_number(timestamp) || json_number_value(timestamp) < 0 ||
	    json_number_value(timestamp) > TIMESTAMP_MAX)
		return "\"timestamp\" is missing or no number from 0 to 2^53";

	request->timestamp_ms = json_number_value(timestamp);
	if (!workload_read_length(object, "input_length", &request->input_length) ||
	    !workload_read_length(object, "output_length", &request->output_length))
		return "a length is no whole number from 0 on";

	return workload_read_ids(json_object_get(object, "hash_ids"), buffer);
}

static int workload_read_line(struct workload *workload, const char *line, size_t length,
			      struct id_buffer *buffer, char *error, size_t error_size)
{
	json_error_t wrong;
	struct workload_request request = {0};
	json_t *object = json_loadb(line, length, 0, &wrong);
	const char *problem = object ? workload_read_request(object, &request, buffer) : wrong.text;
	int r = problem ? -EINVAL : workload_add(workload, &request, buffer->ids, buffer->count);
	if (r < 0)
		snprintf(error, error_size, "%s", problem ? problem : "out of memory");

	json_decref(object);

	return r;
}

static bool workload_is_blank(const char *line)
{
	return line[strspn(line, " \t\r\n")] == '\0';
}

static int workload_read_lines(FILE *in, const char *name, size_t limit, struct workload *workload,
			       char *error, size_t size)
{
	char *line = NULL;
	size_t room = 0;
	struct id_buffer buffer = {0};
	int r = 0;

	for (uint64_t number = 1; r == 0 && (!limit || workload->request_count < limit); number++) {
		char problem[256];

		errno = 0;
		ssize_t length = getline(&line, &room, in);
		if (length < 0)
			break;
		if (workload_is_blank(line))
			continue;

		r = workload_read_line(workload, line, (size_t)length, &buffer, problem,
				       sizeof(problem));
		if (r < 0)
			snprintf(error, size, "%s, line %" PRIu64 ": %s", name, number, problem);
	}

	if (r == 0 && ferror(in)) {
		r = errno ? -errno : -EIO;
		snprintf(error, size, "%s: %s", name, strerror(-r));
	}

	free(line);
	free(buffer.ids);

	return r;
}

int workload_read(FILE *in, const char *name, size_t limit, struct workload **out, char *error,
		  size_t error_size)
{
	struct workload *workload = calloc(1, sizeof(*workload));
	if (!workload) {
		snprintf(error, error_size, "out of memory");
		return -ENOMEM;
	}

	int r = workload_read_lines(in, name, limit, workload, error, error_size);
	if (r == 0 && workload->request_count == 0) {
		snprintf(error, error_size, "%s holds no request", name);
		r = -ENODATA;
	}

	if (r < 0) {
		workload_free(workload);
		return r;
	}

	*out = workload;

	return 0;
}

void workload_print(const struct workload *workload, const struct workload_request *request,
		    FILE *out)
{
	fprintf(out,
		"{\"timestamp\": %.0f, \"input_length\": %" PRIu64 ", \"output_length\": %" PRIu64
		", \"hash_ids\": [",
		request->timestamp_ms, request->input_length, request->output_length);
	for (size_t i = 0; i < request->count; i++)
		fprintf(out, "%s%" PRIu64, i ? ", " : "", workload->ids[request->first + i]);
	fputs("]}\n", out);
}
