/* SPDX-License-Identifier: Apache-2.0 */
/*
 * validate: the form of every request, as a table, and the check of a message against it.
 * A valid message has the exact size its counts imply, counts of at least 1, no unknown
 * flag, zeros in reserved fields, terminated strings, fence slots that exist, keys that are
 * not the reserved one. The handlers check ids, ranges, limits and rights; the
 * client must keep its ids unique among its unanswered requests.
 */
#pragma once

#include "daemon/session/field.h"

#include <stdbool.h>
#include <stddef.h>

/*
 * Judges a message of `size` bytes as received, aligned like a struct of wire.h. HBM_OK:
 * hand it to its handler. HBM_INVALID, HBM_UNSUPPORTED: refuse it with that status.
 * -EPROTO: no client of ours sent that; end the session. Unless it is HBM_OK, why names
 * the first field that is wrong as wire.h does, its value, and what was expected.
 * greeted: the session has had its HELLO.
 */
int validate_message(const void *message, size_t size, bool greeted, struct refusal *why);
/* The same of the descriptor that came with a message of that verdict, HBM_OK or a refusal: fd
 * is -1 for none, or -EMFILE if it was lost. -EPROTO: it is no REGION_IMPORT. */
int validate_descriptor(const void *message, int verdict, int fd, struct refusal *why);
/* "COMMIT"; NULL for an unknown one. */
const char *validate_opcode_name(unsigned opcode);
