/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_trace: a trace for `hbmctl replay`. One that is read is whole: the ids of each request
 * lie within those of the trace, and printed it is read as the same.
 */
#include "tests/fuzz/fuzz.h"

#include "client/ctl/workload.h"

#include <stdlib.h>
#include <string.h>

static struct workload *read_text(const char *text, size_t size, char error[256])
{
	struct workload *workload = NULL;
	FILE *in = fmemopen((void *)(uintptr_t)text, size, "r");
	fuzz_check(in != NULL);

	int r = workload_read(in, "fuzz", 0, &workload, error, 256);
	fclose(in);
	fuzz_check((r == 0) == (workload != NULL) && (r == 0 || error[0] != '\0'));

	return workload;
}

static void print(const void *what, FILE *out)
{
	const struct workload *workload = what;

	for (size_t i = 0; i < workload->request_count; i++)
		workload_print(workload, &workload->requests[i], out);
}

static void check(const struct workload *workload)
{
	size_t longest = 0;

	for (size_t i = 0; i < workload->request_count; i++) {
		const struct workload_request *request = &workload->requests[i];

		fuzz_check(request->first <= workload->id_count);
		fuzz_check(request->count <= workload->id_count - request->first);
		longest = request->count > longest ? request->count : longest;
	}

	fuzz_check(workload->request_count > 0 && workload->longest == longest);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[256] = "";
	struct workload *workload = size > 0 ? read_text((const char *)data, size, error) : NULL;
	if (!workload)
		return 0;

	check(workload);

	char *text = fuzz_printed(print, workload);
	struct workload *again = read_text(text, strlen(text), error);
	if (!again)
		fuzz_fail("what was printed is refused: %s\n%s", error, text);

	fuzz_check(again->request_count == workload->request_count);
	fuzz_check(again->id_count == workload->id_count);
	fuzz_check(again->id_count == 0 ||
		   memcmp(again->ids, workload->ids, again->id_count * sizeof(again->ids[0])) == 0);
	workload_free(again);
	workload_free(workload);
	free(text);

	return 0;
}
