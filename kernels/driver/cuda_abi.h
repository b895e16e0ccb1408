/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_abi: our own declarations of the part of the CUDA Driver API this project uses, so
 * that building needs no CUDA toolkit. Made from the lists of cuda_facts.h; names are
 * those of the API so that its documentation applies. Not to be included together with
 * <cuda.h>.
 *
 * An enum here has fewer constants than the driver's: a CUresult that is not among them
 * is possible at any time.
 */
#pragma once

#include "kernels/driver/cuda_facts.h"

#include <assert.h>
#include <stddef.h>
#include <stdint.h>

#define CUDA_CONSTANT(name, value) name = (value),

typedef enum { CUDA_RESULTS(CUDA_CONSTANT) } CUresult;
typedef enum { CUDA_DEVICE_ATTRIBUTES(CUDA_CONSTANT) } CUdevice_attribute;
typedef enum { CUDA_ALLOCATION_TYPES(CUDA_CONSTANT) } CUmemAllocationType;
typedef enum { CUDA_HANDLE_TYPES(CUDA_CONSTANT) } CUmemAllocationHandleType;
typedef enum { CUDA_LOCATION_TYPES(CUDA_CONSTANT) } CUmemLocationType;
typedef enum { CUDA_ACCESS_FLAGS(CUDA_CONSTANT) } CUmemAccess_flags;
typedef enum { CUDA_GRANULARITIES(CUDA_CONSTANT) } CUmemAllocationGranularity_flags;
typedef enum { CUDA_MEMORY_TYPES(CUDA_CONSTANT) } CUmemorytype;
typedef enum { CUDA_ACCESS_ORDERS(CUDA_CONSTANT) } CUmemcpySrcAccessOrder;
enum { CUDA_FLAGS(CUDA_CONSTANT) CUDA_BATCH_FLAGS(CUDA_CONSTANT) };

#undef CUDA_CONSTANT

typedef int CUdevice; /* an ordinal */
typedef unsigned long long CUdeviceptr;
typedef unsigned long long CUmemGenericAllocationHandle;
typedef struct CUctx_st *CUcontext;
typedef struct CUstream_st *CUstream;
typedef struct CUevent_st *CUevent;
typedef struct CUmod_st *CUmodule;
typedef struct CUfunc_st *CUfunction;
typedef struct CUarray_st *CUarray;
typedef void (*CUhostFn)(void *argument);

typedef struct {
	char bytes[16];
} CUuuid;

typedef struct {
	char reserved[64]; /* the driver's; means something in other processes of the machine */
} CUipcMemHandle;

typedef struct {
	CUmemLocationType type;
	int id; /* of the device, when type says device */
} CUmemLocation;

typedef struct {
	CUmemLocation location;
	CUmemAccess_flags flags;
} CUmemAccessDesc;

typedef struct {
	CUmemAllocationType type;
	CUmemAllocationHandleType requestedHandleTypes; /* how it may be exported */
	CUmemLocation location;
	void *win32HandleMetaData; /* NULL here */
	struct {
		unsigned char compressionType;
		unsigned char gpuDirectRDMACapable;
		unsigned short usage;
		unsigned char reserved[4];
	} allocFlags;
} CUmemAllocationProp;

/* A copy of rows, whose beginnings are a pitch apart on either side. */
typedef struct {
	size_t srcXInBytes, srcY; /* where to begin: a byte of a row */
	CUmemorytype srcMemoryType;
	const void *srcHost;
	CUdeviceptr srcDevice;
	CUarray srcArray;
	size_t srcPitch; /* at least the width, at most MAX_PITCH */

	size_t dstXInBytes, dstY;
	CUmemorytype dstMemoryType;
	void *dstHost;
	CUdeviceptr dstDevice;
	CUarray dstArray;
	size_t dstPitch;

	size_t WidthInBytes, Height;
} CUDA_MEMCPY2D;

/* Of copies of a batch. */
typedef struct {
	CUmemcpySrcAccessOrder srcAccessOrder;
	CUmemLocation srcLocHint, dstLocHint; /* of managed and pageable memory */
	unsigned int flags;
} CUmemcpyAttributes;

#define CUDA_SIZE_HOLDS(type, size) static_assert(sizeof(type) == (size), "size of " #type);
#define CUDA_MEMBER_HOLDS(type, member, offset, size)                                              \
	static_assert(offsetof(type, member) == (offset), "offset of " #type "." #member);         \
	static_assert(sizeof(((type *)0)->member) == (size), "size of " #type "." #member);
CUDA_SIZES(CUDA_SIZE_HOLDS)
CUDA_MEMBERS(CUDA_MEMBER_HOLDS)
CUDA_BATCH_SIZES(CUDA_SIZE_HOLDS)
CUDA_BATCH_MEMBERS(CUDA_MEMBER_HOLDS)
#undef CUDA_SIZE_HOLDS
#undef CUDA_MEMBER_HOLDS
