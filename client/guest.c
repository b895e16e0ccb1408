/* SPDX-License-Identifier: Apache-2.0 */
/*
 * guest: regions whose memory the caller allocated. The library makes no device call for them:
 * it hands the descriptor or the handle on, and the daemon opens it.
 */
#include "client/error.h"
#include "client/region.h"
#include "client/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

static int guest_new(struct hbm *hbm, const struct hbm_import_options *options,
		     struct hbm_region **out)
{
	if (options->bytes == 0 || options->bytes > INT64_MAX)
		return hbm_fail(hbm, HBM_INVALID, "a guest region of %llu bytes",
				(unsigned long long)options->bytes);
	if (!options->ipc_handle && options->fd < 0)
		return hbm_fail(hbm, HBM_INVALID, "neither a handle nor a descriptor");

	struct hbm_region *region = calloc(1, sizeof(*region) + 1);
	if (!region)
		return hbm_fail(hbm, -ENOMEM, "cannot allocate a region");

	region->hbm = hbm;
	region->device = options->device;
	region->guest = true;
	region->address = options->address;
	region->address_space = region->slab = options->bytes;
	list_init(&region->link);
	*out = region;

	return 0;
}

static int guest_register(struct hbm *hbm, struct hbm_region *region,
			  const struct hbm_import_options *options)
{
	bool by_handle = options->ipc_handle != NULL;
	struct hbm_wire_region_create_reply reply;
	struct hbm_wire_region_import import = {
		.device = region->device,
		.kind = by_handle ? HBM_WIRE_GUEST_IPC : HBM_WIRE_GUEST_FD,
		.bytes = region->address_space,
	};
	struct request request = {
		.opcode = HBM_WIRE_REGION_IMPORT,
		.kind = &hbm_kind_fixed,
		.answer = {.body = &reply, .size = sizeof(reply)},
		.pieces = {{&import, sizeof(import)}},
		.piece_count = 1,
		.has_fd = !by_handle,
		.fd = options->fd,
	};

	if (by_handle)
		memcpy(import.handle, options->ipc_handle, sizeof(import.handle));

	int rc = hbm_request_query(hbm, &request);
	if (rc)
		return rc;

	if (reply.region == 0 || reply.address_space != region->address_space) {
		hbm_request_break(hbm, -EPROTO);
		return hbm_fail(hbm, -EPROTO, "the daemon made another region than was asked for");
	}

	region->id = reply.region;

	return 0;
}

int hbm_region_import(struct hbm *hbm, const struct hbm_import_options *options,
		      struct hbm_region **out)
{
	if (hbm_check_owner(hbm))
		return -EPERM;

	struct hbm_region *region = NULL;
	int rc = guest_new(hbm, options, &region);
	if (rc)
		return rc;

	rc = guest_register(hbm, region, options);
	if (rc) {
		free(region);
		return rc;
	}

	list_push_back(&hbm->regions, &region->link);
	*out = region;

	return 0;
}
