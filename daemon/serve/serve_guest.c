/* SPDX-License-Identifier: Apache-2.0 */
/* serve_guest: see serve_guest.h. Guest regions are region.h's and guest.h's, which know no
 * messages. */
#include "daemon/serve/serve_guest.h"

#include <stdlib.h>
#include <string.h>

#include "daemon/device/device.h"
#include "daemon/region/guest.h"
#include "daemon/region/region.h"
#include "daemon/session/validate.h"

struct import {
	struct request *request;
	struct refusal refusal;
};

static void serve_guest_imported(void *arg, int status, struct region *region)
{
	struct import *import = arg;
	struct request *request = import->request;

	if (status == HBM_OK) {
		struct hbm_wire_region_create_reply reply = {
			.region = region_id(region),
			.address_space = region_address_space(region),
			.slab = region_slab(region),
		};
		request_reply(request, HBM_OK, &reply.region, sizeof(reply) - sizeof(reply.header));
	} else {
		request_refuse(request, status, "%s",
			       status == HBM_SHUTDOWN ? "the session has ended"
						      : import->refusal.reason);
	}

	free(import);
}

static void serve_guest_refuse(struct request *request, int status, const char *why)
{
	const struct hbm_wire_region_import *message = (const void *)request->message;
	const struct payer *payer = request->session->regions.payer;

	if (status == HBM_LIMIT && !ledger_has_room(payer, LEDGER_REGIONS, 1))
		request_refuse_limit(request, LEDGER_REGIONS, 1);
	else if (status == HBM_LIMIT)
		request_refuse_limit(request, LEDGER_ADDRESS_SPACE, message->bytes);
	else if (status == HBM_NO_SPACE)
		request_refuse(request, status, "the daemon is out of memory");
	else
		request_refuse(request, status, "%s", why);
}

static int serve_guest_start(struct hbmd *hbmd, struct import *import, const struct reason *why)
{
	struct request *request = import->request;
	const struct hbm_wire_region_import *message = (const void *)request->message;
	struct guest guest = {.kind = message->kind, .fd = request->fd, .bytes = message->bytes};

	if (message->device >= hbmd->devices->count)
		return reason_set(why, HBM_INVALID, "device %u: there are %u", message->device,
				  hbmd->devices->count);

	struct device *device = &hbmd->devices->list[message->device];
	if (device_is_lost(device))
		return reason_set(why, HBM_DEVICE, "device %u is lost until hbmd restarts",
				  device->index);

	memcpy(&guest.handle, message->handle, sizeof(guest.handle));

	return region_import(&request->session->regions, device, &guest, why, serve_guest_imported,
			     import);
}

void serve_region_import(struct hbmd *hbmd, struct request *request)
{
	struct import *import = calloc(1, sizeof(*import));
	if (!import) {
		request_refuse(request, HBM_NO_SPACE, "the daemon is out of memory");
		return;
	}

	request_charge(request, sizeof(*import));
	import->request = request;
	const struct reason why = refusal_reason(&import->refusal);
	int status = serve_guest_start(hbmd, import, &why);
	if (status != HBM_OK) {
		serve_guest_refuse(request, status, import->refusal.reason);
		free(import);
	}
}
