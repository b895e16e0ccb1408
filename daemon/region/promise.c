/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/region/promise.h"

#include <assert.h>
#include <stdlib.h>

static uint64_t promise_larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

uint64_t promise_outstanding(const struct promise *promise)
{
	return promise->reserved > promise->used ? promise->reserved - promise->used : 0;
}

static uint64_t promise_due(const struct promise *promise)
{
	return promise_larger(promise_outstanding(promise), promise->asked);
}

static uint64_t promise_memory(const struct promise *promise)
{
	return promise->user ? promise->used + promise->asked : 0;
}

static enum ledger_resource promise_resource(const struct promise *promise)
{
	return promise->device == HBM_WIRE_DEVICE_HOST ? LEDGER_HOST_MEMORY : LEDGER_MEMORY;
}

static void promise_set_charge(struct charge *charge, struct payer *payer,
			       enum ledger_resource resource, uint64_t bytes)
{
	if (bytes == charge->amount)
		return;

	ledger_release(charge);
	if (bytes > 0)
		ledger_charge_always(charge, payer, resource, bytes);
}

static void promise_charge_memory(struct promise *promise)
{
	uint64_t bytes = promise_memory(promise);

	if (promise->user)
		promise_set_charge(&promise->memory, &promise->user->payer,
				   promise_resource(promise), bytes);
	if (promise->tenant)
		promise_set_charge(&promise->on_device, promise->tenant, LEDGER_DEVICE_MEMORY,
				   bytes > promise->reserved ? bytes : promise->reserved);
}

/* Around each change of a promise: out of the sums, and in again. */
static void promise_leave_sums(const struct promise *promise)
{
	struct promises *promises = promise->promises;

	promises->promised -= promise_outstanding(promise);
	promises->due -= promise_due(promise);
	promises->used -= promise->used;
}

static void promise_enter_sums(struct promise *promise)
{
	struct promises *promises = promise->promises;

	promises->promised += promise_outstanding(promise);
	promises->due += promise_due(promise);
	promises->used += promise->used;
	promise_charge_memory(promise);
}

static void promise_init(struct promise *promise, struct promises *promises, uint32_t device)
{
	*promise = (struct promise){.promises = promises, .device = device};
	list_init(&promise->by_session);
	list_push_back(&promises->all, &promise->link);
}

void promises_init(struct promises *promises)
{
	*promises = (struct promises){0};
	list_init(&promises->all);
	promise_init(&promises->unowned, promises, 0);
}

struct promise *promise_new(struct promises *promises, uint32_t device, struct user *user)
{
	struct promise *promise = malloc(sizeof(*promise));
	if (!promise)
		return NULL;

	struct payer *payer = NULL;
	if (user && user->tenant && device != HBM_WIRE_DEVICE_HOST &&
	    !(payer = tenant_device(user->tenant, device))) {
		free(promise);
		return NULL;
	}

	promise_init(promise, promises, device);
	promise->user = user_ref(user);
	promise->tenant = payer;

	return promise;
}

uint64_t promise_growth(const struct promise *promise, uint64_t reserved, uint64_t more)
{
	uint64_t memory = promise_memory(promise);
	uint64_t bytes = more > UINT64_MAX - memory ? UINT64_MAX : memory + more;

	bytes = reserved > bytes ? reserved : bytes;

	return bytes > promise->on_device.amount ? bytes - promise->on_device.amount : 0;
}

bool promise_has_room(const struct promise *promise, uint64_t growth)
{
	return !promise->tenant || growth == 0 ||
	       ledger_has_room(promise->tenant, LEDGER_DEVICE_MEMORY, growth);
}

/* The same; counts a refusal. */
static bool promise_check_device(const struct promise *promise, uint64_t growth)
{
	return promise_has_room(promise, growth) ||
	       ledger_check(promise->tenant, LEDGER_DEVICE_MEMORY, growth);
}

bool promise_is_paid(const struct promise *promise, uint64_t bytes)
{
	return !promise->user ||
	       (ledger_check(&promise->user->payer, promise_resource(promise), bytes) &&
		promise_check_device(promise, promise_growth(promise, promise->reserved, bytes)));
}

static void promise_free_unused(struct promise *promise)
{
	if (!promise->ended || promise->used > 0 || promise->asked > 0)
		return;

	list_remove(&promise->link);
	user_close(promise->user);
	free(promise);
}

void promise_end(struct promise *promise)
{
	assert(promise != &promise->promises->unowned);

	promise_leave_sums(promise);
	promise->reserved = 0;
	promise_enter_sums(promise);

	ledger_release(&promise->charge);
	list_remove(&promise->by_session);
	promise->ended = true;
	promise_free_unused(promise);
}

/* What would be due if the promise were changed so. */
static uint64_t promise_due_changed(const struct promise *promise, const struct promise *changed)
{
	uint64_t others = promise->promises->due - promise_due(promise), own = promise_due(changed);

	return own > UINT64_MAX - others ? UINT64_MAX : others + own;
}

uint64_t promise_due_with(const struct promise *promise, uint64_t reserved)
{
	struct promise changed = *promise;

	changed.reserved = reserved;

	return promise_due_changed(promise, &changed);
}

uint64_t promise_due_asking(const struct promise *promise, uint64_t bytes)
{
	struct promise changed = *promise;

	changed.asked = bytes > UINT64_MAX - promise->asked ? UINT64_MAX : promise->asked + bytes;

	return promise_due_changed(promise, &changed);
}

bool promise_allows(const struct promise *promise, uint64_t free, uint64_t bytes)
{
	const struct promises *promises = promise->promises;
	uint64_t own = promise_outstanding(promise), others = promises->promised - own;
	uint64_t beyond = bytes > own ? bytes - own : 0;

	/* after it: others + own - (bytes - beyond) <= free - bytes */
	return free >= beyond && others + own <= free - beyond;
}

void promise_reserve(struct promise *promise, struct payer *payer, uint64_t reserved)
{
	promise_leave_sums(promise);
	promise->reserved = reserved;
	promise_enter_sums(promise);

	ledger_release(&promise->charge);
	if (reserved > 0)
		ledger_charge_always(&promise->charge, payer, LEDGER_RESERVED, reserved);
}

void promise_ask(struct promise *promise, uint64_t bytes)
{
	promise_leave_sums(promise);
	promise->asked += bytes;
	promise_enter_sums(promise);
}

void promise_unask(struct promise *promise, uint64_t bytes)
{
	assert(promise->asked >= bytes);

	promise_leave_sums(promise);
	promise->asked -= bytes;
	promise_enter_sums(promise);
	promise_free_unused(promise);
}

void promise_use(struct promise *promise, uint64_t bytes)
{
	assert(promise->asked >= bytes);

	promise_leave_sums(promise);
	promise->asked -= bytes;
	promise->used += bytes;
	promise_enter_sums(promise);
}

void promise_ask_again(struct promise *promise, uint64_t bytes)
{
	assert(promise->used >= bytes);

	promise_leave_sums(promise);
	promise->used -= bytes;
	promise->asked += bytes;
	promise_enter_sums(promise);
}

void promise_unuse(struct promise *promise, uint64_t bytes)
{
	assert(promise->used >= bytes);

	promise_leave_sums(promise);
	promise->used -= bytes;
	promise_enter_sums(promise);
	promise_free_unused(promise);
}

void promise_leave(struct promise *promise, uint64_t bytes)
{
	promise->left += bytes;
	assert(promise->left <= promise->used);
}

void promise_unleave(struct promise *promise, uint64_t bytes)
{
	assert(promise->left >= bytes);
	promise->left -= bytes;
}

bool promise_may_disown(const struct promise *promise, uint64_t free, uint64_t bytes)
{
	struct promise changed = *promise;

	assert(promise->used >= bytes);
	changed.used -= bytes;

	/* what it has outstanding does not become less */
	return promise->promises->promised - promise_outstanding(promise) +
		       promise_outstanding(&changed) <=
	       free;
}

void promise_disown(struct promise *promise, uint64_t bytes)
{
	struct promise *unowned = &promise->promises->unowned;

	promise_unleave(promise, bytes);
	promise_ask(unowned, bytes);
	promise_use(unowned, bytes);
	promise_unuse(promise, bytes);
}

void promise_lose(struct promise *promise, uint64_t bytes)
{
	struct charge *charge = &promise->charge;
	uint64_t less = bytes < promise->reserved ? bytes : promise->reserved;

	assert(promise->used >= bytes);

	if (less > 0)
		promise_reserve(promise, charge->payer, promise->reserved - less);
	promise_unuse(promise, bytes);
}

const char *promises_check(const struct promises *promises)
{
	struct promises sum = {0};

	list_for_each (node, &promises->all) {
		const struct promise *promise = container_of(node, struct promise, link);

		sum.promised += promise_outstanding(promise);
		sum.due += promise_due(promise);
		sum.used += promise->used;
		if (promise->left > promise->used)
			return "a session has left more than it uses";
		if (promise->charge.amount != promise->reserved)
			return "a reservation is not what its session is charged for";
		if (promise->memory.amount != promise_memory(promise))
			return "what a session uses is not what its user is charged for";
		if (promise->tenant && promise_growth(promise, promise->reserved, 0) > 0)
			return "what a session has of a device is not what its tenant is charged "
			       "for";
	}

	if (sum.promised != promises->promised || sum.due != promises->due)
		return "the promises do not add up";
	if (sum.used != promises->used)
		return "what the sessions use does not add up";

	return NULL;
}
