/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/two_users.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

int tenant, other;
uint32_t tenant_ns;
const struct hbm_wire_namespace_spec tenant_spec = {.model = "model-of-the-tenant",
						    .layout = "layout",
						    .salt = TWO_USERS_SALT,
						    .block_bytes = TWO_USERS_BLOCK};

/* ---- Asking ---- */

int two_users_greet(uid_t uid)
{
	assert_int_equal(seteuid(uid), 0);
	int socket = raw_greet(&daemon_);
	assert_int_equal(seteuid(0), 0);
	return socket;
}

uint32_t two_users_open(int socket, const struct hbm_wire_namespace_spec *spec)
{
	const struct hbm_wire_namespace_open open = {
		.header = RAW_HEADER(NAMESPACE_OPEN, sizeof(open)), .spec = *spec};
	struct hbm_wire_namespace_reply reply;

	raw_call(socket, &open, &reply, sizeof(reply));
	return reply.ns;
}

struct hbm_wire_key two_users_key(uint64_t block)
{
	struct hbm_wire_key key = {{0}};
	memcpy(key.bytes, &block, sizeof(block));
	memset(key.bytes + 8, 0xa5, 8);
	return key;
}

struct raw_blocks two_users_blocks(unsigned opcode, uint32_t ns, uint64_t block)
{
	return (struct raw_blocks){
		.head = {.header = {.size = sizeof(struct raw_blocks),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .ns = ns,
			 .count = 1,
			 .segments = 1,
			 .ready_slot = HBM_WIRE_NO_FENCE,
			 .fence_slot = HBM_WIRE_NO_FENCE},
		.block = {.key = two_users_key(block), .segments = 1},
		.segment = {.region = 1, .bytes = TWO_USERS_BLOCK},
	};
}

struct raw_keys two_users_keys(unsigned opcode, uint32_t ns, uint64_t block)
{
	return (struct raw_keys){
		.head = {.header = {.size = sizeof(struct raw_keys),
				    .opcode = (uint16_t)opcode,
				    .id = 1},
			 .ns = ns,
			 .count = 1},
		.key = two_users_key(block),
	};
}

/* The result of a request for one block, which is recordsed. */
struct hbm_wire_result two_users_result(int socket, const void *message)
{
	char reply[sizeof(struct hbm_wire_results) + sizeof(struct hbm_wire_result)];
	struct hbm_wire_result result;

	raw_call(socket, message, reply, sizeof(reply));
	memcpy(&result, reply + sizeof(struct hbm_wire_results), sizeof(result));

	return result;
}

unsigned two_users_store(int socket, uint32_t ns, uint64_t block, uint64_t parent)
{
	struct raw_blocks message = two_users_blocks(HBM_WIRE_STORE, ns, block);
	if (parent != 0)
		message.block.parent = two_users_key(parent);
	return two_users_result(socket, &message).status;
}

unsigned two_users_load(int socket, uint32_t ns, uint64_t block)
{
	const struct raw_blocks message = two_users_blocks(HBM_WIRE_LOAD, ns, block);
	return two_users_result(socket, &message).status;
}

void two_users_region(int socket)
{
	assert_int_equal(raw_region(socket, 0, TWO_USERS_SLAB, TWO_USERS_SLAB), 1);
}

/* ---- QUERY ---- */

/* One page; the cursor of the next. */
static uint64_t query_page(int socket, uint32_t kind, uint64_t cursor,
			   struct two_users_records *records)
{
	static union {
		struct hbm_wire_query_reply head;
		char bytes[HBM_WIRE_MESSAGE_MAX];
	} page;
	const struct hbm_wire_query query = {
		.header = RAW_HEADER(QUERY, sizeof(query)), .kind = kind, .cursor = cursor};

	assert_true(raw_send(socket, &query, sizeof(query), 0));
	ssize_t n = recv(socket, &page, sizeof(page), 0);
	assert_in_range(n, sizeof(page.head), sizeof(page));
	assert_int_equal(page.head.header.status, HBM_OK);

	size_t bytes = (size_t)page.head.count * page.head.record_bytes,
	       before = (size_t)records->count * page.head.record_bytes;
	assert_in_range(before + bytes, 0, sizeof(records->bytes));
	memcpy(records->bytes + before, page.bytes + sizeof(page.head), bytes);
	records->count += page.head.count;
	records->record_bytes = page.head.record_bytes;

	return page.head.next;
}

/* All records of that kind. */
const struct two_users_records *two_users_query(int socket, uint32_t kind)
{
	static struct two_users_records records;
	uint64_t cursor = 0;

	memset(&records, 0, sizeof(records));
	do {
		cursor = query_page(socket, kind, cursor, &records);
	} while (cursor != 0);

	return &records;
}

const void *two_users_record(const struct two_users_records *records, unsigned i)
{
	return records->bytes + (size_t)i * records->record_bytes;
}

/* ---- Setup ---- */

int two_users_setup(void **state)
{
	static const char *const sets[] = {"hbmd.log_level=debug", "device.lend=8MiB", NULL};

	stage_setup(state);
	if (geteuid() != 0)
		return 0;

	spawn_start(&daemon_, sets, NULL);
	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	assert_int_equal(chmod(daemon_.socket, 0666), 0);
	tenant = two_users_greet(TENANT);
	other = two_users_greet(OTHER);
	tenant_ns = two_users_open(tenant, &tenant_spec);
	two_users_region(tenant);
	for (uint64_t block = 1; block <= TWO_USERS_BLOCKS; block++)
		assert_int_equal(two_users_store(tenant, tenant_ns, block, block - 1), HBM_OK);

	return 0;
}

int two_users_teardown(void **state)
{
	if (geteuid() == 0) {
		close(tenant);
		close(other);
		assert_true(spawn_balanced(&daemon_));
	}

	return stage_teardown(state);
}

void two_users_needed(void)
{
	if (geteuid() == 0)
		return;
	print_message("SKIP: only root can become somebody else\n");
	skip();
}
