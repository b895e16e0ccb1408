/* SPDX-License-Identifier: Apache-2.0 */
/*
 * allocator: memory for torch.cuda.CUDAPluggableAllocator: two functions that the extension exports
 * by name, each allocation a region of the connection that was given to hbm.torch.allocator().
 *
 * torch calls them from any thread, with the GIL or without, so they take the connection's lock
 * alone. A region that is in use by its address, as connection._allocation() gives it, is
 * destroyed when both have let it go.
 */
#pragma once

#include "client/python/native/native.h"

#include <sys/types.h>

struct allocation;
struct core;

/* NULL: there is no memory, or no connection. The stream is not looked at. */
__attribute__((visibility("default"))) void *hbm_torch_alloc(ssize_t bytes, int device,
							     void *stream);
__attribute__((visibility("default"))) void hbm_torch_free(void *address, ssize_t bytes, int device,
							   void *stream);

/* The area of a region takes back its use of an allocation. */
void allocation_leave(struct core *core, struct allocation *allocation);
/* Those of a connection that is closed now. */
void allocation_forget(struct core *core);
