/* SPDX-License-Identifier: Apache-2.0 */
/*
 * wire_form: a table of every field of every message, with what a good message has in it and
 * the lowest and highest value that pass, and good messages made from it. The rows are laid
 * one after another, so that a field that is missing here makes a message of the wrong size.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "daemon/session/validate.h"

enum wire_kind {
	WIRE_END,
	WIRE_NUMBER,
	WIRE_SLOT,
	WIRE_TEXT,
	WIRE_NAME,
	WIRE_KEY,
	WIRE_NO_KEY,
	WIRE_ANY_KEY
};

struct wire_field {
	const char *name;
	enum wire_kind kind;
	size_t bytes;
	uint64_t good, low, high; /* WIRE_NUMBER */
	int status;               /* of what is lower or higher */
	/* what the reason says instead of "NAME is VALUE", where the field is not the one to
	 * blame; NULL */
	const char *reason;
};

/* The highest value of so many bytes. */
#define WIRE_HIGHEST(bytes) (UINT64_MAX >> (64 - 8 * (bytes)))

enum { WIRE_FIELDS_MAX = 32, WIRE_HEADER_FIELDS = 6 };

struct wire_form {
	unsigned opcode;
	size_t size;
	struct wire_field fields[WIRE_FIELDS_MAX];
};

extern const struct wire_form wire_forms[];
extern const size_t wire_form_count;

/* A message being made: the fields of its header, then those of the form. */
struct wire_sample {
	const struct wire_form *form;
	struct wire_field fields[WIRE_HEADER_FIELDS + WIRE_FIELDS_MAX];
	size_t offsets[WIRE_HEADER_FIELDS + WIRE_FIELDS_MAX];
	size_t count;
	_Alignas(16) unsigned char bytes[512];
};

/* A good message of that form. */
void wire_sample_make(struct wire_sample *sample, const struct wire_form *form);
/* Sets a number of that many bytes: 2, 4 or 8. */
void wire_put(unsigned char *to, size_t bytes, uint64_t value);
/* Sets a field by its name; fails the test if there is none. */
void wire_sample_set(struct wire_sample *sample, const char *name, uint64_t value);
/* What the first `size` bytes are taken for, in a session that is greeted unless they are a
 * HELLO. */
int wire_sample_verdict(const struct wire_sample *sample, size_t size, struct refusal *why);
