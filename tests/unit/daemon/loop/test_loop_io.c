/* SPDX-License-Identifier: Apache-2.0 */
/* Reads and writes of files through the loop: more at once than it has room for, and what
 * comes back is what the system said. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "daemon/base/list.h"
#include "daemon/loop/loop.h"
#include "tests/support/loop_rig.h"
#include "tests/support/seed.h"
#include "tests/support/thread.h"

enum { FILE_BYTES = 1 << 20, CHUNK = 4096, CHUNKS = FILE_BYTES / CHUNK };

struct transfer {
	struct loop_io io;
	struct iovec iov[3];
	unsigned calls;
};

static unsigned transfers_left;

static void count_transfer(struct loop_io *io)
{
	container_of(io, struct transfer, io)->calls++;
	if (--transfers_left == 0)
		loop_stop(loop);
}

static void start(struct transfer *transfer, int fd, bool write, uint64_t offset,
		  unsigned iov_count)
{
	transfer->calls = 0;
	transfer->io = (struct loop_io){.write = write,
					.fd = fd,
					.offset = offset,
					.iov = transfer->iov,
					.iov_count = iov_count,
					.done = count_transfer};
	transfers_left++;
	loop_io(loop, &transfer->io);
	assert_int_equal(transfer->calls, 0);
}

static int file_of(uint64_t bytes)
{
	int fd = memfd_create("file", MFD_CLOEXEC);
	assert_int_not_equal(fd, -1);
	assert_int_equal(ftruncate(fd, (off_t)bytes), 0);
	return fd;
}

/* More at once than the depth, in one piece and in three. */
static void test_io_reads_what_it_wrote(void **state)
{
	(void)state;
	static uint8_t out[FILE_BYTES], in[FILE_BYTES];
	static struct transfer transfers[CHUNKS];
	int fd = file_of(FILE_BYTES);
	struct seed seed;
	seed_open(&seed, "test_io_reads_what_it_wrote");
	for (size_t i = 0; i < FILE_BYTES; i++)
		out[i] = (uint8_t)seed_next(&seed);
	for (int write = 1; write >= 0; write--) {
		for (unsigned i = 0; i < CHUNKS; i++) {
			uint8_t *at = (write ? out : in) + i * CHUNK;
			struct iovec *iov = transfers[i].iov;
			bool three = i % 2;

			iov[0] = (struct iovec){at, three ? 100 : CHUNK};
			iov[1] = (struct iovec){at + 100, 1000};
			iov[2] = (struct iovec){at + 1100, CHUNK - 1100};
			start(&transfers[i], fd, write, i * CHUNK, three ? 3 : 1);
		}

		loop_rig_run();

		for (unsigned i = 0; i < CHUNKS; i++) {
			assert_int_equal(transfers[i].calls, 1);
			assert_int_equal(transfers[i].io.result, CHUNK);
		}
	}

	assert_memory_equal(out, in, FILE_BYTES);
	close(fd);
}

static void test_io_hands_up_raw_results(void **state)
{
	(void)state;
	static uint8_t buffer[CHUNK];
	struct transfer transfers[3] = {0};
	int fd = file_of(1000);
	for (int i = 0; i < 3; i++)
		transfers[i].iov[0] = (struct iovec){buffer, CHUNK};
	start(&transfers[0], fd, false, 0, 1);
	start(&transfers[1], fd, false, 5000, 1);
	start(&transfers[2], -1, false, 0, 1);
	loop_rig_run();
	assert_int_equal(transfers[0].io.result, 1000);
	assert_int_equal(transfers[1].io.result, 0);
	assert_int_equal(transfers[2].io.result, -EBADF);
	close(fd);
}

struct chain {
	struct transfer transfer;
	unsigned left;
	uint8_t byte;
};

static void next_in_chain(struct loop_io *io)
{
	struct chain *chain = container_of(io, struct chain, transfer.io);
	assert_int_equal(io->result, 1);
	io->offset++;

	if (--chain->left > 0)
		loop_io(loop, io);
	else
		loop_stop(loop);
}

static void test_io_submitted_from_done(void **state)
{
	(void)state;
	struct chain chain = {.left = 500, .byte = 'x'};
	int fd = file_of(0);
	chain.transfer.iov[0] = (struct iovec){&chain.byte, 1};
	chain.transfer.io = (struct loop_io){.write = true,
					     .fd = fd,
					     .iov = chain.transfer.iov,
					     .iov_count = 1,
					     .done = next_in_chain};
	loop_io(loop, &chain.transfer.io);
	loop_rig_run();
	assert_int_equal(lseek(fd, 0, SEEK_END), 500);
	close(fd);
}

/* The loop thread begins no write itself: it might wait for a file system that is frozen. A
 * thread of the kernel does, with io_uring, which has this name. */
static void test_writes_are_begun_elsewhere(void **state)
{
	const struct loop_rig *rig = *state;
	static uint8_t buffer[CHUNK];
	struct transfer transfer = {.iov = {{buffer, CHUNK}}};
	char name[32], thread[16];
	int fd = open("/dev/null", O_RDWR | O_CLOEXEC); /* which never waits */
	assert_int_not_equal(fd, -1);
	snprintf(name, sizeof(name), "iou-wrk-%d", (int)getpid());
	start(&transfer, fd, true, 0, 1);
	loop_rig_run();
	assert_int_equal(transfer.io.result, CHUNK);
	if (rig->engine == LOOP_URING)
		assert_true(thread_find(getpid(), name, thread, sizeof(thread)));
	close(fd);
}

int main(void)
{
	struct CMUnitTest tests[] = {
		LOOP_RIG_BOTH(test_io_reads_what_it_wrote),
		LOOP_RIG_BOTH(test_io_hands_up_raw_results),
		LOOP_RIG_BOTH(test_io_submitted_from_done),
		LOOP_RIG_BOTH(test_writes_are_begun_elsewhere),
	};
	loop_rig_leave_out(tests, sizeof(tests) / sizeof(tests[0]));

	return cmocka_run_group_tests(tests, NULL, NULL);
}
