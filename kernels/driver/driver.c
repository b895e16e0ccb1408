/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Loading a driver: find the library, take every symbol of the list, start it. A library
 * is taken whole or not at all, but for the optional symbols; what was looked for and why
 * it did not do ends up in one line. libcuda.so.1 is never unloaded again, as threads of
 * its own go on when its last user is gone.
 *
 * The soft driver is not a system library, so it is looked for by path: where it lies
 * depends on whether this is an installed program or a build folder, and on whether this
 * code is in a program or in libhbm.so.
 */
#include "kernels/driver/driver.h"

#include "kernels/driver/hardware.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define SOFT_LIBRARY "libhbmsoft.so"
#ifndef HBM_MULTIARCH
#define HBM_MULTIARCH "."
#endif

/* Where a failure is explained. */
struct explanation {
	char *text;
	size_t size;
};

__attribute__((format(printf, 3, 4))) static int driver_explain(struct explanation *why, int result,
								const char *format, ...)
{
	va_list arguments;

	if (why->size == 0)
		return result;

	va_start(arguments, format);
	vsnprintf(why->text, why->size, format, arguments);
	va_end(arguments);

	return result;
}

static int driver_load_symbols(struct driver *driver, const char *path, struct explanation *why)
{
#define DRIVER_CALL(name, symbol, arguments)                                                       \
	*(void **)&driver->name = dlsym(driver->library, symbol);                                  \
	if (driver->name == NULL)                                                                  \
		return driver_explain(why, -ENOSYS, "%s has no %s: the driver is too old", path,   \
				      symbol);
	DRIVER_CALLS(DRIVER_CALL)
#undef DRIVER_CALL

#define DRIVER_CALL(name, symbol, arguments)                                                       \
	*(void **)&driver->name = dlsym(driver->library, symbol);
	DRIVER_OPTIONAL_CALLS(DRIVER_CALL)
	DRIVER_BATCH_CALLS(DRIVER_CALL)
#undef DRIVER_CALL

	return 0;
}

/* Allocates a table and fills it from the library at path, which is not started. */
static int driver_load(struct driver **out, enum hbm_driver kind, const char *path,
		       struct explanation *why)
{
	const int flags = RTLD_NOW | RTLD_LOCAL | (kind == HBM_DRIVER_CUDA ? RTLD_NODELETE : 0);
	struct driver *driver = calloc(1, sizeof(*driver));
	int result;

	if (driver == NULL)
		return driver_explain(why, -ENOMEM, "out of memory");

	driver->library = dlopen(path, flags);
	if (driver->library == NULL) {
		result = driver_explain(why, -ENOENT, "%s", dlerror());
		free(driver);
		return result;
	}

	result = driver_load_symbols(driver, path, why);
	if (result < 0) {
		dlclose(driver->library);
		free(driver);
		return result;
	}

	driver->kind = kind;
	*out = driver;

	return 0;
}

static int driver_start(struct driver *driver, const char *path, struct explanation *why)
{
	CUresult result = driver->cuInit(0);
	bool absent = result == CUDA_ERROR_NO_DEVICE || result == CUDA_ERROR_STUB_LIBRARY;

	if (result != CUDA_SUCCESS)
		return driver_explain(why, absent ? -ENODEV : -EIO, "%s: cuInit failed with %s%s",
				      path, driver_error_name(driver, result),
				      result == CUDA_ERROR_NOT_INITIALIZED
					      ? ": it was in use before fork()"
					      : "");

	return 0;
}

static int driver_open_cuda(struct driver **out, struct explanation *why)
{
	static const char path[] = "libcuda.so.1";
	struct driver *driver;
	int count = 0;
	int result = driver_load(&driver, HBM_DRIVER_CUDA, path, why);

	if (result < 0)
		return result;

	result = driver_start(driver, path, why);
	if (result == 0 && driver->cuDeviceGetCount(&count) != CUDA_SUCCESS)
		result = driver_explain(why, -EIO, "%s answers, but does not count its devices",
					path);

	if (result == 0 && count < 1)
		result = driver_explain(why, -ENODEV, "%s answers, but there is no device", path);

	if (result < 0) {
		driver_close(driver);
		return result;
	}

	*out = driver;

	return 0;
}

/* The folder of the program or library this code is in. dladdr() knows a program only by
 * its argv[0]. */
static int driver_own_folder(char folder[PATH_MAX])
{
	Dl_info here, program;
	char *slash;

	if (dladdr((void *)(uintptr_t)driver_open, &here) == 0)
		return -ENOENT;

	if (dladdr((void *)(uintptr_t)getauxval(AT_ENTRY), &program) != 0 &&
	    program.dli_fbase == here.dli_fbase) {
		ssize_t length = readlink("/proc/self/exe", folder, PATH_MAX - 1);

		if (length < 0)
			return -errno;
		folder[length] = '\0';
	} else if (realpath(here.dli_fname, folder) == NULL) {
		return -errno;
	}

	slash = strrchr(folder, '/');
	if (slash == NULL)
		return -ENOENT;

	*slash = '\0';

	return 0;
}

/*
 * Where the soft driver may be, relative to the folder of this code: a build folder and
 * the folders below it, libhbm.so's folder, and for a program in bin or sbin the library
 * folders that distributions use. A program linked with libhbm.a may be anywhere, so the
 * standard prefixes come last.
 */
static const char *const soft_places[] = {"",
					  "/hbm",
					  "/..",
					  "/../..",
					  "/../../..",
					  "/../../../..",
					  "/../lib/" HBM_MULTIARCH "/hbm",
					  "/../lib/hbm",
					  "/../lib64/hbm"};
static const char *const soft_standard_places[] = {"/usr/local/lib/" HBM_MULTIARCH "/hbm",
						   "/usr/lib/" HBM_MULTIARCH "/hbm"};

static bool driver_soft_is_in(char path[PATH_MAX], const char *folder, const char *place)
{
	int length = snprintf(path, PATH_MAX, "%s%s/" SOFT_LIBRARY, folder, place);

	return length < PATH_MAX && access(path, R_OK) == 0;
}

static int driver_soft_find(char path[PATH_MAX], struct explanation *why)
{
	const char *chosen = secure_getenv("HBM_SOFT_DRIVER");
	char folder[PATH_MAX];

	if (chosen != NULL) {
		snprintf(path, PATH_MAX, "%s", chosen);
		return 0;
	}

	if (driver_own_folder(folder) < 0)
		folder[0] = '\0';

	for (size_t i = 0; folder[0] != '\0' && i < sizeof(soft_places) / sizeof(soft_places[0]);
	     i++) {
		if (driver_soft_is_in(path, folder, soft_places[i]))
			return 0;
	}

	for (size_t i = 0; i < sizeof(soft_standard_places) / sizeof(soft_standard_places[0]);
	     i++) {
		if (driver_soft_is_in(path, soft_standard_places[i], ""))
			return 0;
	}

	return driver_explain(why, -ENOENT,
			      "no " SOFT_LIBRARY " in or above %s, nor in lib beside it, nor in %s "
			      "or %s; HBM_SOFT_DRIVER may name it",
			      folder[0] != '\0' ? folder : "the program's folder",
			      soft_standard_places[0], soft_standard_places[1]);
}

static int driver_soft_configure(const struct driver *driver,
				 const struct driver_soft_options *options, const char *path,
				 struct explanation *why)
{
	int (*configure)(const struct driver_soft_options *) = NULL;
	int result;

	*(void **)&configure = dlsym(driver->library, "hbm_soft_configure");
	if (configure == NULL)
		return driver_explain(why, -ENOSYS,
				      "%s is not a soft driver: it has no hbm_soft_configure",
				      path);

	result = configure(options);
	if (result == -EBUSY)
		return driver_explain(
			why, result,
			"this process already uses a soft driver with other devices or memory");

	if (result < 0)
		return driver_explain(why, result,
				      "the soft driver's options, HBM_SOFT or HBM_SOFT_FAIL cannot "
				      "be understood");

	return 0;
}

const char *driver_kind_name(enum hbm_driver kind)
{
#define NAME(name, value, text) [value] = text,
	static const char *const names[] = {HBM_DRIVER_LIST(NAME)};
#undef NAME
	return names[kind];
}

static void driver_unload(struct driver *driver)
{
	dlclose(driver->library);
	free(driver);
}

static int driver_open_soft(struct driver **out, const struct driver_soft_options *options,
			    struct explanation *why)
{
	char path[PATH_MAX];
	struct driver *driver;
	int result = driver_soft_find(path, why);

	if (result == 0)
		result = driver_load(&driver, HBM_DRIVER_SOFT, path, why);
	if (result < 0)
		return result;

	result = driver_soft_configure(driver, options, path, why);
	if (result < 0) {
		driver_unload(driver);
		return result;
	}

	result = driver_start(driver, path, why);
	if (result < 0) {
		driver_close(driver);
		return result;
	}

	*out = driver;

	return 0;
}

/* A real device if there is one, else a soft one where there is no hardware either. */
static int driver_open_any(struct driver **out, const struct driver_soft_options *soft,
			   struct explanation *why)
{
	char no_cuda[sizeof((*out)->passed_over)] = "", no_soft[256] = "", where[64];
	int result = driver_open_cuda(out, &(struct explanation){no_cuda, sizeof(no_cuda)});

	if (result == 0)
		return 0;
	if (result != -ENOENT && result != -ENODEV)
		return driver_explain(why, result, "%s", no_cuda);
	if (hardware_has_nvidia(where, sizeof(where)))
		return driver_explain(
			why, -ENODEV,
			"%s; this machine has NVIDIA hardware (%s): install its driver "
			"and let this process open /dev/nvidia*, or choose driver = soft",
			no_cuda, where);

	result = driver_open_soft(out, soft, &(struct explanation){no_soft, sizeof(no_soft)});
	if (result < 0)
		return driver_explain(why, result, "%s; nor a soft driver: %s", no_cuda, no_soft);

	memcpy((*out)->passed_over, no_cuda, sizeof(no_cuda));

	return 0;
}

int driver_open(struct driver **out, enum driver_choice choice,
		const struct driver_soft_options *soft, char *error, size_t error_size)
{
	struct explanation why = {error, error_size};

	switch (choice) {
	case DRIVER_CUDA:
		return driver_open_cuda(out, &why);
	case DRIVER_SOFT:
		return driver_open_soft(out, soft, &why);
	default:
		return driver_open_any(out, soft, &why);
	}
}

struct driver *driver_close(struct driver *driver)
{
	if (driver == NULL)
		return NULL;
	if (driver->kind == HBM_DRIVER_SOFT) {
		void (*release)(void) = NULL;

		*(void **)&release = dlsym(driver->library, "hbm_soft_release");
		if (release != NULL)
			release();
	}

	driver_unload(driver);
	return NULL;
}

void *driver_host_address(const struct driver *driver, CUdeviceptr address)
{
	void *(*host)(CUdeviceptr) = NULL;

	if (driver->kind == HBM_DRIVER_SOFT)
		*(void **)&host = dlsym(driver->library, "hbm_soft_host");

	return host != NULL ? host(address) : NULL;
}

bool driver_has_batch(const struct driver *driver)
{
	return driver->cuMemcpyBatchAsync != NULL || driver->cuMemcpyBatchAsync_v1 != NULL;
}

CUresult driver_copy_batch(const struct driver *driver, CUdeviceptr *targets, CUdeviceptr *sources,
			   size_t *sizes, size_t count, unsigned flags, CUstream stream)
{
	CUmemcpyAttributes all = {.srcAccessOrder = CU_MEMCPY_SRC_ACCESS_ORDER_STREAM,
				  .flags = flags};
	size_t first = 0, failed;

	if (driver->cuMemcpyBatchAsync != NULL)
		return driver->cuMemcpyBatchAsync(targets, sources, sizes, count, &all, &first, 1,
						  stream);
	if (driver->cuMemcpyBatchAsync_v1 != NULL)
		return driver->cuMemcpyBatchAsync_v1(targets, sources, sizes, count, &all, &first,
						     1, &failed, stream);
	return CUDA_ERROR_NOT_SUPPORTED;
}

const char *driver_uuid_text(char text[static DRIVER_UUID_TEXT], const CUuuid *uuid)
{
	size_t length = (size_t)snprintf(text, DRIVER_UUID_TEXT, "GPU");

	for (size_t i = 0; i < sizeof(uuid->bytes); i++) {
		const bool begins = i == 0 || i == 4 || i == 6 || i == 8 || i == 10;

		length += (size_t)snprintf(text + length, DRIVER_UUID_TEXT - length, "%s%02x",
					   begins ? "-" : "", (unsigned char)uuid->bytes[i]);
	}

	return text;
}

const char *driver_error_name(const struct driver *driver, CUresult result)
{
	static _Thread_local char unknown[32];
	const char *name = NULL;

	switch (result) {
#define CUDA_CONSTANT(constant, value)                                                             \
	case constant:                                                                             \
		return #constant;
		CUDA_RESULTS(CUDA_CONSTANT)
#undef CUDA_CONSTANT
	}

	if (driver != NULL && driver->cuGetErrorName(result, &name) == CUDA_SUCCESS && name != NULL)
		return name;

	snprintf(unknown, sizeof(unknown), "CUDA_ERROR_%d", (int)result);

	return unknown;
}

bool driver_error_is_sticky(CUresult result)
{
	switch (result) {
	case CUDA_ERROR_ECC_UNCORRECTABLE:
	case CUDA_ERROR_NVLINK_UNCORRECTABLE:
	case CUDA_ERROR_ILLEGAL_ADDRESS:
	case CUDA_ERROR_LAUNCH_TIMEOUT:
	case CUDA_ERROR_ASSERT:
	case CUDA_ERROR_HARDWARE_STACK_ERROR:
	case CUDA_ERROR_ILLEGAL_INSTRUCTION:
	case CUDA_ERROR_MISALIGNED_ADDRESS:
	case CUDA_ERROR_INVALID_ADDRESS_SPACE:
	case CUDA_ERROR_INVALID_PC:
	case CUDA_ERROR_LAUNCH_FAILED:
	case CUDA_ERROR_CONTAINED:
	case CUDA_ERROR_TENSOR_MEMORY_LEAK:
	case CUDA_ERROR_MPS_CLIENT_TERMINATED:
		return true;
	default:
		return false;
	}
}
