/* SPDX-License-Identifier: Apache-2.0 */
/* catalog_rows: records of a catalog that tests make up: the n-th has key n, lies at unit
 * 16 * n and is 16 units long. */
#pragma once

#include "daemon/catalog/catalog_contents.h"

enum { CATALOG_ROW_UNITS = 16 };

struct hbm_wire_key catalog_row_key(uint32_t n);
/* Of namespace 1; parent 0: a root. */
struct catalog_block catalog_row(uint32_t n, uint32_t parent, uint64_t stamp);
struct catalog_namespace catalog_row_namespace(uint64_t id);
/* Makes a file with the first `count` of them, roots of namespace 1, of the NVMe file 1, 0, 0, ... */
void catalog_rows_store(const char *path, uint32_t count);
