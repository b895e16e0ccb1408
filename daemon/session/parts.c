/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/parts.h"

#include <assert.h>
#include <stdlib.h>

struct completion_fence parts_fence(const struct hbm_wire_blocks *message)
{
	return (struct completion_fence){.slot = message->fence_slot,
					 .failed_slot = message->failed_slot,
					 .value = message->fence_value};
}

struct parts *parts_ref(struct parts *parts)
{
	if (parts)
		parts->refs++;

	return parts;
}

struct parts *parts_unref(struct parts *parts)
{
	if (parts && --parts->refs == 0)
		free(parts);

	return NULL;
}

static bool parts_has_fence(const struct parts *parts, struct completion_fence fence)
{
	return parts->fence.slot == fence.slot && parts->fence.failed_slot == fence.failed_slot &&
	       parts->fence.value == fence.value;
}

int parts_join(struct parts **open, const struct hbm_wire_blocks *message, struct parts **joined)
{
	struct completion_fence fence = parts_fence(message);
	bool more = message->header.flags & HBM_WIRE_MORE;

	*joined = NULL;
	if (!*open && !more)
		return HBM_OK;
	if (*open && !parts_has_fence(*open, fence))
		return HBM_INVALID;

	if (!*open) {
		*open = calloc(1, sizeof(**open));
		if (!*open)
			return HBM_LIMIT;
		**open = (struct parts){.refs = 1, .fence = fence};
	}

	*joined = parts_ref(*open);
	(*joined)->running++;
	if (!more) {
		(*joined)->whole = true;
		*open = parts_unref(*open);
	}

	return HBM_OK;
}

bool parts_cut(struct parts *open, uint64_t *failed)
{
	open->whole = true;
	*failed = ++open->failed;

	return open->running == 0;
}

void parts_begin(struct parts *parts)
{
	if (parts)
		parts->begun = true;
}

bool parts_have_begun(const struct parts *parts)
{
	return parts && parts->begun;
}

bool parts_end_one(struct parts *parts, uint64_t *failed)
{
	if (!parts)
		return true;

	assert(parts->running > 0);
	parts->running--;
	parts->failed += *failed;
	*failed = parts->failed;

	return parts->running == 0 && parts->whole;
}
