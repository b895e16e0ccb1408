/* SPDX-License-Identifier: Apache-2.0 */
/*
 * tenant: the payer for all that the clients have together that one [tenant] section of the
 * configuration matches. A user below a tenant has no limits of its own; a user that no
 * section matches is a tenant alone (user.h).
 *
 * A client is matched once, when it connects, with the sections in their order. A tenant whose
 * section is gone takes no clients any more, keeps the limits it had, and is closed with the
 * last thing that is charged to it.
 *
 * Limits change at any time. One that is set below what is used takes nothing back: nothing more
 * is let in until less is used.
 */
#pragma once

#include "daemon/base/list.h"
#include "daemon/base/reason.h"
#include "daemon/config/config_tenant.h"
#include "daemon/config/match.h"
#include "daemon/ledger/ledger.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* One past the highest number of one: as many as there are sections, and as many again whose
 * sections are gone. */
enum { TENANT_NUMBERS = 2 * CONFIG_TENANTS_MAX + 1 };

/* What it has of one device. */
struct tenant_device {
	struct payer payer; /* LEDGER_DEVICE_MEMORY alone */
	struct ledger_section section;
	const char *keys[LEDGER_RESOURCES];
	char key[16]; /* "memory@0" */
};

struct tenant {
	struct list link; /* in ledger->tenants, in the order of the configuration */
	struct payer payer;
	struct config_tenant rule; /* a copy */
	struct match matches[CONFIG_TENANT_MATCHES];
	struct ledger_section section;
	struct tenant_device *devices[CONFIG_TENANT_DEVICES]; /* NULL: it has had nothing of it */
	uint16_t number; /* from 1: its blocks are counted by that (owners.h) */
	uint64_t refs;   /* users */
	bool configured; /* it has a section */
};

/* Makes the tenants those of that configuration, which config_check() accepts: at the start, and
 * when it has been read again. -ENOMEM: some are not there, or as they were. */
int tenants_configure(struct ledger *ledger, const struct config *config);
/* All are without users. */
void tenants_close(struct ledger *ledger);

/* The one of that name; NULL: there is none. */
struct tenant *tenant_find(const struct ledger *ledger, const char *name);
/* Whether some are matched by the unit of a client. */
bool tenants_need_unit(const struct ledger *ledger);
/* The tenant of that client; NULL: none. */
struct tenant *tenant_match(const struct ledger *ledger, const struct identity *identity);
struct tenant *tenant_ref(struct tenant *tenant); /* accepts NULL */
/* May free it. Accepts NULL, returns NULL. */
struct tenant *tenant_close(struct tenant *tenant);

/* Who pays for what a tenant has of that device, beside LEDGER_MEMORY. NULL: no memory. */
struct payer *tenant_device(struct tenant *tenant, uint32_t device);

/* Changes a key of the tenant of that name, as a line of the configuration would, but match and
 * share, until the configuration is read again: HBM_OK; or a refusal with its reason, and
 * nothing has changed. */
int tenant_set(struct ledger *ledger, const char *name, const char *key, const char *value,
	       const struct reason *why);

/* What its blocks may take of a tier of that kind, and keep of it. */
uint64_t tenant_most(const struct tenant *tenant, enum hbm_tier kind);
uint64_t tenant_least(const struct tenant *tenant, enum hbm_tier kind);

/* The resource that each limit is of, in the order of the keys. */
struct tenant_limit {
	const char *key;
	enum ledger_resource resource;
	enum hbm_wire_unit unit;
	size_t member; /* uint64_t, of struct config_tenant */
};
enum { TENANT_LIMITS = 28 };
extern const struct tenant_limit tenant_limits[TENANT_LIMITS];
