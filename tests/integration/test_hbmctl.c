/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl as a command: what every command prints for people and as JSON, the two compared
 * with each other and with what a client did, and the exit status: 0 done, 1 refused or
 * failed with one line that says what, 2 usage with one line that points to the help. The
 * commands plan, metrics, trace and replay have tests of their own; verify cannot be made
 * to fail from outside.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/hbmctl.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#define LIMITS 57 /* in [limits] */

#define ABSENT 99u

/* A block's key as hbmctl takes and prints it. */
static const char *key_text(uint64_t block)
{
	static char text[2 * HBM_WIRE_KEY_BYTES + 1];
	hbm_key key = kv_key(block);
	for (size_t i = 0; i < HBM_WIRE_KEY_BYTES; i++)
		snprintf(text + 2 * i, 3, "%02x", key.bytes[i]);
	return text;
}

/* "COMMAND NAMESPACE KEY..." for blocks [first, + count). */
static const char *keys_line(const char *command, uint64_t first, uint64_t count)
{
	static char line[512];
	int length = snprintf(line, sizeof(line), "%s %u", command, hbmctl_kv.ns);
	for (uint64_t i = 0; i < count; i++)
		length += snprintf(line + length, sizeof(line) - (size_t)length, " %s",
				   key_text(first + i));

	return line;
}

/* ---- Usage ---- */

static void test_usage_is_refused_with_2(void **state)
{
	(void)state;
	static const struct {
		const char *line, *text;
	} wrong[] = {
		{"", "expected a command"},
		{"nonsense", "there is no command \"nonsense\""},
		{"help nonsense", "there is no command \"nonsense\""},
		{"--nonsense status", "there is no option --nonsense"},
		{"status --nonsense", "there is no option --nonsense"},
		{"status --limit 3", "there is no option --limit"},
		{"status more", "status takes no arguments"},
		{"status --json=1", "--json takes no value"},
		{"blocks --limit", "--limit needs a value"},
		{"blocks --limit many", "expected a whole number"},
		{"blocks --namespace -1", "expected a whole number"},
		{"lookup 1", "lookup takes NAMESPACE KEY..."},
		{"lookup 1 abc", "\"abc\" is no key"},
		{"pin 1 00000000000000000000000000000000", "not all zero"},
		{"unpin", "unpin takes NAMESPACE KEY..."},
		{"evict tape all", "\"tape\" is no tier"},
		{"evict none all", "\"none\" is no tier"},
		{"evict hbm", "evict takes TIER"},
		{"namespaces lose 1", "\"lose\" is unknown"},
		{"namespaces drop", "at least one NAMESPACE"},
		{"evict hbm lots", "expected a size"},
		{"evict hbm --device 100000 all", "--device is 100000"},
		{"trace --width 1", "--width is 1: expected 10 to 1000"},
		{"trace --last 99999999999999999999", "below 2^64"},
		{"replay", "replay needs a TRACE"},
		{"replay a b", "replay takes TRACE"},
		{"replay a --format csv", "there is only mooncake"},
		{"replay a --workers 0", "--workers is 0"},
		{"replay a --workers x", "--workers is \"x\""},
		{"replay a --block-bytes 0", "--block-bytes is 0"},
		{"replay a --speed fast", "--speed is \"fast\""},
		{"replay --generate users=0", "users=0"},
		{"replay --generate nonsense=1", "\"nonsense=1\" is no parameter"},
		{"replay a --generate default", "leave out \"a\""},
	};
	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		hbmctl_expect_refusal(wrong[i].line, 2, wrong[i].text);
		hbmctl_expect_text(wrong[i].line, "; see hbmctl ");
		hbmctl_expect_text(wrong[i].line, "--help\n");
	}
}

static const char *const commands[] = {"status",     "devices", "tiers",   "sessions", "regions",
				       "namespaces", "blocks",  "lookup",  "pin",      "unpin",
				       "evict",      "verify",  "metrics", "trace",    "replay",
				       "plan",       "version"};

static void test_help_names_every_command(void **state)
{
	(void)state;
	char line[64], usage[64];
	for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
		hbmctl_expect("--help", 0);
		snprintf(usage, sizeof(usage), "\n  %s ", commands[i]);
		hbmctl_expect_text("--help", usage);
		snprintf(usage, sizeof(usage), "Usage: hbmctl %s", commands[i]);
		snprintf(line, sizeof(line), "help %s", commands[i]);
		hbmctl_expect(line, 0);
		hbmctl_expect_text(line, usage);
		snprintf(line, sizeof(line), "%s --help", commands[i]);
		hbmctl_expect(line, 0);
		hbmctl_expect_text(line, usage);
	}
}

/* ---- No daemon ---- */

static void test_without_a_daemon(void **state)
{
	(void)state;
	static const char *const lines[] = {"status",
					    "devices",
					    "tiers",
					    "sessions",
					    "regions",
					    "namespaces",
					    "blocks",
					    "verify",
					    "metrics",
					    "evict hbm all",
					    "trace",
					    "lookup 1 00000000000000000000000000000001",
					    "pin 1 00000000000000000000000000000001",
					    "unpin 1 00000000000000000000000000000001"};
	char line[256];
	for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		hbmctl_expect_refusal(lines[i], 1, "no daemon at ");
		hbmctl_expect_text(lines[i], daemon_.socket);
		snprintf(line, sizeof(line), "--json %s", lines[i]);
		hbmctl_expect_refusal(line, 1, "no daemon at ");
	}

	json_t *document = hbmctl_json("version");
	assert_int_equal(json_typeof(hbmctl_member(document, "hbmd")), JSON_NULL);
	assert_string_equal(hbmctl_text(document, "hbmctl"), HBM_VERSION);
	json_decref(document);
	hbmctl_expect("version", 0);
	assert_string_equal(hbmctl_output, "hbmctl " HBM_VERSION "\n");
}

/* ---- Asking ---- */

static void test_status(void **state)
{
	(void)state;
	hbmctl_begin();
	json_t *document = hbmctl_json("status");
	assert_string_equal(hbmctl_text(document, "version"), HBM_VERSION);
	assert_string_equal(hbmctl_text(document, "state"), "running");
	assert_int_equal(hbmctl_count(document, "pid"), daemon_.pid);
	assert_int_equal(hbmctl_count(document, "blocks"), HBMCTL_STORED);
	assert_int_equal(hbmctl_count(document, "stored_blocks"), HBMCTL_STORED);
	assert_int_equal(hbmctl_count(document, "stored_bytes"), HBMCTL_STORED * HBMCTL_BLOCK);
	assert_int_equal(hbmctl_count(document, "regions"), 1);
	assert_int_equal(hbmctl_count(document, "namespaces"), 1);
	assert_int_equal(hbmctl_count(hbmctl_member(document, "hits"), "nvme"), 0);
	size_t fields = json_object_size(document);
	json_decref(document);
	hbmctl_expect("status", 0);
	assert_int_equal(hbmctl_line_count(), fields);
	hbmctl_expect_row("status", "blocks stored", "4");
	document = hbmctl_json("version");
	assert_string_equal(hbmctl_text(document, "hbmd"), HBM_VERSION);
	json_decref(document);
	hbmctl_expect("version", 0);
	assert_string_equal(hbmctl_output, "hbmctl " HBM_VERSION "\nhbmd " HBM_VERSION "\n");
	hbmctl_finish();
}

static const struct {
	const char *line, *array;
	size_t records;
	const char *header, *cell;
	const char *counts[5]; /* members that are whole numbers */
} lists[] = {
	{"devices",
	 "devices",
	 1,
	 "DEVICE  NAME",
	 " 192 MiB ",
	 {"index", "total", "memory", "leased"}},
	{"tiers",
	 "tiers",
	 3,
	 "TIER ",
	 "\nnvme ",
	 {"device", "capacity", "bytes", "in_blocks", "headroom"}},
	{"sessions",
	 "sessions",
	 2,
	 "SESSION ",
	 "  test ",
	 {"session", "pid", "leased", "stored_bytes"}},
	{"regions",
	 "regions",
	 1,
	 "SESSION  REGION",
	 " 2 MiB",
	 {"session", "region", "committed", "slab"}},
	{"namespaces", "namespaces", 1, "NAMESPACE ", "  kv ", {"ns", "block_bytes", "blocks"}},
	{"blocks",
	 "blocks",
	 HBMCTL_STORED,
	 "NAMESPACE ",
	 "  hbm ",
	 {"ns", "offset", "bytes", "pins"}},
	{"blocks --limit 3", "blocks", 3, "NAMESPACE ", "  hbm ", {"children"}},
	{"blocks --namespace 77", "blocks", 0, "NAMESPACE ", "KEY", {NULL}},
	{"limits",
	 "limits",
	 LIMITS,
	 "NAME ",
	 "limits.request_bytes_total ",
	 {"limit", "used", "highest", "refused"}},
};

/* For people there is a line of headers and one for each record of the JSON document. */
static void test_lists(void **state)
{
	(void)state;
	hbmctl_begin();

	for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
		json_t *document = hbmctl_json(lists[i].line), *record;
		size_t index;

		assert_int_equal(json_array_size(hbmctl_array(document, lists[i].array)),
				 lists[i].records);

		json_array_foreach(hbmctl_array(document, lists[i].array), index, record)
		{
			for (size_t c = 0; c < 5 && lists[i].counts[c]; c++)
				hbmctl_count(record, lists[i].counts[c]);
		}

		json_decref(document);
		hbmctl_expect(lists[i].line, 0);
		assert_int_equal(hbmctl_line_count(), 1 + lists[i].records);
		assert_memory_equal(hbmctl_output, lists[i].header, strlen(lists[i].header));
		hbmctl_expect_text(lists[i].line, lists[i].cell);
	}

	hbmctl_finish();
}

/* The pools, then what is charged against each limit. */
static void test_verify(void **state)
{
	(void)state;
	hbmctl_begin();
	json_t *document = hbmctl_json("verify"), *record;
	size_t index;

	assert_int_equal(json_typeof(hbmctl_member(document, "balanced")), JSON_TRUE);
	assert_int_equal(json_array_size(hbmctl_array(document, "accounts")), 5);
	assert_int_equal(json_array_size(hbmctl_array(document, "limits")), LIMITS);
	json_array_foreach(hbmctl_array(document, "accounts"), index, record)
		assert_true(json_is_true(hbmctl_member(record, "balanced")));
	json_array_foreach(hbmctl_array(document, "limits"), index, record)
	{
		assert_true(json_is_true(hbmctl_member(record, "balanced")));
		if (strcmp(hbmctl_text(record, "name"), "limits.blocks") == 0)
			assert_int_equal(hbmctl_count(record, "used"), HBMCTL_STORED);
	}

	json_decref(document);
	hbmctl_expect("verify", 0);
	assert_int_equal(hbmctl_line_count(), 1 + 5 + 1 + 1 + LIMITS);
	assert_memory_equal(hbmctl_output, "POOL ", 5);
	hbmctl_expect_text("verify", "\nstaging ");
	hbmctl_expect_text("verify", "\nCHARGED AGAINST ");
	hbmctl_finish();
}

static void test_blocks_are_the_chain_that_was_stored(void **state)
{
	(void)state;
	hbmctl_begin();
	json_t *document = hbmctl_json("blocks"), *block;
	size_t index, seen = 0;
	for (uint64_t b = 1; b <= HBMCTL_STORED; b++) {
		json_array_foreach(hbmctl_array(document, "blocks"), index, block)
		{
			if (strcmp(hbmctl_text(block, "key"), key_text(b)) != 0)
				continue;

			seen++;
			assert_int_equal(hbmctl_count(block, "bytes"), HBMCTL_BLOCK);
			assert_int_equal(hbmctl_count(block, "children"), b < HBMCTL_STORED);
			assert_string_equal(hbmctl_text(block, "tier"), "hbm");
			if (b > 1)
				assert_string_equal(hbmctl_text(block, "parent"), key_text(b - 1));
		}
	}

	assert_int_equal(seen, HBMCTL_STORED);
	json_decref(document);
	hbmctl_finish();
}

/* ---- Changing ---- */

/* LOOKUP, PIN or UNPIN of the whole chain is done, for blocks of that tier. */
static void expect_blocks(const char *command, const char *tier)
{
	const char *line = keys_line(command, 1, HBMCTL_STORED);
	json_t *document = hbmctl_json(line), *block;
	size_t index;

	assert_int_equal(hbmctl_count(document, "namespace"), hbmctl_kv.ns);
	assert_int_equal(json_array_size(hbmctl_array(document, "blocks")), HBMCTL_STORED);

	json_array_foreach(hbmctl_array(document, "blocks"), index, block)
	{
		assert_string_equal(hbmctl_text(block, "key"), key_text(index + 1));
		assert_string_equal(hbmctl_text(block, "status"), "HBM_OK");
		assert_string_equal(hbmctl_text(block, "tier"), tier);
	}

	json_decref(document);
}

/* Every block has so many of its own; that its child is pinned as well does not count. */
static void expect_pins(uint64_t pins)
{
	json_t *document = hbmctl_json("blocks"), *block;
	size_t index;
	json_array_foreach(hbmctl_array(document, "blocks"), index, block)
		assert_int_equal(hbmctl_count(block, "pins"), pins);
	json_decref(document);
}

static void test_pin_and_unpin(void **state)
{
	(void)state;
	hbmctl_begin();
	hbmctl_expect(keys_line("pin", 1, HBMCTL_STORED), 0);
	assert_int_equal(hbmctl_line_count(), 1 + HBMCTL_STORED);
	hbmctl_expect_text("pin", "HBM_OK");
	expect_pins(1);
	expect_blocks("pin", "hbm");
	expect_pins(2);
	expect_blocks("unpin", "hbm");
	hbmctl_expect(keys_line("unpin", 1, HBMCTL_STORED), 0);
	assert_int_equal(hbmctl_line_count(), 1 + HBMCTL_STORED);
	expect_pins(0);
	hbmctl_expect(keys_line("pin", ABSENT, 1), 1);
	hbmctl_expect_text("pin", "hbmctl: pin: 1 of 1 blocks were refused");
	hbmctl_expect(keys_line("unpin", ABSENT, 1), 1);
	hbmctl_expect_text("unpin", "hbmctl: unpin: 1 of 1 blocks were refused");
	hbmctl_finish();
}

static void test_evict_pushes_down_tier_by_tier(void **state)
{
	(void)state;
	hbmctl_begin();
	expect_blocks("lookup", "hbm");
	hbmctl_expect("evict hbm all", 0);
	assert_string_equal(hbmctl_output, "evicted 4 blocks, 256 KiB, from hbm\n");
	expect_blocks("lookup", "ddr");
	json_t *document = hbmctl_json("evict ddr 1GiB");
	assert_string_equal(hbmctl_text(document, "tier"), "ddr");
	assert_int_equal(hbmctl_count(document, "device"), 0);
	assert_int_equal(hbmctl_count(document, "blocks"), HBMCTL_STORED);
	assert_int_equal(hbmctl_count(document, "bytes"), HBMCTL_STORED * HBMCTL_BLOCK);
	json_decref(document);
	expect_blocks("lookup", "nvme");
	hbmctl_expect(keys_line("lookup", 1, HBMCTL_STORED), 0);
	hbmctl_expect_text("lookup", "4 of 4 from the front are resident");
	hbmctl_expect("evict nvme all", 0);
	document = hbmctl_json(keys_line("lookup", 1, HBMCTL_STORED));
	assert_int_equal(hbmctl_count(document, "resident"), 0);
	json_decref(document);
	hbmctl_expect(keys_line("lookup", 1, HBMCTL_STORED), 0);
	hbmctl_expect_text("lookup", "0 of 4 from the front are resident");
	hbmctl_expect_text("lookup", "HBM_MISS");
	hbmctl_expect("evict nvme all", 0);
	assert_string_equal(hbmctl_output, "evicted 0 blocks, 0 B, from nvme\n");
	hbmctl_expect_refusal("evict hbm --device 5 all", 1, "device 5");
	hbmctl_finish();
}

static void test_namespaces_are_dropped(void **state)
{
	(void)state;
	char line[128];
	hbmctl_begin();
	hbmctl_expect(keys_line("pin", 1, HBMCTL_STORED), 0);
	hbmctl_expect("namespaces drop 99", 1);
	hbmctl_expect_text("namespaces", "no namespace 99");
	expect_blocks("lookup", "hbm");
	snprintf(line, sizeof(line), "namespaces drop %u", hbmctl_kv.ns);
	hbmctl_expect(line, 0);
	hbmctl_expect_text("namespaces", "dropped 4 blocks, 256 KiB, of namespace ");
	expect_pins(0);
	json_t *document = hbmctl_json(keys_line("lookup", 1, HBMCTL_STORED));
	assert_int_equal(hbmctl_count(document, "resident"), 0);
	json_decref(document);
	document = hbmctl_json(line);
	assert_int_equal(json_array_size(json_object_get(document, "dropped")), 1);
	assert_int_equal(hbmctl_count(document, "blocks"), 0);
	assert_int_equal(hbmctl_count(document, "bytes"), 0);
	json_decref(document);
	hbmctl_finish();
}

static void test_namespaces_by_model(void **state)
{
	(void)state;
	char line[128];
	uint32_t second;
	const struct hbm_namespace_options same = {
		.model = "kv", .weights = 2, .block_bytes = HBMCTL_BLOCK};
	hbmctl_begin();
	snprintf(line, sizeof(line), "lookup kv %s", key_text(1));
	json_t *document = hbmctl_json(line);
	assert_int_equal(hbmctl_count(document, "resident"), 1);
	json_decref(document);
	assert_int_equal(hbm_namespace_open(hbmctl_kv.hbm, &same, &second), 0);
	assert_int_not_equal(second, hbmctl_kv.ns);
	hbmctl_expect_refusal(line, 1, "2 namespaces have the model \"kv\"");
	snprintf(line, sizeof(line), "pin none %s", key_text(1));
	hbmctl_expect_refusal(line, 1, "no namespace has the model \"none\"");
	snprintf(line, sizeof(line), "lookup 77 %s", key_text(1));
	hbmctl_expect_refusal(line, 1, "there is no namespace 77");
	hbmctl_finish();
}

static void test_a_daemon_that_does_not_answer(void **state)
{
	(void)state;
	hbmctl_begin();
	assert_int_equal(kill(daemon_.pid, SIGSTOP), 0);
	hbmctl_expect_refusal("--timeout 1 status", 1, "no answer from ");
	hbmctl_expect_text("--timeout 1 status", "--timeout");
	assert_int_equal(kill(daemon_.pid, SIGCONT), 0);
	hbmctl_expect("status", 0);
	hbmctl_expect_refusal("--timeout soon status", 2, "--timeout");
	hbmctl_finish();
}

/* Blocks of any size, also one that is no whole words, come back as they were. */
static void test_replay_of_odd_blocks(void **state)
{
	char path[160], line[256];

	(void)state;
	hbmctl_begin();
	hbmctl_expect("replay --generate users=2,turns=3,seed=5", 0);
	snprintf(path, sizeof(path), "%s/trace", daemon_.dir);
	FILE *trace = fopen(path, "we");
	assert_non_null(trace);
	fputs(hbmctl_output, trace);
	assert_int_equal(fclose(trace), 0);

	snprintf(line, sizeof(line), "--json replay %s --block-bytes 1001", path);
	json_t *replay = hbmctl_json(line);
	assert_int_equal(hbmctl_count(replay, "mismatches"), 0);
	assert_in_range(hbmctl_count(replay, "bytes_loaded"), 1001, UINT32_MAX);
	assert_int_equal(hbmctl_count(replay, "bytes_loaded") % 1001, 0);
	json_decref(replay);
	hbmctl_finish();
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, stage_setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_usage_is_refused_with_2),
		TEST(test_help_names_every_command),
		TEST(test_without_a_daemon),
		TEST(test_status),
		TEST(test_lists),
		TEST(test_verify),
		TEST(test_blocks_are_the_chain_that_was_stored),
		TEST(test_pin_and_unpin),
		TEST(test_evict_pushes_down_tier_by_tier),
		TEST(test_namespaces_are_dropped),
		TEST(test_namespaces_by_model),
		TEST(test_a_daemon_that_does_not_answer),
		TEST(test_replay_of_odd_blocks),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
