/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guest regions of memory that the test allocates in the client's place: opened, used, closed;
 * and every call of the device that can fail on the way. Memory by handle is another process's,
 * so tests/integration/test_guest_region.c has that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "daemon/device/device.h"
#include "daemon/region/guest.h"
#include "tests/support/region_rig.h"

#define BYTES (4 * MIB)

static char why_text[HBM_WIRE_REASON_BYTES];
static const struct reason why = {why_text, sizeof(why_text)};

/* An allocation of the client's: nothing but the descriptor keeps it. */
static int client_memory(const struct region_rig *rig, uint32_t index)
{
	const struct device *device = &rig->pool.devices->list[index];
	const CUmemAllocationProp prop = {
		.type = CU_MEM_ALLOCATION_TYPE_PINNED,
		.requestedHandleTypes = CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR,
		.location = {CU_MEM_LOCATION_TYPE_DEVICE, (int)device->handle}};
	CUmemGenericAllocationHandle handle;
	int fd;

	assert_int_equal(device->driver->cuMemCreate(&handle, BYTES, &prop, 0), 0);
	assert_int_equal(device->driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 0);
	assert_int_equal(device->driver->cuMemRelease(handle), 0);

	return fd;
}

static int import(struct region_rig *rig, uint32_t device, int fd, uint64_t bytes,
		  struct region **out)
{
	const struct guest guest = {.kind = HBM_WIRE_GUEST_FD, .fd = fd, .bytes = bytes};
	struct region_outcome outcome = {0};

	why_text[0] = '\0';
	int status = region_import(&rig->regions, &rig->pool.devices->list[device], &guest, &why,
				   region_rig_region_over, &outcome);
	if (status != HBM_OK)
		return status;

	pool_run(&rig->pool, region_rig_is_over, &outcome);
	*out = outcome.region;

	return outcome.status;
}

static struct region *import_one(struct region_rig *rig)
{
	struct region *region = NULL;
	int fd = client_memory(rig, 0);

	assert_int_equal(import(rig, 0, fd, BYTES, &region), HBM_OK);
	close(fd);

	return region;
}

static void a_guest_is_one_range_without_slabs(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = import_one(rig);
	struct hbm_wire_region record;
	uint32_t next;

	assert_true(region_is_guest(region));
	assert_ptr_equal(region_find(&rig->regions, region_id(region)), region);
	assert_int_equal(region_address_space(region), BYTES);
	assert_int_equal(region_slab(region), BYTES);
	assert_int_equal(region_rig_address(region, 0, BYTES), HBM_OK);
	assert_int_equal(region_rig_address(region, BYTES - 1, 1), HBM_OK);
	assert_int_equal(region_rig_address(region, BYTES - 1, 2), HBM_INVALID);
	assert_int_equal(region_rig_commit_slots(rig, region, 0, 1), HBM_UNSUPPORTED);
	assert_int_equal(region_rig_decommit_slots(rig, region, 0, 1), HBM_UNSUPPORTED);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 1);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_ADDRESS_SPACE), BYTES);

	assert_int_equal(regions_records(&rig->regions, 0, &record, 1, &next), 1);
	assert_string_equal(record.guest, "fd");
	assert_int_equal(record.committed, 0);

	assert_false(region_is_guest(region_rig_make(rig, 0, 4 * MIB, 0)));
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	assert_int_equal(rig->pool.call.live("mappings"), 0);
}

/* A transfer reads and writes the client's memory itself. */
static void a_guest_is_its_clients_memory(void **state)
{
	struct region_rig *rig = *state;
	struct region *first = NULL, *second = NULL;
	CUdeviceptr here, there;
	int fd = client_memory(rig, 0), word = 77;

	assert_int_equal(import(rig, 0, fd, BYTES, &first), HBM_OK);
	assert_int_equal(import(rig, 0, fd, BYTES, &second), HBM_OK);
	assert_int_equal(region_address(first, 4096, sizeof(word), &here), HBM_OK);
	assert_int_equal(region_address(second, 4096, sizeof(word), &there), HBM_OK);
	assert_int_not_equal(here, there);
	assert_int_equal(rig->pool.call.poke(0, here, &word, sizeof(word)), 0);
	word = 0;
	assert_int_equal(rig->pool.call.peek(&word, 0, there, sizeof(word)), 0);
	assert_int_equal(word, 77);
	close(fd);
}

static void a_guest_waits_for_its_uses_only(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = import_one(rig);
	struct region_outcome outcome = {0};

	region_use(region, 0, BYTES);
	assert_int_equal(
		region_destroy(&rig->regions, region_id(region), region_rig_region_over, &outcome),
		HBM_OK);
	region_rig_settle(rig);
	assert_false(outcome.over);
	assert_int_equal(rig->pool.call.live("mappings"), 1);
	region_unuse(region, 0, BYTES);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(rig->pool.call.live("mappings"), 0);
}

/* Its process is not waited for: it could write to no memory but its own. */
static void a_dead_clients_guest_is_closed_at_once(void **state)
{
	struct region_rig *rig = *state;
	struct region *used = import_one(rig);

	import_one(rig);
	region_use(used, 4096, 1);
	regions_end(&rig->regions);
	region_rig_settle(rig);
	assert_int_equal(rig->pool.call.live("mappings"), 1);
	region_unuse(used, 4096, 1);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	assert_int_equal(rig->pool.call.live("mappings"), 0);
}

static void a_guest_that_comes_after_the_end_is_closed(void **state)
{
	struct region_rig *rig = *state;
	const struct guest guest = {
		.kind = HBM_WIRE_GUEST_FD, .fd = client_memory(rig, 0), .bytes = BYTES};
	struct region_outcome outcome = {0};

	assert_int_equal(region_import(&rig->regions, &rig->pool.devices->list[0], &guest, &why,
				       region_rig_region_over, &outcome),
			 HBM_OK);
	regions_end(&rig->regions);
	pool_run(&rig->pool, region_rig_is_over, &outcome);
	assert_int_equal(outcome.status, HBM_SHUTDOWN);
	pool_run(&rig->pool, region_rig_is_empty, rig);
	close(guest.fd);
}

/* A late copy uses it until it is known to be over: it is closed then. */
static void what_a_late_copy_uses_is_waited_for(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = import_one(rig);

	region_use(region, 4096, 1);
	region_keep(region, 4096, 1);
	region_unuse(region, 4096, 1);
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	assert_true(device_late_is_over(&rig->pool.devices->list[0], 1));
	assert_int_equal(rig->pool.call.live("mappings"), 0);
}

/* Its client may end all the same: nothing waits for a copy whose end nobody will know. */
static void what_a_copy_may_use_stays_open(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = import_one(rig);
	CUdeviceptr address;

	assert_int_equal(region_address(region, 0, BYTES, &address), HBM_OK);
	assert_int_equal(rig->pool.call.fail_nth("cuCtxSynchronize", 1, CUDA_ERROR_UNKNOWN), 0);
	region_use(region, 4096, 1);
	region_keep(region, 4096, 1);
	region_unuse(region, 4096, 1);
	uint64_t unmaps = rig->pool.call.calls("cuMemUnmap");
	assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	assert_int_equal(rig->pool.call.calls("cuMemUnmap"), unmaps);
	assert_int_equal(rig->pool.call.live("mappings"), 1);
	assert_int_equal(device_errors(&rig->pool.devices->list[0]), 0);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 0);

	const struct device *device = &rig->pool.devices->list[0];
	assert_int_equal(device_unmap(device, address, BYTES), CUDA_SUCCESS);
	assert_int_equal(device_unreserve(device, address, BYTES), CUDA_SUCCESS);
}

static void guests_are_limited_as_regions_are(void **state)
{
	struct region_rig *rig = *state;
	struct region *region = NULL;
	int fd = client_memory(rig, 0);

	assert_int_equal(import(rig, 0, fd, 258 * MIB, &region), HBM_LIMIT);
	assert_int_equal(import(rig, 0, fd, 0, &region), HBM_INVALID);
	assert_int_equal(import(rig, 0, fd, 3 * MIB, &region), HBM_INVALID);
	assert_string_equal(why_text, "bytes is 3145728, expected a multiple of 2097152");
	for (int i = 0; i < 4; i++)
		assert_int_equal(import(rig, 0, fd, BYTES, &region), HBM_OK);
	assert_int_equal(import(rig, 0, fd, BYTES, &region), HBM_LIMIT);
	close(fd);
}

/* A refusal is an answer: the device has not failed, and nothing is left. */
static void what_is_no_such_memory_is_refused(void **state)
{
	struct region_rig *rig = *state;
	const struct device *device = &rig->pool.devices->list[0];
	struct region *region = NULL;
	int fd = client_memory(rig, 0), thing = open("/dev/null", O_RDWR | O_CLOEXEC);

	assert_int_equal(import(rig, 0, thing, BYTES, &region), HBM_INVALID);
	assert_non_null(strstr(why_text, "cuMemImportFromShareableHandle: "));
	assert_int_equal(import(rig, 0, fd, BYTES + GRANULE, &region), HBM_INVALID);
	assert_non_null(strstr(why_text, "cuMemMap: "));
	assert_int_equal(import(rig, 1, fd, BYTES, &region), HBM_INVALID);
	assert_string_equal(why_text, "the memory is not on device 1");

	assert_int_equal(device_errors(device), 0);
	assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 0);
	assert_int_equal(rig->pool.call.live("mappings"), 0);
	assert_int_equal(rig->pool.call.live("reservations"), 0);
	close(thing);
	close(fd);
}

static void every_call_may_fail(void **state)
{
	static const char *const calls[] = {"cuMemImportFromShareableHandle",
					    "cuMemGetAllocationPropertiesFromHandle",
					    "cuMemAddressReserve", "cuMemMap", "cuMemSetAccess"};
	struct region_rig *rig = *state;
	int fd = client_memory(rig, 0);

	for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
		struct region *region = NULL;

		assert_int_equal(rig->pool.call.fail_nth(calls[i], 1, CUDA_ERROR_OUT_OF_MEMORY), 0);
		assert_int_equal(import(rig, 0, fd, BYTES, &region), HBM_NO_SPACE);
		assert_non_null(strstr(why_text, calls[i]));
		assert_int_equal(rig->pool.call.live("mappings"), 0);
		assert_int_equal(rig->pool.call.live("reservations"), 0);
		assert_int_equal(ledger_used(&rig->payer, LEDGER_REGIONS), 0);

		assert_int_equal(import(rig, 0, fd, BYTES, &region), HBM_OK);
		assert_int_equal(region_rig_destroy(rig, region), HBM_OK);
	}
	close(fd);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, region_rig_setup, region_rig_teardown)
	const struct CMUnitTest tests[] = {
		TEST(a_guest_is_one_range_without_slabs),
		TEST(a_guest_is_its_clients_memory),
		TEST(a_guest_waits_for_its_uses_only),
		TEST(a_dead_clients_guest_is_closed_at_once),
		TEST(a_guest_that_comes_after_the_end_is_closed),
		TEST(what_a_late_copy_uses_is_waited_for),
		TEST(what_a_copy_may_use_stays_open),
		TEST(guests_are_limited_as_regions_are),
		TEST(what_is_no_such_memory_is_refused),
		TEST(every_call_may_fail),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
