/* SPDX-License-Identifier: Apache-2.0 */
/*
 * command: the table of everything hbmctl can do. The table is the only list of commands:
 * dispatch, --help and the help of each command walk it.
 */
#pragma once

#include "client/ctl/ctl.h"

#include <stdio.h>

/* The command of that name, or NULL. */
const struct command *command_find(const char *name);
/* Synopsis, every command with its summary, and the options they share. */
void command_help_all(const struct option_spec *shared, FILE *out);
void command_help(const struct command *command, const struct option_spec *shared, FILE *out);
