/* SPDX-License-Identifier: Apache-2.0 */
/*
 * seeds: writes the first inputs of a harness that are not text: seeds NAME FOLDER. One good
 * message of each form for `validate`; for `wire` the same of a client that has regions,
 * namespaces and blocks; each call for `replies`; a label for `label`.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/messages.h"

#include "daemon/session/validate.h"
#include "tests/support/wire_form.h"

#include <stdlib.h>
#include <string.h>

static const char *folder;
static unsigned written;

static void write_seed(const void *data, size_t size)
{
	char path[512];

	snprintf(path, sizeof(path), "%s/seed-%03u", folder, written++);
	FILE *out = fopen(path, "we");
	fuzz_check(out != NULL && fwrite(data, 1, size, out) == size && fclose(out) == 0);
}

static void write_messages(void)
{
	struct {
		uint8_t how;
		uint8_t bytes[sizeof(((struct wire_sample *)NULL)->bytes)];
	} input;

	for (size_t i = 0; i < wire_form_count; i++) {
		struct wire_sample sample;

		wire_sample_make(&sample, &wire_forms[i]);
		input.how = sample.form->opcode == HBM_WIRE_HELLO ? 0 : 1;
		memcpy(input.bytes, sample.bytes, sample.form->size);
		write_seed(&input, 1 + sample.form->size);
	}
}

/* A step of fuzz_wire: a message of the first form of that opcode, or of the nth. */
static size_t put_step(uint8_t *to, size_t form, unsigned *seed)
{
	size_t size = message_make(to + 4, 1024, form, seed);

	to[0] = to[1] = 0;
	to[2] = (uint8_t)size;
	to[3] = (uint8_t)(size >> 8);

	return 4 + size;
}

static size_t find_form(unsigned opcode)
{
	size_t form = 0;

	while (wire_forms[form].opcode != opcode)
		form++;

	return form;
}

static void write_steps(void)
{
	static const unsigned before[] = {HBM_WIRE_REGION_CREATE, HBM_WIRE_REGION_CREATE,
					  HBM_WIRE_COMMIT, HBM_WIRE_NAMESPACE_OPEN, HBM_WIRE_STORE};
	static uint8_t steps[8192];
	unsigned seed = 1;

	for (size_t form = 0; form < wire_form_count; form++) {
		size_t size = 0;

		for (size_t i = 0; i < sizeof(before) / sizeof(before[0]); i++)
			size += put_step(steps + size, find_form(before[i]), &seed);
		size += put_step(steps + size, form, &seed);
		write_seed(steps, size);
	}
}

/* A region, memory in it, and one call twice, answered as they should be. */
static void write_calls(void)
{
	for (uint8_t call = 0; call < 28; call++) {
		uint8_t input[] = {4, 0, 0, 1, 0, call, 0, call, 1};

		write_seed(input, sizeof(input));
	}
}

static void write_labels(void)
{
	struct __attribute__((packed)) {
		uint8_t how;
		char magic[16];
		uint32_t version, state;
		uint64_t size, checksum;
	} input = {4, "hbmd nvme tier\n", 2, 2, 1u << 20, 0};

	write_seed(&input, sizeof(input));
	write_seed("\0", 1);
	write_seed("\1", 1);
}

/* messages.c has mutators' parts; what is written here is not mutated. */
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room)
{
	(void)data;
	(void)room;
	return size;
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "Usage: seeds NAME FOLDER\n");
		return 2;
	}

	folder = argv[2];
	if (strcmp(argv[1], "validate") == 0)
		write_messages();
	else if (strcmp(argv[1], "wire") == 0)
		write_steps();
	else if (strcmp(argv[1], "replies") == 0)
		write_calls();
	else if (strcmp(argv[1], "label") == 0)
		write_labels();

	return 0;
}
