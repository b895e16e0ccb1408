/* SPDX-License-Identifier: Apache-2.0 */
/* loading: see loading.h. */
#include "client/plan/loading.h"

static double passing_s(double bytes, double bytes_s)
{
	return bytes_s > 0 ? bytes / bytes_s : 0;
}

static double larger(double a, double b)
{
	return a > b ? a : b;
}

double plan_loading_s(const struct plan_rates *rates, uint64_t hbm, uint64_t ddr, uint64_t nvme)
{
	double device_s = passing_s((double)hbm, rates->hbm_bytes_s);
	double link_s = passing_s((double)ddr + (double)nvme, rates->link_bytes_s);
	double drive_s = passing_s((double)nvme, rates->nvme_bytes_s);
	return larger(device_s, larger(link_s, drive_s));
}
