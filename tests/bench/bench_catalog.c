/* SPDX-License-Identifier: Apache-2.0 */
/*
 * bench_catalog: how long a daemon takes to find again what is in its NVMe tier.
 *
 * 	first	stores one durable block of 4 KiB, so that the catalog has its namespace
 * 	fill CATALOG COUNT	makes the catalog of a daemon that has stopped say that there are
 * 			COUNT blocks more, in chains of 64. Their bytes are not what it says, but
 * 			nothing loads them
 * 	watch COUNT	looks up chains until the daemon, which has just been started, has so many
 * 			blocks back. Prints seconds from its start until then; lookups that were
 * 			answered, and blocks they found; the longest took so many ms, and so many
 * 			the longest turn of the loop
 */
#include "daemon/catalog/catalog_record.h"

#include "tests/support/measure.h"

#include <hbm/hbm.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#define BLOCK 4096u
#define CHAIN 64u

static const struct hbm_namespace_options space = {.model = "bench-catalog", .block_bytes = BLOCK};

static hbm_key key_of(uint64_t n)
{
	hbm_key key = {{0}};

	memcpy(key.bytes, &n, sizeof(n));
	key.bytes[15] = 1;

	return key;
}

static struct hbm *enter(uint32_t *ns)
{
	struct hbm *hbm = NULL;
	int r;

	while ((r = hbm_connect(&hbm, NULL)) < 0) /* it is about to listen */
		measure_sleep_until(measure_now() + 0.001);
	measure_check(hbm, r, "connect");
	measure_check(hbm, hbm_namespace_open(hbm, &space, ns), "namespace");

	return hbm;
}

static void first(void)
{
	const struct hbm_region_options options = {.address_space = 2u << 20, .slab = 2u << 20};
	uint32_t ns;
	struct hbm_region *region;
	struct hbm *hbm = enter(&ns);

	measure_check(hbm, hbm_region_create(hbm, &options, &region), "region");
	measure_check(hbm, hbm_commit(hbm, &(struct hbm_range){region, 0, 2u << 20}, 1), "commit");
	const struct hbm_segment segment = {region, 0, BLOCK};
	const struct hbm_block block = {.key = key_of(UINT64_MAX),
					.segments = &segment,
					.segment_count = 1,
					.durable = true};
	hbm_result result;
	measure_check(hbm, hbm_store(hbm, ns, &block, 1, &result), "store");
	measure_check(hbm, result.status, "store");
	hbm_close(hbm);
}

static void run(sqlite3 *db, const char *sql)
{
	if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
		return;

	fprintf(stderr, "bench: %s: %s\n", sql, sqlite3_errmsg(db));
	exit(1);
}

static void fill(const char *path, uint64_t count)
{
	sqlite3 *db;
	sqlite3_stmt *put;

	if (sqlite3_open(path, &db) != SQLITE_OK)
		exit(1);
	run(db, "BEGIN; DELETE FROM blocks");
	if (sqlite3_prepare_v2(db, "INSERT INTO blocks VALUES (?1, ?2, ?3)", -1, &put, NULL) !=
	    SQLITE_OK)
		exit(1);

	for (uint64_t n = 0; n < count; n++) {
		struct catalog_block block = {.ns = 1,
					      .stamp = 100 + n,
					      .unit = (uint32_t)n,
					      .units = 1,
					      .flags = CATALOG_CHECKSUMMED};
		const hbm_key key = key_of(n), parent = key_of(n - 1);

		memcpy(&block.key, &key, sizeof(key));
		if (n % CHAIN != 0)
			memcpy(&block.parent, &parent, sizeof(parent));
		block.check = XXH3_64bits(&block, offsetof(struct catalog_block, check));
		sqlite3_bind_int64(put, 1, (int64_t)n);
		sqlite3_bind_int64(put, 2, (int64_t)block.stamp);
		sqlite3_bind_blob(put, 3, &block, sizeof(block), SQLITE_STATIC);
		sqlite3_step(put);
		sqlite3_reset(put);
	}

	sqlite3_finalize(put);
	run(db, "COMMIT");
	sqlite3_close(db);
}

static int take(const void *record, size_t bytes, void *arg)
{
	if (bytes == sizeof(struct hbm_wire_status))
		memcpy(arg, record, bytes);

	return 0;
}

static void watch(uint64_t count)
{
	uint32_t ns;
	struct hbm *hbm = enter(&ns);
	struct hbm_wire_status status = {0};
	uint64_t lookups = 0, found = 0;
	double longest = 0;

	for (unsigned state = 1;
	     status.catalog_restored < count || strncmp(status.state, "running", 7) != 0;
	     lookups++) {
		hbm_key keys[CHAIN];
		struct hbm_lookup answer;

		state = state * 1103515245 + 12345;
		for (uint64_t i = 0; i < CHAIN; i++)
			keys[i] = key_of(state % (count / CHAIN) * CHAIN + i);
		double begun = measure_now();
		measure_check(hbm, hbm_lookup(hbm, ns, keys, CHAIN, &answer, NULL), "lookup");
		double took = measure_now() - begun;

		longest = took > longest ? took : longest;
		found += answer.resident;
		if (lookups % 16 == 0)
			measure_check(hbm, hbm_query(hbm, HBM_QUERY_STATUS, take, &status),
				      "status");
	}

	printf("seconds %.2f\nlookups %llu\nfound %llu\nlongest_ms %.1f\nturn_ms %.1f\n",
	       (double)status.uptime_ms / 1e3, (unsigned long long)lookups,
	       (unsigned long long)found, longest * 1e3, (double)status.longest_turn_ns / 1e6);
	hbm_close(hbm);
}

int main(int argc, char **argv)
{
	if (argc == 2 && strcmp(argv[1], "first") == 0)
		first();
	else if (argc == 4 && strcmp(argv[1], "fill") == 0)
		fill(argv[2], strtoull(argv[3], NULL, 10));
	else if (argc == 3 && strcmp(argv[1], "watch") == 0)
		watch(strtoull(argv[2], NULL, 10));
	else
		return 2;

	return 0;
}
