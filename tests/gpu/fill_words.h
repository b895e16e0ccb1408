/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fill_words: the smallest kernel there is something to see of: thread i of the grid
 * writes value + i into word i, where i is below the count. For a device in
 * fill_words.cu, for the soft device in fill_words.c.
 *
 * 	fill_words(unsigned *target, unsigned value, unsigned count)
 */
#pragma once

#include "kernels/driver/driver.h"

#include <stdbool.h>

extern const char fill_words_ptx[];

/* Gives the host function to the soft driver; nothing to do on a real one. False: it was
 * refused. */
bool fill_words_give(const struct driver *driver);
