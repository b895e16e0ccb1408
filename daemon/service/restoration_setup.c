/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/restoration_setup.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/log.h"
#include "daemon/cache/namespace_restore.h"
#include "daemon/config/config.h"
#include "daemon/ledger/ledger.h"
#include "daemon/move/restoration.h"
#include "daemon/serve/hbmd.h"
#include "daemon/serve/restore_marks.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/serve/server.h"
#include "daemon/state/keep.h"
#include "daemon/tier/ddr.h"
#include "daemon/tier/ddr_size.h"
#include "daemon/tier/hbm_kept.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/nvme_file.h"

#define DDR_NAME "ddr"

/* Of what devices may have, which are not open yet. */
static uint64_t restoration_setup_hbm_blocks(const struct config *config)
{
	const uint64_t whole = STATE_CAPACITY_MAX * (uint64_t)EXTENT_UNIT;
	uint64_t cache = config_size_of(config->device_cache, whole);

	return cache > 0 ? HBM_WIRE_DEVICES_MAX *
				   (cache + config_size_of(config->device_headroom, whole)) /
				   EXTENT_UNIT
			 : 0;
}

uint64_t restoration_setup_blocks(const struct ledger *ledger, const struct config *config)
{
	uint64_t limit = ledger_limit(&ledger->host, LEDGER_BLOCKS), most;
	struct memory_limit memory;
	struct ddr_size size;

	memory_limit_read(&memory, "");
	ddr_size_of(&size, config, &memory);
	most = (size.headroom + size.size) / EXTENT_UNIT + 1 + restoration_setup_hbm_blocks(config);
	limit = limit < STATE_CAPACITY_MAX ? limit : STATE_CAPACITY_MAX;

	return most < limit ? most : limit;
}

/* What a daemon that was killed had not overwritten yet may be anywhere in its memory: that goes
 * back to the kernel, which clears it. */
int restoration_setup_take_ddr(const struct hbmd *hbmd)
{
	int fd = keep_take(DDR_NAME);
	if (fd < 0 || state_counter(hbmd->kept, STATE_WIPED) == 0)
		return fd;

	log_notice("ddr: a namespace with wipe_on_free was in use: the DDR tier begins empty");
	close(fd);

	return -1;
}

struct hbm_kept_place restoration_setup_hbm(const struct hbmd *hbmd)
{
	return (struct hbm_kept_place){.state = hbmd->kept,
				       .parking = hbmd->parking,
				       .without = hbmd->kept &&
						  state_counter(hbmd->kept, STATE_WIPED) != 0};
}

/* Of devices that are gone, or have no tier any more. */
static void restoration_setup_let_go_hbm(const struct hbmd *hbmd)
{
	const struct hbm_kept_place place = restoration_setup_hbm(hbmd);
	struct cache *cache = hbmd->cache;
	uint32_t numbers[HBM_WIRE_DEVICES_MAX];

	for (uint32_t i = 0; i < cache->devices; i++) {
		const struct hbm_memory *memory = cache_hbm(cache, i)->memory;
		numbers[i] = memory ? hbm_memory_number(memory) : 0;
	}

	hbm_kept_let_go(&place, numbers, cache->devices);
}

static bool restoration_setup_fits(void *arg, const struct namespace_identity *identity)
{
	return serve_namespace_is_possible(arg, identity);
}

/* Their records are of other memory than this. */
static void restoration_setup_forget_ddr(struct state *state)
{
	for (uint32_t i = 0; (i = state_next(state, STATE_BLOCKS, i)) != STATE_NONE; i++) {
		const struct block_record *record = state_body(state, STATE_BLOCKS, i);
		if (record->memory == BLOCK_RECORD_DDR)
			state_drop(state, STATE_BLOCKS, i);
	}
}

/* No record before its memory is kept: those of the daemon before have gone by then. */
static void restoration_setup_keep_ddr(const struct hbmd *hbmd)
{
	if (ddr_is_adopted(hbmd->ddr))
		return;

	restoration_setup_forget_ddr(hbmd->kept);
	keep_drop(DDR_NAME);
	int r = keep_is_there() ? keep_put(DDR_NAME, ddr_fd(hbmd->ddr)) : 0;
	if (r < 0)
		log_warning("ddr: its memory cannot be kept: %s; the DDR tier begins empty after a "
			    "restart",
			    strerror(-r));
}

static void restoration_setup_say_of(const struct hbmd *hbmd, enum hbm_tier kind)
{
	struct block_restore_figures figures = restoration_figures(hbmd->restoration, kind);

	if (figures.restored + figures.unsummed + figures.refused > 0)
		log_notice("%s: %llu blocks of before are back; let go: %llu that had no checksum "
			   "yet, %llu others",
			   tier_name(kind), (unsigned long long)figures.restored,
			   (unsigned long long)figures.unsummed,
			   (unsigned long long)figures.refused);
}

void restoration_setup_say(const struct hbmd *hbmd)
{
	restoration_setup_say_of(hbmd, HBM_TIER_HBM);
	restoration_setup_say_of(hbmd, HBM_TIER_DDR);
}

bool restoration_setup_release(struct hbmd *hbmd)
{
	if (hbmd->server && server_awaits_clients(hbmd->server))
		return false;

	namespaces_release_restored(hbmd->cache->namespaces);
	return true;
}

/* The memories that are kept. */
static void restoration_setup_fill(const struct hbmd *hbmd,
				   struct block_memory memories[TIER_NUMBERS])
{
	struct cache *cache = hbmd->cache;
	const struct tier *ddr = cache->ddr, *hbm;

	memories[ddr->number] = (struct block_memory){
		.number = BLOCK_RECORD_DDR,
		.first_unit = (uint32_t)((uint64_t)(ddr->host - ddr_base(hbmd->ddr)) / EXTENT_UNIT),
		.units = (ddr->headroom + ddr->capacity) / EXTENT_UNIT};
	for (uint32_t i = 0; i < cache->devices; i++) {
		hbm = cache_hbm(cache, i);
		if (hbm->memory)
			memories[hbm->number] = (struct block_memory){
				.number = hbm_memory_number(hbm->memory),
				.units = hbm_memory_of_before(hbm->memory) / EXTENT_UNIT};
	}
}

int restoration_setup_open(struct hbmd *hbmd, void (*ended)(void *arg), void *arg)
{
	if (!hbmd->kept)
		return 0;

	restoration_setup_keep_ddr(hbmd);
	restoration_setup_let_go_hbm(hbmd);
	namespaces_record(hbmd->cache->namespaces, hbmd->kept);

	uint32_t refused = namespace_restore_all(hbmd->cache->namespaces, hbmd->kept, hbmd->ledger,
						 restoration_setup_fits, hbmd);
	if (refused > 0)
		log_notice("%u namespaces of before are gone, with their blocks in memory: their "
			   "tenants are, or the limits allow them no longer",
			   refused);

	int r = restore_marks_open(hbmd);
	if (r < 0)
		return r;

	struct restoration_options options = {
		.mover = hbmd->mover, .state = hbmd->kept, .ended = ended, .arg = arg};

	restoration_setup_fill(hbmd, options.memories);

	return restoration_new(&hbmd->restoration, &options);
}

bool restoration_setup_has_ended(const struct hbmd *hbmd)
{
	return !hbmd->restoration || restoration_has_ended(hbmd->restoration);
}

void restoration_setup_progress(struct hbmd *hbmd)
{
	struct cache *cache = hbmd->cache;
	if (!hbmd->restoration)
		return;

	bool in_service = ddr_warm(hbmd->ddr) && (!hbmd->nvme || nvme_file_settled(hbmd->nvme));
	if (ddr_warm(hbmd->ddr))
		restoration_tier_grown(hbmd->restoration, cache->ddr);
	for (uint32_t i = 0; i < cache->devices; i++) {
		const struct tier *hbm = cache_hbm(cache, i);
		if (!hbm->memory)
			continue;

		restoration_tier_cut(hbmd->restoration, hbm, hbm_memory_of_before(hbm->memory));
		if (hbm_memory_settled(hbm->memory))
			restoration_tier_grown(hbmd->restoration, hbm);
	}
	if (in_service)
		restoration_in_service(hbmd->restoration);
}

void restoration_setup_close(struct hbmd *hbmd)
{
	restore_marks_close(hbmd);
	if (hbmd->cache && hbmd->cache->namespaces)
		namespaces_leave_records(hbmd->cache->namespaces);
	hbmd->restoration = restoration_free(hbmd->restoration);
}
