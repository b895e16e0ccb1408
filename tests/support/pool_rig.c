/* SPDX-License-Identifier: Apache-2.0 */
/* pool_rig: see pool_rig.h. */
#include "tests/support/pool_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

const char *const pool_rig_layouts[] = {
	"layers=2 heads=3 dim=9000 bytes=4 order=token max=64",
	"layers=2 heads=3 dim=18000 bytes=4 order=layer max=64",
	"layers=2 heads=3 dim=9000 bytes=4 order=block page=4 max=64",
	"layers=2 order=token max=64 layer=0 heads=3 dim=18000 bytes=4 window=12 "
	"layer=1 heads=3 dim=18000 bytes=4",
	NULL,
};

const char *const pool_rig_mixed_layouts[] = {
	"layers=5 order=token max=64 layer=0,2 heads=3 dim=9000 bytes=4 layer=1 heads=1 dim=7001 "
	"bytes=2 window=16 layer=3 heads=1 dim=12001 bytes=2 keys=only layer=4 state=3000",
	"layers=4 order=layer values=first max=64 layer=0-1 heads=3 dim=9001 bytes=2 layer=2 "
	"heads=1 dim=7001 bytes=4 window=16 layer=3 heads=1 dim=12001 bytes=2 keys=only",
	"layers=4 order=block page=4 page_form=hnd max=64 layer=0 heads=3 dim=8192 bytes=4 layer=2 "
	"heads=1 dim=8192 bytes=4 layer=1 heads=2 dim=6144 bytes=2 window=16 layer=3 heads=1 "
	"dim=12288 bytes=2 keys=only",
	NULL,
};

void pool_rig_open(struct pool_rig *rig, const struct spawn *spawn, const char *layout,
		   const struct hbm_pool_options *options)
{
	struct hbm_pool_options asked = *options;
	char error[256];

	*rig = (struct pool_rig){.hbm = spawn_connect(spawn)};
	kv_enter(&rig->kv, rig->hbm, options->device);
	if (hbm_layout_parse(&rig->layout, layout, error, sizeof(error)) != 0)
		fail_msg("%s: %s", layout, error);

	asked.layout = rig->layout;
	if (asked.ahead_tokens == 0)
		asked.ahead_tokens = RIG_AHEAD;
	if (hbm_pool_open(rig->hbm, &asked, &rig->pool) != 0)
		fail_msg("hbm_pool_open(): %s", hbm_error(rig->hbm));
}

static void pool_rig_leave(struct pool_rig *rig)
{
	hbm_layout_free(rig->layout);
	kv_leave(&rig->kv);
	hbm_close(rig->hbm);
	*rig = (struct pool_rig){0};
}

void pool_rig_close(struct pool_rig *rig)
{
	assert_int_equal(hbm_pool_close(rig->pool), 0);
	pool_rig_leave(rig);
}

void pool_rig_lose(struct pool_rig *rig)
{
	assert_true(hbm_pool_close(rig->pool) < 0);
	pool_rig_leave(rig);
}

struct hbm_sequence *pool_rig_sequence(struct pool_rig *rig)
{
	struct hbm_sequence *sequence = NULL;
	int r = hbm_sequence_open(rig->pool, NULL, &sequence);

	if (r)
		fail_msg("hbm_sequence_open(): %d, %s", r, hbm_pool_error(rig->pool));

	return sequence;
}

int pool_rig_step(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t length)
{
	int r = hbm_step(rig->pool, &sequence, &length, 1);

	if (r == HBM_DEVICE || r < 0)
		fail_msg("hbm_step(): %d, %s", r, hbm_pool_error(rig->pool));

	return r;
}

struct hbm_sequence_facts pool_rig_facts(struct hbm_sequence *sequence)
{
	struct hbm_sequence_facts facts;

	assert_int_equal(hbm_sequence_facts(sequence, &facts), 0);

	return facts;
}

/* ---- What is shown ---- */

struct shown {
	uint64_t session, number;
	unsigned found;
	struct hbm_wire_sequence sequence;
};

static int shown_look(const void *record, size_t bytes, void *arg)
{
	const struct hbm_wire_sequence *sequence = record;
	struct shown *shown = arg;

	(void)bytes;
	if (sequence->session == shown->session && sequence->sequence == shown->number) {
		shown->sequence = *sequence;
		shown->found++;
	}

	return 0;
}

struct hbm_wire_sequence pool_rig_shown(struct pool_rig *rig, uint64_t number)
{
	struct shown shown = {.session = hbm_info(hbm_pool_connection(rig->pool))->session,
			      .number = number};

	assert_int_equal(hbm_query(rig->hbm, HBM_QUERY_SEQUENCES, shown_look, &shown), 0);
	assert_int_equal(shown.found, 1);

	return shown.sequence;
}

static int shared_add(const void *record, size_t bytes, void *arg)
{
	(void)bytes;
	*(uint64_t *)arg += ((const struct hbm_wire_region *)record)->shared;

	return 0;
}

uint64_t pool_rig_shared(struct pool_rig *rig)
{
	uint64_t bytes = 0;

	assert_int_equal(hbm_query(rig->hbm, HBM_QUERY_REGIONS, shared_add, &bytes), 0);

	return bytes;
}

static int session_look(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_session *wanted = arg;

	if (((const struct hbm_wire_session *)record)->session == wanted->session)
		memcpy(wanted, record, bytes < sizeof(*wanted) ? bytes : sizeof(*wanted));

	return 0;
}

struct hbm_wire_session pool_rig_session(struct pool_rig *rig)
{
	struct hbm_wire_session session = {
		.session = hbm_info(hbm_pool_connection(rig->pool))->session};

	assert_int_equal(hbm_query(rig->hbm, HBM_QUERY_SESSIONS, session_look, &session), 0);

	return session;
}

/* What is on its way back is used until it is free. */
static void rig_await_returns(struct pool_rig *rig)
{
	struct hbm_device_memory memory;

	do
		assert_int_equal(hbm_device_memory(rig->hbm, 0, &memory), 0);
	while (memory.returning > 0);
}

void pool_rig_check_books(struct pool_rig *rig)
{
	struct hbm_pool_facts facts;

	hbm_pool_facts(rig->pool, &facts);
	if (facts.promised_bytes > 0)
		assert_in_range(facts.reserved_bytes, facts.committed_bytes + facts.promised_bytes,
				UINT64_MAX);
	if (hbm_pool_connection(rig->pool) != rig->hbm || facts.promised_bytes == 0)
		return;

	rig_await_returns(rig);
	const struct hbm_wire_session session = pool_rig_session(rig);

	assert_int_equal(session.reserved, facts.reserved_bytes);
	/* Slabs that it has lent and given back count against it until the cache drops them, which
	 * it does where memory is asked for and lacking. */
	assert_int_equal(session.promised + session.lent_left + facts.committed_bytes,
			 facts.reserved_bytes);
}

/* ---- Bytes ---- */

typedef void rig_access(struct pool_rig *rig, uint64_t address, uint64_t value);

void pool_rig_put(struct pool_rig *rig, uint64_t address, uint64_t value)
{
	kv_write(&rig->kv, address, &value, sizeof(value));
}

void pool_rig_see(struct pool_rig *rig, uint64_t address, uint64_t value)
{
	uint64_t seen;

	kv_read(&rig->kv, &seen, address, sizeof(seen));
	if (seen != value)
		fail_msg("%#llx holds %#llx instead of %#llx", (unsigned long long)address,
			 (unsigned long long)seen, (unsigned long long)value);
}

uint64_t pool_rig_word(uint64_t value, uint32_t layer, enum hbm_kv_part part, bool last)
{
	return value * 1000003 + 16 * layer + (last ? 2 : 0) + part;
}

/* The first and the last bytes of a token in each plane, each with a value of its own. */
static void rig_each(struct pool_rig *rig, struct hbm_sequence *sequence, uint32_t first,
		     uint32_t end, uint64_t token, uint64_t value, rig_access *access)
{
	const struct hbm_sequence_facts facts = pool_rig_facts(sequence);
	const uint64_t address = facts.address;
	const struct hbm_layout_options *options = hbm_layout_options(rig->layout);

	for (uint32_t layer = first; layer < end; layer++) {
		const struct hbm_layer *shape = &options->layers[layer];
		/* In front of a window there may be nothing. */
		if (access == pool_rig_see && shape->window && token + shape->window < facts.tokens)
			continue;

		const uint64_t head_bytes = (uint64_t)shape->head_dim * shape->element_bytes;

		for (uint32_t n = 0; n < 4 && !shape->state_bytes; n++) {
			uint64_t offset;

			if (n & 1 && shape->keys_only)
				continue;

			assert_int_equal(hbm_layout_offset(rig->layout, layer, n & 1, token,
							   n & 2 ? shape->heads - 1 : 0, &offset),
					 0);
			if (n & 2)
				offset += head_bytes - sizeof(uint64_t);
			access(rig, address + offset, pool_rig_word(value, layer, n & 1, n & 2));
		}
	}
}

static uint32_t rig_layers(const struct pool_rig *rig)
{
	return hbm_layout_options(rig->layout)->layer_count;
}

void pool_rig_write(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t token,
		    uint64_t value)
{
	rig_each(rig, sequence, 0, rig_layers(rig), token, value, pool_rig_put);
}

void pool_rig_expect(struct pool_rig *rig, struct hbm_sequence *sequence, uint64_t token,
		     uint64_t value)
{
	rig_each(rig, sequence, 0, rig_layers(rig), token, value, pool_rig_see);
}

void pool_rig_expect_layer(struct pool_rig *rig, struct hbm_sequence *sequence, uint32_t layer,
			   uint64_t token, uint64_t value)
{
	rig_each(rig, sequence, layer, layer + 1, token, value, pool_rig_see);
}

static int rig_device(const void *record, size_t bytes, void *arg)
{
	struct hbm_wire_device *device = arg;

	memcpy(device, record, bytes < sizeof(*device) ? bytes : sizeof(*device));

	return 1;
}

uint64_t pool_rig_leased(struct pool_rig *rig)
{
	struct hbm_wire_device device = {0};

	assert_int_equal(hbm_query(rig->hbm, HBM_QUERY_DEVICES, rig_device, &device), 1);

	return device.leased;
}
