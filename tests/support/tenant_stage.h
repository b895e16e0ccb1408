/* SPDX-License-Identifier: Apache-2.0 */
/* tenant_stage: clients of several users on sockets of their own (raw.h, guest.h), and what they
 * ask of the daemon of stage.h. What has to be HBM_OK and is not fails the test. */
#pragma once

#include "tests/support/raw.h"

#include <sys/types.h>

#define TENANT_SLAB (2u << 20)
#define TENANT_BLOCK 65536u

/* Skips the test unless it runs as root. */
void tenant_needed(void);
/* A connection of that user, its HELLO answered. */
int tenant_greet(uid_t uid);
/* A region of such slabs on the first device: its number. */
uint32_t tenant_region(int socket, uint64_t space);
/* The same on a device. */
uint32_t tenant_region_on(int socket, uint32_t device, uint64_t space);
/* A request for a range of slots of a region. */
struct raw_ranges tenant_range(unsigned opcode, uint32_t region, unsigned slot, unsigned count);
void tenant_commit(int socket, uint32_t region, unsigned slot, unsigned count);
/* A namespace of such blocks, by its model: the request, and its number. */
struct hbm_wire_namespace_open tenant_opening(const char *model);
uint32_t tenant_namespace(int socket, const char *model);
/* A request for one key. */
struct raw_keys tenant_keys(unsigned opcode, uint32_t ns, uint8_t key);
/* The answer to a request for one block, which is HBM_OK: its result. */
struct hbm_wire_result tenant_ask_one(int socket, const void *message);
/* Stores the first bytes of a region. */
void tenant_store(int socket, uint32_t ns, uint8_t key, uint32_t region);
/* The block's status. */
int tenant_lookup(int socket, uint32_t ns, uint8_t key);
/* A figure that hbmctl shows of a key of a tenant; UINT64_MAX: it shows none. */
uint64_t tenant_shown(const char *tenant, const char *key, const char *figure);
