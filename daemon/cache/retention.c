/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/retention.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>

#define BUCKETS_LEAST 64u

static uint64_t retention_buckets_for(uint64_t blocks)
{
	uint64_t buckets = BUCKETS_LEAST;

	while (buckets < blocks)
		buckets *= 2;

	return buckets;
}

int retention_open(struct retention *retention, struct ledger *ledger)
{
	const uint64_t max = ledger_limit(&ledger->host, LEDGER_RETAINED_BLOCKS);

	*retention = (struct retention){
		.ledger = ledger, .max = max, .bucket_count = retention_buckets_for(max)};
	list_init(&retention->retainers);
	retention->buckets = calloc(retention->bucket_count, sizeof(struct retained *));
	retention->by_end = calloc(max > 0 ? max : 1, sizeof(struct retained *));

	return retention->buckets && retention->by_end ? 0 : -ENOMEM;
}

void retention_close(struct retention *retention)
{
	while (retention->count > 0) {
		retention_unfavour(retention->by_end[0]);
		retention_remove(retention, retention->by_end[0]);
	}

	free(retention->buckets);
	free(retention->by_end);
	*retention = (struct retention){.ledger = NULL};
}

uint64_t retention_bytes_for(uint64_t blocks, uint64_t users, uint64_t tiers)
{
	return blocks * (sizeof(struct retained) + sizeof(struct retained *)) +
	       retention_buckets_for(blocks) * sizeof(struct retained *) +
	       users * (sizeof(struct retainer) + (tiers + 1) * sizeof(struct payer));
}

/* ---- by block ---- */

static struct retained **retention_bucket(const struct retention *retention, uint32_t number)
{
	return &retention->buckets[number % retention->bucket_count];
}

struct retained *retention_find(const struct retention *retention, uint32_t number)
{
	if (retention->count == 0)
		return NULL;

	struct retained *retained = *retention_bucket(retention, number);

	while (retained && retained->number != number)
		retained = retained->after;

	return retained;
}

static void retention_unhash(struct retention *retention, const struct retained *retained)
{
	struct retained **link = retention_bucket(retention, retained->number);

	while (*link != retained)
		link = &(*link)->after;

	*link = retained->after;
}

/* ---- by end ---- */

static bool retention_is_before(const struct retained *one, const struct retained *other)
{
	return one->until_ns != other->until_ns ? one->until_ns < other->until_ns
						: one->made > other->made;
}

static void retention_put(struct retention *retention, struct retained *retained, size_t place)
{
	retention->by_end[place] = retained;
	retained->place = place;
}

static void retention_rise(struct retention *retention, struct retained *retained)
{
	size_t place = retained->place;

	while (place > 0 && retention_is_before(retained, retention->by_end[(place - 1) / 2])) {
		retention_put(retention, retention->by_end[(place - 1) / 2], place);
		place = (place - 1) / 2;
	}

	retention_put(retention, retained, place);
}

static void retention_sink(struct retention *retention, struct retained *retained)
{
	size_t place = retained->place;

	for (size_t child; (child = 2 * place + 1) < retention->count; place = child) {
		if (child + 1 < retention->count &&
		    retention_is_before(retention->by_end[child + 1], retention->by_end[child]))
			child++;
		if (!retention_is_before(retention->by_end[child], retained))
			break;
		retention_put(retention, retention->by_end[child], place);
	}

	retention_put(retention, retained, place);
}

struct retained *retention_first(const struct retention *retention)
{
	return retention->count > 0 ? retention->by_end[0] : NULL;
}

/* ---- users ---- */

/* NULL: it retains nothing, and there is no memory to begin with. */
static struct retainer *retention_retainer(struct retention *retention, struct user *user)
{
	list_for_each (node, &retention->retainers) {
		struct retainer *retainer = container_of(node, struct retainer, link);
		if (retainer->user == user)
			return retainer;
	}

	struct retainer *retainer =
		calloc(1, sizeof(*retainer) + (retention->tiers + 1) * sizeof(struct payer));
	if (!retainer)
		return NULL;

	retainer->user = user_ref(user);
	for (uint32_t i = 1; i <= retention->tiers; i++)
		payer_open_below(&retainer->tiers[i], &user->payer, PAYER_RETAINER);
	list_push_back(&retention->retainers, &retainer->link);

	return retainer;
}

/* It may have no block any more. */
static void retention_settle(const struct retention *retention, struct retainer *retainer)
{
	if (retainer->blocks > 0)
		return;

	for (uint32_t i = 1; i <= retention->tiers; i++)
		payer_close(&retainer->tiers[i]);
	list_remove(&retainer->link);
	user_close(retainer->user);
	free(retainer);
}

bool retention_has_bytes(struct retention *retention, struct user *user, uint8_t tier,
			 uint64_t bytes, uint64_t limit)
{
	struct retainer *retainer = retention_retainer(retention, user);
	if (!retainer)
		return false;

	ledger_set_limit(&retainer->tiers[tier], LEDGER_RETAINED, limit);
	bool has = ledger_check(&retainer->tiers[tier], LEDGER_RETAINED, bytes);
	retention_settle(retention, retainer);

	return has;
}

/* ---- entries ---- */

static struct retained *retention_new(struct retention *retention, struct retainer *retainer,
				      uint32_t number)
{
	struct retained *retained = calloc(1, sizeof(*retained));
	if (!retained)
		return NULL;

	if (ledger_charge(&retained->charge, &retainer->user->payer, LEDGER_RETAINED_BLOCKS, 1) !=
	    HBM_OK) {
		free(retained);
		return NULL;
	}

	retained->number = number;
	retained->made = ++retention->made;
	retained->until_ns = UINT64_MAX;
	retained->retainer = retainer;
	retainer->blocks++;
	retained->after = *retention_bucket(retention, number);
	*retention_bucket(retention, number) = retained;
	retention_put(retention, retained, retention->count++);

	return retained;
}

/* It becomes another user's, unless that may have no more. */
static void retention_hand_over(struct retention *retention, struct retained *retained,
				struct retainer *to)
{
	struct retainer *from = retained->retainer;
	if (from == to || !ledger_has_room(&to->user->payer, LEDGER_RETAINED_BLOCKS, 1))
		return;

	ledger_release(&retained->charge);
	(void)ledger_charge(&retained->charge, &to->user->payer, LEDGER_RETAINED_BLOCKS, 1);
	retained->retainer = to;
	to->blocks++;
	from->blocks--;
	retention_settle(retention, from);
}

struct retained *retention_set(struct retention *retention, uint32_t number, struct user *user,
			       unsigned priority, uint64_t until_ns)
{
	struct retainer *retainer = retention_retainer(retention, user);
	struct retained *retained = retention_find(retention, number);
	if (!retainer)
		return NULL;

	if (retained)
		retention_hand_over(retention, retained, retainer);
	else
		retained = retention_new(retention, retainer, number);
	if (retained) {
		bool is_new = retained->priority == 0;

		assert(retained->tier == 0);
		if (priority > retained->priority)
			retained->priority = (uint8_t)priority;
		if (is_new || until_ns > retained->until_ns)
			retained->until_ns = until_ns;
		retention_rise(retention, retained);
		retention_sink(retention, retained);
	}
	retention_settle(retention, retainer);

	return retained;
}

void retention_remove(struct retention *retention, struct retained *retained)
{
	struct retained *last = retention->by_end[--retention->count];

	assert(retained->tier == 0);
	if (last != retained) {
		retention_put(retention, last, retained->place);
		retention_rise(retention, last);
		retention_sink(retention, last);
	}

	retention_unhash(retention, retained);
	ledger_release(&retained->charge);
	retained->retainer->blocks--;
	retention_settle(retention, retained->retainer);
	free(retained);
}

bool retention_favour(struct retained *retained, uint8_t tier, uint64_t bytes, uint64_t limit)
{
	struct payer *payer = &retained->retainer->tiers[tier];

	ledger_set_limit(payer, LEDGER_RETAINED, limit);
	if (!ledger_has_room(payer, LEDGER_RETAINED, bytes))
		return false;

	ledger_add(payer, LEDGER_RETAINED, bytes);
	retained->tier = tier;
	retained->bytes = bytes;

	return true;
}

void retention_unfavour(struct retained *retained)
{
	if (retained->tier == 0)
		return;

	ledger_subtract(&retained->retainer->tiers[retained->tier], LEDGER_RETAINED,
			retained->bytes);
	retained->tier = 0;
	retained->bytes = 0;
}

uint64_t retention_favoured(const struct retention *retention, uint8_t tier)
{
	uint64_t bytes = 0;

	list_for_each (node, &retention->retainers)
		bytes += ledger_used(&container_of(node, struct retainer, link)->tiers[tier],
				     LEDGER_RETAINED);

	return bytes;
}
