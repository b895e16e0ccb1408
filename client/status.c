/* SPDX-License-Identifier: Apache-2.0 */
/* status: names and descriptions of statuses and errno values, and names of requests for
 * error lines. */
#include "client/status.h"

#include <hbm/hbm.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

static const struct {
	const char *name, *sentence;
} statuses[] = {
	[HBM_OK] = {"HBM_OK", "done"},
	[HBM_INVALID] = {"HBM_INVALID", "an argument is malformed, misaligned or out of range"},
	[HBM_UNSUPPORTED] = {"HBM_UNSUPPORTED", "this daemon or connection does not support it"},
	[HBM_NO_SPACE] = {"HBM_NO_SPACE", "not enough memory in the pool"},
	[HBM_LIMIT] = {"HBM_LIMIT", "a limit would be exceeded"},
	[HBM_NOT_FOUND] =
		{"HBM_NOT_FOUND",
		 "no such region, namespace, session or pin, or the range is not committed"},
	[HBM_MISS] = {"HBM_MISS", "the block is not in the cache"},
	[HBM_EXISTS] = {"HBM_EXISTS", "the block or the committed range exists already"},
	[HBM_NO_PARENT] = {"HBM_NO_PARENT", "the block's parent is not in the cache"},
	[HBM_DENIED] = {"HBM_DENIED", "permission denied"},
	[HBM_IO] = {"HBM_IO", "the tier's I/O failed"},
	[HBM_DEVICE] = {"HBM_DEVICE", "a device call failed"},
	[HBM_TIMEOUT] = {"HBM_TIMEOUT", "timeout: the client's data did not become ready"},
	[HBM_SHUTDOWN] = {"HBM_SHUTDOWN", "the daemon is stopping"},
	[HBM_CANCELLED] = {"HBM_CANCELLED", "the request was cancelled before it started"},
};

static const char *const opcodes[HBM_WIRE_OPCODES] = {
	[HBM_WIRE_HELLO] = "HELLO",
	[HBM_WIRE_REGION_CREATE] = "REGION_CREATE",
	[HBM_WIRE_REGION_DESTROY] = "REGION_DESTROY",
	[HBM_WIRE_COMMIT] = "COMMIT",
	[HBM_WIRE_DECOMMIT] = "DECOMMIT",
	[HBM_WIRE_NAMESPACE_OPEN] = "NAMESPACE_OPEN",
	[HBM_WIRE_NAMESPACE_CLOSE] = "NAMESPACE_CLOSE",
	[HBM_WIRE_LOOKUP] = "LOOKUP",
	[HBM_WIRE_STORE] = "STORE",
	[HBM_WIRE_LOAD] = "LOAD",
	[HBM_WIRE_PREFETCH] = "PREFETCH",
	[HBM_WIRE_TOUCH] = "TOUCH",
	[HBM_WIRE_PIN] = "PIN",
	[HBM_WIRE_UNPIN] = "UNPIN",
	[HBM_WIRE_REMOVE] = "REMOVE",
	[HBM_WIRE_EVICT] = "EVICT",
	[HBM_WIRE_QUERY] = "QUERY",
	[HBM_WIRE_PING] = "PING",
	[HBM_WIRE_CANCEL] = "CANCEL",
	[HBM_WIRE_NAMESPACE_DROP] = "NAMESPACE_DROP",
};

const char *hbm_status_name(int status)
{
	if (status < 0 || (size_t)status >= sizeof(statuses) / sizeof(statuses[0]))
		return NULL;
	return statuses[status].name;
}

const char *hbm_strerror(int status)
{
	if (status == -ENOTCONN)
		return "the connection to the daemon has ended";
	if (status == -EPROTO)
		return "the daemon's reply violates the protocol";
	if (status == -ETIMEDOUT)
		return "no answer in time";
	if (status == -EAGAIN)
		return "no answer yet";
	if (status >= 0)
		return hbm_status_name(status) ? statuses[status].sentence : "unknown status";

	const char *sentence = status == INT_MIN ? NULL : strerrordesc_np(-status);

	return sentence ? sentence : "unknown error";
}

const char *hbm_opcode_name(unsigned int opcode)
{
	return opcode < HBM_WIRE_OPCODES && opcodes[opcode] ? opcodes[opcode] : "request";
}
