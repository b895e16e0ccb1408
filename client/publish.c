/* SPDX-License-Identifier: Apache-2.0 */
/*
 * publish: PUBLISH, ATTACH and UNPUBLISH.
 *
 * The reply to an ATTACH says how large the region is. Addresses are reserved then, and its
 * slabs come as those of any region do, by COMMIT: as many at a time as one message carries,
 * or fewer, if a limit of the daemon is lower. What fails on the way destroys the region.
 */
#include "client/device.h"
#include "client/error.h"
#include "client/region.h"
#include "client/request.h"
#include "daemon/base/checked.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

/* Of what is attached, for each slab of which memory is allocated here: the most that a daemon's
 * limits.address_space can be. */
#define PUBLISH_BYTES_MAX (UINT64_C(64) << 40)

static int publish_copy_name(struct hbm *hbm, char field[HBM_WIRE_NAME_BYTES], const char *name)
{
	size_t length = name ? strnlen(name, HBM_WIRE_NAME_BYTES) : 0;

	if (length == 0 || length == HBM_WIRE_NAME_BYTES)
		return hbm_fail(hbm, HBM_INVALID, "a name has 1 to %d bytes",
				HBM_WIRE_NAME_BYTES - 1);

	for (size_t i = 0; i < length; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return hbm_fail(hbm, HBM_INVALID,
					"byte %zu of the name is %u: printable ASCII characters "
					"are possible, and no space",
					i, (unsigned char)name[i]);
	memcpy(field, name, length);

	return 0;
}

/* Of a bare reply. */
static int publish_ask(struct hbm *hbm, enum hbm_wire_opcode opcode, void *message, size_t size)
{
	struct request request = {
		.opcode = opcode,
		.kind = &hbm_kind_bare,
		.pieces = {{message, size}},
		.piece_count = 1,
	};

	return hbm_request_submit_wait(hbm, &request);
}

int hbm_region_publish(struct hbm *hbm, struct hbm_region *region, uint64_t offset, uint64_t bytes,
		       const struct hbm_publish_options *options)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	const struct hbm_range range = {region, offset, bytes};
	int rc = hbm_ranges_check(hbm, &range, 1);
	if (rc == 0)
		rc = hbm_ranges_turn(hbm, &range, 1, SLAB_MAPPED, SLAB_MAPPED, HBM_NOT_FOUND);
	if (rc)
		return rc;

	struct hbm_wire_publish publish = {.region = region->id,
					   .flags = options->for_group ? HBM_WIRE_PUBLISH_GROUP : 0,
					   .offset = offset,
					   .bytes = bytes,
					   .gid = options->for_group ? options->gid : 0};
	rc = publish_copy_name(hbm, publish.name, options->name);

	return rc ? rc : publish_ask(hbm, HBM_WIRE_PUBLISH, &publish, sizeof(publish));
}

int hbm_region_unpublish(struct hbm *hbm, uint32_t uid, const char *name)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	struct hbm_wire_unpublish unpublish = {.uid = uid};
	int rc = publish_copy_name(hbm, unpublish.name, name);

	return rc ? rc : publish_ask(hbm, HBM_WIRE_UNPUBLISH, &unpublish, sizeof(unpublish));
}

/* ---- Attaching ---- */

static int publish_ask_attach(struct hbm *hbm, struct hbm_wire_attach *attach,
			      struct hbm_wire_attached *reply)
{
	struct request request = {
		.opcode = HBM_WIRE_ATTACH,
		.kind = &hbm_kind_fixed,
		.answer = {.body = reply, .size = sizeof(*reply)},
		.pieces = {{attach, sizeof(*attach)}},
		.piece_count = 1,
	};
	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;

	if (reply->region != 0 && hbm_region_slab_is_valid(reply->slab) &&
	    reply->address_space > 0 && reply->address_space <= PUBLISH_BYTES_MAX &&
	    is_aligned(reply->address_space, reply->slab))
		return 0;

	hbm_request_break(hbm, -EPROTO);

	return hbm_fail(hbm, -EPROTO, "the daemon attached no valid region");
}

/* The daemon has made a region that this process does not take. */
static void publish_refuse(struct hbm *hbm, uint32_t region)
{
	struct hbm_wire_region_destroy destroy = {.region = region};

	(void)publish_ask(hbm, HBM_WIRE_REGION_DESTROY, &destroy, sizeof(destroy));
}

/* The region of a reply, with its addresses. */
static int publish_region_new(struct hbm *hbm, const struct hbm_wire_attached *reply,
			      struct hbm_region **out)
{
	int rc = hbm_region_device_usable(hbm, reply->device);
	if (rc)
		return rc;

	struct hbm_region *region =
		hbm_region_new(hbm, reply->device, reply->address_space, reply->slab);
	if (!region)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a region of %llu slabs",
				(unsigned long long)(reply->address_space / reply->slab));

	region->id = reply->region;
	if (!hbm_region_reserve(region)) {
		free(region);
		return hbm_fail_device(hbm, hbm->gpu.failed_call, hbm->gpu.failed_result);
	}

	*out = region;

	return 0;
}

static int publish_commit(struct hbm *hbm, struct hbm_region *region)
{
	uint64_t at = 0, most = HBM_WIRE_FDS_MAX * region->slab;
	int rc = 0;

	while (rc == 0 && at < region->address_space) {
		uint64_t left = region->address_space - at;
		const struct hbm_range range = {region, at, left < most ? left : most};

		rc = hbm_commit(hbm, &range, 1);
		if (rc == 0) {
			at += range.bytes;
		} else if (rc == HBM_LIMIT && range.bytes > region->slab) {
			most = range.bytes / region->slab / 2 * region->slab;
			rc = 0;
		}
	}

	return rc;
}

int hbm_region_attach(struct hbm *hbm, uint32_t uid, const char *name, uint32_t flags,
		      struct hbm_region **out)
{
	if (hbm_check_owner(hbm))
		return -EPERM;
	if (flags & ~HBM_ATTACH_WRITE)
		return hbm_fail(hbm, HBM_UNSUPPORTED, "unknown flags %#x", flags);

	struct hbm_wire_attach attach = {
		.uid = uid, .flags = flags & HBM_ATTACH_WRITE ? HBM_WIRE_ATTACH_WRITE : 0};
	struct hbm_wire_attached reply;
	struct hbm_region *region = NULL;
	int rc = publish_copy_name(hbm, attach.name, name);
	if (rc == 0)
		rc = publish_ask_attach(hbm, &attach, &reply);
	if (rc)
		return rc;

	rc = publish_region_new(hbm, &reply, &region);
	if (rc) {
		publish_refuse(hbm, reply.region);
		return rc;
	}

	region->read_only = !(flags & HBM_ATTACH_WRITE);
	list_push_back(&hbm->regions, &region->link);
	rc = publish_commit(hbm, region);
	if (rc) {
		hbm_region_destroy(hbm, region);
		return rc;
	}

	*out = region;

	return 0;
}
