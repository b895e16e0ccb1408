/* SPDX-License-Identifier: Apache-2.0 */
/* Timers: set, set again and stopped in any order, they fire in that of their times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "tests/support/loop_rig.h"
#include "tests/support/seed.h"

#define MS UINT64_C(1000000)

struct alarm {
	struct timer timer;
	uint64_t at;
	unsigned fired;
};

static uint64_t last_fired;
static unsigned alarms_left;

static void ring_alarm(struct timer *timer)
{
	struct alarm *alarm = container_of(timer, struct alarm, timer);

	assert_int_equal(timer->position, 0);
	assert_in_range(alarm->at, last_fired, clock_now());
	last_fired = alarm->at;
	alarm->fired++;
	if (--alarms_left == 0)
		loop_stop(loop);
}

static void set_alarm(struct alarm *alarm, uint64_t at)
{
	alarm->at = at;
	assert_int_equal(loop_timer_set(loop, &alarm->timer, at), 0);
}

static void test_timers_fire_in_order(void **state)
{
	(void)state;
	enum { ALARMS = 1000 };
	static struct alarm alarms[ALARMS];
	struct seed seed;
	seed_open(&seed, "test_timers_fire_in_order");
	uint64_t start = clock_now();
	for (int i = 0; i < ALARMS; i++) {
		alarms[i] = (struct alarm){.timer = {.fire = ring_alarm}};
		set_alarm(&alarms[i], start + seed_below(&seed, 20 * MS));
	}

	alarms_left = ALARMS;
	for (int i = 0; i < ALARMS; i++) {
		if (i % 3 == 0) {
			set_alarm(&alarms[i], start + seed_below(&seed, 20 * MS));
		} else if (i % 3 == 1) {
			loop_timer_stop(loop, &alarms[i].timer);
			loop_timer_stop(loop, &alarms[i].timer);
			alarms_left--;
		}
	}

	last_fired = 0;
	loop_rig_run();
	for (int i = 0; i < ALARMS; i++)
		assert_int_equal(alarms[i].fired, i % 3 != 1);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_timers_fire_in_order),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));

	return cmocka_run_group_tests(tests, NULL, NULL);
}
