/* SPDX-License-Identifier: Apache-2.0 */
/* loading: see loading.h. */
#include "daemon/base/loading.h"

static double loading_transfer_s(double bytes, double bytes_s)
{
	return bytes_s > 0 ? bytes / bytes_s : 0;
}

static double loading_longer(double a, double b)
{
	return a > b ? a : b;
}

double loading_seconds(const struct loading_rates *rates, uint64_t hbm, uint64_t ddr, uint64_t nvme)
{
	double device_s = loading_transfer_s((double)hbm, rates->hbm_bytes_s);
	double link_s = loading_transfer_s((double)ddr + (double)nvme, rates->link_bytes_s);
	double drive_s = loading_transfer_s((double)nvme, rates->nvme_bytes_s);

	return loading_longer(device_s, loading_longer(link_s, drive_s));
}
