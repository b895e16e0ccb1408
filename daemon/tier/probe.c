/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/probe.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "daemon/base/clock.h"
#include "daemon/device/device.h"

#define LIMIT_NS 50000000ull /* no read or copy starts later */
#define READ_BYTES (2ull << 20)
#define READS 4
#define COPY_FIRST 4096 /* doubled until the copies are large or take long */
#define COPY_LAST (2ull << 20)
#define ALIGNMENT 4096

static double probe_rate(uint64_t bytes, uint64_t started_ns)
{
	uint64_t ns = clock_now() - started_ns;
	return (double)bytes * 1e9 / (double)(ns > 0 ? ns : 1);
}

/* ---- NVMe ---- */

static double probe_read(int fd, uint64_t offset, uint64_t bytes, void *buffer)
{
	uint64_t started = clock_now(), done = 0;
	while (done < bytes && clock_now() - started < LIMIT_NS) {
		uint64_t left = bytes - done;
		ssize_t n = pread(fd, buffer, left < READ_BYTES ? left : READ_BYTES,
				  (off_t)(offset + done));
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return 0;
		done += (uint64_t)n;
	}

	return probe_rate(done, started);
}

double probe_nvme(int fd, uint64_t offset, uint64_t bytes)
{
	void *buffer = aligned_alloc(ALIGNMENT, READ_BYTES);
	if (!buffer)
		return 0;

	double rate = probe_read(fd, offset,
				 bytes < READS * READ_BYTES ? bytes : READS * READ_BYTES, buffer);
	free(buffer);

	return rate;
}

/* ---- host to device ---- */

/* The rate of the last and largest copy: the first ones pay for what is set up late. */
static double probe_copy(struct device *device, CUdeviceptr target, const void *host,
			 uint64_t bytes)
{
	uint64_t begin = clock_now();
	double rate = 0;

	for (uint64_t copy = COPY_FIRST; copy <= bytes && clock_now() - begin < LIMIT_NS;
	     copy *= 2) {
		uint64_t started = clock_now();
		CUresult r = device->driver->cuMemcpyHtoD(target, host, copy);
		if (r != CUDA_SUCCESS) {
			device_failed(device, "cuMemcpyHtoD", r);
			return 0;
		}

		rate = probe_rate(copy, started);
	}

	return rate;
}

/* What is copied there is what was there. */
static double probe_fetched(struct device *device, CUdeviceptr target, void *host, uint64_t bytes)
{
	CUresult r = device->driver->cuMemcpyDtoH(host, target, bytes);
	if (r == CUDA_SUCCESS)
		return probe_copy(device, target, host, bytes);

	device_failed(device, "cuMemcpyDtoH", r);

	return 0;
}

double probe_device(struct device *device, CUdeviceptr target, uint64_t bytes)
{
	const struct driver *driver = device->driver;
	double rate = 0;
	void *host = aligned_alloc(ALIGNMENT, COPY_LAST);
	if (!host)
		return 0;

	CUresult r = driver->cuMemHostRegister(host, COPY_LAST, CU_MEMHOSTREGISTER_PORTABLE);
	if (r == CUDA_SUCCESS) {
		rate = probe_fetched(device, target, host, bytes < COPY_LAST ? bytes : COPY_LAST);
		driver->cuMemHostUnregister(host);
	} else {
		device_failed(device, "cuMemHostRegister", r);
	}

	free(host);

	return rate;
}
