/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/activity.h"

#include "daemon/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define KEPT 16384 /* intervals remembered; a power of two */

struct activity {
	pthread_mutex_t lock;
	uint32_t under_way[HBM_HOPS];
	uint64_t changed_ns; /* when under_way last changed: the sums below are true until then */
	struct hbm_wire_hop hops[HBM_HOPS];
	uint64_t recorded; /* intervals ever */
	struct hbm_wire_interval kept[KEPT];
};

static int is_nvme(enum hbm_hop hop)
{
	return hop == HBM_HOP_NVME_READ || hop == HBM_HOP_NVME_WRITE;
}

int activity_new(struct activity **out)
{
	struct activity *activity = calloc(1, sizeof(*activity));
	if (!activity)
		return -ENOMEM;
	pthread_mutex_init(&activity->lock, NULL);
	for (uint32_t i = 0; i < HBM_HOPS; i++)
		activity->hops[i].hop = i;
	*out = activity;
	return 0;
}

struct activity *activity_free(struct activity *activity)
{
	if (activity)
		pthread_mutex_destroy(&activity->lock);
	free(activity);
	return NULL;
}

/* Brings the sums up to `now`. */
static void account(struct activity *activity, uint64_t now)
{
	uint64_t passed = now - activity->changed_ns;
	uint32_t nvme = activity->under_way[HBM_HOP_NVME_READ] + activity->under_way[HBM_HOP_NVME_WRITE];
	uint32_t device =
		activity->under_way[HBM_HOP_D2D] + activity->under_way[HBM_HOP_D2H] + activity->under_way[HBM_HOP_H2D];
	for (unsigned i = 0; i < HBM_HOPS; i++) {
		if (activity->under_way[i] == 0)
			continue;
		activity->hops[i].busy_ns += passed;
		if ((is_nvme(i) ? device : nvme) > 0)
			activity->hops[i].overlapped_ns += passed;
	}
	activity->changed_ns = now;
}

uint64_t activity_begin(struct activity *activity, enum hbm_hop hop)
{
	pthread_mutex_lock(&activity->lock);
	uint64_t now = clock_now();
	account(activity, now);
	activity->under_way[hop]++;
	pthread_mutex_unlock(&activity->lock);
	return now;
}

void activity_end(struct activity *activity, enum hbm_hop hop, uint32_t device, uint64_t started_ns, uint64_t count,
		  uint64_t bytes, uint64_t errors)
{
	pthread_mutex_lock(&activity->lock);
	uint64_t now = clock_now();
	account(activity, now);
	activity->under_way[hop]--;
	activity->hops[hop].count += count;
	activity->hops[hop].bytes += bytes;
	activity->hops[hop].errors += errors;
	activity->kept[activity->recorded++ % KEPT] = (struct hbm_wire_interval){
		.start_ns = started_ns, .end_ns = now, .bytes = bytes, .hop = hop, .device = device};
	pthread_mutex_unlock(&activity->lock);
}

void activity_hop(struct activity *activity, enum hbm_hop hop, struct hbm_wire_hop *record)
{
	pthread_mutex_lock(&activity->lock);
	account(activity, clock_now());
	*record = activity->hops[hop];
	pthread_mutex_unlock(&activity->lock);
}

double activity_bandwidth(struct activity *activity, enum hbm_hop hop)
{
	struct hbm_wire_hop record;
	activity_hop(activity, hop, &record);
	return record.busy_ns > 0 ? (double)record.bytes * 1e9 / (double)record.busy_ns : 0;
}

uint32_t activity_intervals(struct activity *activity, uint64_t *cursor, struct hbm_wire_interval *out, uint32_t room)
{
	pthread_mutex_lock(&activity->lock);
	uint64_t first = activity->recorded > KEPT ? activity->recorded - KEPT : 0;
	if (*cursor < first)
		*cursor = first;
	uint32_t count = 0;
	for (uint64_t i = *cursor; i < activity->recorded && count < room; i++)
		out[count++] = activity->kept[i % KEPT];
	pthread_mutex_unlock(&activity->lock);
	return count;
}
