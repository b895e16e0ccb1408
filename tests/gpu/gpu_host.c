/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_host FOLDER: the claim the DDR tier stands on: the same pages of a memfd, small or
 * huge, registered with the device and with io_uring at once. Bytes go device -> pages ->
 * file and are compared in the file, and file -> pages -> device and are compared as the
 * device has them. The file is made in FOLDER and removed. Where io_uring may not be
 * used, or may not lock that much memory, there is nothing to claim.
 */
#include "tests/gpu/record.h"
#include "tests/gpu/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define BYTES (8 * MIB)

struct both {
	struct rig *rig;
	struct slab_map slab;
	struct io_uring ring;
	void *pages;
	int file;
	char failure[200];
	bool refused; /* the failure is no one's fault here */
};

static bool fail(struct both *both, const char *what, const char *why)
{
	snprintf(both->failure, sizeof(both->failure), "%s: %s", what, why);
	return false;
}

static bool device_did(struct both *both, const char *call, CUresult result)
{
	return result == CUDA_SUCCESS ||
	       fail(both, call, driver_error_name(both->rig->driver, result));
}

#define DEVICE(both, name, ...) device_did((both), #name, (both)->rig->driver->name(__VA_ARGS__))

/* One transfer of all the pages, by the registered buffer. */
static bool ring_move(struct both *both, bool write)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(&both->ring);
	struct io_uring_cqe *cqe;
	int moved;

	if (write)
		io_uring_prep_write_fixed(sqe, both->file, both->pages, BYTES, 0, 0);
	else
		io_uring_prep_read_fixed(sqe, both->file, both->pages, BYTES, 0, 0);

	if (io_uring_submit_and_wait(&both->ring, 1) < 0 ||
	    io_uring_wait_cqe(&both->ring, &cqe) < 0)
		return fail(both, "io_uring", "no completion");

	moved = cqe->res;
	io_uring_cqe_seen(&both->ring, cqe);

	return moved == (int)BYTES ||
	       fail(both, "io_uring", moved < 0 ? strerror(-moved) : "short");
}

static bool file_holds(struct both *both, uint64_t seed)
{
	void *bytes = aligned_alloc(4096, BYTES);
	bool holds = bytes && pread(both->file, bytes, BYTES, 0) == (ssize_t)BYTES &&
		     pattern_holds(bytes, BYTES, seed);

	free(bytes);
	return holds || fail(both, "the file", "holds other bytes than the device");
}

static bool file_put(struct both *both, uint64_t seed)
{
	void *bytes = aligned_alloc(4096, BYTES);
	bool done = false;

	if (bytes) {
		pattern_fill(bytes, BYTES, seed);
		done = pwrite(both->file, bytes, BYTES, 0) == (ssize_t)BYTES;
	}

	free(bytes);

	return done || fail(both, "the file", "cannot be written");
}

static bool device_holds(struct both *both, uint64_t seed)
{
	bool same = false;

	return device_did(both, "compare",
			  rig_compare(both->rig, both->slab.address, BYTES, seed, &same)) &&
	       (same || fail(both, "the device", "holds other bytes than the file"));
}

static bool move_both_ways(struct both *both)
{
	const CUstream stream = both->rig->stream;

	return device_did(both, "fill", rig_fill(both->rig, both->slab.address, BYTES, 1)) &&
	       DEVICE(both, cuMemcpyDtoHAsync, both->pages, both->slab.address, BYTES, stream) &&
	       DEVICE(both, cuStreamSynchronize, stream) && ring_move(both, true) &&
	       file_holds(both, 1) && file_put(both, 2) && ring_move(both, false) &&
	       DEVICE(both, cuMemcpyHtoDAsync, both->slab.address, both->pages, BYTES, stream) &&
	       DEVICE(both, cuStreamSynchronize, stream) && device_holds(both, 2);
}

static bool move_registered(struct both *both)
{
	const struct iovec buffer = {both->pages, BYTES};
	int result = io_uring_register_buffers(&both->ring, &buffer, 1);
	bool moved;

	both->refused =
		result == -ENOMEM || result == -EPERM; /* RLIMIT_MEMLOCK, without CAP_IPC_LOCK */
	if (result < 0)
		return fail(both, "io_uring_register_buffers", strerror(-result));

	if (!DEVICE(both, cuMemHostRegister, both->pages, BYTES,
		    CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP))
		return false;

	moved = move_both_ways(both);

	return DEVICE(both, cuMemHostUnregister, both->pages) && moved;
}

/* NULL: there are no such pages, or a container may not touch those there are, which
 * would else be found out by a signal. */
static void *make_pages(unsigned int flags)
{
	int memory = memfd_create("pages", MFD_CLOEXEC | flags);
	void *pages = MAP_FAILED;

	if (memory >= 0 && ftruncate(memory, BYTES) == 0)
		pages = mmap(NULL, BYTES, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, memory,
			     0);

	if (memory >= 0)
		close(memory);
	if (pages == MAP_FAILED)
		return NULL;

	if (madvise(pages, BYTES, MADV_POPULATE_WRITE) == 0 ||
	    errno == EINVAL) /* a kernel before 5.14 */
		return pages;

	munmap(pages, BYTES);

	return NULL;
}

static void claim(const char *name, struct both *both, unsigned int flags)
{
	both->failure[0] = '\0';
	both->refused = false;
	both->pages = make_pages(flags);
	if (!both->pages) {
		record(name, OUTCOME_UNSUPPORTED, "no such pages can be had here (%s)",
		       strerror(errno));
		return;
	}

	if (move_registered(both))
		record(name, OUTCOME_PASS,
		       "8 MiB each way, registered with both, compared at both ends");
	else
		record(name, both->refused ? OUTCOME_UNSUPPORTED : OUTCOME_FAIL, "%s",
		       both->failure);

	munmap(both->pages, BYTES);
}

/* A ring for each claim: what is registered with it goes with it. */
static void claim_with_ring(const char *name, struct both *both, unsigned int flags)
{
	int result = io_uring_queue_init(4, &both->ring, 0);

	if (result < 0) {
		record(name, OUTCOME_UNSUPPORTED, "no io_uring here: %s", strerror(-result));
		return;
	}

	claim(name, both, flags);
	io_uring_queue_exit(&both->ring);
}

/* Past the page cache where the file system can. */
static int open_file(const char *folder)
{
	char path[4096];
	int file;

	snprintf(path, sizeof(path), "%s/gpu_host", folder);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_DIRECT, 0600);
	if (file < 0 && errno == EINVAL)
		file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (file >= 0)
		unlink(path);

	return file;
}

int main(int argc, char **argv)
{
	char error[256] = "no device";
	struct rig rig;
	struct both both = {.rig = &rig};
	CUresult made;

	if (argc != 2) {
		fprintf(stderr, "usage: gpu_host FOLDER\n");
		return 2;
	}

	record_part("claims");
	both.file = open_file(argv[1]);
	if (both.file < 0 || !rig_open(&rig, error, sizeof(error))) {
		fprintf(stderr, "gpu_host: %s\n", both.file < 0 ? strerror(errno) : error);
		return 1;
	}

	made = rig_slab(&rig, BYTES, &both.slab);
	if (made == CUDA_SUCCESS) {
		claim_with_ring("device and io_uring share 4 KiB pages", &both, 0);
		claim_with_ring("device and io_uring share huge pages", &both, MFD_HUGETLB);
		rig_drop(&rig, &both.slab);
	} else {
		fprintf(stderr, "gpu_host: no slab: %s\n", driver_error_name(rig.driver, made));
	}

	rig_close(&rig);
	close(both.file);

	return made == CUDA_SUCCESS ? 0 : 1;
}
