/* SPDX-License-Identifier: Apache-2.0 */
#include "client/again.h"

/* ---- Stores and loads that are over ---- */

bool hbm_again_is_over(const struct hbm *hbm, const struct hbm_wire_blocks *blocks)
{
	/* Acquire: who sees the value sees the failed slot. */
	return blocks->fence_slot != HBM_WIRE_NO_FENCE &&
	       __atomic_load_n(&hbm->fences[blocks->fence_slot], __ATOMIC_ACQUIRE) >=
		       blocks->fence_value;
}

static int again_end_blocks(struct hbm *hbm, struct ticket *ticket,
			    const struct hbm_wire_blocks *blocks)
{
	/* A later value may be that of another request, and so may what its failed slot says. */
	bool done = blocks->failed_slot != 0 && hbm->fences[blocks->failed_slot] == 0 &&
		    hbm->fences[blocks->fence_slot] == blocks->fence_value,
	     load = ticket->opcode == HBM_WIRE_LOAD;
	uint8_t status = done ? HBM_OK : load ? HBM_MISS : HBM_SHUTDOWN;

	if (done && !load)
		hbm_pins_stored(&hbm->reconnect.pins, blocks);
	for (uint32_t i = 0; ticket->answer.results && i < ticket->answer.count; i++)
		ticket->answer.results[i] = (hbm_result){.status = status, .tier = HBM_TIER_NONE};

	return HBM_OK;
}

static int again_settle_blocks(struct hbm *hbm, struct ticket *ticket)
{
	const struct hbm_wire_blocks *blocks = (const void *)ticket->sent.message;

	return hbm_again_is_over(hbm, blocks) ? again_end_blocks(hbm, ticket, blocks) : TICKET_MORE;
}

/* ---- All ---- */

int hbm_again_settle(struct hbm *hbm, struct ticket *ticket)
{
	if (ticket->kind->again)
		return ticket->kind->again(hbm, ticket);

	switch (ticket->opcode) {
	case HBM_WIRE_REGION_DESTROY:
	case HBM_WIRE_DECOMMIT:
	case HBM_WIRE_BOARD_CLOSE:
		return HBM_OK;
	case HBM_WIRE_STORE:
	case HBM_WIRE_LOAD:
		return again_settle_blocks(hbm, ticket);
	case HBM_WIRE_PIN:
	case HBM_WIRE_UNPIN: /* pins of sessions are made again instead; those that are kept count */
		return ((const struct hbm_wire_keys *)(const void *)ticket->sent.message)->flags ==
				       HBM_WIRE_KEEP
			       ? HBM_SHUTDOWN
			       : TICKET_MORE;
	default:
		return TICKET_MORE;
	}
}

/* A block that is there is the one that was to be stored. */
static void again_stored(const struct ticket *ticket)
{
	for (uint32_t i = 0; ticket->answer.results && i < ticket->answer.count; i++)
		if (ticket->answer.results[i].status == HBM_EXISTS)
			ticket->answer.results[i].status = HBM_OK;
}

int hbm_again_status(const struct ticket *ticket, int status)
{
	const bool again = ticket->sent.again;

	switch (ticket->opcode) {
	case HBM_WIRE_STORE:
		if (again && status == HBM_OK)
			again_stored(ticket);
		return status;
	case HBM_WIRE_DECOMMIT:
		return status != HBM_NOT_FOUND ? status : ticket->device_call ? HBM_DEVICE : HBM_OK;
	case HBM_WIRE_REGION_DESTROY:
	case HBM_WIRE_BOARD_CLOSE:
	case HBM_WIRE_NAMESPACE_CLOSE:
		return status == HBM_NOT_FOUND ? HBM_OK : status;
	case HBM_WIRE_UNPUBLISH:
	case HBM_WIRE_SESSION_END:
		return again && status == HBM_NOT_FOUND ? HBM_OK : status;
	default:
		return status;
	}
}
