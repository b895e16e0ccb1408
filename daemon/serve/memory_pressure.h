/* SPDX-License-Identifier: Apache-2.0 */
/*
 * memory_pressure: the DDR tier makes way when the host is short of memory: while its tasks wait for
 * memory longer than ddr.pressure_ms of each two seconds, the tier shrinks (resize.h), a step at a
 * time, to ddr.pressure_least; after ddr.pressure_quiet_ms without, it grows by a step, up to the
 * size that it had, and so on.
 *
 * 	        an event                     quiet: a step up
 * 	CALM -------------> PRESSED <--------------------------+
 * 	  ^                    |    an event: a step down       |
 * 	  |                    +--------------------------------+
 * 	  +--------------------+
 * 	    it has its size
 *
 * The kernel tells of an event in a file (PSI): /proc/pressure/memory, or what the service manager
 * names in MEMORY_PRESSURE_WATCH, with what is to be written there in MEMORY_PRESSURE_WRITE. The file
 * may also be a FIFO: what comes there is an event.
 *
 * A size that an operator sets meanwhile is the one it has afterwards. A step that is under way is
 * not begun again. What cannot be shrunk, as it is pinned, stays.
 */
#pragma once

#include "daemon/serve/hbmd.h"

struct memory_pressure;

/* Sets hbmd->memory_pressure, if the configuration wants it and the file can be watched; if not, it
 * says why in the log. -ENOMEM. The resizes are open. */
int memory_pressure_open(struct hbmd *hbmd);
void memory_pressure_close(struct hbmd *hbmd);            /* no-op if it is not open */
uint64_t memory_pressure_events(const struct hbmd *hbmd); /* so far */
