/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest regions: memory that a client allocated itself and lends to the daemon, by descriptor
 * and by handle. Bytes go both ways as with any other region; what is not memory of that device
 * and size is refused in one line and leaves nothing; a client that is killed in the middle of
 * copies leaves nothing either.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/child.h"
#include "tests/support/hbmctl.h"
#include "tests/support/kv.h"
#include "tests/support/raw.h"
#include "tests/support/seed.h"
#include "tests/support/stage.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BLOCK 65536u
#define GRANULE (2ull << 20)
#define BYTES (2 * GRANULE)
#define BLOCKS (BYTES / BLOCK)

/* Memory of the client, and what it can lend it by. */
struct memory {
	CUdeviceptr address;
	uint64_t bytes;
	CUmemGenericAllocationHandle allocation;
	int fd;
	bool by_handle;
	CUipcMemHandle handle;
};

static unsigned fds;
static struct kv kv;
static struct hbm_region *own; /* the client's region of the daemon's memory */

static void begin(const char *const *sets)
{
	spawn_start(&daemon_, sets, NULL);
	fds = spawn_fds(&daemon_);
	kv_open(&kv, &daemon_, 0, BLOCK, 4);
	own = kv.region;
}

static void end(void)
{
	kv.region = own;
	kv_close(&kv);
	stage_finish(fds);
}

static int setup(void **state)
{
	stage_setup(state);
	begin(NULL);

	return 0;
}

static int teardown(void **state)
{
	end();

	return stage_teardown(state);
}

/* ---- The client's memory ---- */

static void must(const char *what, int result)
{
	if (result != 0) {
		fprintf(stderr, "client: %s: %d\n", what, result);
		abort();
	}
}

static void memory_map(const struct kv *client, struct memory *memory, int device)
{
	const struct driver *driver = client->driver;
	const CUmemAccessDesc access = {.location = {CU_MEM_LOCATION_TYPE_DEVICE, device},
					.flags = CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	const CUmemAllocationProp prop = {.type = CU_MEM_ALLOCATION_TYPE_PINNED,
					  .requestedHandleTypes =
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
					  .location = {CU_MEM_LOCATION_TYPE_DEVICE, device}};

	*memory = (struct memory){.bytes = BYTES, .fd = -1};
	must("cuCtxSetCurrent", driver->cuCtxSetCurrent(client->context));
	must("cuMemCreate", driver->cuMemCreate(&memory->allocation, BYTES, &prop, 0));
	must("reserve", driver->cuMemAddressReserve(&memory->address, BYTES, 0, 0, 0));
	must("cuMemMap", driver->cuMemMap(memory->address, BYTES, 0, memory->allocation, 0));
	must("access", driver->cuMemSetAccess(memory->address, BYTES, &access, 1));
	must("export",
	     driver->cuMemExportToShareableHandle(&memory->fd, memory->allocation,
						  CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0));
}

static void memory_allocate(const struct kv *client, struct memory *memory)
{
	const struct driver *driver = client->driver;

	*memory = (struct memory){.bytes = BYTES, .fd = -1, .by_handle = true};
	must("cuCtxSetCurrent", driver->cuCtxSetCurrent(client->context));
	must("cuMemAlloc", driver->cuMemAlloc(&memory->address, BYTES));
	must("handle", driver->cuIpcGetMemHandle(&memory->handle, memory->address));
}

static void memory_free(const struct kv *client, struct memory *memory)
{
	const struct driver *driver = client->driver;

	must("cuCtxSetCurrent", driver->cuCtxSetCurrent(client->context));
	if (memory->by_handle) {
		must("cuMemFree", driver->cuMemFree(memory->address));
		return;
	}

	close(memory->fd);
	must("cuMemUnmap", driver->cuMemUnmap(memory->address, memory->bytes));
	must("cuMemAddressFree", driver->cuMemAddressFree(memory->address, memory->bytes));
	must("cuMemRelease", driver->cuMemRelease(memory->allocation));
}

static int memory_lend(struct hbm *hbm, const struct memory *memory, uint32_t device,
		       uint64_t bytes, struct hbm_region **region)
{
	const struct hbm_import_options options = {.device = device,
						   .fd = memory->fd,
						   .bytes = bytes,
						   .address = memory->address,
						   .ipc_handle = memory->by_handle ? &memory->handle
										   : NULL};

	return hbm_region_import(hbm, &options, region);
}

/* ---- Lent memory is like any other ---- */

static void store_and_load(const struct memory *memory)
{
	struct hbm_region *region;

	assert_int_equal(memory_lend(kv.hbm, memory, 0, BYTES, &region), 0);
	assert_int_equal(hbm_region_address(region), memory->address);
	assert_int_equal(hbm_region_bytes(region), BYTES);
	assert_int_equal(hbm_region_slab(region), BYTES);

	kv.region = region;
	assert_int_equal(kv_store(&kv, 0, 1, BLOCKS, 0, NULL), 0);
	assert_int_equal(kv_load(&kv, 0, 1, BLOCKS, NULL), 0);
	assert_int_equal(kv_lookup(&kv, 1, BLOCKS, NULL), BLOCKS);
	kv_push_to_nvme(&kv);
	assert_int_equal(kv_load(&kv, 0, 1, BLOCKS, NULL), 0);

	/* and into a region of the daemon's */
	kv.region = own;
	assert_int_equal(kv_load(&kv, 0, 1, 4, NULL), 0);

	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
}

static void test_by_descriptor(void **state)
{
	(void)state;
	struct memory memory;

	memory_map(&kv, &memory, kv.handle);
	store_and_load(&memory);
	memory_free(&kv, &memory);
}

static void test_by_handle(void **state)
{
	(void)state;
	struct memory memory;

	memory_allocate(&kv, &memory);
	store_and_load(&memory);
	store_and_load(&memory); /* it was closed */
	memory_free(&kv, &memory);
}

/* The daemon needs neither the descriptor nor the client's mapping once it has the memory. */
static void test_the_descriptor_may_go(void **state)
{
	(void)state;
	struct memory memory;
	struct hbm_region *region;
	static hbm_result results[4];

	memory_map(&kv, &memory, kv.handle);
	assert_int_equal(memory_lend(kv.hbm, &memory, 0, BYTES, &region), 0);
	kv.region = region;
	assert_int_equal(kv_store(&kv, 0, 1, 4, 0, NULL), 0);
	memory_free(&kv, &memory);

	struct hbm_block blocks[4];
	struct hbm_segment segments[4];
	kv_blocks(&kv, 0, 1, 4, 0, blocks, segments);
	assert_int_equal(hbm_load(kv.hbm, kv.ns, blocks, 4, results), 0);
	assert_int_equal(results[3].status, HBM_OK);
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);

	/* the soft driver sees now that nobody has it any more */
	size_t available, total;
	must("cuMemGetInfo", kv.driver->cuMemGetInfo(&available, &total));
}

static void test_nothing_of_it_is_committed(void **state)
{
	(void)state;
	struct memory memory;
	struct hbm_region *region;

	memory_map(&kv, &memory, kv.handle);
	assert_int_equal(memory_lend(kv.hbm, &memory, 0, BYTES, &region), 0);
	const struct hbm_range all = {region, 0, BYTES};
	assert_int_equal(hbm_commit(kv.hbm, &all, 1), HBM_UNSUPPORTED);
	assert_int_equal(hbm_decommit(kv.hbm, &all, 1), HBM_UNSUPPORTED);
	assert_non_null(strstr(hbm_error(kv.hbm), "guest"));
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);
	memory_free(&kv, &memory);
}

static const char *guest_shown(uint64_t bytes)
{
	static char kind[16];
	json_t *document = hbmctl_json("regions");
	json_t *regions = hbmctl_array(document, "regions");
	const json_t *record;
	size_t i;

	snprintf(kind, sizeof(kind), "no region");
	json_array_foreach(regions, i, record) if (hbmctl_count(record, "address_space") == bytes)
	{
		snprintf(kind, sizeof(kind), "%s", hbmctl_text(record, "guest"));
		assert_int_equal(hbmctl_count(record, "committed"),
				 kind[0] == '\0' ? hbm_region_slab(own) : 0);
	}
	json_decref(document);

	return kind;
}

static void test_what_hbmctl_shows(void **state)
{
	(void)state;
	struct memory mapped, allocated;
	struct hbm_region *first, *second;

	memory_map(&kv, &mapped, kv.handle);
	memory_allocate(&kv, &allocated);
	assert_int_equal(memory_lend(kv.hbm, &mapped, 0, BYTES, &first), 0);
	assert_string_equal(guest_shown(BYTES), "fd");
	assert_int_equal(memory_lend(kv.hbm, &allocated, 0, BYTES - 512, &second), 0);
	assert_string_equal(guest_shown(BYTES - 512), "ipc");
	assert_string_equal(guest_shown(hbm_region_bytes(own)), "");
	assert_int_equal(hbm_region_destroy(kv.hbm, first), 0);
	assert_int_equal(hbm_region_destroy(kv.hbm, second), 0);
	memory_free(&kv, &mapped);
	memory_free(&kv, &allocated);
}

/* ---- What is refused ---- */

static void expect_refusal(const struct memory *memory, uint32_t device, uint64_t bytes, int status,
			   const char *text)
{
	struct hbm_region *region = NULL;

	assert_int_equal(memory_lend(kv.hbm, memory, device, bytes, &region), status);
	assert_null(region);
	if (!strstr(hbm_error(kv.hbm), text))
		fail_msg("\"%s\", expected \"%s\"", hbm_error(kv.hbm), text);
}

static void test_lies_about_memory(void **state)
{
	(void)state;
	struct memory mapped, allocated;
	struct hbm_region *region;

	memory_map(&kv, &mapped, kv.handle);
	expect_refusal(&mapped, 0, BYTES + GRANULE, HBM_INVALID, "cuMemMap: ");
	expect_refusal(&mapped, 0, BYTES - 4096, HBM_INVALID, "expected a multiple of 2097152");
	expect_refusal(&mapped, HBM_WIRE_DEVICES_MAX, BYTES, HBM_INVALID, "device 64: there are ");
	expect_refusal(&mapped, 0, 1ull << 62, HBM_LIMIT, "limits.address_space");

	memory_allocate(&kv, &allocated);
	expect_refusal(&allocated, 0, BYTES + 1, HBM_INVALID, "bytes is 4194305");
	assert_int_equal(memory_lend(kv.hbm, &allocated, 0, BYTES, &region), 0);
	expect_refusal(&allocated, 0, BYTES, HBM_EXISTS, "the handle is open already");
	assert_int_equal(hbm_region_destroy(kv.hbm, region), 0);

	memory_free(&kv, &allocated);
	expect_refusal(&allocated, 0, BYTES, HBM_INVALID, "cuIpcOpenMemHandle: ");
	memset(&allocated.handle, 0x5a, sizeof(allocated.handle));
	expect_refusal(&allocated, 0, BYTES, HBM_INVALID, "cuIpcOpenMemHandle: ");
	memory_free(&kv, &mapped);
}

static void test_memory_of_another_device(void **state)
{
	(void)state;
	static const char *const sets[] = {"soft.devices=2", NULL};
	struct memory mapped, other, allocated;
	int ordinal;

	spawn_needs_soft();
	end();
	begin(sets);

	memory_map(&kv, &mapped, kv.handle);
	expect_refusal(&mapped, 1, BYTES, HBM_INVALID, "the memory is not on device 1");
	assert_int_equal(hbm_device_ordinal(kv.hbm, 1, &ordinal), 0);
	memory_map(&kv, &other, ordinal);
	expect_refusal(&other, 0, BYTES, HBM_INVALID, "the memory is not on device 0");
	memory_allocate(&kv, &allocated);
	expect_refusal(&allocated, 1, BYTES, HBM_INVALID, "cuIpcOpenMemHandle: ");

	memory_free(&kv, &allocated);
	memory_free(&kv, &other);
	memory_free(&kv, &mapped);
}

/* Descriptors of all sorts, of which each is closed. The device has not failed: it works. */
static void test_descriptors_of_other_things(void **state)
{
	(void)state;
	int pipes[2], sockets[2];

	assert_int_equal(pipe2(pipes, O_CLOEXEC), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
	int things[] = {
		pipes[0],
		sockets[0],
		eventfd(0, EFD_CLOEXEC),
		memfd_create("thing", MFD_CLOEXEC),
		open("/dev/null", O_RDWR | O_CLOEXEC),
		open("/", O_RDONLY | O_DIRECTORY | O_CLOEXEC),
		open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
		open("/", O_PATH | O_CLOEXEC),
	};

	for (size_t i = 0; i < sizeof(things) / sizeof(things[0]); i++) {
		struct memory memory = {.fd = things[i]};

		assert_true(things[i] >= 0);
		expect_refusal(&memory, 0, BYTES, HBM_INVALID, "cuMemImportFromShareableHandle: ");
		close(things[i]);
	}

	close(pipes[1]);
	close(sockets[1]);
	hbmctl_expect("devices", 0);
	assert_int_equal(kv_store(&kv, 0, 1, 4, 0, NULL), 0);
	assert_int_equal(kv_load(&kv, 0, 1, 4, NULL), 0);
}

static const struct hbm_wire_region_import import_message = {
	.header = RAW_HEADER(REGION_IMPORT, sizeof(import_message)),
	.kind = HBM_WIRE_GUEST_FD,
	.bytes = BYTES,
};

/* The status of a reply, or that the daemon hung up; each on a connection of its own. */
static int ask_with_descriptors(const void *message, size_t size, size_t count)
{
	struct hbm_wire_header reply;
	int socket = raw_greet(&daemon_);

	assert_true(raw_send(socket, message, size, count));
	int status = raw_receive(socket, &reply) ? reply.status : RAW_DROPPED;
	close(socket);

	return status;
}

static void test_descriptors_where_none_are_expected(void **state)
{
	(void)state;
	const struct hbm_wire_header ping = RAW_HEADER(PING, sizeof(ping));
	struct hbm_wire_region_import handle = import_message;

	handle.kind = HBM_WIRE_GUEST_IPC;
	assert_int_equal(ask_with_descriptors(&ping, sizeof(ping), 1), RAW_DROPPED);
	assert_int_equal(ask_with_descriptors(&ping, sizeof(ping), 2), RAW_DROPPED);
	assert_int_equal(ask_with_descriptors(&handle, sizeof(handle), 1), HBM_INVALID);
	assert_int_equal(ask_with_descriptors(&import_message, sizeof(import_message), 0),
			 HBM_INVALID);
	assert_int_equal(ask_with_descriptors(&import_message, sizeof(import_message), 2),
			 RAW_DROPPED);
	assert_int_equal(ask_with_descriptors(&import_message, sizeof(import_message), 253),
			 RAW_DROPPED);
	assert_int_equal(ask_with_descriptors(&import_message, sizeof(import_message), 1),
			 HBM_INVALID);
}

/* ---- Clients that are killed ---- */

/* Lends memory of both kinds and copies from and to it until it is killed; number: whether it
 * also destroys and lends again meanwhile. */
static void lend_until_killed(const struct spawn *spawn, uint64_t number)
{
	static struct kv client;
	static struct hbm_block blocks[2][BLOCKS];
	static struct hbm_segment segments[2][BLOCKS];
	struct memory memory[2];
	struct hbm_region *regions[2];
	hbm_ticket tickets[4];

	kv_open(&client, spawn, 0, BLOCK, 4);
	memory_map(&client, &memory[0], client.handle);
	memory_allocate(&client, &memory[1]);
	for (int i = 0; i < 2; i++)
		must("lend", memory_lend(client.hbm, &memory[i], 0, BYTES, &regions[i]));

	child_tell();
	for (;;) {
		for (int i = 0; i < 2; i++) {
			client.region = regions[i];
			kv_blocks(&client, 0, 1 + (uint64_t)i * BLOCKS, BLOCKS, 0, blocks[i],
				  segments[i]);
			must("store", hbm_submit_store(client.hbm, client.ns, blocks[i], BLOCKS,
						       NULL, NULL, &tickets[2 * i]));
			must("load", hbm_submit_load(client.hbm, client.ns, blocks[i], BLOCKS, NULL,
						     NULL, &tickets[2 * i + 1]));
		}
		for (int i = 0; number != 0 && i < 2; i++) {
			must("destroy", hbm_region_destroy(client.hbm, regions[i]));
			must("lend", memory_lend(client.hbm, &memory[i], 0, BYTES, &regions[i]));
		}
		for (int i = 0; i < 4; i++)
			must("wait", hbm_wait(client.hbm, tickets[i], 20000));
	}
}

static void test_killed_in_the_middle_of_copies(void **state)
{
	(void)state;
	struct seed seed;

	seed_open(&seed, "test_guest_region");
	for (uint64_t round = 0; round < 8; round++) {
		struct child child;

		child_start(&child, "lend_until_killed", &daemon_, round % 2);
		child_await(&child);
		const struct timespec pause = {0, (long)seed_below(&seed, 20000000)};
		nanosleep(&pause, NULL);
		assert_int_equal(child_kill(&child), 128 + SIGKILL);
	}

	/* The client that stays is not disturbed; its regions are all that there are. */
	assert_int_equal(kv_store(&kv, 0, 900, 4, 0, NULL), 0);
	assert_int_equal(kv_load(&kv, 0, 900, 4, NULL), 0);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"lend_until_killed", lend_until_killed},
						  {NULL, NULL}};
	child_main(argc, argv, parts);

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_by_descriptor),
		TEST(test_by_handle),
		TEST(test_the_descriptor_may_go),
		TEST(test_nothing_of_it_is_committed),
		TEST(test_what_hbmctl_shows),
		TEST(test_lies_about_memory),
		TEST(test_memory_of_another_device),
		TEST(test_descriptors_of_other_things),
		TEST(test_descriptors_where_none_are_expected),
		TEST(test_killed_in_the_middle_of_copies),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
