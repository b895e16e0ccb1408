/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/lend_rig.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "daemon/cache/cache.h"
#include "tests/support/open_namespace.h"

void lend_client_open(struct lend_rig *rig, struct lend_client *client, uid_t uid)
{
	client->user = user_open(&rig->tiers.ledger, uid);
	assert_non_null(client->user);
	payer_open_below(&client->payer, &client->user->payer, PAYER_SESSION);
	holder_init(&client->holder, &client->payer);
	borrower_init(&client->borrower, &client->payer, &client->holder);
}

void lend_client_close(struct lend_client *client)
{
	borrower_release(&client->borrower);
	assert_true(borrower_is_empty(&client->borrower));
	assert_true(list_empty(&client->borrower.exports));
	payer_close(&client->payer);
	client->user = user_close(client->user);
}

uint16_t lend_rig_namespace(struct lend_rig *rig, uint64_t weights)
{
	const struct hbm_wire_namespace_spec spec = {.weights = weights, .block_bytes = BLOCK};

	return open_namespace(rig->tiers.hbmd.cache->namespaces, &rig->tiers.ledger, &spec);
}

static void lend_rig_configure(struct config *config)
{
	config->device_cache = config->device_headroom = (struct config_size){0};
	config->device_memory = (struct config_size){.bytes = POOL};
	config->device_lend = (struct config_size){.bytes = LEND};
	config->limit_lent_per_user = (struct config_size){.bytes = 2 * SLAB};
	config->limit_loans = 3;
}

int lend_rig_setup(void **state)
{
	struct lend_rig *rig = calloc(1, sizeof(*rig));

	assert_non_null(rig);
	rig_init(&rig->tiers);
	lend_rig_configure(&rig->tiers.config);
	rig_open(&rig->tiers, SLAB);
	rig->lend = rig->tiers.hbmd.devices->list[0].lend;
	rig->slabs = rig->tiers.hbmd.devices->list[0].slabs;
	rig->ns = lend_rig_namespace(rig, 1);
	rig->other_ns = lend_rig_namespace(rig, 2);
	lend_client_open(rig, &rig->clients[0], 1000);
	lend_client_open(rig, &rig->clients[1], 1000);
	lend_client_open(rig, &rig->stranger, 2000);
	*state = rig;

	return 0;
}

int lend_rig_teardown(void **state)
{
	struct lend_rig *rig = *state;

	rig_settle(&rig->tiers);
	rig_assert_balanced(&rig->tiers);
	lend_client_close(&rig->clients[0]);
	lend_client_close(&rig->clients[1]);
	lend_client_close(&rig->stranger);
	rig_close(&rig->tiers);
	rig_clear(&rig->tiers);
	free(rig);

	return 0;
}

uint32_t lend_rig_block(struct lend_rig *rig, uint16_t ns)
{
	struct cache *cache = rig->tiers.hbmd.cache;
	struct hbm_wire_key key = {{1}};
	uint32_t n = ++rig->keys;

	memcpy(key.bytes + 8, &n, sizeof(n));
	uint32_t number = cache_insert(cache, ns, &key, 0);
	assert_int_not_equal(number, 0);
	block_stored(&cache->blocks, number, (struct place){0});

	return number;
}

struct replica_form lend_rig_form(const struct lend_client *client, uint32_t number, uint64_t piece)
{
	return (struct replica_form){.user = client->user, .number = number, .piece = piece};
}

bool lend_rig_is_open(void *arg)
{
	return replica_is_open(arg);
}

struct replica *lend_rig_make(struct lend_rig *rig, const struct lend_client *client,
			      uint32_t number)
{
	const struct replica_form form = lend_rig_form(client, number, 0);
	struct replica *replica;

	assert_null(replica_find(rig->lend, &form));
	assert_int_equal(replica_new(&replica, rig->lend, &form, NULL), HBM_OK);
	rig_run(&rig->tiers, lend_rig_is_open, replica);
	assert_int_not_equal(replica_address(replica), 0);
	replica_made(replica);
	replica_unhold(replica);
	assert_ptr_equal(replica_find(rig->lend, &form), replica);

	return replica;
}

struct loan *lend_rig_borrow(struct lend_client *client, struct replica *replica, bool *named)
{
	struct loan *loan;

	assert_int_equal(loan_new(&loan, &client->borrower), HBM_OK);
	struct export *export = export_begin(&client->borrower, replica->lent, named);
	assert_non_null(export);
	loan_make(loan, replica, export);
	export_end(export, &client->borrower, *named);

	return loan;
}

bool lend_rig_is_quiet(void *arg)
{
	return slabs_books(arg).retiring == 0;
}

void lend_rig_assert_leased(struct lend_rig *rig, uint64_t slabs)
{
	rig_run(&rig->tiers, lend_rig_is_quiet, rig->slabs);
	assert_int_equal(slabs_books(rig->slabs).leased, slabs * SLAB);
	assert_int_equal(rig->lend->bytes, slabs * SLAB);
}

uint32_t lend_rig_large_block(struct lend_rig *rig, uint64_t bytes)
{
	const struct hbm_wire_namespace_spec spec = {.weights = bytes, .block_bytes = bytes};

	return lend_rig_block(
		rig, open_namespace(rig->tiers.hbmd.cache->namespaces, &rig->tiers.ledger, &spec));
}

void lend_rig_make_many(struct lend_rig *rig)
{
	const struct hbm_wire_namespace_spec spec = {.weights = 9, .block_bytes = EXTENT_UNIT};
	uint16_t ns = open_namespace(rig->tiers.hbmd.cache->namespaces, &rig->tiers.ledger, &spec);

	for (uint32_t i = 0; i < 2 * SLAB / EXTENT_UNIT; i++) {
		const struct replica *replica =
			lend_rig_make(rig, &rig->clients[0], lend_rig_block(rig, ns));

		assert_int_equal(replica->cell, i % LENT_CELLS_MAX);
		assert_int_equal(replica->lent->cell_count, LENT_CELLS_MAX);
	}
	lend_rig_assert_leased(rig, 2);
	assert_int_equal(rig->lend->replicas, 2 * LENT_CELLS_MAX);
}
