/* SPDX-License-Identifier: Apache-2.0 */
/*
 * effort: how much is done of what a test does over and over: HBM_TEST_EFFORT percent of it, 100
 * unless it is set, for programs that take many times as long under a sanitizer.
 */
#pragma once

unsigned effort_of(unsigned count); /* at least 1 */
/* From one of many that are alike to the next that has its turn. */
unsigned effort_stride(void);
