/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sequences where the device fails: the n-th call of a kind to the driver in the client's process
 * within each call on them fails, for n = 1, 2, ... until none is reached. What is refused has
 * changed nothing, and works when it is tried again; nothing is left.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/play_stage.h"
#include "tests/support/soft_calls.h"

static struct soft_calls soft;
static const char *call;
static unsigned nth;
static uint64_t last; /* the call that fails, counted from the first of the process */
static bool reached;

static void look(void)
{
	reached |= soft.calls(call) >= last;
	soft.fail_nth(NULL, 0, CUDA_SUCCESS);
}

static void call_begins(void)
{
	look();
	last = soft.calls(call) + nth;
	soft.fail_nth(call, nth, CUDA_ERROR_OUT_OF_MEMORY);
}

static void begins(const struct pool_rig *rig)
{
	soft = soft_calls_of(rig->kv.driver);
	last = UINT64_MAX;
	pool_play_calls = call_begins;
}

static void ends(void)
{
	look();
	pool_play_calls = NULL;
}

static void test_device_calls(void **state)
{
	(void)state;
	static const char *const calls[] = {
		"cuMemMap",
		"cuMemUnmap",
		"cuMemSetAccess",
		"cuMemRetainAllocationHandle",
		"cuMemcpyDtoDAsync",
		"cuStreamSynchronize",
		"cuStreamCreate",
		"cuMemImportFromShareableHandle",
		"cuMemAddressReserve",
		"cuLaunchKernel",
		"cuModuleLoadData",
	};
	unsigned refused = 0;

	play_stage_start();
	pool_play_begins = begins;
	pool_play_ends = ends;
	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		const unsigned before = refused;

		call = calls[i];
		reached = true;
		for (nth = 1; reached && nth < PLAY_STAGE_MAX; nth++) {
			reached = false;
			refused += play_stage_run();
		}
		print_message("%s: %u in a call, %u refusals\n", call, nth - 2, refused - before);
		assert_in_range(nth, 2, PLAY_STAGE_MAX - 1);
	}
	/* Where the call is tried again by itself, as an unmapping is, nothing is refused. */
	assert_in_range(refused, 40, 2 * PLAY_STAGE_MAX);
	play_stage_finish();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_device_calls, stage_setup, stage_teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
