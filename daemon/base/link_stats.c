/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/base/link_stats.h"

#include "daemon/base/clock.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>

#define KEPT 16384 /* intervals remembered; a power of two */

struct link_stats {
	pthread_mutex_t lock;
	uint32_t in_flight[HBM_LINKS];
	uint64_t changed_ns; /* when in_flight last changed: the sums below are valid until then */
	struct hbm_wire_link links[HBM_LINKS];
	double seeds[HBM_LINKS]; /* bytes per second */
	uint64_t recorded;       /* intervals since start */
	struct hbm_wire_interval kept[KEPT];
};

static int link_stats_is_nvme(enum hbm_link link)
{
	return link == HBM_LINK_NVME_READ || link == HBM_LINK_NVME_WRITE;
}

int link_stats_new(struct link_stats **out)
{
	struct link_stats *link_stats = calloc(1, sizeof(*link_stats));
	if (!link_stats)
		return -ENOMEM;

	pthread_mutex_init(&link_stats->lock, NULL);
	for (uint32_t i = 0; i < HBM_LINKS; i++)
		link_stats->links[i].link = i;
	*out = link_stats;

	return 0;
}

struct link_stats *link_stats_free(struct link_stats *link_stats)
{
	if (link_stats)
		pthread_mutex_destroy(&link_stats->lock);
	free(link_stats);
	return NULL;
}

/* Updates the sums to `now`. */
static void link_stats_account(struct link_stats *link_stats, uint64_t now)
{
	uint64_t passed = now - link_stats->changed_ns;
	uint32_t nvme = link_stats->in_flight[HBM_LINK_NVME_READ] +
			link_stats->in_flight[HBM_LINK_NVME_WRITE];
	uint32_t device = link_stats->in_flight[HBM_LINK_D2D] +
			  link_stats->in_flight[HBM_LINK_D2H] + link_stats->in_flight[HBM_LINK_H2D];

	for (unsigned i = 0; i < HBM_LINKS; i++) {
		if (link_stats->in_flight[i] == 0)
			continue;
		link_stats->links[i].busy_ns += passed;
		if ((link_stats_is_nvme(i) ? device : nvme) > 0)
			link_stats->links[i].overlapped_ns += passed;
	}

	link_stats->changed_ns = now;
}

uint64_t link_stats_begin(struct link_stats *link_stats, enum hbm_link link)
{
	pthread_mutex_lock(&link_stats->lock);
	uint64_t now = clock_now();
	link_stats_account(link_stats, now);
	link_stats->in_flight[link]++;
	pthread_mutex_unlock(&link_stats->lock);

	return now;
}

void link_stats_end(struct link_stats *link_stats, enum hbm_link link, uint32_t device,
		    uint64_t started_ns, uint64_t count, uint64_t bytes, uint64_t errors)
{
	pthread_mutex_lock(&link_stats->lock);
	uint64_t now = clock_now();
	link_stats_account(link_stats, now);
	link_stats->in_flight[link]--;
	link_stats->links[link].count += count;
	link_stats->links[link].bytes += bytes;
	link_stats->links[link].errors += errors;
	link_stats->kept[link_stats->recorded++ % KEPT] =
		(struct hbm_wire_interval){.start_ns = started_ns,
					   .end_ns = now,
					   .bytes = bytes,
					   .link = link,
					   .device = device,
					   .count = (uint32_t)count,
					   .errors = (uint32_t)errors};
	pthread_mutex_unlock(&link_stats->lock);
}

void link_stats_ways(struct link_stats *link_stats, enum hbm_link link,
		     const struct link_ways *ways)
{
	pthread_mutex_lock(&link_stats->lock);
	struct hbm_wire_link *record = &link_stats->links[link];
	record->single_pieces += ways->pieces[LINK_WAY_SINGLE];
	record->single_bytes += ways->bytes[LINK_WAY_SINGLE];
	record->row_pieces += ways->pieces[LINK_WAY_ROWS];
	record->row_bytes += ways->bytes[LINK_WAY_ROWS];
	record->batch_pieces += ways->pieces[LINK_WAY_BATCH];
	record->batch_bytes += ways->bytes[LINK_WAY_BATCH];
	record->direct_copies += ways->direct;
	pthread_mutex_unlock(&link_stats->lock);
}

void link_stats_link(struct link_stats *link_stats, enum hbm_link link,
		     struct hbm_wire_link *record)
{
	pthread_mutex_lock(&link_stats->lock);
	link_stats_account(link_stats, clock_now());
	*record = link_stats->links[link];
	pthread_mutex_unlock(&link_stats->lock);
}

void link_stats_seed(struct link_stats *link_stats, enum hbm_link link, double bytes_s)
{
	pthread_mutex_lock(&link_stats->lock);
	link_stats->seeds[link] = bytes_s;
	pthread_mutex_unlock(&link_stats->lock);
}

double link_stats_bandwidth(struct link_stats *link_stats, enum hbm_link link)
{
	pthread_mutex_lock(&link_stats->lock);
	link_stats_account(link_stats, clock_now());
	const struct hbm_wire_link *record = &link_stats->links[link];
	double bytes_s = record->count > 0 && record->busy_ns > 0
				 ? (double)record->bytes * 1e9 / (double)record->busy_ns
				 : link_stats->seeds[link];
	pthread_mutex_unlock(&link_stats->lock);

	return bytes_s;
}

uint32_t link_stats_intervals(struct link_stats *link_stats, uint64_t *cursor,
			      struct hbm_wire_interval *out, uint32_t room)
{
	pthread_mutex_lock(&link_stats->lock);
	uint64_t first = link_stats->recorded > KEPT ? link_stats->recorded - KEPT : 0;
	if (*cursor < first)
		*cursor = first;

	uint32_t count = 0;
	for (uint64_t i = *cursor; i < link_stats->recorded && count < room; i++)
		out[count++] = link_stats->kept[i % KEPT];
	pthread_mutex_unlock(&link_stats->lock);

	return count;
}
