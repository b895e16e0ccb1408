/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/guest.h"
#include "tests/support/hbmctl.h"
#include "tests/support/stage.h"
#include "tests/support/tenant_stage.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

void tenant_needed(void)
{
	if (geteuid() == 0)
		return;
	print_message("SKIP: only root can be several users\n");
	skip();
}

int tenant_greet(uid_t uid)
{
	int socket = -1;

	assert_int_equal(guest_greet(&daemon_, uid, &socket), HBM_OK);

	return socket;
}

uint32_t tenant_region(int socket, uint64_t space)
{
	return tenant_region_on(socket, 0, space);
}

uint32_t tenant_region_on(int socket, uint32_t device, uint64_t space)
{
	const struct hbm_wire_region_create create = {
		.header = RAW_HEADER(REGION_CREATE, sizeof(create)),
		.device = device,
		.address_space = space,
		.slab = TENANT_SLAB,
	};
	struct hbm_wire_region_create_reply reply;

	raw_call(socket, &create, &reply, sizeof(reply));

	return reply.region;
}

struct raw_ranges tenant_range(unsigned opcode, uint32_t region, unsigned slot, unsigned count)
{
	return (struct raw_ranges){
		.head = {.header = {.size = sizeof(struct raw_ranges),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .count = 1},
		.range = {.region = region,
			  .offset = (uint64_t)slot * TENANT_SLAB,
			  .bytes = (uint64_t)count * TENANT_SLAB},
	};
}

void tenant_commit(int socket, uint32_t region, unsigned slot, unsigned count)
{
	const struct raw_ranges message = tenant_range(HBM_WIRE_COMMIT, region, slot, count);

	assert_int_equal(raw_ask(socket, &message, sizeof(message)), HBM_OK);
}

struct hbm_wire_namespace_open tenant_opening(const char *model)
{
	struct hbm_wire_namespace_open open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)),
		.spec = {.layout = "l", .block_bytes = TENANT_BLOCK}};

	snprintf(open.spec.model, sizeof(open.spec.model), "%s", model);

	return open;
}

uint32_t tenant_namespace(int socket, const char *model)
{
	const struct hbm_wire_namespace_open open = tenant_opening(model);
	struct hbm_wire_namespace_reply reply;

	raw_call(socket, &open, &reply, sizeof(reply));

	return reply.ns;
}

struct raw_keys tenant_keys(unsigned opcode, uint32_t ns, uint8_t key)
{
	return (struct raw_keys){
		.head = {.header = {.size = sizeof(struct raw_keys),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .ns = ns,
			 .count = 1},
		.key.bytes[0] = key,
	};
}

struct hbm_wire_result tenant_ask_one(int socket, const void *message)
{
	char reply[sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];
	struct hbm_wire_result result;

	raw_call(socket, message, reply, sizeof(reply));
	memcpy(&result, reply + sizeof(struct hbm_wire_results), sizeof(result));

	return result;
}

void tenant_store(int socket, uint32_t ns, uint8_t key, uint32_t region)
{
	const struct raw_blocks message = raw_store(ns, key, region, TENANT_BLOCK);

	assert_int_equal(tenant_ask_one(socket, &message).status, HBM_OK);
}

int tenant_lookup(int socket, uint32_t ns, uint8_t key)
{
	const struct raw_keys message = tenant_keys(HBM_WIRE_LOOKUP, ns, key);

	return tenant_ask_one(socket, &message).status;
}

uint64_t tenant_shown(const char *tenant, const char *key, const char *figure)
{
	json_t *document = hbmctl_json("--json tenants");
	const json_t *records = hbmctl_array(document, "tenants");
	uint64_t value = UINT64_MAX;

	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *record = json_array_get(records, i);
		if (strcmp(hbmctl_text(record, "tenant"), tenant) == 0 &&
		    strcmp(hbmctl_text(record, "key"), key) == 0)
			value = hbmctl_count(record, figure);
	}

	json_decref(document);

	return value;
}
