/* SPDX-License-Identifier: Apache-2.0 */
/* status: see hbm_strerror() and hbm_status_name() in hbm.h for the public half. */
#pragma once

/* "STORE"; "request" for a number that names none. Static, never NULL. */
const char *hbm_opcode_name(unsigned int opcode);
