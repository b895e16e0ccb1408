/* SPDX-License-Identifier: Apache-2.0 */
/*
 * plan_config: a model's facts from a config.json in Hugging Face's format. An unknown
 * model_type is refused, since each family has its own defaults for absent fields.
 * Parameters are not in the file: they are counted from the shapes of the matrices
 * (biases and norms, some parts in ten thousand, are left out).
 */
#pragma once

#include "client/plan/model.h"

#define PLAN_CONFIG_NAME_BYTES 128

struct plan_config {
	struct plan_model model;           /* its name is the one below */
	char name[PLAN_CONFIG_NAME_BYTES]; /* the file's path, its end if it is long */
};

/* Fills in *out, which must stay where it is. 0; -1: one line in error that names the
 * file and the field. */
int plan_config_read(const char *path, struct plan_config *out, char *error, size_t error_size);
