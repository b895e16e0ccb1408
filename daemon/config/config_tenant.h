/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config_tenant: the sections [tenant NAME] of the configuration: for which clients each is,
 * and what they may have together. Keys and values are read as those of other sections; the
 * table of keys here is their only definition.
 *
 * A key of a device ends with "@" and its number; the table has that of device 0.
 *
 * A limit that is CONFIG_DEFAULT is not set: the tenant may have what one user may that no
 * tenant has.
 */
#pragma once

#include "daemon/config/config_fields.h"
#include "daemon/config/config_keys.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
	CONFIG_TENANTS_MAX = 256,    /* they are compared one by one with each client */
	CONFIG_TENANT_BYTES = 32,    /* of a name, with its end: as in the protocol */
	CONFIG_TENANT_MATCHES = 16,  /* words of one */
	CONFIG_TENANT_WEIGHT = 1000, /* the most */
	CONFIG_TENANT_DEVICES = 64,  /* as many as there may be */
};
#define CONFIG_DEFAULT UINT64_MAX
#define CONFIG_TENANT_SECTION "tenant "

/* X(name): the limits of a tenant, in the order they are shown. */
#define CONFIG_TENANT_LIMITS(X)                                                                    \
	X(sessions)                                                                                \
	X(requests_in_flight)                                                                      \
	X(request_bytes)                                                                           \
	X(regions)                                                                                 \
	X(address_space)                                                                           \
	X(memory)                                                                                  \
	X(host_memory)                                                                             \
	X(reserved)                                                                                \
	X(published)                                                                               \
	X(lent)                                                                                    \
	X(loans)                                                                                   \
	X(sequences)                                                                               \
	X(namespaces)                                                                              \
	X(pins)                                                                                    \
	X(silent)                                                                                  \
	X(descriptors)                                                                             \
	X(unread_descriptors)                                                                      \
	X(held)                                                                                    \
	X(reserves_waiting)                                                                        \
	X(publications)                                                                            \
	X(replicas)                                                                                \
	X(notices)                                                                                 \
	X(namespace_opens)                                                                         \
	X(watched)                                                                                 \
	X(blocks)                                                                                  \
	X(pinned)                                                                                  \
	X(retained)                                                                                \
	X(retained_blocks)

#define CONFIG_TENANT_MEMBER(name) uint64_t name;
struct config_tenant {
	char name[CONFIG_TENANT_BYTES];
	char *match; /* as written */
	char *share; /* empty: its namespaces are its own */
	uint64_t weight;
	CONFIG_TENANT_LIMITS(CONFIG_TENANT_MEMBER)
	/* of its blocks in a tier of each kind, of HBM in that of each device */
	uint64_t hbm_max, hbm_min, ddr_max, ddr_min, nvme_max, nvme_min;
	uint64_t guesses, log_lines;
	uint64_t memory_on[CONFIG_TENANT_DEVICES]; /* memory@0 and on; CONFIG_DEFAULT: any */
	uint64_t seen;    /* keys that the file being read has given, by number */
	uint64_t seen_on; /* and of memory_on */
};
#undef CONFIG_TENANT_MEMBER

extern const struct config_key config_tenant_keys[]; /* their section is "tenant" */
extern const size_t config_tenant_keys_count;

static inline void *config_tenant_field(struct config_tenant *tenant, const struct config_key *key)
{
	return (char *)tenant + key->offset;
}

/* Whether a section is that of a tenant, however it is named. */
bool config_tenant_is_section(const char *section);
/* The tenant of that section, with defaults if there was none of that name. NULL, and a line in
 * error that begins with `where`: the name is none, or there are too many, or no memory. */
struct config_tenant *config_tenant_of(struct config *config, const char *section,
				       const char *where, char *error, size_t error_size);
/* The key of that name, and its field in that tenant. NULL: none. */
const struct config_key *config_tenant_key(struct config_tenant *tenant, const char *name,
					   void **field);

/* Whether the file being read has given that field of the key already; from now on it has. */
bool config_tenant_see(struct config_tenant *tenant, const struct config_key *key,
		       const void *field);
/* Another file is read. */
void config_tenants_unsee(struct config *config);
/* The first tier of which it is to keep more than it may have: "hbm"; NULL: of none. */
const char *config_tenant_contradiction(const struct config_tenant *tenant);
/* Whether what each matches can be read, and none is to keep more than it may have: 0, or -EINVAL and a line for each error. */
int config_tenants_check(const struct config *config, char *error, size_t error_size);
int config_tenant_copy(struct config_tenant *out, const struct config_tenant *from); /* -ENOMEM */
void config_tenant_clear(struct config_tenant *tenant);
/* -ENOMEM leaves out untouched. */
int config_tenants_copy(struct config *out, const struct config *from);
void config_tenants_clear(struct config *config);
/* Every key with its default and a line of help, commented out. */
void config_tenant_print_reference(FILE *out);
void config_tenants_print(const struct config *config, FILE *out);
