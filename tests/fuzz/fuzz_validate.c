/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_validate: the check that every message of a client passes before a handler sees it.
 * The first byte says whether there was a HELLO, and which descriptor came. A verdict is one
 * of four; one that is not HBM_OK has a reason; and a message that passes has zeros where it
 * should, and is refused when it is cut, longer, or has a header that no client sends.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/messages.h"

#include "daemon/session/validate.h"
#include "tests/support/wire_form.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* A copy of exactly that size, aligned as one that is received, lets a sanitizer see reads
 * beyond. */
static int judge(const uint8_t *message, size_t size, bool greeted)
{
	struct refusal why = {""};
	void *copy = malloc(size > 0 ? size : 1);
	fuzz_check(copy != NULL);
	if (size > 0)
		memcpy(copy, message, size);

	int verdict = validate_message(copy, size, greeted, &why);
	fuzz_check(verdict == HBM_OK || verdict == HBM_INVALID || verdict == HBM_UNSUPPORTED ||
		   verdict == -EPROTO);
	fuzz_check(memchr(why.reason, '\0', sizeof(why.reason)) != NULL);
	fuzz_check((verdict == HBM_OK) == (why.reason[0] == '\0'));
	free(copy);

	return verdict;
}

/* What has passed, and then something else. */
static void assert_refused_when_changed(const uint8_t *message, size_t size, bool greeted)
{
	static uint8_t other[HBM_WIRE_MESSAGE_MAX + 8];
	struct hbm_wire_header *header = (void *)other;

	memcpy(other, message, size);
	header->size = (uint32_t)size + 4;
	fuzz_check(judge(other, size, greeted) == -EPROTO);
	memset(other + size, 0, 4);
	fuzz_check(judge(other, size + 4, greeted) != HBM_OK);
	header->size = (uint32_t)size - 4;
	fuzz_check(judge(other, size - 4, greeted) != HBM_OK);

	memcpy(other, message, size);
	header->flags = 1;
	fuzz_check(judge(other, size, greeted) == HBM_UNSUPPORTED);
	header->flags = 0;
	header->status = HBM_MISS;
	fuzz_check(judge(other, size, greeted) == HBM_INVALID);
	header->status = 0;
	header->zero = 1;
	fuzz_check(judge(other, size, greeted) == HBM_INVALID);
}

static bool is_named_zero(const char *name)
{
	size_t length = strlen(name);

	return length >= 4 && strcmp(name + length - 4, "zero") == 0;
}

/* What is reserved is zero in what has passed: of forms without arrays, and with as many
 * records as the table of forms has. */
static void assert_zeros(const uint8_t *message, size_t size)
{
	struct hbm_wire_header header;
	struct wire_sample sample;
	uint64_t value = 0;

	memcpy(&header, message, sizeof(header));
	for (size_t i = 0; i < wire_form_count; i++) {
		if (wire_forms[i].opcode != header.opcode || wire_forms[i].size != size)
			continue;

		wire_sample_make(&sample, &wire_forms[i]);
		for (size_t k = 0; k < sample.count; k++) {
			if (!is_named_zero(sample.fields[k].name))
				continue;
			memcpy(&value, message + sample.offsets[k], sample.fields[k].bytes);
			if (value != 0)
				fuzz_fail("%s of %s is %llu", sample.fields[k].name,
					  validate_opcode_name(header.opcode),
					  (unsigned long long)value);
			value = 0;
		}
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const int fds[] = {-1, 5, -EMFILE, -1};
	struct refusal why = {""};
	if (size < 1 || size - 1 > HBM_WIRE_MESSAGE_MAX)
		return 0;

	bool greeted = data[0] & 1;
	const uint8_t *message = data + 1;
	size--;
	int verdict = judge(message, size, greeted);
	if (verdict == HBM_OK) {
		assert_refused_when_changed(message, size, greeted);
		assert_zeros(message, size);
	}
	if (verdict == -EPROTO)
		return 0;

	void *copy = malloc(size);
	memcpy(copy, message, size);
	int with_fd = validate_descriptor(copy, verdict, fds[data[0] >> 1 & 3], &why);
	fuzz_check(with_fd == verdict || why.reason[0] != '\0');
	free(copy);

	return 0;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed)
{
	if (size < 1 || room < 2)
		return LLVMFuzzerMutate(data, size, room);
	if (message_below(&seed, 16) == 0)
		data[0] ^= (uint8_t)(1u << message_below(&seed, 3));

	return 1 + message_change(data + 1, size - 1, room - 1, &seed);
}
