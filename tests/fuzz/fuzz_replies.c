/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz_replies: the library as the client of a daemon that says anything. The first byte says
 * how many calls are made, two bytes each; what is left are the changes of the replies to
 * them (replies.h). A call ends with a status or an errno, whatever the daemon says; after
 * hbm_close() no descriptor and no object of the device is left.
 */
#include "tests/fuzz/fuzz.h"
#include "tests/fuzz/replies.h"

#include "client/connection.h"

#include <hbm/hbm.h>

#include <dlfcn.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SLAB (2u << 20)
#define ANSWER_MS 20 /* of a call; then the connection ends */
#define REGIONS 4
#define LOANS 4
#define SETTLE_US 1000
#define SETTLE_TRIES 2000

static const char *path;
static struct hbm *hbm;
static struct hbm_region *regions[REGIONS];
static struct hbm_loan *loans[LOANS];
static uint64_t (*live)(const char *kind); /* of the soft driver */
static unsigned descriptors;
static uint64_t handles;

/* ---- Calls, each with a byte that says which ---- */

static const hbm_key keys[2] = {{{1}}, {{2}}};

static struct hbm_region *region_of(uint8_t which)
{
	for (unsigned i = 0; i < REGIONS; i++)
		if (regions[(which + i) % REGIONS])
			return regions[(which + i) % REGIONS];

	return NULL;
}

static struct hbm_region **free_place(void)
{
	for (unsigned i = 0; i < REGIONS; i++)
		if (!regions[i])
			return &regions[i];

	return NULL;
}

static int call_create(uint8_t which)
{
	const struct hbm_region_options options = {
		.device = which & 1, .address_space = 4 * SLAB, .slab = SLAB};

	return free_place() ? hbm_region_create(hbm, &options, free_place()) : 0;
}

static int call_import(uint8_t which)
{
	const struct hbm_import_options options = {
		.device = which & 1, .fd = replies_slab(), .bytes = SLAB, .address = SLAB};

	return free_place() ? hbm_region_import(hbm, &options, free_place()) : 0;
}

static int call_attach(uint8_t which)
{
	return free_place() ? hbm_region_attach(hbm, HBM_OWN_UID, "name", which & HBM_ATTACH_WRITE,
						free_place())
			    : 0;
}

static struct hbm_range range_of(uint8_t which)
{
	return (struct hbm_range){region_of(which), (which >> 2 & 3) * (uint64_t)SLAB,
				  (1 + (which >> 4 & 1)) * (uint64_t)SLAB};
}

static int call_commit(uint8_t which)
{
	struct hbm_range range = range_of(which);

	return range.region ? hbm_commit(hbm, &range, 1) : 0;
}

static int call_decommit(uint8_t which)
{
	struct hbm_range range = range_of(which);

	return range.region ? hbm_decommit(hbm, &range, 1) : 0;
}

static int call_destroy(uint8_t which)
{
	struct hbm_region **place = &regions[which % REGIONS];
	int rc = *place ? hbm_region_destroy(hbm, *place) : 0;

	*place = NULL;

	return rc;
}

static int call_share(uint8_t which)
{
	struct hbm_share share = {.source = region_of(which & 3),
				  .target = region_of(which >> 2 & 3),
				  .target_offset = 3 * SLAB,
				  .bytes = SLAB,
				  .loan = which & 64 ? loans[which & 3] : NULL,
				  .flags = which & 64 ? HBM_SHARE_READ_ONLY : 0};

	return share.source ? hbm_share(hbm, &share, 1) : 0;
}

static int call_publish(uint8_t which)
{
	const struct hbm_publish_options options = {.name = "name"};
	struct hbm_range range = range_of(which);

	return range.region
		       ? hbm_region_publish(hbm, range.region, range.offset, range.bytes, &options)
		       : 0;
}

static int call_unpublish(uint8_t which)
{
	(void)which;
	return hbm_region_unpublish(hbm, HBM_OWN_UID, "name");
}

static int call_namespace(uint8_t which)
{
	const struct hbm_namespace_options options = {.model = "model", .block_bytes = 65536};
	uint64_t bytes;
	uint32_t ns;

	return which & 1 ? hbm_namespace_attach(hbm, 1, &bytes)
			 : hbm_namespace_open(hbm, &options, &ns);
}

static int call_lookup(uint8_t which)
{
	hbm_result results[2];
	struct hbm_lookup lookup;

	return hbm_lookup(hbm, 1, keys, 1 + (which & 1), &lookup, results);
}

static int call_keys(uint8_t which)
{
	static const enum hbm_wire_opcode opcodes[] = {HBM_WIRE_TOUCH, HBM_WIRE_PIN, HBM_WIRE_UNPIN,
						       HBM_WIRE_REMOVE};
	hbm_result results[2];

	return hbm_keys(hbm, opcodes[which & 3], 1, 0, keys, 1 + (which >> 2 & 1), results);
}

static int call_blocks(uint8_t which)
{
	struct hbm_segment segment = {region_of(which), 0, 65536};
	struct hbm_block block = {.key = keys[0], .segments = &segment, .segment_count = 1};
	hbm_result result;

	if (!segment.region)
		return 0;

	return which & 4 ? hbm_store(hbm, 1, &block, 1, &result)
			 : hbm_load(hbm, 1, &block, 1, &result);
}

static int call_move(uint8_t which)
{
	hbm_result results[2];

	return which & 1 ? hbm_move(hbm, 1, HBM_TIER_DDR, 0, keys, 2, results)
			 : hbm_prefetch(hbm, 1, 0, keys, 2, 0, results);
}

static int call_borrow(uint8_t which)
{
	struct hbm_loan *borrowed[2] = {NULL, NULL};
	hbm_result results[2];
	int rc = hbm_borrow(hbm, 1, which & 1, 0, keys, 2, borrowed, results);

	for (unsigned i = 0; i < 2 && rc == HBM_OK; i++)
		for (unsigned k = 0; borrowed[i] && k < LOANS; k++)
			if (!loans[k]) {
				loans[k] = borrowed[i];
				borrowed[i] = NULL;
			}

	return rc;
}

static int call_map_loan(uint8_t which)
{
	struct hbm_loan *loan = loans[which % LOANS];
	uint64_t address;

	return loan ? hbm_loan_map(hbm, loan, &address) : 0;
}

static int call_return(uint8_t which)
{
	struct hbm_loan **loan = &loans[which % LOANS];
	int rc = *loan ? hbm_return(hbm, loan, 1) : 0;

	*loan = rc == HBM_INVALID ? *loan : NULL;

	return rc;
}

static int look(const void *record, size_t size, void *arg)
{
	unsigned *sum = arg;

	for (size_t i = 0; i < size; i++)
		*sum += ((const uint8_t *)record)[i];

	return 0;
}

static int call_query(uint8_t which)
{
	unsigned sum = 0;

	return hbm_query(hbm, (enum hbm_wire_query_kind)(1 + which % (HBM_QUERY_KINDS - 1)), look,
			 &sum);
}

static int call_reserve(uint8_t which)
{
	const struct hbm_reserve_change change = {which & 1, SLAB};
	struct hbm_device_memory device;

	return which & 2 ? hbm_device_memory(hbm, which & 1, &device)
			 : hbm_reserve(hbm, &change, 1, 0);
}

static int call_amount(uint8_t which)
{
	struct hbm_amount amount;

	return which & 1 ? hbm_evict(hbm, HBM_TIER_HBM, 0, SLAB, &amount)
			 : hbm_namespace_drop(hbm, 1, 0, &amount);
}

static int call_ask(uint8_t which)
{
	return which & 1 ? hbm_ask(hbm, 1, 1, HBM_ASK_SUSPEND, HBM_TIER_NONE)
			 : hbm_session_end(hbm, 1);
}

/* Without waiting, and then for all. */
static int call_submit(uint8_t which)
{
	hbm_ticket tickets[4] = {0};
	int rc = which & 8 ? hbm_cork(hbm) : 0;

	for (unsigned i = 0; i < 1u + (which & 3) && rc == 0; i++)
		rc = hbm_submit_keys(hbm, HBM_WIRE_TOUCH, 1, 0, keys, 2, NULL, &tickets[i]);
	if (which & 8)
		rc = hbm_uncork(hbm);
	if (which & 4)
		rc = hbm_cancel(hbm, tickets[0]);
	for (unsigned i = 0; i < 4; i++)
		if (tickets[i] && hbm_wait(hbm, tickets[i], ANSWER_MS) == -ETIMEDOUT)
			rc = -ETIMEDOUT;

	return rc;
}

static int call_dispatch(uint8_t which)
{
	int rc = hbm_dispatch(hbm, which & 1);

	return rc < 0 ? rc : 0;
}

static int call_ping(uint8_t which)
{
	(void)which;
	return hbm_ping(hbm);
}

static int (*const calls[])(uint8_t which) = {
	call_create, call_commit,    call_decommit,  call_destroy,  call_import, call_attach,
	call_share,  call_publish,   call_unpublish, call_lookup,   call_keys,   call_blocks,
	call_move,   call_borrow,    call_map_loan,  call_return,   call_query,  call_reserve,
	call_amount, call_namespace, call_ask,       call_submit,   call_ping,   call_dispatch,
	call_create, call_commit,    call_borrow,    call_map_loan,
};

#define CALLS (sizeof(calls) / sizeof(calls[0]))

/* ---- An input ---- */

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	const char *library = getenv("HBM_SOFT_DRIVER");
	void *soft = library ? dlopen(library, RTLD_NOW | RTLD_NODELETE) : NULL;

	(void)argc;
	(void)argv;
	if (!soft)
		fuzz_fail("HBM_SOFT_DRIVER is to name the libhbmsoft.so of this build");
	*(void **)&live = dlsym(soft, "hbm_soft_live");
	fuzz_check(live != NULL);
	signal(SIGPIPE, SIG_IGN);
	path = replies_open();

	return 0;
}

static void connect_and_call(struct fuzz_input *input, unsigned count)
{
	const struct hbm_options options = {.socket = path, .answer_ms = ANSWER_MS};
	int rc = hbm_connect(&hbm, &options);

	fuzz_check((rc == 0) == (hbm != NULL));
	if (rc != 0)
		return;

	hbm->timeout_ms = hbm->close_ms = ANSWER_MS;
	while (count-- > 0) {
		uint8_t which = (uint8_t)fuzz_take(input, 1);

		rc = calls[which % CALLS]((uint8_t)fuzz_take(input, 1));
		fuzz_check(hbm_error(hbm) != NULL && hbm_strerror(rc) != NULL);
	}
	hbm = hbm_close(hbm);
}

/* The other side closes its end when it sees the end of ours. */
static void assert_nothing_left(void)
{
	unsigned now = fuzz_descriptors(false);

	for (unsigned i = 0; i < SETTLE_TRIES && now != descriptors; i++) {
		usleep(SETTLE_US);
		now = fuzz_descriptors(false);
	}
	if (now != descriptors)
		fuzz_fail("%u descriptors, there were %u", fuzz_descriptors(true), descriptors);
	if (live("handles") != handles || live("mappings") != 0 || live("reservations") != 0)
		fuzz_fail("%llu handles of %llu, %llu mappings, %llu reservations",
			  (unsigned long long)live("handles"), (unsigned long long)handles,
			  (unsigned long long)live("mappings"),
			  (unsigned long long)live("reservations"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct fuzz_input input = {data, size};
	unsigned count = fuzz_below(&input, 24);
	size_t bytes = 2 * count < input.left ? 2 * count : input.left;
	struct fuzz_input orders = {input.at, bytes};

	if (descriptors == 0) {
		descriptors = fuzz_descriptors(false);
		handles = live("handles");
	}

	memset(regions, 0, sizeof(regions));
	memset(loans, 0, sizeof(loans));
	replies_begin((struct fuzz_input){input.at + bytes, input.left - bytes});
	connect_and_call(&orders, count);
	replies_end();
	assert_nothing_left();

	return 0;
}
