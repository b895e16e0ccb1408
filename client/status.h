/* SPDX-License-Identifier: Apache-2.0 */
/* status: see hbm_strerror() and hbm_status_name() in hbm.h for the public half. */
#pragma once

/* Such as "STORE"; "request" if there is no such opcode. Static, never NULL. */
const char *hbm_opcode_name(unsigned int opcode);
