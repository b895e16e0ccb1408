/* SPDX-License-Identifier: Apache-2.0 */
/* machine: records of what the machine is, and of which kernel calls hbmd finds on it: a
 * container may refuse some. */
#pragma once

void machine_facts(void);
