/* SPDX-License-Identifier: Apache-2.0 */
/* device_record: what the daemon says of its first device. */
#pragma once

#include <hbm/hbm.h>

struct hbm_wire_device device_record(struct hbm *hbm);
