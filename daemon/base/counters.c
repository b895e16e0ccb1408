/* SPDX-License-Identifier: Apache-2.0 */
/* counters: see counters.h. A counter is a number, or an array of them. */
#include "daemon/base/counters.h"

static void counters_add_to(uint64_t *sums, const uint64_t *numbers, size_t bytes)
{
	for (size_t i = 0; i < bytes / sizeof(*sums); i++)
		sums[i] += numbers[i];
}

#define ADD_FACT(member)
#define ADD_INFO(member)
#define ADD_GAUGE(member)
#define ADD_COUNTER(member)                                                                        \
	counters_add_to((uint64_t *)&status->member, (const uint64_t *)&counters->member,          \
			sizeof(counters->member));
#define ADD(R, type, member, dimension, form, place, figure, ...) ADD_##figure(member)

void counters_add(const struct counters *counters, struct hbm_wire_status *status)
{
	HBM_RECORD_STATUS(ADD, )
}
