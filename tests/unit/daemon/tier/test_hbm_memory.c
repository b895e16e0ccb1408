/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of an HBM tier, made in the background. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/base/log.h"
#include "daemon/tier/hbm_memory.h"
#include "tests/support/soft_pool.h"

enum { PIECES = 6 };
#define PIECE (2 * GRANULE)
#define HEADROOM GRANULE

struct setting {
	struct soft_pool pool;
	struct device *device;
	struct tier tier;
	struct hbm_memory *hbm;
	unsigned grown;
	uint64_t usable[PIECES + 1]; /* of the tier, whenever it has grown */
};

static void grown(void *arg)
{
	struct setting *setting = arg;

	assert_in_range(setting->grown, 0, PIECES);
	setting->usable[setting->grown++] = setting->tier.usable;
}

/* The pool's slabs are none of the device's memory. */
static int set_up(void **state)
{
	static struct setting setting;

	setting = (struct setting){0};
	pool_open(&setting.pool, 0);
	setting.device = &setting.pool.devices->list[1];
	assert_int_equal(
		tier_init(&setting.tier, HBM_TIER_HBM, 1, PIECES * PIECE - HEADROOM, HEADROOM, 16),
		0);
	*state = &setting;

	return 0;
}

static CUresult open_memory(struct setting *setting)
{
	const struct hbm_memory_options options = {.tier = &setting->tier,
						   .device = setting->device,
						   .loop = setting->pool.loop,
						   .bytes = PIECES * PIECE,
						   .most = PIECES * PIECE,
						   .slab = PIECE,
						   .progress = grown,
						   .arg = setting};

	return hbm_memory_open(&setting->hbm, &options);
}

static void begin(struct setting *setting)
{
	assert_int_equal(open_memory(setting), CUDA_SUCCESS);
}

static int tear_down(void **state)
{
	struct setting *setting = *state;

	hbm_memory_close(setting->hbm);
	tier_clear(&setting->tier);
	pool_close(&setting->pool);

	return 0;
}

static bool is_settled(void *arg)
{
	return hbm_memory_settled(((const struct setting *)arg)->hbm);
}

static void a_tier_grows_while_it_is_made(void **state)
{
	struct setting *setting = *state;

	begin(setting);
	assert_int_equal(setting->tier.usable, 0);
	assert_true(hbm_memory_rate(setting->hbm) == 0);
	assert_false(hbm_memory_settled(setting->hbm));
	pool_run(&setting->pool, is_settled, setting);

	assert_int_equal(setting->grown, PIECES);
	for (unsigned i = 0; i < PIECES; i++)
		assert_int_equal(setting->usable[i], (i + 1) * PIECE - HEADROOM);
	assert_int_equal(setting->pool.call.live("mappings"), PIECES);
	assert_true(hbm_memory_rate(setting->hbm) > 0);

	/* all of it is memory, and one extent */
	uint32_t unit = tier_alloc(&setting->tier, PIECES * PIECE);
	char out[6] = "";
	CUdeviceptr at = setting->tier.base + PIECE - 3;
	assert_int_not_equal(unit, UINT32_MAX);
	assert_int_equal(device_enter(setting->device), CUDA_SUCCESS);
	assert_int_equal(setting->device->driver->cuMemcpyHtoD(at, "hello", 6), CUDA_SUCCESS);
	assert_int_equal(setting->device->driver->cuMemcpyDtoH(out, at, 6), CUDA_SUCCESS);
	assert_string_equal(out, "hello");
	tier_free(&setting->tier, unit, PIECES * PIECE);
}

struct other {
	struct job job;
	uint64_t made;
	struct setting *setting;
};

static void run_other(struct job *job)
{
	struct other *other = container_of(job, struct other, job);

	other->made = other->setting->pool.call.calls("cuMemCreate");
}

/* What a client asks of the device waits for one part at most. */
static void others_have_their_turn(void **state)
{
	struct setting *setting = *state;
	struct other other = {.job.run = run_other, .setting = setting};
	uint64_t before = setting->pool.call.calls("cuMemCreate");

	begin(setting);
	worker_post(setting->device->control, &other.job);
	pool_run(&setting->pool, is_settled, setting);
	assert_int_equal(other.made - before, 1);
}

/* How many lines of the log, which is removed, say that the tier stays as it is. */
static unsigned complaints_in(const char *path)
{
	FILE *file = fopen(path, "r");
	char line[512];
	unsigned count = 0;

	assert_non_null(file);
	while (fgets(line, sizeof(line), file))
		count += strstr(line, "The tier stays at that size") != NULL;
	fclose(file);
	assert_int_equal(unlink(path), 0);

	return count;
}

static void a_tier_stays_at_what_there_is(void **state)
{
	static const struct {
		const char *call;
		CUresult result;
	} tries[] = {{"cuMemCreate", CUDA_ERROR_OUT_OF_MEMORY},
		     {"cuMemMap", CUDA_ERROR_UNKNOWN},
		     {"cuMemSetAccess", CUDA_ERROR_UNKNOWN}};
	struct setting *setting = *state;

	for (size_t i = 0; i < sizeof(tries) / sizeof(tries[0]); i++) {
		char path[] = "/tmp/hbmd-test-XXXXXX";
		int log = mkstemp(path), before = dup(STDERR_FILENO);

		assert_true(log >= 0 && before >= 0);
		assert_int_equal(setting->pool.call.fail_nth(tries[i].call, 4, tries[i].result), 0);
		assert_true(dup2(log, STDERR_FILENO) >= 0);
		log_open(LOG_ERR);
		begin(setting);
		pool_run(&setting->pool, is_settled, setting);
		log_open(LOG_CRIT);
		assert_true(dup2(before, STDERR_FILENO) >= 0);
		close(before);
		close(log);
		setting->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);

		assert_int_equal(complaints_in(path), 1);
		assert_int_equal(setting->grown, 4); /* with the last, when nothing came */
		assert_int_equal(setting->tier.usable, 3 * PIECE - HEADROOM);
		assert_false(device_is_lost(setting->device));

		setting->hbm = hbm_memory_close(setting->hbm);
		assert_int_equal(setting->pool.call.live("mappings"), 0);
		tier_clear(&setting->tier);
		assert_int_equal(tier_init(&setting->tier, HBM_TIER_HBM, 1,
					   PIECES * PIECE - HEADROOM, HEADROOM, 16),
				 0);
		setting->grown = 0;
	}
}

static void no_addresses(void **state)
{
	struct setting *setting = *state;

	assert_int_equal(
		setting->pool.call.fail_nth("cuMemAddressReserve", 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
	assert_int_equal(open_memory(setting), CUDA_ERROR_OUT_OF_MEMORY);
	setting->pool.call.fail_nth(NULL, 0, CUDA_SUCCESS);
	assert_null(setting->hbm);
}

/* Closed before the first part is in service. */
static void closing_while_it_is_made(void **state)
{
	struct setting *setting = *state;

	begin(setting);
	setting->hbm = hbm_memory_close(setting->hbm);
	assert_int_equal(setting->grown, 0);
	assert_int_equal(setting->pool.call.live("mappings"), 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
	const struct CMUnitTest tests[] = {
		TEST(a_tier_grows_while_it_is_made), TEST(others_have_their_turn),
		TEST(a_tier_stays_at_what_there_is), TEST(no_addresses),
		TEST(closing_while_it_is_made),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
