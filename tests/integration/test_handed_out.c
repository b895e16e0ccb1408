/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What SECURITY.md says of what is handed out: memory is clear, a fence page cannot be
 * resized, the rights of a connection are those of the one who connected, and the NVMe file
 * is the daemon's own.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "tests/support/kv.h"
#include "tests/support/raw.h"
#include "tests/support/stage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define BLOCK (1u << 20)
#define SLOTS 8u
#define NOBODY 65534

static int setup(void **state)
{
	stage_setup(state);
	spawn_start(&daemon_, NULL, NULL);
	return 0;
}

/* ---- Memory ---- */

static int add_free_memory(const void *record, size_t record_bytes, void *arg)
{
	const struct hbm_wire_device *device = record;
	uint64_t *bytes = arg;

	(void)record_bytes;
	*bytes += device->ready + device->uncreated + device->retiring;

	return 0;
}

static void expect_clear(struct kv *kv, uint64_t address, uint64_t bytes)
{
	for (uint64_t offset = 0; offset < bytes; offset += kv->block_bytes) {
		const unsigned char *piece = kv->buffer;

		kv_read(kv, kv->buffer, address + offset, kv->block_bytes);
		assert_int_equal(piece[0], 0);
		assert_memory_equal(piece, piece + 1, kv->block_bytes - 1);
	}
}

/* One client writes and gives its memory back; the next one takes all that there is. */
static void test_memory_of_another_client_is_clear(void **state)
{
	(void)state;
	struct kv first, second;
	uint64_t bytes = 0;

	kv_open(&first, &daemon_, 0, BLOCK, SLOTS);
	for (uint64_t slot = 0; slot < SLOTS; slot++)
		kv_put(&first, slot, slot + 1);
	const struct hbm_range all = {first.region, 0, hbm_region_bytes(first.region)};
	assert_int_equal(hbm_decommit(first.hbm, &all, 1), 0);

	kv_open(&second, &daemon_, 0, BLOCK, SLOTS);
	assert_int_equal(hbm_query(second.hbm, HBM_QUERY_DEVICES, add_free_memory, &bytes), 0);
	assert_in_range(bytes, BLOCK, UINT64_MAX);
	struct hbm_region *rest = kv_region(&second, bytes);
	expect_clear(&second, hbm_region_address(second.region), hbm_region_bytes(second.region));
	expect_clear(&second, hbm_region_address(rest), bytes);

	kv_close(&second);
	kv_close(&first);
}

/* ---- The fence page ---- */

/* The reply to HELLO on that socket: its first descriptor. The other is closed. */
static int take_fence_page(int socket)
{
	struct hbm_wire_hello hello;
	struct hbm_wire_hello_reply reply;
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = {&reply, sizeof(reply)};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = &control,
				 .msg_controllen = sizeof(control)};
	int fds[2];

	raw_hello_fill(&hello);
	assert_true(raw_send(socket, &hello, sizeof(hello), 0));
	assert_int_equal(recvmsg(socket, &message, MSG_CMSG_CLOEXEC), sizeof(reply));
	const struct cmsghdr *cmsg = CMSG_FIRSTHDR(&message);
	assert_non_null(cmsg);
	assert_int_equal(cmsg->cmsg_len, CMSG_LEN(sizeof(fds)));
	memcpy(fds, CMSG_DATA(cmsg), sizeof(fds));
	close(fds[1]);

	return fds[0];
}

static void test_a_fence_page_is_clear_and_keeps_its_size(void **state)
{
	(void)state;
	uint64_t fences[HBM_WIRE_FENCES], none[HBM_WIRE_FENCES] = {0};
	int socket = raw_connect(&daemon_), page = take_fence_page(socket);

	assert_int_equal(pread(page, fences, sizeof(fences), 0), sizeof(fences));
	assert_memory_equal(fences, none, sizeof(fences));

	assert_int_equal(ftruncate(page, 0), -1);
	assert_int_equal(errno, EPERM);
	assert_int_equal(ftruncate(page, 2 * (off_t)sizeof(fences)), -1);
	assert_int_equal(errno, EPERM);
	close(page);
	close(socket);
}

/* ---- Rights ---- */

/* What another user gets who has been passed the connection: an exit status. */
static int ask_as_nobody(int socket, const struct hbm_wire_query *query)
{
	int status;
	pid_t pid = fork();

	assert_true(pid >= 0);
	if (pid == 0) {
		if (setgid(NOBODY) != 0 || setuid(NOBODY) != 0)
			_exit(99);
		_exit(raw_ask(socket, query, sizeof(*query)));
	}

	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status));

	return WEXITSTATUS(status);
}

/* Neither who holds the socket counts nor what a client calls itself. */
static void test_rights_are_those_of_the_one_who_connected(void **state)
{
	(void)state;
	const struct hbm_wire_query verify = {.header = RAW_HEADER(QUERY, sizeof(verify)),
					      .kind = HBM_QUERY_VERIFY};
	struct hbm_wire_hello hello;

	if (geteuid() != 0) {
		print_message("SKIP: only root can become somebody else\n");
		skip();
	}

	int of_root = raw_greet(&daemon_);
	assert_int_equal(ask_as_nobody(of_root, &verify), HBM_OK);
	close(of_root);

	assert_int_equal(chmod(daemon_.dir, 0755), 0);
	assert_int_equal(chmod(daemon_.socket, 0666), 0);
	assert_int_equal(seteuid(NOBODY), 0);
	int of_nobody = raw_connect(&daemon_);
	assert_int_equal(seteuid(0), 0);
	raw_hello_fill(&hello);
	memcpy(hello.name, "root", 5);
	assert_int_equal(raw_ask(of_nobody, &hello, sizeof(hello)), HBM_OK);
	assert_int_equal(raw_ask(of_nobody, &verify, sizeof(verify)), HBM_DENIED);
	close(of_nobody);
}

/* ---- The NVMe file ---- */

static void test_the_nvme_file_is_the_daemons_own(void **state)
{
	(void)state;
	struct stat status;

	assert_int_equal(spawn_stop(&daemon_), 0);
	assert_int_equal(unlink(daemon_.nvme), 0);
	mode_t mask = umask(0);
	spawn_start(&daemon_, NULL, NULL);
	umask(mask);
	assert_int_equal(stat(daemon_.nvme, &status), 0);
	assert_int_equal(status.st_mode & 07777, 0600);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, stage_teardown)
	const struct CMUnitTest tests[] = {
		TEST(test_memory_of_another_client_is_clear),
		TEST(test_a_fence_page_is_clear_and_keeps_its_size),
		TEST(test_rights_are_those_of_the_one_who_connected),
		TEST(test_the_nvme_file_is_the_daemons_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
