/* SPDX-License-Identifier: Apache-2.0 */
/* connection: see connection.h. */
#include "client/connection.h"

const struct hbm_info *hbm_info(const struct hbm *hbm)
{
	return &hbm->info;
}

int hbm_fd(const struct hbm *hbm)
{
	return hbm->channel.fd;
}
