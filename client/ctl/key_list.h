/* SPDX-License-Identifier: Apache-2.0 */
/* key_list: the blocks a command line names. */
#pragma once

#include "client/ctl/ctl.h"

/* Keys of the words, to be freed by the caller. An exit status; the line is printed. */
int key_list(const struct ctl *ctl, char *const *words, size_t count, hbm_key **out);
/* The namespace that `name`, a number or the model of exactly one namespace, means,
 * opened on ctl->hbm. An exit status; the line is printed. */
int namespace_named(struct ctl *ctl, const char *name, uint32_t *ns);
