/* SPDX-License-Identifier: Apache-2.0 */
/* device_facts: what a device is, asked of the driver before it is opened. What it must be
 * able to do is device_check()'s. */
#pragma once

#include "daemon/device/device.h"

/* Asks for all but the node; where a call fails, its name is in call. */
CUresult device_facts_ask(struct device *device, const char **call);
/* The NUMA node that it is near. Where the driver does not say at which place of the bus the
 * device is, all of the host is alike. */
void device_facts_ask_node(struct device *device);
