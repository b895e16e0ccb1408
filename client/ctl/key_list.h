/* SPDX-License-Identifier: Apache-2.0 */
/* key_list: the keys and the namespace that a command line names. */
#pragma once

#include "client/ctl/ctl.h"

/* The keys in the words; the caller frees them. Returns an exit status; prints the error. */
int key_list(const struct ctl *ctl, char *const *words, size_t count, hbm_key **out);
/* Opens on ctl->hbm the namespace with this number, or the only one with this model.
 * Returns an exit status; prints the error. */
int namespace_named(struct ctl *ctl, const char *name, uint32_t *ns);
