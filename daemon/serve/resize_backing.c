/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/resize_backing.h"

#include "daemon/base/log.h"
#include "daemon/cache/cache.h"
#include "daemon/catalog/catalog.h"
#include "daemon/device/device.h"
#include "daemon/region/slab.h"
#include "daemon/serve/region_limits.h"
#include "daemon/tier/ddr_resize.h"
#include "daemon/tier/hbm_memory.h"
#include "daemon/tier/nvme_file.h"
#include "daemon/tier/tier_resize.h"

/* ---- HBM: what the tier of a device gets, the pool of slabs for regions loses ---- */

/* One for each device. */
static struct returning {
	struct hbmd *hbmd;
	struct tier *tier;
	void (*given_back)(void *arg);
	void *arg;
} returnings[HBM_WIRE_DEVICES_MAX];

static uint64_t resize_backing_granules(const struct tier *tier, uint64_t bytes)
{
	uint64_t unit = tier->device->granularity;

	return (bytes + unit - 1) / unit * unit;
}

static int resize_backing_check_hbm(struct hbmd *hbmd, const struct tier *tier, uint64_t bytes,
				    uint64_t lacking, const struct reason *why)
{
	uint64_t need = resize_backing_granules(tier, lacking);
	struct slabs_books books = slabs_books(tier->device->slabs);
	uint64_t free = books.free > books.due ? books.free - books.due : 0;

	(void)hbmd;
	(void)bytes;
	if (need > free)
		return reason_set(why, HBM_NO_SPACE,
				  "hbm: %llu more bytes are needed of the memory for regions: of "
				  "%llu, %llu are free and not promised to sessions",
				  (unsigned long long)need, (unsigned long long)books.budget,
				  (unsigned long long)free);
	if (need > hbm_memory_room(tier->memory))
		return reason_set(why, HBM_NO_SPACE,
				  "hbm: memory that could not be unmapped is in the way: restart "
				  "hbmd");

	return HBM_OK;
}

static void resize_backing_took(void *arg, uint64_t bytes)
{
	struct returning *returning = arg;

	region_limits_set(returning->hbmd);
	hbm_memory_grow(returning->tier->memory, bytes);
}

static struct returning *resize_backing_returning(struct hbmd *hbmd, struct tier *tier)
{
	struct returning *returning = &returnings[tier->device_index];

	returning->hbmd = hbmd;
	returning->tier = tier;

	return returning;
}

/* What is not there any more is not to be had: the tier stays as it is then. */
static void resize_backing_grow_hbm(struct hbmd *hbmd, struct tier *tier, uint64_t bytes)
{
	(void)slabs_take_budget(tier->device->slabs, resize_backing_granules(tier, bytes),
				resize_backing_took, resize_backing_returning(hbmd, tier));
}

static bool resize_backing_hbm_is_settled(const struct hbmd *hbmd, const struct tier *tier)
{
	(void)hbmd;

	return !slabs_loses_budget(tier->device->slabs) && hbm_memory_settled(tier->memory);
}

static void resize_backing_returned(void *arg, uint64_t bytes)
{
	struct returning *returning = arg;

	slabs_add_budget(returning->tier->device->slabs, bytes);
	region_limits_set(returning->hbmd);
	returning->given_back(returning->arg);
}

static void resize_backing_give_back_hbm(struct hbmd *hbmd, struct tier *tier,
					 void (*given_back)(void *arg), void *arg)
{
	struct returning *returning = resize_backing_returning(hbmd, tier);

	returning->given_back = given_back;
	returning->arg = arg;
	hbm_memory_give_back(tier->memory, resize_backing_returned, returning);
}

static const struct resize_backing resize_backing_hbm = {
	.check = resize_backing_check_hbm,
	.grow = resize_backing_grow_hbm,
	.is_settled = resize_backing_hbm_is_settled,
	.give_back = resize_backing_give_back_hbm,
};

/* ---- DDR ---- */

static int resize_backing_check_ddr(struct hbmd *hbmd, const struct tier *tier, uint64_t bytes,
				    uint64_t lacking, const struct reason *why)
{
	(void)tier;

	return ddr_resize_check(hbmd->ddr, hbmd->config, bytes, lacking, why);
}

static void resize_backing_grow_ddr(struct hbmd *hbmd, struct tier *tier, uint64_t bytes)
{
	(void)tier;
	ddr_resize_grow(hbmd->ddr, bytes);
}

static bool resize_backing_ddr_is_settled(const struct hbmd *hbmd, const struct tier *tier)
{
	(void)tier;

	return ddr_warm(hbmd->ddr);
}

static void resize_backing_give_back_ddr(struct hbmd *hbmd, struct tier *tier,
					 void (*given_back)(void *arg), void *arg)
{
	(void)tier;
	ddr_resize_give_back(hbmd->ddr, given_back, arg);
}

static const struct resize_backing resize_backing_ddr = {
	.check = resize_backing_check_ddr,
	.grow = resize_backing_grow_ddr,
	.is_settled = resize_backing_ddr_is_settled,
	.give_back = resize_backing_give_back_ddr,
};

/* ---- NVMe ---- */

/* There is one. */
static struct cutting {
	struct catalog_barrier barrier;
	struct hbmd *hbmd;
	struct tier *tier;
	void (*given_back)(void *arg);
	void *arg;
} cutting;

static int resize_backing_check_nvme(struct hbmd *hbmd, const struct tier *tier, uint64_t bytes,
				     uint64_t lacking, const struct reason *why)
{
	(void)lacking;
	if (bytes < tier->capacity && tier->failed > 0)
		return reason_set(
			why, HBM_IO,
			"nvme: %llu bytes of the disk have failed and may lie in the part "
			"that is to go: replace the disk",
			(unsigned long long)tier->failed);

	return nvme_file_may_have(hbmd->nvme, bytes + tier->copies_max, why);
}

static void resize_backing_grow_nvme(struct hbmd *hbmd, struct tier *tier, uint64_t bytes)
{
	(void)tier;
	nvme_file_grow(hbmd->nvme, bytes);
}

static bool resize_backing_nvme_is_settled(const struct hbmd *hbmd, const struct tier *tier)
{
	return !tier->claiming && nvme_file_settled(hbmd->nvme);
}

static bool resize_backing_nvme_is_late(const struct hbmd *hbmd)
{
	return nvme_file_is_late(hbmd->nvme);
}

/* Each block that has moved has its record, so that the file can be cut. */
static void resize_backing_flushed(struct catalog_barrier *barrier)
{
	(void)barrier;
	nvme_file_shrink(cutting.hbmd->nvme, tier_in_service(cutting.tier), cutting.given_back,
			 cutting.arg);
}

/* The next resize tries again. */
static void resize_backing_not_flushed(struct catalog_barrier *barrier)
{
	(void)barrier;
	log_warning("nvme: the catalog cannot be written: the file keeps its %llu bytes until "
		    "another resize",
		    (unsigned long long)nvme_file_bytes(cutting.hbmd->nvme));
	cutting.given_back(cutting.arg);
}

static void resize_backing_give_back_nvme(struct hbmd *hbmd, struct tier *tier,
					  void (*given_back)(void *arg), void *arg)
{
	if (tier_in_service(tier) == nvme_file_bytes(hbmd->nvme)) {
		given_back(arg);
		return;
	}

	cutting = (struct cutting){
		.barrier = {.done = resize_backing_flushed, .failed = resize_backing_not_flushed},
		.hbmd = hbmd,
		.tier = tier,
		.given_back = given_back,
		.arg = arg};
	if (hbmd->catalog)
		catalog_flush_all(hbmd->catalog, &cutting.barrier);
	else
		resize_backing_flushed(&cutting.barrier);
}

static const struct resize_backing resize_backing_nvme = {
	.check = resize_backing_check_nvme,
	.grow = resize_backing_grow_nvme,
	.is_settled = resize_backing_nvme_is_settled,
	.is_late = resize_backing_nvme_is_late,
	.give_back = resize_backing_give_back_nvme,
};

const struct resize_backing *resize_backing_of(const struct tier *tier)
{
	switch (tier->kind) {
	case HBM_TIER_HBM:
		return &resize_backing_hbm;
	case HBM_TIER_DDR:
		return &resize_backing_ddr;
	case HBM_TIER_NVME:
		return &resize_backing_nvme;
	default:
		return NULL;
	}
}
