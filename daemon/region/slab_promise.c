/* SPDX-License-Identifier: Apache-2.0 */
/* slab_promise: the promises of a pool, which are arithmetic (promise.h), beside its slabs. */
#include "daemon/region/slab.h"

#include <string.h>

#include "daemon/region/region_kept.h"
#include "daemon/region/slab_pool.h"

uint64_t slab_free_bytes(const struct slabs *slabs)
{
	uint64_t bytes = slabs->books.ready + slabs->books.uncreated + slabs->releasing;

	return bytes > slabs->leaving.bytes ? bytes - slabs->leaving.bytes : 0;
}

void slab_unuse(struct slab *slab)
{
	if (slab->promise)
		promise_unuse(slab->promise, slab->bytes);
	slab->promise = NULL;
}

struct promises *slabs_promises(struct slabs *slabs)
{
	return &slabs->promises;
}

bool slabs_can_reserve(const struct slabs *slabs, const struct promise *promise, uint64_t reserved)
{
	return reserved <= promise->reserved ||
	       promise_due_with(promise, reserved) <= slab_free_bytes(slabs);
}

void slabs_reclaim(struct slabs *slabs, const struct promise *promise, uint64_t reserved)
{
	slab_reclaim(slabs, promise_due_with(promise, reserved));
}

bool slabs_reserve(struct slabs *slabs, struct promise *promise, struct payer *payer,
		   uint64_t reserved)
{
	if (!slabs_can_reserve(slabs, promise, reserved))
		return false;

	promise_reserve(promise, payer, reserved);
	region_kept_set(slabs->kept, STATE_RESERVED, promise->kept, reserved);
	slab_pump(slabs);

	return true;
}

void slabs_end_promise(struct promise *promise)
{
	struct slabs *slabs = container_of(promise->promises, struct slabs, promises);

	region_kept_drop(slabs->kept, STATE_RESERVED, &promise->kept);
	promise_end(promise);
	slab_pump(slabs);
}

int slabs_keep_promise(const struct slabs *slabs, struct promise *promise, uint64_t session)
{
	struct kept_reservation body = {.session = session};

	memcpy(body.uuid, slabs->device->uuid.bytes, sizeof(body.uuid));

	return region_kept_add(slabs->kept, STATE_RESERVED, &body, 0, &promise->kept);
}
