/* SPDX-License-Identifier: Apache-2.0 */
/*
 * layout_parse: the text form of a layout, word by word. Words of a layer go to `kind`, which
 * the next `layer=`, or the end, copies to the layers that the last one named. A text without
 * `layer=` has one kind, for all layers.
 */
#include "client/layout.h"

#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum value { WHOLE32, WHOLE64, SIZE, CHOICE, FLAG, LAYERS };

struct key {
	const char *name;
	bool of_layer;
	enum value value;
	size_t offset;          /* in the options, or in a layer */
	const char *choices[4]; /* CHOICE: an enum; FLAG: false and true */
};

#define OF_LAYOUT(name, value, member, ...)                                                        \
	{                                                                                          \
		name, false, value, offsetof(struct hbm_layout_options, member),                   \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}
#define OF_LAYER(name, value, member, ...)                                                         \
	{                                                                                          \
		name, true, value, offsetof(struct hbm_layer, member),                             \
		{                                                                                  \
			__VA_ARGS__                                                                \
		}                                                                                  \
	}

static const struct key keys[] = {
	OF_LAYOUT("layers", WHOLE32, layer_count, NULL),
	OF_LAYOUT("order", CHOICE, order, "token", "layer", "block"),
	OF_LAYOUT("values", FLAG, values_first, "last", "first"),
	OF_LAYOUT("page", WHOLE32, page_tokens, NULL),
	OF_LAYOUT("page_form", FLAG, heads_first, "nhd", "hnd"),
	OF_LAYOUT("group", WHOLE32, group_slabs, NULL),
	OF_LAYOUT("slab", SIZE, slab_bytes, NULL),
	OF_LAYOUT("max", WHOLE64, max_tokens, NULL),
	OF_LAYER("heads", WHOLE32, heads, NULL),
	OF_LAYER("dim", WHOLE32, head_dim, NULL),
	OF_LAYER("bytes", WHOLE32, element_bytes, NULL),
	OF_LAYER("window", WHOLE32, window, NULL),
	OF_LAYER("keys", FLAG, keys_only, "both", "only"),
	OF_LAYER("state", WHOLE64, state_bytes, NULL),
	{"layer", true, LAYERS, 0, {NULL}},
};
#define KEYS (sizeof(keys) / sizeof(keys[0]))
#define WORD_MAX 32768u /* bytes: all layers as numbers */

struct parser {
	struct hbm_layout_options options;
	struct hbm_layer kind;
	const char *members; /* of the kind; NULL: there was no `layer=` */
	int members_length;
	uint32_t given; /* a bit for each key; those of layers since the last `layer=` */
	struct hbm_layer layers[HBM_LAYERS_MAX];
	bool taken[HBM_LAYERS_MAX];
	char *error;
	size_t error_size;
};

/* ---- Values ---- */

/* Digits up to `end`, or up to what follows them if `rest` is not NULL. */
static bool layout_parse_whole(const char *at, const char *end, uint64_t *out, const char **rest)
{
	uint64_t number = 0;
	const char *c = at;

	for (; c < end && *c >= '0' && *c <= '9'; c++)
		if (!checked_mul(number, 10, &number) ||
		    !checked_add(number, (uint64_t)(*c - '0'), &number))
			return false;
	if (c == at || (!rest && c != end))
		return false;

	*out = number;
	if (rest)
		*rest = c;

	return true;
}

static bool layout_parse_size(const char *at, const char *end, uint64_t *out)
{
	static const struct {
		const char *suffix;
		uint64_t unit;
	} units[] = {{"", 1}, {"KiB", 1 << 10}, {"MiB", 1 << 20}, {"GiB", 1 << 30}};
	const char *rest;

	if (!layout_parse_whole(at, end, out, &rest))
		return false;

	for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++)
		if (strlen(units[i].suffix) == (size_t)(end - rest) &&
		    memcmp(units[i].suffix, rest, (size_t)(end - rest)) == 0)
			return checked_mul(*out, units[i].unit, out);

	return false;
}

static bool layout_parse_choice(const struct key *key, const char *at, const char *end,
				uint32_t *out)
{
	for (uint32_t i = 0; key->choices[i]; i++)
		if (strlen(key->choices[i]) == (size_t)(end - at) &&
		    memcmp(key->choices[i], at, (size_t)(end - at)) == 0) {
			*out = i;
			return true;
		}

	return false;
}

/* Stores the value of a key. False: it is none. */
static bool layout_parse_value(const struct key *key, const char *at, const char *end, void *record)
{
	void *member = (char *)record + key->offset;
	uint64_t number = 0;
	uint32_t choice = 0;
	bool flag;

	switch (key->value) {
	case WHOLE32:
		if (!layout_parse_whole(at, end, &number, NULL) || number > UINT32_MAX)
			return false;
		choice = (uint32_t)number;
		memcpy(member, &choice, sizeof(choice));
		return true;
	case WHOLE64:
	case SIZE:
		if (!(key->value == SIZE ? layout_parse_size(at, end, &number)
					 : layout_parse_whole(at, end, &number, NULL)))
			return false;
		memcpy(member, &number, sizeof(number));
		return true;
	case CHOICE:
		if (!layout_parse_choice(key, at, end, &choice))
			return false;
		memcpy(member, &choice, sizeof(choice));
		return true;
	default:
		if (!layout_parse_choice(key, at, end, &choice))
			return false;
		flag = choice == 1;
		memcpy(member, &flag, sizeof(flag));
		return true;
	}
}

/* ---- Kinds of layers ---- */

static int layout_parse_assign_range(struct parser *parser, uint64_t first, uint64_t last)
{
	if (last < first || last >= HBM_LAYERS_MAX)
		return hbm_layout_fail(parser->error, parser->error_size,
				       "layer=%.*s is no list of layers", parser->members_length,
				       parser->members);

	for (uint64_t i = first; i <= last; i++) {
		if (parser->taken[i])
			return hbm_layout_fail(parser->error, parser->error_size,
					       "layer %llu has two kinds", (unsigned long long)i);
		parser->taken[i] = true;
		parser->layers[i] = parser->kind;
	}

	return 0;
}

/* Copies the kind to its layers, and begins another one. */
static int layout_parse_assign(struct parser *parser)
{
	const char *at = parser->members, *end = at ? at + parser->members_length : at;

	while (at) {
		uint64_t first = 0, last;
		bool is_list = layout_parse_whole(at, end, &first, &at);

		last = first;
		if (is_list && at < end && *at == '-')
			is_list = layout_parse_whole(at + 1, end, &last, &at);
		if (!is_list || (at < end && *at != ','))
			return layout_parse_assign_range(parser, 1, 0);

		int r = layout_parse_assign_range(parser, first, last);
		if (r)
			return r;
		at = at < end ? at + 1 : NULL;
	}

	parser->kind = (struct hbm_layer){0};
	for (size_t i = 0; i < KEYS; i++)
		if (keys[i].of_layer)
			parser->given &= ~(1u << i);

	return 0;
}

static int layout_parse_begin_kind(struct parser *parser, const char *at, const char *end)
{
	for (size_t i = 0; !parser->members && i < KEYS; i++)
		if (keys[i].of_layer && parser->given & (1u << i))
			return hbm_layout_fail(parser->error, parser->error_size,
					       "%s= is in front of the first layer=", keys[i].name);

	int r = layout_parse_assign(parser);
	parser->members = at;
	parser->members_length = (int)(end - at);

	return r;
}

/* Every layer has a kind. */
static int layout_parse_check_kinds(struct parser *parser)
{
	uint32_t count = parser->options.layer_count;

	for (uint32_t i = 0; i < HBM_LAYERS_MAX; i++)
		if (parser->taken[i] != (i < count))
			return hbm_layout_fail(parser->error, parser->error_size,
					       i < count ? "layer %u of %u has no kind"
							 : "there is no layer %u in %u layers",
					       i, count);
	parser->options.layers = parser->layers;

	return 0;
}

/* ---- Words ---- */

static int layout_parse_word(struct parser *parser, const char *at, int length)
{
	const char *equals = memchr(at, '=', (size_t)length), *end = at + length;
	size_t i = 0;

	while (equals && i < KEYS &&
	       (strlen(keys[i].name) != (size_t)(equals - at) ||
		memcmp(keys[i].name, at, (size_t)(equals - at)) != 0))
		i++;
	if (!equals || i == KEYS)
		return hbm_layout_fail(parser->error, parser->error_size,
				       "\"%.*s\" is no word of a layout", length, at);

	if (keys[i].value == LAYERS)
		return layout_parse_begin_kind(parser, equals + 1, end);
	if (parser->given & (1u << i))
		return hbm_layout_fail(parser->error, parser->error_size, "%s= is given twice",
				       keys[i].name);

	parser->given |= 1u << i;
	if (!layout_parse_value(&keys[i], equals + 1, end,
				keys[i].of_layer ? (void *)&parser->kind : &parser->options))
		return hbm_layout_fail(parser->error, parser->error_size,
				       "\"%.*s\" has a wrong value", length, at);

	return 0;
}

static int layout_parse_words(struct parser *parser, const char *text)
{
	static const char blanks[] = " \t\n";
	int r = 0;

	for (text += strspn(text, blanks); r == 0 && *text; text += strspn(text, blanks)) {
		const size_t length = strcspn(text, blanks);

		r = length < WORD_MAX ? layout_parse_word(parser, text, (int)length)
				      : hbm_layout_fail(parser->error, parser->error_size,
							"a word of %zu bytes", length);
		text += length;
	}
	if (r)
		return r;

	if (!parser->members) {
		parser->options.layer = parser->kind;
		return 0;
	}

	r = layout_parse_assign(parser);

	return r ? r : layout_parse_check_kinds(parser);
}

int hbm_layout_parse(struct hbm_layout **out, const char *text, char *error, size_t error_size)
{
	struct parser *parser = calloc(1, sizeof(*parser));
	if (!parser)
		return -ENOMEM;

	parser->error = error;
	parser->error_size = error_size;

	int r = layout_parse_words(parser, text);
	if (r == 0)
		r = hbm_layout_new(out, &parser->options, error, error_size);
	free(parser);

	return r;
}
