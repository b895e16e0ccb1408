/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl against a daemon whose records are noise, and longer than those it knows: full
 * strings without a NUL, kinds that do not exist, times that run backwards. Whatever it
 * makes of them, it ends by itself with a result or a line.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/fakedaemon.h"
#include "tests/support/hbmctl.h"
#include "tests/support/leaks.h"
#include "tests/support/seed.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define RECORDS 5
#define RECORD_LEAST 512 /* longer than any that hbmctl knows */
#define RECORD_MAX 528

static struct leaks leaks;
static struct fake fake;
static struct seed seed;
static enum { ALL_ONES, LETTERS, RANDOM, NOISES } noise;

static bool answer_noise(struct fake *self, const struct hbm_wire_header *request)
{
	const struct hbm_wire_query *query = (const void *)request;
	struct {
		struct hbm_wire_query_reply head;
		unsigned char bytes[RECORDS * RECORD_MAX];
	} page;

	if (request->opcode != HBM_WIRE_QUERY)
		return false;

	uint32_t count = query->kind == HBM_QUERY_STATUS ? 1 : RECORDS;
	size_t size = RECORD_LEAST + (size_t)seed_below(&seed, 3) * sizeof(uint64_t);
	page.head = (struct hbm_wire_query_reply){
		.kind = query->kind, .count = count, .record_bytes = (uint32_t)size};
	for (size_t i = 0; i < count * size; i++)
		page.bytes[i] = noise == ALL_ONES  ? 0xff
				: noise == LETTERS ? 'A'
						   : (unsigned char)seed_next(&seed);

	return fake_reply_message(self, request, &page, sizeof(page.head) + count * size, NULL, 0);
}

static int setup(void **state)
{
	(void)state;
	leaks_begin(&leaks);
	seed_open(&seed, "test_hbmctl_noise");
	fake_open(&fake, 0);
	pthread_mutex_lock(
		&fake.lock); /* who connects is another process: nothing else orders this */
	fake.answer = answer_noise;
	pthread_mutex_unlock(&fake.lock);
	snprintf(daemon_.socket, sizeof(daemon_.socket), "%s", fake.path);

	return 0;
}

static int teardown(void **state)
{
	(void)state;
	fake_close(&fake);
	assert_int_equal(leaks_end(&leaks), 0);
	return 0;
}

static void test_every_command_survives_noise(void **state)
{
	(void)state;
	static const char *const commands[] = {
		"status",
		"devices",
		"tiers",
		"sessions",
		"regions",
		"namespaces",
		"blocks",
		"verify",
		"metrics",
		"version",
		"trace",
		"trace --last 5",
		"lookup model 00000000000000000000000000000001",
	};
	for (int kind = 0; kind < NOISES; kind++) {
		pthread_mutex_lock(&fake.lock);
		noise = kind;
		pthread_mutex_unlock(&fake.lock);

		for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
			char line[256];
			assert_in_range(hbmctl_run(commands[i]), 0, 1);
			snprintf(line, sizeof(line), "--json %s", commands[i]);

			if (hbmctl_run(line) == 0) {
				json_t *document = json_loads(hbmctl_output, 0, NULL);
				assert_non_null(document);
				json_decref(document);
			}
		}
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_every_command_survives_noise, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
