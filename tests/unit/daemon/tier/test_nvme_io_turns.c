/* SPDX-License-Identifier: Apache-2.0 */
/* Whose reads and writes go first: what is waited for, then payers in turns; and the others are
 * not stopped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/tier/nvme_io.h"
#include "tests/support/nvme_io_rig.h"

/* What is waited for goes first, but the others get one I/O in eight. */
static void check_order(enum loop_engine engine)
{
	enum { EACH = 40 };
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, NVME_IO_BLOCK, "");
	for (uint64_t i = 0; i < EACH; i++)
		nvme_io_rig_submit(rig, i % 2 == 0, 2 * i, 1, false);
	for (uint64_t i = 0; i < EACH; i++)
		nvme_io_rig_submit(rig, i % 2 == 0, 2 * (EACH + i), 1, true);
	nvme_io_rig_run(rig);
	unsigned early = 0; /* background ones that ended before the last urgent one */
	unsigned last = 0;
	for (unsigned i = EACH; i < 2 * EACH; i++)
		last = rig->works[i].turn > last ? rig->works[i].turn : last;
	for (unsigned i = 0; i < EACH; i++)
		early += rig->works[i].turn < last;
	assert_in_range(early, 4, 7);
	nvme_io_rig_free(rig);
}

/* Beside 25 operations of one payer, each of two I/Os, another's waits for what has been
 * started and for a turn of the first. */
static void check_turns(enum loop_engine engine)
{
	enum { LARGE = 25, EACH = 8 };
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, EACH / 2 * NVME_IO_BLOCK, "");
	for (uint64_t i = 0; i < LARGE; i++)
		nvme_io_rig_submit_for(rig, 1, false, i * EACH, EACH, true);
	nvme_io_dispatch(rig->nvme_io);
	const struct nvme_io_work *late =
		nvme_io_rig_submit_for(rig, 2, false, LARGE * EACH, EACH, true);
	nvme_io_rig_run(rig);
	assert_in_range(late->turn, 0, 2);
	nvme_io_rig_free(rig);
}

/* What was background becomes urgent, whole or half done; what has been issued stays. */
static void check_hastening(enum loop_engine engine)
{
	enum { EACH = 40 };
	struct nvme_io_rig *rig = nvme_io_rig_new(engine);

	nvme_io_rig_open(rig, 1, 2 * NVME_IO_BLOCK, "");
	for (uint64_t i = 0; i < EACH; i++)
		nvme_io_rig_submit(rig, false, 6 * i, 4, false);
	nvme_io_dispatch(rig->nvme_io);
	nvme_io_hasten(rig->nvme_io, &rig->works[0].op, (struct fair_payer){.id = 1});
	nvme_io_hasten(rig->nvme_io, &rig->works[EACH - 1].op, (struct fair_payer){.id = 2});

	nvme_io_rig_run(rig);
	assert_in_range(rig->works[0].turn, 0, 1);
	assert_in_range(rig->works[EACH - 1].turn, 0, 1);
	nvme_io_hasten(rig->nvme_io, &rig->works[1].op, (struct fair_payer){.id = 1});
	nvme_io_rig_free(rig);
}

static void test_urgent_before_background(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_order);
}

static void test_payers_take_turns(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_turns);
}

static void test_background_becomes_urgent(void **state)
{
	(void)state;
	nvme_io_rig_for_both(check_hastening);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_urgent_before_background),
		cmocka_unit_test(test_payers_take_turns),
		cmocka_unit_test(test_background_becomes_urgent),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
