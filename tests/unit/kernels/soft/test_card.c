/* SPDX-License-Identifier: Apache-2.0 */
/* Soft: a card that processes share: its memory is counted over all of them, as long as one
 * of them has it, and a context takes some. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "daemon/base/fdpass.h"
#include "tests/support/busy.h"
#include "tests/support/child.h"
#include "tests/support/soft_device.h"

#define CONTEXT (10 * MIB) /* that each takes */
#define PATTERN 0x600d600d600du

static const struct driver_soft_options options = {.devices = 2, .memory = 64 * MIB};

/* Sets HBM_SOFT, which children inherit. */
static int card_setup(void **state)
{
	static char folder[] = "/dev/shm/test-card-XXXXXX";
	char words[128];

	memcpy(folder + sizeof(folder) - 7, "XXXXXX", 6);
	if (mkdtemp(folder) == NULL)
		return -1;
	snprintf(words, sizeof(words), "card=%s,context_mib=10", folder);
	setenv("HBM_SOFT", words, 1);
	*state = folder;
	return 0;
}

/* Nothing is left in the folder. */
static int card_teardown(void **state)
{
	unsetenv("HBM_SOFT");
	return rmdir(*state);
}

static void card_open(struct soft_device *soft)
{
	soft_open(soft, &options);
	assert_int_equal(soft->driver->cuDevicePrimaryCtxRetain(&soft->context, 0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
}

static uint64_t card_free(const struct soft_device *soft)
{
	size_t left, total;

	assert_int_equal(soft->driver->cuMemGetInfo(&left, &total), CUDA_SUCCESS);
	assert_int_equal(total, 64 * MIB);
	return left;
}

static CUmemGenericAllocationHandle create(const struct soft_device *soft, size_t bytes)
{
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;

	assert_int_equal(soft->driver->cuMemCreate(&handle, bytes, &prop, 0), CUDA_SUCCESS);
	return handle;
}

/* Another user of the card: `number` MiB of it, until it is killed. */
static void occupy(const struct spawn *spawn, uint64_t number)
{
	struct soft_device soft;

	(void)spawn;
	card_open(&soft);
	create(&soft, number * MIB);
	child_tell();
	for (;;)
		pause();
}

/* One who was given a descriptor, maps it, and knows no driver. */
static void map(const struct spawn *spawn, uint64_t number)
{
	void *memory = mmap(NULL, GRANULE, PROT_READ | PROT_WRITE, MAP_SHARED, (int)number, 0);

	(void)spawn;
	assert_ptr_not_equal(memory, MAP_FAILED);
	close((int)number);
	child_tell();
	for (;;)
		pause();
}

static const struct spawn nobody = {.dir = "/"};

static void test_all_processes_count(void **state)
{
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle;
	struct soft_device soft;
	struct child child;

	(void)state;
	card_open(&soft);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	child_start(&child, "occupy", &nobody, 20);
	child_await(&child);
	assert_int_equal(card_free(&soft), 44 * MIB - 2 * CONTEXT);
	assert_int_equal(soft.driver->cuMemCreate(&handle, 26 * MIB, &prop, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);

	/* killed, it leaves nothing behind, of its context either */
	child_kill(&child);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	handle = create(&soft, 26 * MIB);
	assert_int_equal(soft.driver->cuMemRelease(handle), CUDA_SUCCESS);
	soft_close(&soft);
}

static int export(const struct soft_device *soft, CUmemGenericAllocationHandle handle)
{
	int fd = -1;

	assert_int_equal(soft->driver->cuMemExportToShareableHandle(
				 &fd, handle, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0),
			 CUDA_SUCCESS);
	return fd;
}

/* It has no driver, and the one who made the memory is gone. */
static void test_a_mapping_alone_counts(void **state)
{
	CUmemGenericAllocationHandle handle;
	struct soft_device soft, next;
	struct child child;
	int fd;

	(void)state;
	card_open(&soft);
	handle = create(&soft, GRANULE);
	fd = export(&soft, handle);
	assert_int_equal(fcntl(fd, F_SETFD, 0), 0);
	child_start(&child, "map", &nobody, (uint64_t)fd);
	child_await(&child);
	close(fd);
	assert_int_equal(soft.driver->cuMemRelease(handle), CUDA_SUCCESS);
	soft.driver = driver_close(soft.driver);

	card_open(&next);
	assert_int_equal(card_free(&next), 64 * MIB - CONTEXT - GRANULE);
	child_kill(&child);
	assert_int_equal(card_free(&next), 64 * MIB - CONTEXT);
	soft_close(&next);
	soft_close(&soft);
}

static CUmemGenericAllocationHandle import(const struct soft_device *soft, int fd)
{
	CUmemGenericAllocationHandle handle;

	assert_int_equal(
		soft->driver->cuMemImportFromShareableHandle(
			&handle, (void *)(intptr_t)fd, CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR),
		CUDA_SUCCESS);
	return handle;
}

static void test_memory_is_imported(void **state)
{
	CUmemGenericAllocationHandle handle, imported;
	struct soft_device soft;
	int fd;

	(void)state;
	card_open(&soft);
	handle = create(&soft, GRANULE);
	fd = export(&soft, handle);
	imported = import(&soft, fd);
	close(fd);
	assert_int_equal(soft.driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 62 * MIB - CONTEXT);
	assert_int_equal(soft.driver->cuMemRelease(imported), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	soft_close(&soft);
}

/* Makes memory, puts it into a socket of the test's, and is killed. */
static void leave(const struct spawn *spawn, uint64_t number)
{
	uint64_t pattern = PATTERN;
	struct iovec bytes = {&pattern, sizeof(pattern)};
	struct soft_device soft;
	int fd;

	(void)spawn;
	card_open(&soft);
	fd = export(&soft, create(&soft, GRANULE));
	assert_int_equal(pwrite(fd, &pattern, sizeof(pattern), 0), sizeof(pattern));
	assert_int_equal(fdpass_send((int)number, &bytes, 1, &fd, 1), 0);
	child_tell();
	for (;;)
		pause();
}

/* Neither a descriptor nor a mapping, but on its way in a socket. */
static void test_memory_in_a_socket_counts(void **state)
{
	CUmemGenericAllocationHandle handle;
	struct fdpass_fds fds;
	struct soft_device soft;
	struct child child;
	uint64_t seen;
	int sockets[2];

	(void)state;
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
	child_start(&child, "leave", &nobody, (uint64_t)sockets[0]);
	child_await(&child);
	child_kill(&child);
	card_open(&soft);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT - GRANULE);

	assert_int_equal(fdpass_receive(sockets[1], &seen, sizeof(seen), &fds, 0), sizeof(seen));
	handle = import(&soft, fds.list[0]);
	seen = 0;
	assert_int_equal(pread(fds.list[0], &seen, sizeof(seen), 0), sizeof(seen));
	assert_int_equal(seen, PATTERN);
	fdpass_close(&fds);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT - GRANULE);
	assert_int_equal(soft.driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);

	/* with the socket its contents go */
	child_start(&child, "leave", &nobody, (uint64_t)sockets[0]);
	child_await(&child);
	child_kill(&child);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT - GRANULE);
	close(sockets[0]);
	close(sockets[1]);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	soft_close(&soft);
}

/* More marks than one reading of the kernel's list returns. */
static void test_each_piece_counts_once(void **state)
{
	CUmemGenericAllocationHandle handles[20];
	int fds[20][8];
	struct soft_device soft;

	(void)state;
	card_open(&soft);
	for (unsigned i = 0; i < 20; i++) {
		handles[i] = create(&soft, GRANULE);
		for (unsigned k = 0; k < 8; k++)
			fds[i][k] = export(&soft, handles[i]);
	}
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT - 20 * GRANULE);

	for (unsigned i = 0; i < 20; i++) {
		for (unsigned k = 0; k < 8; k++)
			close(fds[i][k]);
		assert_int_equal(soft.driver->cuMemRelease(handles[i]), CUDA_SUCCESS);
		assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT - (19 - i) * GRANULE);
	}
	soft_close(&soft);
}

/* The second device of the card, and another card. */
static void test_others_do_not_count(void **state)
{
	char folder[] = "/dev/shm/test-card-XXXXXX", words[128];
	CUmemAllocationProp prop = soft_prop(1);
	CUmemGenericAllocationHandle handle;
	struct soft_device soft;
	struct child child;

	(void)state;
	card_open(&soft);
	assert_int_equal(soft.driver->cuMemCreate(&handle, 30 * MIB, &prop, 0), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);

	assert_non_null(mkdtemp(folder));
	snprintf(words, sizeof(words), "card=%s", folder);
	setenv("HBM_SOFT", words, 1);
	child_start(&child, "occupy", &nobody, 20);
	child_await(&child);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	child_kill(&child);
	assert_int_equal(rmdir(folder), 0);
	soft_close(&soft);
}

#define INHERITED "HBM_TEST_CARD" /* its number, for children */

static struct driver_soft_options options_inherited(void)
{
	struct driver_soft_options inherited = options;

	inherited.card = strtoull(getenv(INHERITED), NULL, 10);
	return inherited;
}

/* As leave(), on an inherited card. */
static void bequeath(const struct spawn *spawn, uint64_t number)
{
	const struct driver_soft_options inherited = options_inherited();
	uint64_t pattern = PATTERN;
	struct iovec bytes = {&pattern, sizeof(pattern)};
	struct soft_device soft;
	int fd;

	(void)spawn;
	soft_open(&soft, &inherited);
	create(&soft, GRANULE);
	fd = export(&soft, create(&soft, 2 * GRANULE));
	assert_int_equal(fdpass_send((int)number, &bytes, 1, &fd, 1), 0);
	child_tell();
	for (;;)
		pause();
}

static void inherit(struct soft_device *soft, uint64_t card)
{
	char number[32];

	snprintf(number, sizeof(number), "%llu", (unsigned long long)card);
	setenv(INHERITED, number, 1);
	const struct driver_soft_options inherited = options_inherited();
	soft_open(soft, &inherited);
	assert_int_equal(soft->driver->cuDevicePrimaryCtxRetain(&soft->context, 0), CUDA_SUCCESS);
	assert_int_equal(soft->driver->cuCtxSetCurrent(soft->context), CUDA_SUCCESS);
}

/* What one process after another has counts: what the last one has left, until it is gone. */
static void test_an_inherited_card(void **state)
{
	uint64_t card = (uint64_t)getpid() << 8;
	CUmemAllocationProp prop = soft_prop(0);
	CUmemGenericAllocationHandle handle, more;
	struct soft_device soft;
	struct child child;
	int sockets[2];

	(void)state;
	unsetenv("HBM_SOFT");
	assert_int_equal(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, sockets), 0);
	inherit(&soft, card);
	assert_int_equal(card_free(&soft), 64 * MIB);
	child_start(&child, "bequeath", &nobody, (uint64_t)sockets[0]);
	child_await(&child);
	child_kill(&child);
	soft_close(&soft);

	inherit(&soft, card + 1);
	assert_int_equal(card_free(&soft), 64 * MIB);
	soft_close(&soft);

	inherit(&soft, card);
	assert_int_equal(card_free(&soft), 64 * MIB - 2 * GRANULE);
	assert_int_equal(soft.driver->cuMemCreate(&handle, 62 * MIB, &prop, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	handle = create(&soft, 60 * MIB);
	assert_int_equal(card_free(&soft), 0);
	close(sockets[0]);
	close(sockets[1]);
	more = create(&soft, 2 * GRANULE);
	assert_int_equal(card_free(&soft), 0);
	assert_int_equal(soft.driver->cuMemRelease(handle), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuMemRelease(more), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 64 * MIB);
	soft_close(&soft);
	unsetenv(INHERITED);
}

static void test_a_full_card_has_no_room_for_a_context(void **state)
{
	struct soft_device soft;
	struct child child;

	(void)state;
	child_start(&child, "occupy", &nobody, 46);
	child_await(&child);
	soft_open(&soft, &options);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0),
			 CUDA_ERROR_OUT_OF_MEMORY);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 1), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRelease(1), CUDA_SUCCESS);
	child_kill(&child);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&soft.context, 0), CUDA_SUCCESS);
	soft_close(&soft);
}

/* Also where no card is shared. */
static void test_a_context_takes_memory(void **state)
{
	struct soft_device soft;
	CUcontext context;

	(void)state;
	setenv("HBM_SOFT", "context_mib=10", 1);
	card_open(&soft);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	assert_int_equal(soft.driver->cuDevicePrimaryCtxRetain(&context, 0), CUDA_SUCCESS);
	assert_int_equal(card_free(&soft), 64 * MIB - CONTEXT);
	soft_close(&soft);
}

/* An engine that computes until it is killed. */
static void compute(const struct spawn *spawn, uint64_t number)
{
	struct soft_device soft;
	struct busy busy;

	(void)spawn;
	(void)number;
	card_open(&soft);
	assert_int_equal(busy_open(&busy, soft.driver), CUDA_SUCCESS);
	CUdeviceptr memory = soft_memory(soft.driver, 0, GRANULE);
	assert_int_equal(busy_launch(&busy, soft_stream(soft.driver), memory, GRANULE, 1, 3600000),
			 CUDA_SUCCESS);
	soft.driver->cuCtxSynchronize(); /* never returns; the other one sees when it runs */
}

/* Copies within the device and fills wait while another process computes; those to and from
 * the host do not. */
static void test_work_waits_for_its_slice(void **state)
{
	struct soft_device soft;
	struct child child;
	char words[128];

	snprintf(words, sizeof(words), "card=%s,slice_us=1", (const char *)*state);
	setenv("HBM_SOFT", words, 1);
	card_open(&soft);
	CUstream stream = soft_stream(soft.driver);
	CUdeviceptr memory = soft_memory(soft.driver, 0, GRANULE);
	void *host = soft_host(soft.driver, 4096, CU_MEMHOSTREGISTER_PORTABLE);
	assert_int_equal(soft.driver->cuMemsetD8Async(memory, 1, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(soft.call.live("slices waited"), 0);

	child_start(&child, "compute", &nobody, 0);
	while (soft.call.live("slices waited") == 0) {
		assert_int_equal(soft.driver->cuMemsetD8Async(memory, 1, 4096, stream),
				 CUDA_SUCCESS);
		assert_int_equal(soft.driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	}

	uint64_t waited = soft.call.live("slices waited");
	assert_int_equal(soft.driver->cuMemcpyDtoDAsync(memory + MIB, memory, 4096, stream),
			 CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuMemcpyDtoHAsync(host, memory, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(soft.call.live("slices waited"), waited + 1);

	child_kill(&child);
	assert_int_equal(soft.driver->cuMemsetD8Async(memory, 1, 4096, stream), CUDA_SUCCESS);
	assert_int_equal(soft.driver->cuStreamSynchronize(stream), CUDA_SUCCESS);
	assert_int_equal(soft.call.live("slices waited"), waited + 1);
	soft_host_free(soft.driver, host, 4096);
	soft_close(&soft);
}

int main(int argc, char **argv)
{
	static const struct child_part parts[] = {{"occupy", occupy},   {"map", map},
						  {"leave", leave},     {"bequeath", bequeath},
						  {"compute", compute}, {NULL, NULL}};
#define TEST(name) cmocka_unit_test_setup_teardown(name, card_setup, card_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_all_processes_count),    TEST(test_a_mapping_alone_counts),
		TEST(test_memory_is_imported),     TEST(test_memory_in_a_socket_counts),
		TEST(test_each_piece_counts_once), TEST(test_others_do_not_count),
		TEST(test_an_inherited_card),      TEST(test_a_full_card_has_no_room_for_a_context),
		TEST(test_a_context_takes_memory), TEST(test_work_waits_for_its_slice),
	};
#undef TEST

	child_main(argc, argv, parts);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
