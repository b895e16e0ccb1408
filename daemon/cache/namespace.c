/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/cache/namespace.h"

#include <assert.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

struct namespaces {
	struct ledger *ledger;
	uint64_t max;
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

	namespaces->ledger = ledger;
	namespaces->max = max;
	*out = namespaces;

	return 0;
}

static void namespace_forget(struct namespace *ns)
{
	payer_close(&ns->payer);
	ledger_release(&ns->charge);
	ns->used = false;
}

struct namespaces *namespaces_free(struct namespaces *namespaces)
{
	for (uint32_t i = 1; namespaces && i <= namespaces->max; i++)
		if (namespaces->list[i].used)
			namespace_forget(&namespaces->list[i]);

	free(namespaces);
	return NULL;
}

static void namespace_fill(struct namespace *ns, struct ledger *ledger,
			   const struct hbm_wire_namespace_spec *spec)
{
	XXH128_canonical_t canonical;
	XXH128_canonicalFromHash(&canonical, XXH3_128bits(spec, sizeof(*spec)));
	*ns = (struct namespace){
		.used = true, .opens = 1, .spec = *spec, .block_bytes = spec->block_bytes};
	memcpy(ns->fingerprint, canonical.digest, sizeof(ns->fingerprint));
	payer_open(&ns->payer, ledger, PAYER_NAMESPACE);
	ledger_charge_always(&ns->charge, &ledger->host, LEDGER_NAMESPACES, 1);
}

uint16_t namespaces_open(struct namespaces *namespaces, const struct hbm_wire_namespace_spec *spec)
{
	uint16_t vacant = 0;
	for (uint32_t i = 1; i <= namespaces->max; i++) {
		struct namespace *ns = &namespaces->list[i];
		if (ns->used && memcmp(&ns->spec, spec, sizeof(*spec)) == 0) {
			ns->opens++;
			return (uint16_t)i;
		}

		if (!ns->used && vacant == 0)
			vacant = (uint16_t)i;
	}

	if (!ledger_check(&namespaces->ledger->host, LEDGER_NAMESPACES, 1))
		return 0;

	namespace_fill(&namespaces->list[vacant], namespaces->ledger, spec);

	return vacant;
}

static void namespace_forget_if_idle(struct namespace *ns)
{
	if (ns->opens == 0 && namespace_blocks(ns) == 0)
		namespace_forget(ns);
}

void namespaces_ref(struct namespaces *namespaces, uint16_t number)
{
	namespaces->list[number].opens++;
}

void namespaces_unref(struct namespaces *namespaces, uint16_t number)
{
	struct namespace *ns = &namespaces->list[number];
	assert(ns->used && ns->opens > 0);
	ns->opens--;
	namespace_forget_if_idle(ns);
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
	namespace_forget_if_idle(ns);
}

uint64_t namespaces_count(const struct namespaces *namespaces)
{
	return ledger_used(&namespaces->ledger->host, LEDGER_NAMESPACES);
}
