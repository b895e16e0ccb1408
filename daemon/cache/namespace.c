/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/namespace.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

#include "daemon/cache/event_ring.h"
#include "daemon/cache/namespace_record.h"
#include "daemon/cache/salts.h"
#include "daemon/state/state.h"

struct namespaces {
	struct ledger *ledger;
	struct state *state; /* of their records; NULL: they have none */
	bool leaving;        /* records stay as they are */
	struct salts *salts;
	uint16_t owners[UINT16_MAX + 1];
	void (*forgotten)(void *arg, uint16_t number); /* or NULL */
	void *arg;
	void (*abandoned)(void *arg, uint16_t number); /* or NULL */
	void *abandoned_arg;
	uint64_t max, closed;
	uint64_t wiped;          /* of them, with wipe_on_free */
	struct namespace list[]; /* [max + 1]; 0: none */
};

int namespaces_new(struct namespaces **out, struct ledger *ledger)
{
	uint64_t max = ledger_limit(&ledger->host, LEDGER_NAMESPACES);
	if (max == 0 || max >= UINT16_MAX)
		return -EINVAL;

	struct namespaces *namespaces =
		calloc(1, sizeof(*namespaces) + (max + 1) * sizeof(struct namespace));
	if (!namespaces)
		return -ENOMEM;

	int r = salts_new(&namespaces->salts, max);
	if (r < 0) {
		free(namespaces);
		return r;
	}

	namespaces->ledger = ledger;
	namespaces->max = max;
	*out = namespaces;

	return 0;
}

static void namespaces_drop_record(const struct namespaces *namespaces, struct namespace *ns)
{
	if (ns->record != STATE_NONE)
		state_drop(namespaces->state, STATE_NAMESPACES, ns->record);
	ns->record = STATE_NONE;
}

static void namespaces_leave_group(struct namespaces *namespaces, uint16_t number)
{
	uint16_t before = number;

	while (namespaces->list[before].next_member != number)
		before = namespaces->list[before].next_member;
	namespaces->list[before].next_member = namespaces->list[number].next_member;
}

static void namespaces_forget(struct namespaces *namespaces, uint64_t number)
{
	struct namespace *ns = &namespaces->list[number];

	if (!namespaces->leaving)
		namespaces_drop_record(namespaces, ns);
	namespaces_leave_group(namespaces, (uint16_t)number);
	salts_clear(namespaces->salts, number);
	payer_close(&ns->payer);
	ns->events = event_ring_free(ns->events);
	ledger_release(&ns->charge);
	ns->user = user_close(ns->user);
	ns->used = false;
	namespaces->wiped -= ns->wipe_on_free;
	if (namespaces->forgotten)
		namespaces->forgotten(namespaces->arg, (uint16_t)number);
}

struct namespaces *namespaces_free(struct namespaces *namespaces)
{
	if (!namespaces)
		return NULL;

	namespaces->forgotten = namespaces->abandoned = NULL;
	namespaces_leave_records(namespaces);
	for (uint32_t i = 1; i <= namespaces->max; i++)
		if (namespaces->list[i].used)
			namespaces_forget(namespaces, i);

	salts_free(namespaces->salts);
	free(namespaces);
	return NULL;
}

/* What of an identity may be shown, and what of it makes a fingerprint. */
struct namespace_shown {
	struct hbm_wire_namespace_spec spec;
	struct hbm_wire_encoding encoding;
	uint64_t memory_only, wipe_on_free;
	char group[HBM_WIRE_NAME_BYTES];
};

static struct namespace_shown namespace_without_salt(const struct namespace_identity *identity)
{
	const struct hbm_wire_namespace_spec *spec = identity->spec;
	struct namespace_shown shown = {
		.spec = {.weights = spec->weights, .block_bytes = spec->block_bytes},
		.memory_only = identity->memory_only,
		.wipe_on_free = identity->wipe_on_free};
	memcpy(shown.spec.model, spec->model, sizeof(shown.spec.model));
	memcpy(shown.spec.layout, spec->layout, sizeof(shown.spec.layout));
	if (identity->encoding)
		shown.encoding = *identity->encoding;
	if (identity->group)
		memcpy(shown.group, identity->group,
		       strnlen(identity->group, sizeof(shown.group) - 1));

	return shown;
}

/* Of how many bytes of it the fingerprint is: no more than differ from the plainest. */
static size_t namespace_shown_bytes(const struct namespace_shown *shown)
{
	if (shown->group[0] != '\0')
		return sizeof(*shown);
	if (shown->wipe_on_free)
		return offsetof(struct namespace_shown, group);
	if (shown->memory_only)
		return offsetof(struct namespace_shown, wipe_on_free);
	if (shown->encoding.encoding != HBM_ENCODING_RAW)
		return offsetof(struct namespace_shown, memory_only);

	return sizeof(shown->spec);
}

/* The next daemon knows it before the first block of such a namespace is in memory. */
static void namespaces_count_wiped(struct namespaces *namespaces)
{
	namespaces->wiped++;
	if (namespaces->state)
		state_count_to(namespaces->state, STATE_WIPED, 1);
}

static void namespaces_fill(struct namespaces *namespaces, uint16_t number, struct user *user,
			    const struct namespace_shown *shown, const char *salt)
{
	struct namespace *ns = &namespaces->list[number];
	uint64_t logical = shown->encoding.logical_bytes;
	XXH128_canonical_t canonical;

	XXH128_canonicalFromHash(&canonical, XXH3_128bits(shown, namespace_shown_bytes(shown)));
	*ns = (struct namespace){.used = true,
				 .opens = 1,
				 .spec = shown->spec,
				 .encoding = shown->encoding,
				 .record = STATE_NONE,
				 .salted = salt[0] != '\0',
				 .memory_only = shown->memory_only,
				 .wipe_on_free = shown->wipe_on_free,
				 .block_bytes = shown->spec.block_bytes,
				 .logical_bytes = logical ? logical : shown->spec.block_bytes,
				 .next_member = number,
				 .user = user_ref(user)};
	memcpy(ns->group, shown->group, sizeof(ns->group));
	memcpy(ns->fingerprint, canonical.digest, sizeof(ns->fingerprint));
	namespaces->owners[number] = user->tenant ? user->tenant->number : 0;
	salts_set(namespaces->salts, number, salt);
	payer_open_below(&ns->payer, &user->payer, PAYER_NAMESPACE);
	ledger_charge_always(&ns->charge, &user->payer, LEDGER_NAMESPACES, 1);
	if (ns->wipe_on_free)
		namespaces_count_wiped(namespaces);
}

/* Of a namespace with a record; NULL: it has none. */
static const char *namespaces_recorded_salt(const struct namespaces *namespaces, uint32_t number)
{
	uint32_t index = namespaces->list[number].record;
	if (index == STATE_NONE)
		return NULL;

	const struct namespace_record *record =
		state_body(namespaces->state, STATE_NAMESPACES, index);

	return record->spec.salt;
}

static bool namespaces_is_salt(const struct namespaces *namespaces, uint32_t number,
			       const char *salt)
{
	const char *recorded = namespaces_recorded_salt(namespaces, number);

	return recorded ? salts_same(recorded, salt) : salts_equal(namespaces->salts, number, salt);
}

static uint16_t namespaces_find_shown(const struct namespaces *namespaces,
				      const struct namespace_shown *shown, const char *salt,
				      const struct user *user)
{
	for (uint32_t i = 1; i <= namespaces->max; i++) {
		const struct namespace *ns = &namespaces->list[i];
		if (ns->used && user_shares(ns->user, user) &&
		    memcmp(&ns->spec, &shown->spec, sizeof(ns->spec)) == 0 &&
		    memcmp(&ns->encoding, &shown->encoding, sizeof(ns->encoding)) == 0 &&
		    ns->memory_only == shown->memory_only &&
		    ns->wipe_on_free == shown->wipe_on_free &&
		    memcmp(ns->group, shown->group, sizeof(ns->group)) == 0 &&
		    namespaces_is_salt(namespaces, i, salt))
			return (uint16_t)i;
	}

	return 0;
}

uint16_t namespaces_find(const struct namespaces *namespaces,
			 const struct namespace_identity *identity, const struct user *user)
{
	const struct namespace_shown shown = namespace_without_salt(identity);

	return namespaces_find_shown(namespaces, &shown, identity->spec->salt, user);
}

/* ---- groups ---- */

static bool namespace_is_in_group(const struct namespace *ns, const struct namespace_shown *shown)
{
	return memcmp(ns->group, shown->group, sizeof(ns->group)) == 0 &&
	       memcmp(ns->spec.model, shown->spec.model, sizeof(ns->spec.model)) == 0 &&
	       ns->spec.weights == shown->spec.weights;
}

/* A member of the group that such a namespace is or would be in, but for `number`; 0: there is
 * none. */
static uint16_t namespaces_find_member(const struct namespaces *namespaces,
				       const struct namespace_shown *shown, const char *salt,
				       const struct user *user, uint16_t number)
{
	for (uint32_t i = 1; i <= namespaces->max && shown->group[0] != '\0'; i++) {
		const struct namespace *ns = &namespaces->list[i];
		if (ns->used && i != number && user_shares(ns->user, user) &&
		    namespace_is_in_group(ns, shown) && namespaces_is_salt(namespaces, i, salt))
			return (uint16_t)i;
	}

	return 0;
}

static bool namespaces_group_has_room(const struct namespaces *namespaces, uint16_t member)
{
	unsigned count = 1;

	for (uint16_t i = namespaces->list[member].next_member; i != member; count++)
		i = namespaces->list[i].next_member;

	return count < HBM_WIRE_GROUP_MAX;
}

bool namespaces_may_join(const struct namespaces *namespaces,
			 const struct namespace_identity *identity, const struct user *user)
{
	const struct namespace_shown shown = namespace_without_salt(identity);
	const char *salt = identity->spec->salt;
	uint16_t member = namespaces_find_member(namespaces, &shown, salt, user, 0);

	return member == 0 || namespaces_group_has_room(namespaces, member) ||
	       namespaces_find_shown(namespaces, &shown, salt, user) != 0;
}

/* One that is in no ring yet. What an earlier daemon has left may be more than fit: those are
 * alone. */
static void namespaces_join_group(struct namespaces *namespaces, uint16_t number,
				  const struct namespace_shown *shown, const char *salt)
{
	struct namespace *ns = &namespaces->list[number];
	uint16_t member = namespaces_find_member(namespaces, shown, salt, ns->user, number);
	if (member == 0 || !namespaces_group_has_room(namespaces, member))
		return;

	ns->next_member = namespaces->list[member].next_member;
	namespaces->list[member].next_member = number;
}

/* Numbers of payers that no session has. */
#define NAMESPACE_WIPERS (UINT64_C(1) << 63)

/* No session has such a number, and none of another tenant ever will. */
struct fair_payer namespace_wiper(const struct namespace *ns)
{
	return user_fair_payer(ns->user, NAMESPACE_WIPERS | user_number(ns->user));
}

void namespaces_ref(struct namespaces *namespaces, uint16_t number)
{
	namespaces->list[number].opens++;
}

static_assert(sizeof(((struct namespace_record *)0)->tenant) >=
		      sizeof(((struct config_tenant *)0)->name),
	      "a tenant's name");

/* All but the salt. */
static void namespaces_make_record(struct namespace_record *record, uint16_t number,
				   const struct namespace *ns)
{
	*record = (struct namespace_record){
		.spec = ns->spec, .encoding = ns->encoding, .uid = ns->user->uid, .number = number};
	if (ns->memory_only)
		record->flags |= NAMESPACE_RECORD_MEMORY_ONLY;
	if (ns->wipe_on_free)
		record->flags |= NAMESPACE_RECORD_WIPE;
	if (ns->user->tenant)
		strcpy(record->tenant, ns->user->tenant->rule.name);
	memcpy(record->group, ns->group, sizeof(record->group));
}

static void namespaces_add_record(struct namespaces *namespaces, uint16_t number)
{
	struct namespace *ns = &namespaces->list[number];
	struct namespace_record record;
	if (!namespaces->state || namespaces->leaving)
		return;

	namespaces_make_record(&record, number, ns);
	salts_copy(namespaces->salts, number, record.spec.salt);
	ns->record = state_add(namespaces->state, STATE_NAMESPACES, &record, 0);
	explicit_bzero(&record, sizeof(record));
	if (ns->record != STATE_NONE)
		salts_clear(namespaces->salts, number);
}

uint16_t namespaces_open(struct namespaces *namespaces, const struct namespace_identity *identity,
			 struct user *user)
{
	const struct namespace_shown shown = namespace_without_salt(identity);
	const char *salt = identity->spec->salt;
	uint16_t found = namespaces_find_shown(namespaces, &shown, salt, user);
	if (found != 0) {
		namespaces_ref(namespaces, found);
		return found;
	}

	if (!ledger_has_room(&user->payer, LEDGER_NAMESPACES, 1))
		return 0;

	uint16_t vacant = 1;
	while (namespaces->list[vacant].used)
		vacant++;
	namespaces_fill(namespaces, vacant, user, &shown, salt);
	namespaces_add_record(namespaces, vacant);
	namespaces_join_group(namespaces, vacant, &shown, salt);

	return vacant;
}

/* ---- records ---- */

void namespaces_record(struct namespaces *namespaces, struct state *state)
{
	namespaces->state = state;
}

void namespaces_leave_records(struct namespaces *namespaces)
{
	namespaces->leaving = true;
}

struct namespace_identity namespaces_recorded_identity(const struct namespace_record *record)
{
	return (struct namespace_identity){
		.spec = &record->spec,
		.encoding = &record->encoding,
		.memory_only = record->flags & NAMESPACE_RECORD_MEMORY_ONLY,
		.wipe_on_free = record->flags & NAMESPACE_RECORD_WIPE,
		.group = record->group,
	};
}

bool namespaces_restore(struct namespaces *namespaces, uint32_t index, struct user *user)
{
	const struct namespace_record *record =
		state_body(namespaces->state, STATE_NAMESPACES, index);
	const struct namespace_identity identity = namespaces_recorded_identity(record);
	const struct namespace_shown shown = namespace_without_salt(&identity);
	uint16_t number = record->number;

	if (number == 0 || number > namespaces->max || namespaces->list[number].used ||
	    !ledger_has_room(&user->payer, LEDGER_NAMESPACES, 1) ||
	    namespaces_find_shown(namespaces, &shown, record->spec.salt, user) != 0)
		return false;

	namespaces_fill(namespaces, number, user, &shown, record->spec.salt);
	salts_clear(namespaces->salts, number);

	struct namespace *ns = &namespaces->list[number];

	ns->record = index;
	namespaces_join_group(namespaces, number, &shown, record->spec.salt);
	ns->restored = true;
	ns->ephemeral =
		state_word(namespaces->state, STATE_NAMESPACES, index) & NAMESPACE_RECORD_EPHEMERAL;

	return true;
}

void namespaces_release_restored(struct namespaces *namespaces)
{
	for (uint32_t i = 1; i <= namespaces->max; i++) {
		struct namespace *ns = &namespaces->list[i];
		if (!ns->used || !ns->restored)
			continue;

		ns->restored = false;
		namespaces_unref(namespaces, (uint16_t)i);
	}
}

void namespaces_set_ephemeral(struct namespaces *namespaces, uint16_t number)
{
	struct namespace *ns = &namespaces->list[number];

	ns->ephemeral = true;
	if (ns->record != STATE_NONE && !namespaces->leaving)
		state_set_word(namespaces->state, STATE_NAMESPACES, ns->record,
			       NAMESPACE_RECORD_EPHEMERAL);
}

/* ---- opens ---- */

static void namespaces_forget_if_idle(struct namespaces *namespaces, uint16_t number)
{
	const struct namespace *ns = &namespaces->list[number];

	if (ns->opens == 0 && namespace_blocks(ns) == 0)
		namespaces_forget(namespaces, number);
}

/* Blocks that have been dropped are in no tier. */
static bool namespace_has_placed(const struct namespace *ns)
{
	for (unsigned tier = 0; tier < HBM_TIERS; tier++)
		if (ns->blocks_in[tier] > 0)
			return true;

	return false;
}

void namespaces_unref(struct namespaces *namespaces, uint16_t number)
{
	struct namespace *ns = &namespaces->list[number];
	assert(ns->used && ns->opens > 0);
	if (--ns->opens > 0)
		return;

	ns->closed = ++namespaces->closed;
	if (namespaces->abandoned && ns->ephemeral && namespace_has_placed(ns))
		namespaces->abandoned(namespaces->abandoned_arg, number);
	namespaces_forget_if_idle(namespaces, number);
}

void namespaces_spec(const struct namespaces *namespaces, uint16_t number,
		     struct hbm_wire_namespace_spec *spec)
{
	const char *recorded = namespaces_recorded_salt(namespaces, number);

	*spec = namespaces->list[number].spec;
	if (recorded)
		memcpy(spec->salt, recorded, sizeof(spec->salt));
	else
		salts_copy(namespaces->salts, number, spec->salt);
}

struct namespace *namespaces_get(struct namespaces *namespaces, uint32_t number)
{
	if (number == 0 || number > namespaces->max || !namespaces->list[number].used)
		return NULL;
	return &namespaces->list[number];
}

void namespaces_block_gone(struct namespaces *namespaces, uint16_t number)
{
	struct namespace *ns = &namespaces->list[number];
	assert(ns->used);
	ledger_subtract(&ns->payer, LEDGER_BLOCKS, 1);
	namespaces_forget_if_idle(namespaces, number);
}

void namespaces_on_forget(struct namespaces *namespaces, void (*fn)(void *arg, uint16_t number),
			  void *arg)
{
	namespaces->forgotten = fn;
	namespaces->arg = arg;
}

void namespaces_on_abandon(struct namespaces *namespaces, void (*fn)(void *arg, uint16_t number),
			   void *arg)
{
	namespaces->abandoned = fn;
	namespaces->abandoned_arg = arg;
}

static bool namespace_may_give_way(const struct namespace *ns, const struct user *user,
				   uint64_t more_than)
{
	if (!ns->used || ns->opens > 0 || ns->pins > 0 || ns->drop)
		return false;

	const struct payer *tenant = ledger_tenant(&ns->user->payer);

	return user ? tenant == ledger_tenant(&user->payer)
		    : ledger_used(tenant, LEDGER_NAMESPACES) > more_than;
}

uint16_t namespaces_coldest(const struct namespaces *namespaces, const struct user *user,
			    uint64_t more_than)
{
	uint32_t coldest = 0;

	for (uint32_t i = 1; i <= namespaces->max; i++) {
		const struct namespace *ns = &namespaces->list[i];

		if (namespace_may_give_way(ns, user, more_than) &&
		    (coldest == 0 || ns->closed < namespaces->list[coldest].closed))
			coldest = i;
	}

	return (uint16_t)coldest;
}

bool namespaces_have_wiped(const struct namespaces *namespaces, bool ephemeral)
{
	for (uint32_t i = 1; i <= namespaces->max; i++) {
		const struct namespace *ns = &namespaces->list[i];
		if (ns->used && ns->wipe_on_free && namespace_blocks(ns) > 0 &&
		    (ns->ephemeral || !ephemeral))
			return true;
	}

	return false;
}

bool namespaces_leave_wiped(const struct namespaces *namespaces)
{
	return namespaces->state && !namespaces->leaving && namespaces->wiped == 0 &&
	       state_counter(namespaces->state, STATE_WIPED) != 0;
}

void namespaces_end_wiped(struct namespaces *namespaces)
{
	assert(namespaces_leave_wiped(namespaces));
	state_count_to(namespaces->state, STATE_WIPED, 0);
}

uint64_t namespaces_count(const struct namespaces *namespaces)
{
	return ledger_used(&namespaces->ledger->host, LEDGER_NAMESPACES);
}

const uint16_t *namespaces_owners(const struct namespaces *namespaces)
{
	return namespaces->owners;
}
