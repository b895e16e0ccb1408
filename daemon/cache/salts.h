/* SPDX-License-Identifier: Apache-2.0 */
/*
 * salts: the salts of all namespaces, by their numbers. A salt is a secret between the
 * clients that know it, so it is kept once, in memory of its own that a core dump leaves
 * out, it is overwritten when its namespace is forgotten, and no log line or digest is made of
 * it. The catalog has a record of it (catalog.h), in a file beside the bytes that it protects, so
 * that a namespace is found again by those who know it. So has the state (namespace_record.h): the
 * salt of a namespace with a record there is there alone.
 *
 * They are kept and not hashed: a salt that can be guessed is found from a hash, too, and
 * what would key the hash would lie in the same memory.
 */
#pragma once

#include <hbm/wire.h>
#include <stdbool.h>
#include <stdint.h>

struct salts;

/* For the numbers 0 to max; all are empty. Negative errno. */
int salts_new(struct salts **out, uint64_t max);
struct salts *salts_free(struct salts *salts);
void salts_set(struct salts *salts, uint64_t number, const char salt[HBM_WIRE_NAME_BYTES]);
/* Takes as long for a wrong salt as for a right one. */
bool salts_equal(const struct salts *salts, uint64_t number, const char salt[HBM_WIRE_NAME_BYTES]);
/* The same of two salts. */
bool salts_same(const char one[HBM_WIRE_NAME_BYTES], const char other[HBM_WIRE_NAME_BYTES]);
void salts_copy(const struct salts *salts, uint64_t number, char salt[HBM_WIRE_NAME_BYTES]);
void salts_clear(struct salts *salts, uint64_t number);
