/* SPDX-License-Identifier: Apache-2.0 */
/* generate: see generate.h. */
#include "client/ctl/generate.h"
#include "client/ctl/units.h"

#include <errno.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

static const struct parameter {
	const char *name;
	size_t offset;
	uint64_t initial, least, most;
	const char *meaning;
} parameters[] = {
	{"users", offsetof(struct generate_spec, users), 8, 1, 100000,
	 "conversations at the same time"},
	{"turns", offsetof(struct generate_spec, turns), 6, 1, 100000, "turns of one conversation"},
	{"prompt", offsetof(struct generate_spec, prompt), 2000, 1, 10000000,
	 "tokens a user adds in a turn, on average"},
	{"reply", offsetof(struct generate_spec, reply), 300, 0, 10000000,
	 "tokens of an answer, on average"},
	{"shared", offsetof(struct generate_spec, shared), 1024, 0, 10000000,
	 "tokens of the common system prompt"},
	{"think_ms", offsetof(struct generate_spec, think_ms), 2000, 0, 1000000000,
	 "pause between two turns, on average"},
	{"requests", offsetof(struct generate_spec, requests), 0, 0, 10000000,
	 "requests in all; 0: one conversation per user"},
	{"block", offsetof(struct generate_spec, block), 512, 1, 1000000, "tokens of a block"},
	{"seed", offsetof(struct generate_spec, seed), 1, 0, UINT64_MAX,
	 "seed of the random numbers"},
};
#define PARAMETER_COUNT (sizeof(parameters) / sizeof(parameters[0]))

/* Limit on the blocks of one prompt: more would not fit in any machine. */
#define PROMPT_BLOCKS_MAX 10000000

static uint64_t *generate_member(struct generate_spec *spec, const struct parameter *parameter)
{
	return (uint64_t *)(void *)((char *)spec + parameter->offset);
}

void generate_help(FILE *out)
{
	for (size_t i = 0; i < PARAMETER_COUNT; i++) {
		int used = fprintf(out, "  %s=%" PRIu64, parameters[i].name, parameters[i].initial);
		fprintf(out, "%*s  %s\n", used < 16 ? 16 - used : 0, "", parameters[i].meaning);
	}
}

/* "name=value" of that length. */
static int generate_parse_one(const char *item, size_t length, struct generate_spec *spec,
			      char *error, size_t error_size)
{
	for (size_t i = 0; i < PARAMETER_COUNT; i++) {
		const struct parameter *p = &parameters[i];
		size_t name = strlen(p->name);
		char value[32];
		uint64_t number = 0;

		if (length <= name || strncmp(item, p->name, name) != 0 || item[name] != '=')
			continue;

		snprintf(value, sizeof(value), "%.*s", (int)(length - name - 1), item + name + 1);
		if (units_parse_count(value, &number) < 0 || number < p->least ||
		    number > p->most) {
			snprintf(error, error_size,
				 "%.*s: expected a whole number from %" PRIu64 " to %" PRIu64,
				 (int)length, item, p->least, p->most);
			return -EINVAL;
		}

		*generate_member(spec, p) = number;

		return 0;
	}

	snprintf(error, error_size, "\"%.*s\" is no parameter of a workload", (int)length, item);
	return -EINVAL;
}

int generate_parse(const char *text, struct generate_spec *spec, char *error, size_t error_size)
{
	struct generate_spec parsed;

	for (size_t i = 0; i < PARAMETER_COUNT; i++)
		*generate_member(&parsed, &parameters[i]) = parameters[i].initial;
	if (strcmp(text, "default") == 0)
		text = "";

	while (*text) {
		size_t length = strcspn(text, ",");
		if (generate_parse_one(text, length, &parsed, error, error_size) < 0)
			return -EINVAL;
		text += length + (text[length] == ',');
	}

	if ((parsed.shared + parsed.turns * (parsed.prompt + parsed.reply) * 2) / parsed.block >
	    PROMPT_BLOCKS_MAX) {
		snprintf(error, error_size,
			 "conversations of more than %d blocks: take fewer turns or larger blocks",
			 PROMPT_BLOCKS_MAX);
		return -EINVAL;
	}

	*spec = parsed;

	return 0;
}

struct user {
	double next_ms;
	uint64_t turn, tokens; /* of this conversation so far */
	uint64_t *ids;         /* of its full blocks */
	size_t id_count, id_room;
};

struct generator {
	const struct generate_spec *spec;
	uint64_t random, next_id;
	struct user *users;
	struct workload *workload;
};

/* splitmix64: tiny, and the same on every machine. */
static uint64_t generate_random_next(struct generator *g)
{
	uint64_t z = g->random += 0x9e3779b97f4a7c15ull;
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
	return z ^ (z >> 31);
}

/* From half to one and a half of the mean. */
static uint64_t generate_random_about(struct generator *g, uint64_t mean)
{
	return mean / 2 + generate_random_next(g) % (mean + 1);
}

/* Makes room for one id more than `count`, for the block that is not full. */
static int generate_make_room(struct user *user, size_t count)
{
	if (count < user->id_room)
		return 0;

	size_t room = 2 * count + 16;
	uint64_t *ids = reallocarray(user->ids, room, sizeof(*ids));
	if (!ids)
		return -ENOMEM;

	user->ids = ids;
	user->id_room = room;

	return 0;
}

/* Assigns ids to the blocks that have become full. */
static int generate_fill_blocks(struct generator *g, struct user *user)
{
	size_t full = (size_t)(user->tokens / g->spec->block);
	size_t common = (size_t)(g->spec->shared / g->spec->block);

	if (generate_make_room(user, full) < 0)
		return -ENOMEM;

	for (; user->id_count < full; user->id_count++)
		user->ids[user->id_count] = user->id_count < common ? user->id_count : g->next_id++;

	return 0;
}

static int generate_take_turn(struct generator *g, struct user *user)
{
	if (user->turn == 0) {
		user->tokens = g->spec->shared;
		user->id_count = 0;
	}

	user->tokens += generate_random_about(g, g->spec->prompt);
	int r = generate_fill_blocks(g, user);
	if (r < 0)
		return r;

	size_t count = user->id_count;
	if (user->tokens % g->spec->block)
		user->ids[count++] = g->next_id++;

	uint64_t reply = generate_random_about(g, g->spec->reply);
	struct workload_request request = {.timestamp_ms = user->next_ms,
					   .input_length = user->tokens,
					   .output_length = reply};
	r = workload_add(g->workload, &request, user->ids, count);
	user->tokens += reply;
	user->turn = (user->turn + 1) % g->spec->turns;
	user->next_ms += (double)generate_random_about(g, g->spec->think_ms);

	return r;
}

static struct user *generate_whose_turn(struct generator *g)
{
	struct user *first = &g->users[0];
	for (uint64_t u = 1; u < g->spec->users; u++)
		first = g->users[u].next_ms < first->next_ms ? &g->users[u] : first;
	return first;
}

/* A user whose only conversation has ended has no next turn, and sorts last. */
static int generate_run(struct generator *g)
{
	uint64_t total = g->spec->requests ? g->spec->requests : g->spec->users * g->spec->turns;
	bool once = g->spec->requests == 0;

	for (uint64_t u = 0; u < g->spec->users; u++)
		g->users[u].next_ms = (double)(generate_random_next(g) % (g->spec->think_ms + 1));
	for (uint64_t i = 0; i < total; i++) {
		struct user *user = generate_whose_turn(g);
		if (generate_take_turn(g, user) < 0)
			return -ENOMEM;
		if (once && user->turn == 0)
			user->next_ms = 1e300;
	}

	return 0;
}

int generate(const struct generate_spec *spec, struct workload **out)
{
	struct generator g = {
		.spec = spec, .random = spec->seed, .next_id = spec->shared / spec->block};

	g.users = calloc(spec->users, sizeof(*g.users));
	g.workload = calloc(1, sizeof(*g.workload));
	int r = g.users && g.workload ? generate_run(&g) : -ENOMEM;
	for (uint64_t u = 0; g.users && u < spec->users; u++)
		free(g.users[u].ids);
	free(g.users);

	if (r < 0) {
		workload_free(g.workload);
		return r;
	}

	*out = g.workload;

	return 0;
}
