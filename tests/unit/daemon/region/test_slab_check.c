/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Does slabs_check() find what it looks for? Nothing that can be called makes a pool's
 * counts wrong, so this test writes them by hand.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/region/slab.h"
#include "daemon/region/slab_pool.h"

/* A pool with one slab in each state, as far as the counts show it. */
struct fixture {
	struct slabs slabs;
	struct slab ready[2], making, placed[2], lost[2];
	struct held_part part;
};

#define USED (512u + 256u + 128u + 1u) /* leased, quarantined and not lost, retiring, held */

static void set_used(struct slabs *slabs, uint64_t used)
{
	slabs->promises.used = slabs->promises.unowned.used = used;
}

static struct slabs *counted(struct fixture *fixture)
{
	struct slabs *slabs = &fixture->slabs;

	*fixture = (struct fixture){
		.slabs.books = {.budget = 1023,
				.leased = 512,
				.quarantined = 256 + 8 + 4,
				.retiring = 128,
				.ready = 64 + 32 + 16,
				.uncreated = 2,
				.held = 1},
		.ready = {{.bytes = 64}, {.bytes = 32}},
		.making.bytes = 16,
		.placed = {{.bytes = 128, .slots = 1}, {.bytes = 256, .slots = 3}},
		.slabs.unplaced = 512 + 256 - 128 - 256,
		.lost = {{.bytes = 8}, {.bytes = 4}},
	};
	slabs->making = &fixture->making;
	tally_init(&slabs->ready);
	tally_init(&slabs->placed);
	tally_init(&slabs->lost);
	tally_init(&slabs->held.parts);
	tally_init(&slabs->recount.regions);
	slabs->held.bytes = 1;
	fixture->part.bytes = 1;
	tally_push(&slabs->held.parts, &fixture->part.link, &fixture->part.mark);
	for (size_t i = 0; i < 2; i++) {
		tally_push(&slabs->ready, &fixture->ready[i].link, &fixture->ready[i].mark);
		tally_push(&slabs->placed, &fixture->placed[i].link, &fixture->placed[i].mark);
		tally_push(&slabs->lost, &fixture->lost[i].link, &fixture->lost[i].mark);
	}
	promises_init(&slabs->promises);
	set_used(slabs, USED);
	assert_null(slabs_check(slabs));

	return slabs;
}

static void test_the_sum(void **state)
{
	(void)state;
	struct fixture fixture;
	struct slabs_books *books = &counted(&fixture)->books;
	uint64_t *counts[] = {&books->leased, &books->quarantined, &books->retiring,
			      &books->ready,  &books->uncreated,   &books->budget};

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		++*counts[i];
		assert_string_equal(slabs_check(&fixture.slabs),
				    "leased, quarantined, retiring, ready, uncreated and held do "
				    "not add up to the budget");
		--*counts[i];
	}
}

static void test_the_ready_slabs(void **state)
{
	(void)state;
	struct fixture fixture;
	uint64_t *sizes[] = {&fixture.ready[0].bytes, &fixture.ready[1].bytes,
			     &fixture.making.bytes};

	for (size_t i = 0; i < 3; i++) {
		counted(&fixture);
		++*sizes[i];
		assert_string_equal(slabs_check(&fixture.slabs), "the ready slabs do not add up");
		*sizes[i] -= 2;
		assert_string_equal(slabs_check(&fixture.slabs), "the ready slabs do not add up");
	}

	counted(&fixture)->making = NULL;
	assert_string_equal(slabs_check(&fixture.slabs), "the ready slabs do not add up");
}

/* What is held is in the books as in the list, and charged to its holder if it has one. */
static void test_the_held_slabs(void **state)
{
	(void)state;
	struct fixture fixture;
	struct holder holder;
	struct slabs *slabs = counted(&fixture);

	slabs->books.held++;
	slabs->books.uncreated--;
	assert_string_equal(slabs_check(slabs), "the held bytes are counted twice, differently");
	slabs->held.bytes++;
	assert_string_equal(slabs_check(slabs), "the held slabs do not add up");

	slabs = counted(&fixture);
	fixture.part.holder = &holder;
	assert_string_equal(slabs_check(slabs), "a held slab is not charged to its holder");
	fixture.part.charge.amount = 1;
	assert_null(slabs_check(slabs));
	fixture.part.holder = NULL;
	assert_string_equal(slabs_check(slabs), "a held slab is not charged to its holder");
}

static void test_what_sessions_use(void **state)
{
	(void)state;
	struct fixture fixture;

	set_used(counted(&fixture), USED + 1);
	assert_string_equal(slabs_check(&fixture.slabs),
			    "what the sessions use is not what the pool has out");
}

/* Those that are lost are among the quarantined ones, and may be all of them. */
static void test_the_lost_slabs(void **state)
{
	(void)state;
	struct fixture fixture;

	for (size_t i = 0; i < 2; i++) {
		counted(&fixture);
		fixture.lost[i].bytes += 256;
		fixture.slabs.unplaced -= 256;
		set_used(&fixture.slabs, USED - 256); /* no session has it any more */
		assert_null(slabs_check(&fixture.slabs));
		fixture.lost[i].bytes++;
		assert_string_equal(slabs_check(&fixture.slabs),
				    "more bytes are lost than quarantined");
	}
}

/* Each slab of a region once, however many slots it backs. */
static void test_the_placed_slabs(void **state)
{
	(void)state;
	struct fixture fixture;
	struct slabs *slabs = counted(&fixture);

	assert_int_equal(slabs_check_slots(slabs), 128 + 3 * 256);
	fixture.placed[0].slots = 2;
	assert_null(slabs_check(slabs));
	assert_int_equal(slabs_check_slots(slabs), 2 * 128 + 3 * 256);

	uint64_t *counts[] = {&fixture.placed[0].bytes, &fixture.placed[1].bytes,
			      &fixture.slabs.unplaced};
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
		++*counts[i];
		assert_string_equal(slabs_check(slabs), "the slabs of regions do not add up");
		*counts[i] -= 2;
		assert_string_equal(slabs_check(slabs), "the slabs of regions do not add up");
		++*counts[i];
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_the_sum),           cmocka_unit_test(test_the_ready_slabs),
		cmocka_unit_test(test_the_held_slabs),    cmocka_unit_test(test_the_placed_slabs),
		cmocka_unit_test(test_what_sessions_use), cmocka_unit_test(test_the_lost_slabs),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
