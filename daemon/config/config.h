/* SPDX-License-Identifier: Apache-2.0 */
/*
 * config: what the operator asked for. One table in config_keys.c gives every key its
 * section, type, default, bounds and a line of help; the reader, --check-config,
 * --help-config and hbmd.conf(5)'s test all walk that table.
 *
 * Precedence: defaults, then the file, then FILE.d/(star).conf in name order, then each
 * --set section.key=value. An unknown section or key, a bad or repeated value: one line
 * naming file, line, key and what was expected.
 *
 * Errors add up: every function here goes on after a wrong value, and puts one line for
 * each behind what `error` has already, which begins as "". What does not fit is cut.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "daemon/config/config_fields.h"

/* All defaults; strings are owned by the config. */
int config_defaults(struct config *config);
void config_clear(struct config *config);
/* Reads a file and its .d folder. On bad lines: -EINVAL and a line in `error` for each
 * ("FILE:LINE: ..."). A missing file is -ENOENT. Unless it is 0, config is unchanged. */
int config_read(struct config *config, const char *path, char *error, size_t error_size);
/* "section.key=value". */
int config_set(struct config *config, const char *assignment, char *error, size_t error_size);
/* Checks constraints between keys: cache + headroom <= memory where both are bytes,
 * nvme_size without path, and so on. */
int config_check(const struct config *config, char *error, size_t error_size);
/* Every key with its default and a line of help, as a valid config file. */
void config_print_reference(FILE *out);
/* Prints the current config as a valid file. */
void config_print(const struct config *config, FILE *out);
/* The bytes of a size, given the whole that a percentage refers to. */
uint64_t config_size_of(struct config_size size, uint64_t whole);
/* How many reads and writes of NVMe may ever be in flight. */
unsigned config_nvme_depth_max(const struct config *config);

/* ---- For the config modules. ---- */

/* A deep copy: -ENOMEM leaves out untouched. */
int config_copy(struct config *out, const struct config *from);
