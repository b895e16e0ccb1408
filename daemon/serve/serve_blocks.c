/* SPDX-License-Identifier: Apache-2.0 */
/*
 * serve_blocks: how STORE, LOAD and PREFETCH arrive: they are checked, the regions of their
 * segments are used from then on, and they wait until the client's data is ready. The rest
 * is batch.h's.
 */
#include "daemon/serve/serve_blocks.h"

#include "daemon/base/checked.h"
#include "daemon/region/publication.h"
#include "daemon/serve/batch.h"
#include "daemon/serve/serve_namespace.h"
#include "daemon/session/validate.h"

/* Each segment is a device copy. */
static int serve_blocks_check_count(struct ledger *ledger, const struct hbm_wire_block *blocks,
				    uint32_t i, const struct reason *why)
{
	char limit[HBM_WIRE_REASON_BYTES];
	uint32_t count = blocks[i].segments;
	if (ledger_check(&ledger->host, LEDGER_BLOCK_SEGMENTS, count))
		return HBM_OK;

	ledger_reason(&ledger->host, LEDGER_BLOCK_SEGMENTS, count, limit, sizeof(limit));
	return reason_set(why, HBM_LIMIT, "block %u: %s", i, limit);
}

/* Divides the segments among the blocks: together they must be exactly each block's
 * bytes. Done before any region lookup, which takes time for every slab a segment
 * spans. */
static int serve_blocks_divide_segments(const struct batch *batch,
					const struct hbm_wire_block *blocks,
					const struct reason *why)
{
	uint32_t next = 0;
	for (uint32_t i = 0; i < batch->count; i++) {
		uint64_t sum = 0;
		int status = serve_blocks_check_count(batch->hbmd->ledger, blocks, i, why);
		if (status == HBM_OK)
			status = serve_namespace_check_tier(batch->hbmd, batch->ns, blocks[i].tier,
							    why);
		if (status == HBM_OK && blocks[i].flags & HBM_WIRE_BLOCK_DURABLE)
			status = serve_namespace_check_durable(batch->hbmd, batch->ns,
							       blocks[i].tier, why);
		if (status != HBM_OK)
			return status;

		for (uint32_t end = next + blocks[i].segments; next < end; next++)
			if (!checked_add(sum, batch->segments[next].bytes, &sum))
				return reason_set(why, HBM_INVALID,
						  "block %u: its segments' bytes overflow", i);

		if (sum != batch->block_bytes)
			return reason_set(why, HBM_INVALID,
					  "block %u: segments of %llu bytes, block_bytes is %llu",
					  i, (unsigned long long)sum,
					  (unsigned long long)batch->block_bytes);
	}

	return HBM_OK;
}

/* Finds the region of a segment, and uses it. */
static int serve_blocks_use_segment(struct batch *batch, uint32_t i, const struct reason *why)
{
	const struct hbm_wire_range *segment = &batch->segments[i];
	struct region *region = region_find(&batch->request->session->regions, segment->region);
	CUdeviceptr address;

	if (!region)
		return reason_set(why, HBM_NOT_FOUND, "segment %u: no region %u", i,
				  segment->region);

	int status = region_address(region, segment->offset, segment->bytes, &address);
	if (status != HBM_OK)
		return reason_set(why, status, "segment %u: %llu bytes at %llu of region %u are %s",
				  i, (unsigned long long)segment->bytes,
				  (unsigned long long)segment->offset, segment->region,
				  status == HBM_INVALID ? "outside it" : "not committed");

	if (batch->opcode == HBM_WIRE_LOAD &&
	    region_is_read_only(region, segment->offset, segment->bytes))
		return reason_set(why, HBM_DENIED, "segment %u: read-only", i);

	if (batch->device && batch->device != region_device(region))
		return reason_set(why, HBM_INVALID,
				  "segment %u: on another device than those before", i);

	batch->device = region_device(region);
	batch->regions[i] = region;
	region_use(region, segment->offset, segment->bytes);
	batch->in_use++;

	return HBM_OK;
}

/* ---- the data is ready ---- */

static const char *serve_blocks_unready(int status)
{
	switch (status) {
	case HBM_TIMEOUT:
		return "the ready fence was not reached within limits.ready_ms";
	case HBM_CANCELLED:
		return "cancelled before its ready fence was reached";
	default:
		return "the session has ended";
	}
}

static void serve_blocks_go_on(struct resumption *resumption, int status)
{
	struct batch *batch = container_of(resumption, struct batch, resumption);

	if (status == HBM_OK)
		status = batch->waited;

	if (status == HBM_OK)
		batch_begin(batch);
	else
		batch_refuse(batch, status, serve_blocks_unready(status));
}

/* To refuse thousands of segments takes a while, and all that wait may be over at once: that
 * is done in the session's turns, too, but for a request that is cancelled, which is answered
 * first. */
static void serve_blocks_ready(struct ready_wait *wait, int status)
{
	struct batch *batch = container_of(wait, struct batch, wait);

	session_end_wait(batch->request->session);
	batch->waited = status;
	if (status == HBM_OK || status == HBM_TIMEOUT)
		session_resume(batch->request, &batch->resumption);
	else
		batch_refuse(batch, status, serve_blocks_unready(status));
}

static void serve_blocks_await(struct batch *batch)
{
	if (batch->wait.slot == HBM_WIRE_NO_FENCE)
		batch_begin(batch);
	else
		session_wait_ready(batch->request->session, &batch->wait);
}

/* ---- STORE, LOAD ---- */

/* Refuses a lost device up front: making room for it would evict others' blocks for
 * nothing. */
static int serve_blocks_check_device(const struct batch *batch, const struct reason *why)
{
	return device_is_lost(batch->device)
		       ? reason_set(why, HBM_DEVICE, "device %u is lost until hbmd restarts",
				    batch->device->index)
		       : HBM_OK;
}

/* Of a block that is to be lent as it is: those who would borrow it trust its user alone to
 * write to it. */
static int serve_blocks_check_loan(const struct batch *batch, uint32_t i, const struct reason *why)
{
	const struct hbm_wire_range *segment = &batch->segments[i];
	const struct user *user = batch->request->session->user;

	if (!batch->device->lend)
		return reason_set(why, HBM_UNSUPPORTED,
				  "segment %u: of host memory, and what is lent is device memory",
				  i);

	const struct publication *bars =
		publication_bars_loan(batch->regions[i], segment->offset, segment->bytes, user);

	if (!bars)
		return HBM_OK;
	if (publication_uid(bars) == user->uid)
		return reason_set(why, HBM_DENIED,
				  "segment %u: that memory of region %u was published for a group, "
				  "which could write to what is lent",
				  i, segment->region);

	return reason_set(why, HBM_DENIED,
			  "segment %u: uid %u has published that memory of region %u, and is alone "
			  "to lend it",
			  i, (unsigned)publication_uid(bars), segment->region);
}

/* False: the slice is over. */
static bool serve_blocks_check_loans(struct batch *batch, struct slice *slice, int *status,
				     const struct reason *why)
{
	const struct hbm_wire_blocks *message =
		(const struct hbm_wire_blocks *)batch->request->message;

	while (*status == HBM_OK && batch->checked < batch->count) {
		const struct hbm_wire_block *block = &message->blocks[batch->checked++];
		uint32_t first = batch->checked_spans;

		batch->checked_spans += block->segments;
		for (uint32_t i = first; block->flags & HBM_WIRE_BLOCK_LEND && *status == HBM_OK &&
					 i < batch->checked_spans;
		     i++)
			*status = serve_blocks_check_loan(batch, i, why);
		if (slice_is_over(slice))
			return false;
	}

	return true;
}

static bool serve_blocks_use_segments(struct work *work, struct slice *slice)
{
	struct batch *batch = container_of(work, struct batch, work);
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);
	int status = HBM_OK;

	while (status == HBM_OK && batch->in_use < batch->span_count) {
		status = serve_blocks_use_segment(batch, batch->in_use, &why);
		if (status == HBM_OK && slice_is_over(slice))
			return false;
	}

	if (status == HBM_OK && !serve_blocks_check_loans(batch, slice, &status, &why))
		return false;
	if (status == HBM_OK)
		status = serve_blocks_check_device(batch, &why);

	if (status == HBM_OK)
		serve_blocks_await(batch);
	else
		batch_refuse(batch, status, refusal.reason);

	return true;
}

/* Completes the fence of a request that never became a batch: all its blocks have failed. */
static void serve_blocks_fail(struct request *request)
{
	const struct hbm_wire_blocks *message = (const struct hbm_wire_blocks *)request->message;
	struct completion_fence fence = parts_fence(message);

	session_complete_request(request, &fence, message->count);
}

static void serve_blocks_arrive(struct batch *batch, const struct hbm_wire_blocks *message)
{
	struct refusal refusal;
	const struct reason why = refusal_reason(&refusal);

	batch->fence = parts_fence(message);
	batch->wait = (struct ready_wait){.id = message->header.id,
					  .parts = batch->request->parts,
					  .slot = message->ready_slot,
					  .value = message->ready_value,
					  .fire = serve_blocks_ready};
	batch->resumption.go_on = serve_blocks_go_on;
	batch->segments = (const void *)&message->blocks[message->count];
	batch->work.run = serve_blocks_use_segments;

	int status = serve_blocks_divide_segments(batch, message->blocks, &why);
	if (status == HBM_OK)
		session_work(batch->request->session, &batch->work);
	else
		batch_refuse(batch, status, refusal.reason);
}

static void serve_blocks(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_blocks *message = (const struct hbm_wire_blocks *)request->message;
	bool is_open = session_has_namespace(request->session, message->ns);
	struct batch *batch =
		is_open ? batch_new(hbmd, request, message->ns, message->count, message->segments)
			: NULL;

	if (batch) {
		serve_blocks_arrive(batch, message);
		return;
	}

	serve_blocks_fail(request);
	if (!is_open)
		request_refuse(request, HBM_NOT_FOUND, "namespace %u is not open in this session",
			       message->ns);
	else
		request_refuse(request, HBM_LIMIT, "the daemon is out of memory");
}

void serve_store(struct hbmd *hbmd, struct request *request)
{
	serve_blocks(hbmd, request);
}

void serve_load(struct hbmd *hbmd, struct request *request)
{
	serve_blocks(hbmd, request);
}

void serve_blocks_cancelled(struct request *request)
{
	serve_blocks_fail(request);
	request_refuse(request, HBM_CANCELLED, "%s", serve_blocks_unready(HBM_CANCELLED));
}

/* ---- PREFETCH ---- */

void serve_prefetch(struct hbmd *hbmd, struct request *request)
{
	const struct hbm_wire_keys *message = (const struct hbm_wire_keys *)request->message;
	struct device *device = devices_get(hbmd->devices, message->device);
	int status = device ? HBM_OK : HBM_INVALID;
	if (status == HBM_OK && !session_has_namespace(request->session, message->ns))
		status = HBM_NOT_FOUND;
	if (status == HBM_OK && device_is_lost(device))
		status = HBM_DEVICE;

	struct batch *batch =
		status == HBM_OK ? batch_new(hbmd, request, message->ns, message->count, 0) : NULL;
	if (!batch) {
		request_refuse(request, status == HBM_OK ? HBM_LIMIT : status, "%s",
			       status == HBM_OK        ? "the daemon is out of memory"
			       : status == HBM_INVALID ? "no such device"
			       : status == HBM_NOT_FOUND
				       ? "the namespace is not open in this session"
				       : "the device is lost until hbmd restarts");
		return;
	}

	/* It is a hint, and by far the largest request: others come first. */
	uint64_t bytes = batch_bytes(message->count, 0);
	if (!ledger_check(&hbmd->ledger->host, LEDGER_REQUEST_BYTES, bytes)) {
		char why[HBM_WIRE_REASON_BYTES];

		ledger_reason(&hbmd->ledger->host, LEDGER_REQUEST_BYTES, bytes, why, sizeof(why));
		batch_refuse(batch, HBM_LIMIT, why);
		return;
	}

	batch->device = device;
	batch_begin(batch);
}
