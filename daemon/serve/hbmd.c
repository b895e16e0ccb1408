/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/serve/hbmd.h"

const char *hbmd_state_name(enum hbmd_state state)
{
	static const char *const names[] = {
		[HBMD_WARMING] = "warming",
		[HBMD_RUNNING] = "running",
		[HBMD_STOPPING] = "stopping",
	};

	return names[state];
}
