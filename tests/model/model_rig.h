/* SPDX-License-Identifier: Apache-2.0 */
/*
 * model_rig: what the tests of the model share: one with weights of seed 1, and rooms for its
 * KV.
 */
#pragma once

#include "tests/model/model_run.h"

#define MODEL_RIG_ROOM ((size_t)64 << 20) /* bytes; backed where they are used */
enum { MODEL_RIG_TOKENS = 2048 };         /* at most, of a sequence in a room */

extern struct model *model;
extern unsigned char *room[3]; /* shared with children */

/* cmocka's, of a group. */
int model_rig_setup(void **state);
int model_rig_teardown(void **state);

/* KV without gaps, each layer's keys and values apart. */
struct model_kv model_rig_plain(enum model_number number, unsigned char *base);
/* Fails the test if they differ in a token or in what it was chosen from. */
void model_rig_same(const struct model_run *a, const struct model_run *b);
