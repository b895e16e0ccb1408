/* SPDX-License-Identifier: Apache-2.0 */
/*
 * connection: struct hbm, a session with the daemon.
 *
 * States: open -> broken (the daemon is gone, or said something that is not the protocol)
 * -> freed by hbm_close(). Breaking ends every waiting ticket and shuts the socket;
 * regions stay mapped, fences readable, until hbm_close(). A forked child has a copy of
 * it, but the socket, the leases and the device are still the parent's: all that can be
 * done with the copy is to close it, which only lets go of the child's descriptors.
 */
#pragma once

#include "client/channel.h"
#include "client/gpu.h"
#include "client/ticket.h"
#include "daemon/base/list.h"

#include <hbm/hbm.h>
#include <sys/types.h>

struct hbm {
	struct channel channel;
	struct tickets tickets;
	struct list unsent;  /* struct unsent: messages nobody waits to send */
	struct list regions; /* struct hbm_region */
	struct gpu gpu;
	struct hbm_info info;
	pid_t pid; /* of the process that connected */
	bool inspect_only;
	bool fences_registered; /* with the driver, in the context of fences_device */
	uint32_t fences_device;
	volatile uint64_t *fences; /* the shared page, or NULL before HELLO */
	int doorbell;              /* -1 before HELLO */
	int broken;                /* 0, or the negative errno that ended the connection */
	void *scratch;             /* HBM_WIRE_MESSAGE_MAX bytes to build a message in */
	/* with a daemon that says nothing: -1, for ever; else the connection ends */
	int timeout_ms;
	int answer_ms; /* the same for what only asks */
	int close_ms;  /* what hbm_close() makes of it */
	char error[320];
};
