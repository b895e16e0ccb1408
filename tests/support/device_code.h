/* SPDX-License-Identifier: Apache-2.0 */
/*
 * device_code: kernels that are written twice: for a device in NAME.cu, of which clang
 * makes PTX that becomes part of NAME.c, and for the soft device as a host function
 * there.
 */
#pragma once

#include "kernels/device/ptx.h"
#include "kernels/driver/driver.h"
#include "kernels/soft/soft.h"

#include <stdbool.h>

/* Gives the host function to the soft driver; nothing to do on a real one. False: it was
 * refused. */
bool device_code_give(const struct driver *driver, const struct hbm_soft_kernel *kernel);
