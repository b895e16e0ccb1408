/* SPDX-License-Identifier: Apache-2.0 */
/*
 * gpu_facts: what there is: the machine, the driver, the device and its attributes; and
 * whether our declarations of the driver's entry points are right, by calling each one
 * and looking at what it did.
 *
 * 	gpu_facts		all of that, as records
 * 	gpu_facts --probe	one line: the device; or what was looked for, and exit status 77; or why the device
 * 				that is there cannot be used, and exit status 1
 * 	gpu_facts --free	the bytes of device memory that are free, by a process that has a context
 */
#include "tests/gpu/calls.h"
#include "tests/gpu/fill_words.h"
#include "tests/gpu/machine.h"
#include "tests/gpu/record.h"
#include "tests/gpu/rig.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define SKIPPED 77
#define PATIENCE_S 40 /* with all calls together; less than run.sh has with this program */

/* ---- The device ---- */

struct attribute {
	const char *name;
	CUdevice_attribute attribute;
};

static const struct attribute attributes[] = {
#define ATTRIBUTE(name, value) {#name, name},
	CUDA_DEVICE_ATTRIBUTES(ATTRIBUTE)
#undef ATTRIBUTE
};

/* Without these hbmd does not work. */
static bool is_needed(CUdevice_attribute attribute)
{
	switch (attribute) {
	case CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING:
	case CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED:
	case CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS:
	case CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT:
		return true;
	default:
		return false;
	}
}

static void attribute_fact(const struct rig *rig, const struct attribute *a)
{
	const char *name = a->name + strlen("CU_DEVICE_ATTRIBUTE_");
	int value = 0;
	CUresult result = rig->driver->cuDeviceGetAttribute(&value, a->attribute, rig->device);

	if (result == CUDA_SUCCESS && is_needed(a->attribute))
		record(name, value != 0 ? OUTCOME_PASS : OUTCOME_FAIL, "%d; hbmd needs it", value);
	else if (result == CUDA_SUCCESS)
		record_number(name, value, "", "%s", "");
	else
		record(name, OUTCOME_UNSUPPORTED, "%s", driver_error_name(rig->driver, result));
}

static void granularity_fact(const struct rig *rig, const char *name,
			     CUmemAllocationGranularity_flags which)
{
	const CUmemAllocationProp prop = rig_prop(rig);
	size_t granularity = 0;

	if (!TRY(rig->driver, cuMemGetAllocationGranularity, &granularity, &prop, which))
		return;

	EXPECT(cuMemGetAllocationGranularity, granularity > 0);
	if (which ==
	    /* slabs are multiples of 2 MiB, whatever is recommended */
	    CU_MEM_ALLOC_GRANULARITY_MINIMUM)
		EXPECT(cuMemGetAllocationGranularity, (2 * MIB) % granularity == 0);

	record_number(name, (double)granularity, "bytes", "%s", "");
}

static void driver_facts(const struct rig *rig)
{
	const struct driver *driver = rig->driver;
	char text[128] = "";
	CUuuid uuid = {{0}};
	size_t bytes = 0;
	int version = 0, count = 0;

	record_word("driver", rig_is_soft(rig) ? "soft" : "cuda");

	if (TRY(driver, cuDriverGetVersion, &version)) {
		snprintf(text, sizeof(text), "CUDA %d.%d", version / 1000, version % 1000 / 10);
		record_word("driver API", text);
	}

	if (TRY(driver, cuDeviceGetCount, &count))
		record_number("devices", count, "", "%s", "");

	EXPECT(cuDeviceGetCount, count >= 1);
	if (TRY(driver, cuDeviceGetName, text, sizeof(text), rig->device))
		record_word("device", text);

	EXPECT(cuDeviceGetName, text[0] != '\0');
	if (TRY(driver, cuDeviceGetPCIBusId, text, sizeof(text), rig->device))
		record_word("PCI", text);

	EXPECT(cuDeviceGetPCIBusId, strchr(text, ':') != NULL);
	TRY(driver, cuDeviceGetUuid, &uuid, rig->device);
	EXPECT(cuDeviceGetUuid, memcmp(&uuid, &(CUuuid){{0}}, sizeof(uuid)) != 0);
	if (TRY(driver, cuDeviceTotalMem, &bytes, rig->device))
		record_number("device memory", (double)bytes / (double)GIB, "GiB", "%s", "");

	granularity_fact(rig, "granularity, minimum", CU_MEM_ALLOC_GRANULARITY_MINIMUM);
	granularity_fact(rig, "granularity, recommended", CU_MEM_ALLOC_GRANULARITY_RECOMMENDED);
	for (size_t i = 0; i < sizeof(attributes) / sizeof(attributes[0]); i++)
		attribute_fact(rig, &attributes[i]);
}

/* ---- Each entry point once ---- */

static void try_errors(const struct driver *driver)
{
	const char *text = NULL;
	CUdevice device = -1;
	int value = 0;

	TRY(driver, cuInit, 0);
	TRY(driver, cuGetErrorName, CUDA_ERROR_OUT_OF_MEMORY, &text);
	EXPECT(cuGetErrorName, text && strcmp(text, "CUDA_ERROR_OUT_OF_MEMORY") == 0);
	text = NULL;
	TRY(driver, cuGetErrorString, CUDA_ERROR_OUT_OF_MEMORY, &text);
	EXPECT(cuGetErrorString, text && text[0] != '\0');
	TRY(driver, cuDeviceGet, &device, 0);
	EXPECT(cuDeviceGet, device >= 0);
	TRY(driver, cuDeviceGetAttribute, &value, CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, device);
	EXPECT(cuDeviceGetAttribute, value == 1);
}

static void try_context(const struct rig *rig)
{
	const struct driver *driver = rig->driver;
	CUcontext again = NULL, current = NULL;
	int least = -1, greatest = 1;
	size_t free_bytes = 1, total = 0;

	TRY(driver, cuDevicePrimaryCtxRetain, &again, rig->device);
	EXPECT(cuDevicePrimaryCtxRetain, again == rig->context);
	TRY(driver, cuCtxSetCurrent, again);
	TRY(driver, cuCtxGetCurrent, &current);
	EXPECT(cuCtxGetCurrent, current == rig->context);
	TRY(driver, cuDevicePrimaryCtxRelease, rig->device);
	TRY(driver, cuCtxGetStreamPriorityRange, &least, &greatest);
	EXPECT(cuCtxGetStreamPriorityRange, greatest <= least);
	TRY(driver, cuMemGetInfo, &free_bytes, &total);
	EXPECT(cuMemGetInfo, free_bytes <= total && total > 0);
	TRY(driver, cuCtxSynchronize);
}

/* A slab's way from creation to a second mapping by its fd. */
static void try_mapping(const struct rig *rig, CUdeviceptr *address,
			CUmemGenericAllocationHandle *handle)
{
	const struct driver *driver = rig->driver;
	const CUmemAllocationProp prop = rig_prop(rig);
	const CUmemAccessDesc access = {prop.location, CU_MEM_ACCESS_FLAGS_PROT_READWRITE};
	CUmemGenericAllocationHandle retained = 0, imported = 0;
	CUmemAllocationProp seen;
	unsigned long long flags = 0;
	int fd = -1;

	memset(&seen, 0xee, sizeof(seen));
	TRY(driver, cuMemCreate, handle, 2 * MIB, &prop, 0);
	TRY(driver, cuMemGetAllocationPropertiesFromHandle, &seen, *handle);
	EXPECT(cuMemGetAllocationPropertiesFromHandle, seen.type == CU_MEM_ALLOCATION_TYPE_PINNED);
	EXPECT(cuMemGetAllocationPropertiesFromHandle,
	       seen.location.type == CU_MEM_LOCATION_TYPE_DEVICE);
	EXPECT(cuMemGetAllocationPropertiesFromHandle, seen.location.id == rig->device);
	EXPECT(cuMemGetAllocationPropertiesFromHandle,
	       (seen.requestedHandleTypes & CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR) != 0);
	TRY(driver, cuMemAddressReserve, address, 4 * MIB, 0, 0, 0);
	EXPECT(cuMemAddressReserve, *address % (2 * MIB) == 0 && *address != 0);
	TRY(driver, cuMemMap, *address, 2 * MIB, 0, *handle, 0);
	TRY(driver, cuMemSetAccess, *address, 2 * MIB, &access, 1);
	TRY(driver, cuMemGetAccess, &flags, &prop.location, *address);
	EXPECT(cuMemGetAccess, flags == CU_MEM_ACCESS_FLAGS_PROT_READWRITE);
	TRY(driver, cuMemRetainAllocationHandle, &retained, (void *)(uintptr_t)*address);
	EXPECT(cuMemRetainAllocationHandle, retained == *handle);
	TRY(driver, cuMemRelease, retained);
	TRY(driver, cuMemExportToShareableHandle, &fd, *handle,
	    CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 0);
	EXPECT(cuMemExportToShareableHandle, fd >= 0);
	if (!TRY(driver, cuMemImportFromShareableHandle, &imported, (void *)(uintptr_t)fd,
		 CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR))
		imported = 0;

	if (fd >= 0)
		close(fd);

	/* Where there is no second handle, the first serves: the calls to come are not to
	 * blame. */
	TRY(driver, cuMemMap, *address + 2 * MIB, 2 * MIB, 0, imported ? imported : *handle, 0);
	TRY(driver, cuMemSetAccess, *address + 2 * MIB, 2 * MIB, &access, 1);
	if (imported)
		TRY(driver, cuMemRelease, imported);
}

static void note_called(void *argument)
{
	__atomic_store_n((int *)argument, 1, __ATOMIC_RELEASE);
}

static bool all_bytes(const unsigned char *bytes, size_t count, unsigned char value)
{
	for (size_t i = 0; i < count; i++) {
		if (bytes[i] != value)
			return false;
	}
	return true;
}

/* Every other 4 KiB of the slab's first MiB are rows: 0x55 there, and 0x44 between them. */
static void try_rows(const struct rig *rig, CUdeviceptr address, CUdeviceptr second,
		     unsigned char *host)
{
	const struct driver *driver = rig->driver;
	const CUDA_MEMCPY2D rows = {.srcMemoryType = CU_MEMORYTYPE_HOST,
				    .srcHost = host,
				    .srcPitch = 4096,
				    .dstMemoryType = CU_MEMORYTYPE_DEVICE,
				    .dstDevice = address,
				    .dstPitch = 8192,
				    .WidthInBytes = 4096,
				    .Height = MIB / 8192};
	bool right = true;

	memset(host, 0x55, MIB / 2);
	TRY(driver, cuMemcpy2DAsync, &rows, rig->stream);
	TRY(driver, cuStreamSynchronize, rig->stream);
	memset(host, 0, MIB);
	TRY(driver, cuMemcpyDtoH, host, second, MIB);
	for (size_t at = 0; at < MIB; at += 4096)
		right = right && all_bytes(host + at, 4096, at % 8192 == 0 ? 0x55 : 0x44);
	EXPECT(cuMemcpy2DAsync, right);
}

/* Copies through both mappings of the slab, and back to the host. */
static void try_copies(const struct rig *rig, CUdeviceptr address, unsigned char *host)
{
	const struct driver *driver = rig->driver;
	const CUdeviceptr second = address + 2 * MIB;

	TRY(driver, cuMemsetD8Async, address, 0x5a, MIB, rig->stream);
	TRY(driver, cuMemcpyDtoHAsync, host, second, MIB, rig->stream);
	TRY(driver, cuStreamSynchronize, rig->stream);
	EXPECT(cuMemsetD8Async, all_bytes(host, MIB, 0x5a));
	EXPECT(cuMemImportFromShareableHandle, all_bytes(host, MIB, 0x5a));
	memset(host, 0x33, MIB);
	TRY(driver, cuMemcpyHtoDAsync, address, host, MIB, rig->stream);
	TRY(driver, cuMemcpyDtoDAsync, address + MIB, address, MIB, rig->stream);
	TRY(driver, cuStreamSynchronize, rig->stream);
	TRY(driver, cuMemcpyDtoH, host, second + MIB, MIB);
	EXPECT(cuMemcpyDtoDAsync, all_bytes(host, MIB, 0x33));
	memset(host, 0x44, MIB);
	TRY(driver, cuMemcpyHtoD, second, host,
	    MIB); /* from registered memory: done when it returns */
	memset(host, 0, MIB);
	TRY(driver, cuMemcpyDtoHAsync, host, address, MIB, rig->stream);
	TRY(driver, cuStreamSynchronize, rig->stream);
	EXPECT(cuMemcpyHtoD, all_bytes(host, MIB, 0x44));
	try_rows(rig, address, second, host);
}

static void try_stream(const struct rig *rig, CUdeviceptr word, volatile uint64_t *host)
{
	const struct driver *driver = rig->driver;
	CUstream other = NULL, plain = NULL;
	CUevent start = NULL, end = NULL;
	float milliseconds = -1;
	int called = 0;

	TRY(driver, cuStreamCreateWithPriority, &other, CU_STREAM_NON_BLOCKING, 0);
	TRY(driver, cuStreamCreate, &plain, CU_STREAM_NON_BLOCKING);
	TRY(driver, cuEventCreate, &start, CU_EVENT_DEFAULT);
	TRY(driver, cuEventCreate, &end, CU_EVENT_DEFAULT);
	*host = 6;
	TRY(driver, cuStreamWriteValue64, plain, word, 7, CU_STREAM_WRITE_VALUE_DEFAULT);
	TRY(driver, cuStreamSynchronize, plain);
	EXPECT(cuStreamWriteValue64, *host == 7);
	TRY(driver, cuEventRecord, start, other);
	TRY(driver, cuStreamWaitValue64, other, word, 8, CU_STREAM_WAIT_VALUE_GEQ);
	EXPECT(cuStreamQuery, driver->cuStreamQuery(other) == CUDA_ERROR_NOT_READY);

	/* By the processor: two streams may share a queue of the device, and one would
	 * wait behind the other for ever. */
	__atomic_store_n(host, 8, __ATOMIC_RELEASE);
	TRY(driver, cuEventRecord, end, other);
	TRY(driver, cuStreamWaitEvent, plain, end, 0);
	TRY(driver, cuLaunchHostFunc, plain, note_called, &called);
	TRY(driver, cuEventSynchronize, end);
	TRY(driver, cuEventQuery, end);
	TRY(driver, cuStreamSynchronize, plain);
	TRY(driver, cuStreamQuery, plain);
	EXPECT(cuLaunchHostFunc, __atomic_load_n(&called, __ATOMIC_ACQUIRE) == 1);
	TRY(driver, cuEventElapsedTime, &milliseconds, start, end);
	EXPECT(cuEventElapsedTime, milliseconds >= 0);
	TRY(driver, cuEventDestroy, start);
	TRY(driver, cuEventDestroy, end);
	TRY(driver, cuStreamDestroy, other);
	TRY(driver, cuStreamDestroy, plain);
}

static bool words_count_from(const uint32_t *words, uint32_t count, uint32_t value)
{
	for (uint32_t i = 0; i < count; i++) {
		if (words[i] != value + i)
			return false;
	}
	return true;
}

/* A kernel on a grid of which a part has nothing to do, and what it left alone. */
static void try_kernel(const struct rig *rig, CUdeviceptr address, uint32_t *host)
{
	const struct driver *driver = rig->driver;
	CUdeviceptr target = address + 4;
	uint32_t value = 1000, count = 1000;
	void *params[] = {&target, &value, &count};
	CUmodule module = NULL;
	CUfunction function = NULL;

	EXPECT(cuModuleGetFunction, fill_words_give(driver));
	TRY(driver, cuModuleLoadData, &module, fill_words_ptx);
	EXPECT(cuModuleLoadData, module != NULL);
	TRY(driver, cuModuleGetFunction, &function, module, "fill_words");
	EXPECT(cuModuleGetFunction,
	       driver->cuModuleGetFunction(&(CUfunction){NULL}, module, "no_words") ==
		       CUDA_ERROR_NOT_FOUND);
	TRY(driver, cuMemsetD8Async, address, 0x5a, 8192, rig->stream);
	TRY(driver, cuLaunchKernel, function, 8, 1, 1, 128, 1, 1, 0, rig->stream, params, NULL);
	target = 0; /* it has copies */
	value = count = 0;
	TRY(driver, cuMemcpyDtoHAsync, host, address, 8192, rig->stream);
	TRY(driver, cuStreamSynchronize, rig->stream);
	EXPECT(cuLaunchKernel, words_count_from(host + 1, 1000, 1000));
	EXPECT(cuLaunchKernel, host[0] == 0x5a5a5a5a && host[1001] == 0x5a5a5a5a);
	TRY(driver, cuModuleUnload, module);
}

/* Pinned host memory, and what needs it. */
static void try_host(const struct rig *rig, CUdeviceptr address)
{
	const struct driver *driver = rig->driver;
	void *host = mmap(NULL, 2 * MIB, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CUdeviceptr alias = 0;

	if (host == MAP_FAILED)
		return;

	TRY(driver, cuMemHostRegister, host, 2 * MIB,
	    CU_MEMHOSTREGISTER_PORTABLE | CU_MEMHOSTREGISTER_DEVICEMAP);
	TRY(driver, cuMemHostGetDevicePointer, &alias, host, 0);
	EXPECT(cuMemHostGetDevicePointer, alias != 0);
	try_copies(rig, address, host);
	try_kernel(rig, address, host);
	if (alias != 0)
		try_stream(rig, alias, host);

	TRY(driver, cuMemHostUnregister, host);
	munmap(host, 2 * MIB);
}

static void try_calls(const struct rig *rig)
{
	const struct driver *driver = rig->driver;
	CUmemGenericAllocationHandle handle = 0;
	CUdeviceptr address = 0;

	try_errors(driver);
	try_context(rig);
	try_mapping(rig, &address, &handle);
	try_host(rig, address);
	TRY(driver, cuMemUnmap, address, 4 * MIB);
	TRY(driver, cuMemAddressFree, address, 4 * MIB);
	TRY(driver, cuMemRelease, handle);
}

/* ---- What is asked ---- */

static int print_free(const struct rig *rig)
{
	size_t free_bytes, total;

	if (rig->driver->cuMemGetInfo(&free_bytes, &total) != CUDA_SUCCESS)
		return 1;
	printf("%zu\n", free_bytes);
	return 0;
}

static int probe(const struct rig *rig)
{
	char name[128] = "";

	rig->driver->cuDeviceGetName(name, sizeof(name), rig->device);
	printf("%s (%s driver)\n", name, rig_is_soft(rig) ? "soft" : "cuda");
	return 0;
}

static int all_facts(const struct rig *rig)
{
	record_part("facts");
	machine_facts();
	driver_facts(rig);
	record_part("calls");
	calls_watch(PATIENCE_S);
	try_calls(rig);
	calls_report();

	return 0;
}

/*
 * Says why there is no device; the exit status: a device that is there and cannot be used
 * is not the same. That a node is there says little: the driver's library makes one
 * wherever root starts it. Nobody answers behind it where there is no driver.
 */
static int explain(const char *error)
{
	int node = open("/dev/nvidiactl", O_RDWR | O_CLOEXEC);
	int why = node < 0 ? errno : 0;
	bool there = why != ENOENT && why != ENXIO && why != ENODEV;

	if (node >= 0)
		close(node);

	printf("%s: looked for libcuda.so.1 (%s) and /dev/nvidiactl (%s)\n",
	       there ? "the device cannot be used" : "no device", error,
	       why == 0 ? "there" : strerror(why));

	return there ? 1 : SKIPPED;
}

int main(int argc, char **argv)
{
	static const struct {
		const char *option;
		int (*run)(const struct rig *rig);
	} modes[] = {{"--probe", probe}, {"--free", print_free}};
	int (*run)(const struct rig *rig) = all_facts;
	char error[256] = "no device";
	struct rig rig;
	int status;

	for (size_t i = 0; argc == 2 && i < sizeof(modes) / sizeof(modes[0]); i++)
		run = strcmp(argv[1], modes[i].option) == 0 ? modes[i].run : run;
	if (argc > 2 || (argc == 2 && run == all_facts)) {
		fprintf(stderr, "usage: gpu_facts [--probe | --free]\n");
		return 2;
	}

	if (!rig_open(&rig, error, sizeof(error)))
		return explain(error);

	status = run(&rig);
	rig_close(&rig);

	return status;
}
