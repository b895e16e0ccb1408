/* SPDX-License-Identifier: Apache-2.0 */
/*
 * order_fifo: the block that came to a tier first goes first, however often it has been
 * used since. A second kind of order for tests: it ignores uses, promises nothing of
 * parents, and keeps its own list instead of links in the entries.
 */
#pragma once

#include "daemon/cache/order.h"

extern const struct order_ops order_fifo;
