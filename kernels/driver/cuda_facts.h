/* SPDX-License-Identifier: Apache-2.0 */
/*
 * cuda_facts: what this project relies on of the CUDA Driver API's binary interface, as
 * lists without declarations: names with their numbers, where the members of structs lie,
 * and the entry points with their exported symbols and arguments. cuda_abi.h turns the
 * lists into declarations; a test puts the same lists beside <cuda.h>, where there is
 * one, and compares. A number is written here once.
 *
 * Symbols carry their version suffix and are looked up by that name. cuGetProcAddress is
 * not used: for a recent version it answers with functions of other signatures under the
 * same names (cuCtxSynchronize takes a context since 13.0), and what we ask for must be
 * the same function on every driver since CUDA 11.7. cuEventElapsedTime is the exported
 * name of the first version, which all of them have.
 *
 * What came later than 11.7 is optional: a driver without it is not too old. Copying a batch
 * is of CUDA 12.8; 13.0 has another signature for it.
 */
#pragma once

/* X(name, value) */
#define CUDA_RESULTS(X)                                                                            \
	X(CUDA_SUCCESS, 0)                                                                         \
	X(CUDA_ERROR_INVALID_VALUE, 1)                                                             \
	X(CUDA_ERROR_OUT_OF_MEMORY, 2)                                                             \
	X(CUDA_ERROR_NOT_INITIALIZED, 3)                                                           \
	X(CUDA_ERROR_DEINITIALIZED, 4)                                                             \
	X(CUDA_ERROR_STUB_LIBRARY, 34)                                                             \
	X(CUDA_ERROR_DEVICE_UNAVAILABLE, 46)                                                       \
	X(CUDA_ERROR_NO_DEVICE, 100)                                                               \
	X(CUDA_ERROR_INVALID_DEVICE, 101)                                                          \
	X(CUDA_ERROR_INVALID_IMAGE, 200)                                                           \
	X(CUDA_ERROR_INVALID_CONTEXT, 201)                                                         \
	X(CUDA_ERROR_MAP_FAILED, 205)                                                              \
	X(CUDA_ERROR_UNMAP_FAILED, 206)                                                            \
	X(CUDA_ERROR_ALREADY_MAPPED, 208)                                                          \
	X(CUDA_ERROR_NO_BINARY_FOR_GPU, 209)                                                       \
	X(CUDA_ERROR_NOT_MAPPED, 211)                                                              \
	X(CUDA_ERROR_ECC_UNCORRECTABLE, 214)                                                       \
	X(CUDA_ERROR_INVALID_PTX, 218)                                                             \
	X(CUDA_ERROR_NVLINK_UNCORRECTABLE, 220)                                                    \
	X(CUDA_ERROR_JIT_COMPILER_NOT_FOUND, 221)                                                  \
	X(CUDA_ERROR_UNSUPPORTED_PTX_VERSION, 222)                                                 \
	X(CUDA_ERROR_CONTAINED, 226)                                                               \
	X(CUDA_ERROR_OPERATING_SYSTEM, 304)                                                        \
	X(CUDA_ERROR_INVALID_HANDLE, 400)                                                          \
	X(CUDA_ERROR_ILLEGAL_STATE, 401)                                                           \
	X(CUDA_ERROR_NOT_FOUND, 500)                                                               \
	X(CUDA_ERROR_NOT_READY, 600)                                                               \
	X(CUDA_ERROR_ILLEGAL_ADDRESS, 700)                                                         \
	X(CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES, 701)                                                 \
	X(CUDA_ERROR_LAUNCH_TIMEOUT, 702)                                                          \
	X(CUDA_ERROR_CONTEXT_IS_DESTROYED, 709)                                                    \
	X(CUDA_ERROR_ASSERT, 710)                                                                  \
	X(CUDA_ERROR_HOST_MEMORY_ALREADY_REGISTERED, 712)                                          \
	X(CUDA_ERROR_HOST_MEMORY_NOT_REGISTERED, 713)                                              \
	X(CUDA_ERROR_HARDWARE_STACK_ERROR, 714)                                                    \
	X(CUDA_ERROR_ILLEGAL_INSTRUCTION, 715)                                                     \
	X(CUDA_ERROR_MISALIGNED_ADDRESS, 716)                                                      \
	X(CUDA_ERROR_INVALID_ADDRESS_SPACE, 717)                                                   \
	X(CUDA_ERROR_INVALID_PC, 718)                                                              \
	X(CUDA_ERROR_LAUNCH_FAILED, 719)                                                           \
	X(CUDA_ERROR_TENSOR_MEMORY_LEAK, 721)                                                      \
	X(CUDA_ERROR_NOT_PERMITTED, 800)                                                           \
	X(CUDA_ERROR_NOT_SUPPORTED, 801)                                                           \
	X(CUDA_ERROR_SYSTEM_NOT_READY, 802)                                                        \
	X(CUDA_ERROR_SYSTEM_DRIVER_MISMATCH, 803)                                                  \
	X(CUDA_ERROR_MPS_CLIENT_TERMINATED, 810)                                                   \
	X(CUDA_ERROR_UNKNOWN, 999)

#define CUDA_DEVICE_ATTRIBUTES(X)                                                                  \
	X(CU_DEVICE_ATTRIBUTE_MAX_PITCH, 11)                                                       \
	X(CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT, 16)                                            \
	X(CU_DEVICE_ATTRIBUTE_COMPUTE_MODE, 20)                                                    \
	X(CU_DEVICE_ATTRIBUTE_PCI_BUS_ID, 33)                                                      \
	X(CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID, 34)                                                   \
	X(CU_DEVICE_ATTRIBUTE_ASYNC_ENGINE_COUNT, 40)                                              \
	X(CU_DEVICE_ATTRIBUTE_UNIFIED_ADDRESSING, 41)                                              \
	X(CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID, 50)                                                   \
	X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR, 75)                                        \
	X(CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR, 76)                                        \
	X(CU_DEVICE_ATTRIBUTE_CAN_USE_HOST_POINTER_FOR_REGISTERED_MEM, 91)                         \
	X(CU_DEVICE_ATTRIBUTE_CAN_FLUSH_REMOTE_WRITES, 98)                                         \
	X(CU_DEVICE_ATTRIBUTE_HOST_REGISTER_SUPPORTED, 99)                                         \
	X(CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED, 102)                            \
	X(CU_DEVICE_ATTRIBUTE_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR_SUPPORTED, 103)                    \
	X(CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED, 110)                        \
	X(CU_DEVICE_ATTRIBUTE_READ_ONLY_HOST_REGISTER_SUPPORTED, 113)                              \
	X(CU_DEVICE_ATTRIBUTE_CAN_USE_64_BIT_STREAM_MEM_OPS, 122)                                  \
	X(CU_DEVICE_ATTRIBUTE_CAN_USE_STREAM_WAIT_VALUE_NOR, 123)

#define CUDA_ALLOCATION_TYPES(X)                                                                   \
	X(CU_MEM_ALLOCATION_TYPE_INVALID, 0) X(CU_MEM_ALLOCATION_TYPE_PINNED, 1)
#define CUDA_HANDLE_TYPES(X)                                                                       \
	X(CU_MEM_HANDLE_TYPE_NONE, 0) X(CU_MEM_HANDLE_TYPE_POSIX_FILE_DESCRIPTOR, 1)
#define CUDA_LOCATION_TYPES(X)                                                                     \
	X(CU_MEM_LOCATION_TYPE_INVALID, 0)                                                         \
	X(CU_MEM_LOCATION_TYPE_DEVICE, 1)                                                          \
	X(CU_MEM_LOCATION_TYPE_HOST, 2) X(CU_MEM_LOCATION_TYPE_HOST_NUMA, 3)
#define CUDA_ACCESS_FLAGS(X)                                                                       \
	X(CU_MEM_ACCESS_FLAGS_PROT_NONE, 0)                                                        \
	X(CU_MEM_ACCESS_FLAGS_PROT_READ, 1) X(CU_MEM_ACCESS_FLAGS_PROT_READWRITE, 3)
#define CUDA_MEMORY_TYPES(X)                                                                       \
	X(CU_MEMORYTYPE_HOST, 1)                                                                   \
	X(CU_MEMORYTYPE_DEVICE, 2)                                                                 \
	X(CU_MEMORYTYPE_ARRAY, 3) X(CU_MEMORYTYPE_UNIFIED, 4)
#define CUDA_ACCESS_ORDERS(X)                                                                      \
	X(CU_MEMCPY_SRC_ACCESS_ORDER_INVALID, 0)                                                   \
	X(CU_MEMCPY_SRC_ACCESS_ORDER_STREAM, 1)                                                    \
	X(CU_MEMCPY_SRC_ACCESS_ORDER_DURING_API_CALL, 2) X(CU_MEMCPY_SRC_ACCESS_ORDER_ANY, 3)
#define CUDA_GRANULARITIES(X)                                                                      \
	X(CU_MEM_ALLOC_GRANULARITY_MINIMUM, 0) X(CU_MEM_ALLOC_GRANULARITY_RECOMMENDED, 1)

/* Flags that travel as plain unsigned ints. */
#define CUDA_FLAGS(X)                                                                              \
	X(CU_STREAM_DEFAULT, 0)                                                                    \
	X(CU_STREAM_NON_BLOCKING, 1)                                                               \
	X(CU_EVENT_DEFAULT, 0)                                                                     \
	X(CU_EVENT_BLOCKING_SYNC, 1)                                                               \
	X(CU_EVENT_DISABLE_TIMING, 2)                                                              \
	X(CU_STREAM_WAIT_VALUE_GEQ, 0)                                                             \
	X(CU_STREAM_WAIT_VALUE_EQ, 1)                                                              \
	X(CU_STREAM_WAIT_VALUE_AND, 2)                                                             \
	X(CU_STREAM_WAIT_VALUE_NOR, 3)                                                             \
	X(CU_STREAM_WRITE_VALUE_DEFAULT, 0)                                                        \
	X(CU_STREAM_WRITE_VALUE_NO_MEMORY_BARRIER, 1)                                              \
	X(CU_MEMHOSTREGISTER_PORTABLE, 1)                                                          \
	X(CU_MEMHOSTREGISTER_DEVICEMAP, 2)                                                         \
	X(CU_MEMHOSTREGISTER_IOMEMORY, 4)                                                          \
	X(CU_MEMHOSTREGISTER_READ_ONLY, 8)                                                         \
	X(CU_IPC_MEM_LAZY_ENABLE_PEER_ACCESS, 1)

#define CUDA_BATCH_FLAGS(X)                                                                        \
	X(CU_MEMCPY_FLAG_DEFAULT, 0) X(CU_MEMCPY_FLAG_PREFER_OVERLAP_WITH_COMPUTE, 1)

/* X(type, size) */
#define CUDA_SIZES(X)                                                                              \
	X(CUresult, 4)                                                                             \
	X(CUdevice, 4)                                                                             \
	X(CUdevice_attribute, 4)                                                                   \
	X(CUdeviceptr, 8)                                                                          \
	X(CUcontext, 8)                                                                            \
	X(CUstream, 8)                                                                             \
	X(CUevent, 8)                                                                              \
	X(CUmodule, 8)                                                                             \
	X(CUfunction, 8)                                                                           \
	X(CUuuid, 16)                                                                              \
	X(CUmemGenericAllocationHandle, 8)                                                         \
	X(CUipcMemHandle, 64)                                                                      \
	X(CUmemAllocationHandleType, 4)                                                            \
	X(CUmemAllocationGranularity_flags, 4)                                                     \
	X(CUmemLocation, 8)                                                                        \
	X(CUmemAccessDesc, 12)                                                                     \
	X(CUmemAllocationProp, 32)                                                                 \
	X(CUmemorytype, 4)                                                                         \
	X(CUDA_MEMCPY2D, 128)

#define CUDA_BATCH_SIZES(X) X(CUmemcpySrcAccessOrder, 4) X(CUmemcpyAttributes, 24)

/* X(type, member, offset, size) */
#define CUDA_MEMBERS(X)                                                                            \
	X(CUuuid, bytes, 0, 16)                                                                    \
	X(CUipcMemHandle, reserved, 0, 64)                                                         \
	X(CUmemLocation, type, 0, 4)                                                               \
	X(CUmemLocation, id, 4, 4)                                                                 \
	X(CUmemAccessDesc, location, 0, 8)                                                         \
	X(CUmemAccessDesc, flags, 8, 4)                                                            \
	X(CUmemAllocationProp, type, 0, 4)                                                         \
	X(CUmemAllocationProp, requestedHandleTypes, 4, 4)                                         \
	X(CUmemAllocationProp, location, 8, 8)                                                     \
	X(CUmemAllocationProp, win32HandleMetaData, 16, 8)                                         \
	X(CUmemAllocationProp, allocFlags, 24, 8)                                                  \
	X(CUmemAllocationProp, allocFlags.compressionType, 24, 1)                                  \
	X(CUmemAllocationProp, allocFlags.gpuDirectRDMACapable, 25, 1)                             \
	X(CUmemAllocationProp, allocFlags.usage, 26, 2)                                            \
	X(CUmemAllocationProp, allocFlags.reserved, 28, 4)                                         \
	X(CUDA_MEMCPY2D, srcXInBytes, 0, 8)                                                        \
	X(CUDA_MEMCPY2D, srcY, 8, 8)                                                               \
	X(CUDA_MEMCPY2D, srcMemoryType, 16, 4)                                                     \
	X(CUDA_MEMCPY2D, srcHost, 24, 8)                                                           \
	X(CUDA_MEMCPY2D, srcDevice, 32, 8)                                                         \
	X(CUDA_MEMCPY2D, srcArray, 40, 8)                                                          \
	X(CUDA_MEMCPY2D, srcPitch, 48, 8)                                                          \
	X(CUDA_MEMCPY2D, dstXInBytes, 56, 8)                                                       \
	X(CUDA_MEMCPY2D, dstY, 64, 8)                                                              \
	X(CUDA_MEMCPY2D, dstMemoryType, 72, 4)                                                     \
	X(CUDA_MEMCPY2D, dstHost, 80, 8)                                                           \
	X(CUDA_MEMCPY2D, dstDevice, 88, 8)                                                         \
	X(CUDA_MEMCPY2D, dstArray, 96, 8)                                                          \
	X(CUDA_MEMCPY2D, dstPitch, 104, 8)                                                         \
	X(CUDA_MEMCPY2D, WidthInBytes, 112, 8)                                                     \
	X(CUDA_MEMCPY2D, Height, 120, 8)

#define CUDA_BATCH_MEMBERS(X)                                                                      \
	X(CUmemcpyAttributes, srcAccessOrder, 0, 4)                                                \
	X(CUmemcpyAttributes, srcLocHint, 4, 8)                                                    \
	X(CUmemcpyAttributes, dstLocHint, 12, 8)                                                   \
	X(CUmemcpyAttributes, flags, 20, 4)

/* X(name, exported symbol, arguments); every one returns CUresult. */
#define DRIVER_CALLS(X)                                                                            \
	X(cuInit, "cuInit", (unsigned int flags))                                                  \
	X(cuDriverGetVersion, "cuDriverGetVersion", (int *version))                                \
	X(cuGetErrorName, "cuGetErrorName", (CUresult result, const char **name))                  \
	X(cuGetErrorString, "cuGetErrorString", (CUresult result, const char **text))              \
                                                                                                   \
	X(cuDeviceGet, "cuDeviceGet", (CUdevice * device, int ordinal))                            \
	X(cuDeviceGetCount, "cuDeviceGetCount", (int *count))                                      \
	X(cuDeviceGetName, "cuDeviceGetName", (char *name, int length, CUdevice device))           \
	X(cuDeviceGetAttribute, "cuDeviceGetAttribute",                                            \
	  (int *value, CUdevice_attribute attribute, CUdevice device))                             \
	X(cuDeviceGetUuid, "cuDeviceGetUuid_v2", (CUuuid * uuid, CUdevice device))                 \
	X(cuDeviceTotalMem, "cuDeviceTotalMem_v2", (size_t * bytes, CUdevice device))              \
	X(cuDeviceGetPCIBusId, "cuDeviceGetPCIBusId", (char *id, int length, CUdevice device))     \
                                                                                                   \
	X(cuDevicePrimaryCtxRetain, "cuDevicePrimaryCtxRetain",                                    \
	  (CUcontext * context, CUdevice device))                                                  \
	X(cuDevicePrimaryCtxRelease, "cuDevicePrimaryCtxRelease_v2", (CUdevice device))            \
	X(cuCtxSetCurrent, "cuCtxSetCurrent", (CUcontext context))                                 \
	X(cuCtxGetCurrent, "cuCtxGetCurrent", (CUcontext * context))                               \
	X(cuCtxSynchronize, "cuCtxSynchronize", (void))                                            \
	X(cuCtxGetStreamPriorityRange, "cuCtxGetStreamPriorityRange", (int *least, int *greatest)) \
	X(cuMemGetInfo, "cuMemGetInfo_v2", (size_t * free_bytes, size_t * total_bytes))            \
                                                                                                   \
	X(cuMemGetAllocationGranularity, "cuMemGetAllocationGranularity",                          \
	  (size_t * granularity, const CUmemAllocationProp *prop,                                  \
	   CUmemAllocationGranularity_flags option))                                               \
	X(cuMemCreate, "cuMemCreate",                                                              \
	  (CUmemGenericAllocationHandle * handle, size_t bytes, const CUmemAllocationProp *prop,   \
	   unsigned long long flags))                                                              \
	X(cuMemRelease, "cuMemRelease", (CUmemGenericAllocationHandle handle))                     \
	X(cuMemExportToShareableHandle, "cuMemExportToShareableHandle",                            \
	  (void *shareable, CUmemGenericAllocationHandle handle, CUmemAllocationHandleType type,   \
	   unsigned long long flags))                                                              \
	X(cuMemImportFromShareableHandle, "cuMemImportFromShareableHandle",                        \
	  (CUmemGenericAllocationHandle * handle, void *shareable,                                 \
	   CUmemAllocationHandleType type))                                                        \
	X(cuMemAddressReserve, "cuMemAddressReserve",                                              \
	  (CUdeviceptr * address, size_t bytes, size_t alignment, CUdeviceptr hint,                \
	   unsigned long long flags))                                                              \
	X(cuMemAddressFree, "cuMemAddressFree", (CUdeviceptr address, size_t bytes))               \
	X(cuMemMap, "cuMemMap",                                                                    \
	  (CUdeviceptr address, size_t bytes, size_t offset, CUmemGenericAllocationHandle handle,  \
	   unsigned long long flags))                                                              \
	X(cuMemUnmap, "cuMemUnmap", (CUdeviceptr address, size_t bytes))                           \
	X(cuMemSetAccess, "cuMemSetAccess",                                                        \
	  (CUdeviceptr address, size_t bytes, const CUmemAccessDesc *accesses, size_t count))      \
	X(cuMemGetAccess, "cuMemGetAccess",                                                        \
	  (unsigned long long *flags, const CUmemLocation *location, CUdeviceptr address))         \
	X(cuMemRetainAllocationHandle, "cuMemRetainAllocationHandle",                              \
	  (CUmemGenericAllocationHandle * handle, void *address))                                  \
	X(cuMemGetAllocationPropertiesFromHandle, "cuMemGetAllocationPropertiesFromHandle",        \
	  (CUmemAllocationProp * prop, CUmemGenericAllocationHandle handle))                       \
                                                                                                   \
	X(cuMemHostRegister, "cuMemHostRegister_v2",                                               \
	  (void *address, size_t bytes, unsigned int flags))                                       \
	X(cuMemHostUnregister, "cuMemHostUnregister", (void *address))                             \
	X(cuMemHostGetDevicePointer, "cuMemHostGetDevicePointer_v2",                               \
	  (CUdeviceptr * device_address, void *address, unsigned int flags))                       \
                                                                                                   \
	X(cuMemcpyHtoD, "cuMemcpyHtoD_v2", (CUdeviceptr target, const void *source, size_t bytes)) \
	X(cuMemcpyDtoH, "cuMemcpyDtoH_v2", (void *target, CUdeviceptr source, size_t bytes))       \
	X(cuMemcpyHtoDAsync, "cuMemcpyHtoDAsync_v2",                                               \
	  (CUdeviceptr target, const void *source, size_t bytes, CUstream stream))                 \
	X(cuMemcpyDtoHAsync, "cuMemcpyDtoHAsync_v2",                                               \
	  (void *target, CUdeviceptr source, size_t bytes, CUstream stream))                       \
	X(cuMemcpyDtoDAsync, "cuMemcpyDtoDAsync_v2",                                               \
	  (CUdeviceptr target, CUdeviceptr source, size_t bytes, CUstream stream))                 \
	X(cuMemcpy2DAsync, "cuMemcpy2DAsync_v2", (const CUDA_MEMCPY2D *copy, CUstream stream))     \
	X(cuMemsetD8Async, "cuMemsetD8Async",                                                      \
	  (CUdeviceptr target, unsigned char value, size_t bytes, CUstream stream))                \
                                                                                                   \
	X(cuStreamCreate, "cuStreamCreate", (CUstream * stream, unsigned int flags))               \
	X(cuStreamCreateWithPriority, "cuStreamCreateWithPriority",                                \
	  (CUstream * stream, unsigned int flags, int priority))                                   \
	X(cuStreamDestroy, "cuStreamDestroy_v2", (CUstream stream))                                \
	X(cuStreamQuery, "cuStreamQuery", (CUstream stream))                                       \
	X(cuStreamSynchronize, "cuStreamSynchronize", (CUstream stream))                           \
	X(cuStreamWaitEvent, "cuStreamWaitEvent",                                                  \
	  (CUstream stream, CUevent event, unsigned int flags))                                    \
	X(cuStreamWriteValue64, "cuStreamWriteValue64_v2",                                         \
	  (CUstream stream, CUdeviceptr address, uint64_t value, unsigned int flags))              \
	X(cuStreamWaitValue64, "cuStreamWaitValue64_v2",                                           \
	  (CUstream stream, CUdeviceptr address, uint64_t value, unsigned int flags))              \
	X(cuLaunchHostFunc, "cuLaunchHostFunc",                                                    \
	  (CUstream stream, CUhostFn function, void *argument))                                    \
                                                                                                   \
	X(cuEventCreate, "cuEventCreate", (CUevent * event, unsigned int flags))                   \
	X(cuEventDestroy, "cuEventDestroy_v2", (CUevent event))                                    \
	X(cuEventRecord, "cuEventRecord", (CUevent event, CUstream stream))                        \
	X(cuEventQuery, "cuEventQuery", (CUevent event))                                           \
	X(cuEventSynchronize, "cuEventSynchronize", (CUevent event))                               \
	X(cuEventElapsedTime, "cuEventElapsedTime",                                                \
	  (float *milliseconds, CUevent start, CUevent end))                                       \
                                                                                                   \
	X(cuModuleLoadData, "cuModuleLoadData", (CUmodule * module, const void *image))            \
	X(cuModuleUnload, "cuModuleUnload", (CUmodule module))                                     \
	X(cuModuleGetFunction, "cuModuleGetFunction",                                              \
	  (CUfunction * function, CUmodule module, const char *name))                              \
	X(cuLaunchKernel, "cuLaunchKernel",                                                        \
	  (CUfunction function, unsigned int grid_x, unsigned int grid_y, unsigned int grid_z,     \
	   unsigned int block_x, unsigned int block_y, unsigned int block_z,                       \
	   unsigned int shared_bytes, CUstream stream, void **params, void **extra))

/*
 * The same of entry points that a driver may lack: their members of the table are then NULL.
 * Memory of cuMemAlloc is the only kind that has a handle of cuIpcGetMemHandle.
 */
#define DRIVER_OPTIONAL_CALLS(X)                                                                   \
	X(cuMemAlloc, "cuMemAlloc_v2", (CUdeviceptr * address, size_t bytes))                      \
	X(cuMemFree, "cuMemFree_v2", (CUdeviceptr address))                                        \
	X(cuMemGetAddressRange, "cuMemGetAddressRange_v2",                                         \
	  (CUdeviceptr * base, size_t * bytes, CUdeviceptr address))                               \
	X(cuIpcGetMemHandle, "cuIpcGetMemHandle", (CUipcMemHandle * handle, CUdeviceptr address))  \
	X(cuIpcOpenMemHandle, "cuIpcOpenMemHandle_v2",                                             \
	  (CUdeviceptr * address, CUipcMemHandle handle, unsigned int flags))                      \
	X(cuIpcCloseMemHandle, "cuIpcCloseMemHandle", (CUdeviceptr address))

/* Copies in batches, optional too: as they are since CUDA 13.0, and since 12.8. */
#define DRIVER_CALLS_13_0(X)                                                                       \
	X(cuMemcpyBatchAsync, "cuMemcpyBatchAsync_v2",                                             \
	  (CUdeviceptr * targets, CUdeviceptr * sources, size_t * sizes, size_t count,             \
	   CUmemcpyAttributes * attributes, size_t * firsts, size_t attribute_count,               \
	   CUstream stream))
#define DRIVER_CALLS_12_8(X)                                                                       \
	X(cuMemcpyBatchAsync_v1, "cuMemcpyBatchAsync",                                             \
	  (CUdeviceptr * targets, CUdeviceptr * sources, size_t * sizes, size_t count,             \
	   CUmemcpyAttributes * attributes, size_t * firsts, size_t attribute_count,               \
	   size_t * failed, CUstream stream))
#define DRIVER_BATCH_CALLS(X) DRIVER_CALLS_13_0(X) DRIVER_CALLS_12_8(X)

#define DRIVER_ALL_CALLS(X) DRIVER_CALLS(X) DRIVER_OPTIONAL_CALLS(X) DRIVER_BATCH_CALLS(X)
