/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/replicate.h"

#include "daemon/move/load.h"
#include "daemon/move/pump.h"

#include <stdlib.h>

/* While it works the replica has a hold of its own. */
struct replication {
	struct mover *mover;
	struct replica *replica;
	struct fair_payer payer;
	struct lent_wait wait;
	struct load load;
	struct span span;
};

uint64_t replicate_bytes(void)
{
	return sizeof(struct replication);
}

static void replicate_end(struct replication *replication, int status)
{
	struct replica *replica = replication->replica;
	struct list waits = LIST_INIT(waits);

	for (struct list *node; (node = list_pop_front(&replica->waits));)
		list_push_back(&waits, node);
	if (status == HBM_OK)
		replica_made(replica);
	else
		replica_lose(replica);
	free(replication);

	for (struct list *node; (node = list_pop_front(&waits));) {
		struct replica_wait *wait = container_of(node, struct replica_wait, link);
		wait->done(wait, status);
	}

	replica_unhold(replica);
}

static void replicate_loaded(struct load *load)
{
	struct replication *replication = container_of(load, struct replication, load);

	if (load->transfer.late)
		lent_keep(replication->replica->lent);
	replicate_end(replication, load->transfer.status);
}

static void replicate_opened(struct lent_wait *wait, int status)
{
	struct replication *replication = container_of(wait, struct replication, wait);
	struct replica *replica = replication->replica;
	struct mover *mover = replication->mover;

	if (status == HBM_OK &&
	    (replica->number == 0 || !cache_is_loadable(mover->cache, replica->number)))
		status = HBM_MISS;
	if (status != HBM_OK) {
		replicate_end(replication, status);
		return;
	}

	replication->span = (struct span){replica_address(replica), replica_bytes(replica)};
	replication->load = (struct load){.block = replica->number,
					  .payer = replication->payer,
					  .device = replica->lent->device,
					  .spans = &replication->span,
					  .span_count = 1,
					  .done = replicate_loaded};
	load_begin(mover, &replication->load);
	pump_run(mover);
}

int replicate(struct replica **out, struct mover *mover, struct lend *lend,
	      const struct replica_form *form, struct holder *holder, struct fair_payer payer)
{
	if (!cache_is_loadable(mover->cache, form->number))
		return HBM_MISS;

	struct replication *replication = calloc(1, sizeof(*replication));
	if (!replication)
		return HBM_NO_SPACE;

	struct replica *replica;
	int status = replica_new(&replica, lend, form, holder);
	if (status != HBM_OK) {
		free(replication);
		return status;
	}

	replication->mover = mover;
	replication->replica = replica;
	replication->payer = payer;
	replication->wait.done = replicate_opened;
	replica_hold(replica);
	*out = replica;
	if (replica_is_open(replica))
		replicate_opened(&replication->wait, HBM_OK);
	else
		replica_await(replica, &replication->wait);

	return HBM_OK;
}
