/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A tokenizer, and a parser for the few forms of PTX that matter here: the three
 * directives at the start of a text, and entries. Everything else outside of braces is
 * skipped.
 */
#include "kernels/soft/ptx.h"

#include "kernels/soft/device.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define TARGET_OLDEST 50 /* current drivers support no older target */

struct reader {
	const char *at; /* behind the token */
	const char *token;
	size_t length; /* of the token; 0: end of the text */
	bool broken;   /* a comment or a string that does not end */
};

/* ---- Tokens: names, directives with their dot, numbers, strings, and single characters ----
 */

static void reader_skip_blank(struct reader *reader)
{
	const char *end;

	for (;;) {
		if (isspace((unsigned char)*reader->at)) {
			reader->at++;
		} else if (strncmp(reader->at, "//", 2) == 0) {
			reader->at += strcspn(reader->at, "\n");
		} else if (strncmp(reader->at, "/*", 2) == 0) {
			end = strstr(reader->at + 2, "*/");
			reader->broken |= end == NULL;
			reader->at = end == NULL ? strchr(reader->at, '\0') : end + 2;
		} else {
			return;
		}
	}
}

static bool ptx_is_letter(char c)
{
	return isalnum((unsigned char)c) || c == '_' || c == '$' || c == '%';
}

static size_t ptx_token_length(const char *at)
{
	size_t length = *at != '\0';

	if (*at == '"')
		return strcspn(at + 1, "\"\n") + 2;
	if (!ptx_is_letter(*at) && *at != '.')
		return length;

	/* A dot begins a directive, or is part of a number. */
	while (ptx_is_letter(at[length]) || (at[length] == '.' && isdigit((unsigned char)*at)))
		length++;

	return length;
}

static void reader_next(struct reader *reader)
{
	reader_skip_blank(reader);
	reader->token = reader->at;
	reader->length = ptx_token_length(reader->at);
	if (*reader->at == '"' &&
	    (reader->length > strlen(reader->at) || reader->at[reader->length - 1] != '"')) {
		reader->broken = true;
		reader->length = strnlen(reader->at, reader->length);
	}

	reader->at += reader->length;
}

static bool reader_is(const struct reader *reader, const char *word)
{
	return reader->length == strlen(word) && strncmp(reader->token, word, reader->length) == 0;
}

/* Skips the word if it is next. */
static bool reader_take(struct reader *reader, const char *word)
{
	if (!reader_is(reader, word))
		return false;
	reader_next(reader);
	return true;
}

static bool reader_at_name(const struct reader *reader)
{
	return reader->length != 0 && ptx_is_letter(*reader->token) &&
	       !isdigit((unsigned char)*reader->token);
}

/* A decimal number of at most `most`. */
static bool reader_take_number(struct reader *reader, uint32_t most, uint32_t *out)
{
	uint64_t number = 0;

	if (reader->length == 0)
		return false;

	for (size_t i = 0; i < reader->length; i++) {
		if (!isdigit((unsigned char)reader->token[i]) || number > most)
			return false;
		number = number * 10 + (uint64_t)(reader->token[i] - '0');
	}

	if (number > most)
		return false;

	*out = (uint32_t)number;
	reader_next(reader);

	return true;
}

/* Skips a pair of braces and what is in it. */
static bool reader_skip_braces(struct reader *reader)
{
	unsigned depth = 0;

	do {
		depth += reader_is(reader, "{");
		depth -= reader_is(reader, "}");
		reader_next(reader);
	} while (depth != 0 && reader->length != 0);

	return depth == 0;
}

/* ---- The head of a text ---- */

/* The first PTX version that supports a target, as 10 * major + minor. */
static unsigned ptx_version_of_target(unsigned target)
{
	static const struct {
		unsigned target, version;
	} table[] = {{50, 40}, {52, 41}, {53, 42}, {60, 50}, {70, 60}};
	unsigned version = 0;

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
		if (table[i].target <= target)
			version = table[i].version;

	return version;
}

/* "6.0": 60 */
static CUresult ptx_read_version(struct reader *reader, unsigned *version)
{
	if (!reader_take(reader, ".version"))
		return CUDA_ERROR_INVALID_IMAGE;

	if (reader->length != 3 || !isdigit((unsigned char)reader->token[0]) ||
	    reader->token[1] != '.' || !isdigit((unsigned char)reader->token[2]))
		return CUDA_ERROR_INVALID_PTX;

	*version = (unsigned)(reader->token[0] - '0') * 10 + (unsigned)(reader->token[2] - '0');
	reader_next(reader);

	return *version > SOFT_PTX_VERSION ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION : CUDA_SUCCESS;
}

/* "sm_70": 70. "sm_90a" runs on one architecture only and is refused. */
static CUresult ptx_read_target(struct reader *reader, unsigned *target)
{
	static const char prefix[] = "sm_";
	char *end;

	if (!reader_take(reader, ".target") ||
	    strncmp(reader->token, prefix, sizeof(prefix) - 1) != 0)
		return CUDA_ERROR_INVALID_PTX;

	*target = (unsigned)strtoul(reader->token + sizeof(prefix) - 1, &end, 10);
	if (end != reader->token + reader->length)
		return CUDA_ERROR_NO_BINARY_FOR_GPU;

	reader_next(reader);
	while (reader_take(reader, ",")) /* texmode_independent, debug */
		reader_next(reader);

	return CUDA_SUCCESS;
}

static CUresult ptx_read_head(struct reader *reader, unsigned capability)
{
	unsigned version = 0, target = 0;
	uint32_t bits = 32; /* the default */
	CUresult result = ptx_read_version(reader, &version);

	if (result == CUDA_SUCCESS)
		result = ptx_read_target(reader, &target);
	if (result != CUDA_SUCCESS)
		return result;
	if (reader_take(reader, ".address_size") && !reader_take_number(reader, 64, &bits))
		return CUDA_ERROR_INVALID_PTX;
	if (bits != 64)
		return CUDA_ERROR_INVALID_PTX;
	if (target < TARGET_OLDEST || target > capability)
		return CUDA_ERROR_NO_BINARY_FOR_GPU;

	return version < ptx_version_of_target(target) ? CUDA_ERROR_UNSUPPORTED_PTX_VERSION
						       : CUDA_SUCCESS;
}

/* ---- Entries ---- */

/* Bytes of a type such as ".u64"; 0: no type. */
static uint32_t ptx_type_bytes(const struct reader *reader)
{
	static const struct {
		const char *types;
		uint32_t bytes;
	} table[] = {{".b8 .u8 .s8 ", 1},
		     {".b16 .u16 .s16 .f16 ", 2},
		     {".b32 .u32 .s32 .f32 ", 4},
		     {".b64 .u64 .s64 .f64 ", 8}};

	for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		const char *found = memmem(table[i].types, strlen(table[i].types), reader->token,
					   reader->length);

		if (reader->length > 1 && *reader->token == '.' && found != NULL &&
		    found[reader->length] == ' ')
			return table[i].bytes;
	}

	return 0;
}

/* ".param .align 8 .b8 name[16]" */
static bool ptx_read_param(struct reader *reader, uint32_t *bytes)
{
	uint32_t one = 0, count = 1, alignment;

	if (!reader_take(reader, ".param"))
		return false;

	while (reader->length != 0 && *reader->token == '.') {
		if (reader_take(reader, ".align")) {
			if (!reader_take_number(reader, 128, &alignment))
				return false;
			continue;
		}

		if (ptx_type_bytes(reader) != 0)
			one = ptx_type_bytes(reader);
		reader_next(reader);
	}

	if (one == 0 || !reader_at_name(reader))
		return false;

	reader_next(reader);

	if (reader_take(reader, "[") &&
	    (!reader_take_number(reader, HBM_SOFT_PARAM_BYTES_MAX, &count) ||
	     !reader_take(reader, "]")))
		return false;

	*bytes = one * count;

	return *bytes != 0;
}

static bool ptx_read_params(struct reader *reader, struct ptx_entry *entry)
{
	uint64_t all = 0;

	if (!reader_take(reader, "(") || reader_take(reader, ")"))
		return true;
	do {
		if (entry->params == HBM_SOFT_PARAMS_MAX ||
		    !ptx_read_param(reader, &entry->param_bytes[entry->params]))
			return false;
		all += entry->param_bytes[entry->params++];
	} while (reader_take(reader, ","));

	return all <= HBM_SOFT_PARAM_BYTES_MAX && reader_take(reader, ")");
}

/* "256, 1, 1": up to three sizes; those left out are 1. */
static bool ptx_read_sizes(struct reader *reader, uint32_t sizes[3])
{
	sizes[1] = sizes[2] = 1;
	for (unsigned i = 0; i < 3; i++) {
		if (i != 0 && !reader_take(reader, ","))
			return true;
		if (!reader_take_number(reader, UINT16_MAX, &sizes[i]))
			return false;
	}

	return true;
}

/* Reads the directives between an entry's parameters and its statements. */
static bool ptx_read_tuning(struct reader *reader, struct ptx_entry *entry)
{
	uint32_t most[3];

	while (reader->length != 0 && !reader_is(reader, "{") && !reader_is(reader, ";")) {
		if (reader_take(reader, ".maxntid")) {
			if (!ptx_read_sizes(reader, most))
				return false;
			entry->most_threads = (uint64_t)most[0] * most[1] * most[2];
		} else if (reader_take(reader, ".reqntid")) {
			if (!ptx_read_sizes(reader, entry->exact_threads))
				return false;
		} else {
			reader_next(reader);
		}
	}

	return true;
}

static CUresult ptx_add(struct ptx *ptx, const struct ptx_entry *entry)
{
	struct ptx_entry *grown = reallocarray(ptx->entries, ptx->count + 1, sizeof(*grown));

	if (grown == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;

	ptx->entries = grown;
	ptx->entries[ptx->count++] = *entry;

	return CUDA_SUCCESS;
}

/* Reads an entry from behind ".entry" to behind its statements. A declaration without
 * statements is not an entry of the module. */
static CUresult ptx_read_entry(struct reader *reader, struct ptx *ptx)
{
	struct ptx_entry entry = {.name = NULL};
	const struct reader name = *reader;
	CUresult result = CUDA_ERROR_INVALID_PTX;

	if (!reader_at_name(reader))
		return result;

	reader_next(reader);
	if (!ptx_read_params(reader, &entry) || !ptx_read_tuning(reader, &entry))
		return result;
	if (reader_take(reader, ";"))
		return CUDA_SUCCESS;
	if (!reader_is(reader, "{") || !reader_skip_braces(reader))
		return result;

	entry.name = strndup(name.token, name.length);
	if (entry.name == NULL)
		return CUDA_ERROR_OUT_OF_MEMORY;
	if (ptx_find(ptx, entry.name) == NULL)
		result = ptx_add(ptx, &entry);
	if (result != CUDA_SUCCESS)
		free(entry.name);

	return result;
}

static CUresult ptx_read_entries(struct reader *reader, struct ptx *ptx)
{
	while (reader->length != 0) {
		CUresult result = CUDA_SUCCESS;

		if (reader_is(reader, "{"))
			result = reader_skip_braces(reader) ? CUDA_SUCCESS : CUDA_ERROR_INVALID_PTX;
		else if (reader_is(reader, "}"))
			result = CUDA_ERROR_INVALID_PTX;
		else if (reader_take(reader, ".entry"))
			result = ptx_read_entry(reader, ptx);
		else
			reader_next(reader);

		if (result != CUDA_SUCCESS)
			return result;
	}
	return reader->broken ? CUDA_ERROR_INVALID_PTX : CUDA_SUCCESS;
}

/* ---- A text ---- */

/* ELF, or a fat binary, which a real driver accepts. */
static bool ptx_is_machine_code(const char *image)
{
	return strncmp(image, "\177ELF", 4) == 0 || strncmp(image, "\x50\xed\x55\xba", 4) == 0;
}

CUresult ptx_read(struct ptx *out, const char *text, unsigned capability)
{
	struct reader reader = {.at = text};
	struct ptx ptx = {NULL, 0};
	CUresult result;

	if (ptx_is_machine_code(text))
		return CUDA_ERROR_NO_BINARY_FOR_GPU;

	reader_next(&reader);
	result = ptx_read_head(&reader, capability);
	if (result == CUDA_SUCCESS)
		result = ptx_read_entries(&reader, &ptx);

	if (result != CUDA_SUCCESS) {
		ptx_clear(&ptx);
		return result;
	}

	*out = ptx;

	return CUDA_SUCCESS;
}

const struct ptx_entry *ptx_find(const struct ptx *ptx, const char *name)
{
	for (size_t i = 0; i < ptx->count; i++)
		if (strcmp(ptx->entries[i].name, name) == 0)
			return &ptx->entries[i];
	return NULL;
}

void ptx_clear(struct ptx *ptx)
{
	for (size_t i = 0; i < ptx->count; i++)
		free(ptx->entries[i].name);
	free(ptx->entries);
	*ptx = (struct ptx){NULL, 0};
}
