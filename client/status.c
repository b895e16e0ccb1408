/* SPDX-License-Identifier: Apache-2.0 */
/* status: names and descriptions of statuses and errno values, and names of requests for
 * error lines. */
#include "client/status.h"

#include <hbm/hbm.h>

#include <errno.h>
#include <limits.h>
#include <string.h>

#define STATUS(name, value, meaning) [value] = {"HBM_" #name, meaning},
static const struct {
	const char *name, *sentence;
} statuses[] = {HBM_STATUS_LIST(STATUS)};

#define OPCODE(name, value, request, reply) [value] = #name,
static const char *const opcodes[HBM_WIRE_OPCODES] = {HBM_OPCODE_LIST(OPCODE)};

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
