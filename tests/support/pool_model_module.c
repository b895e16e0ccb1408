/* SPDX-License-Identifier: Apache-2.0 */
/* pool_model_module: see pool_model_module.h. */
#include "tests/support/pool_model_module.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <hbm/saved.h>
#include <string.h>

#define MODULE_TOKENS_MAX 20u

/* Of the model: others have the same names. */
static struct hbm_saved_space module_space_of(const struct pool_model *model)
{
	return (struct hbm_saved_space){.model = "modules", .weights = model->number};
}

static struct hbm_module module_of(size_t i, uint64_t version)
{
	static const char *const names[MODEL_MODULES] = {"x", "y"};

	return (struct hbm_module){"random", names[i], version};
}

bool pool_model_put(struct pool_model *model, struct model_sequence *one)
{
	if (!one || one->first == one->tokens)
		return false;

	const size_t i = seed_below(model->seed, MODEL_MODULES);
	struct model_module *now = &model->modules[i];
	const struct hbm_saved_space space = module_space_of(model);
	const struct hbm_module module = module_of(i, now->version + 1);
	const uint64_t first = one->first + seed_below(model->seed, one->tokens - one->first);
	const uint64_t left = one->tokens - first;
	const uint64_t most = left < MODULE_TOKENS_MAX ? left : MODULE_TOKENS_MAX;
	const uint64_t tokens = 1 + seed_below(model->seed, most);
	int r = hbm_module_put(one->sequence, &space, &module, first, first + tokens, NULL);

	/* Layers with a window have given up tokens. */
	if ((r == HBM_INVALID && strstr(hbm_pool_error(model->rig->pool), "windows have slid")) ||
	    pool_model_is_short(model, r))
		return false;
	now->version++;
	now->tokens = tokens;
	memcpy(now->values, &one->values[first], tokens * sizeof(now->values[0]));

	return true;
}

/* What was evicted is not appended. */
bool pool_model_append(struct pool_model *model, struct model_sequence *one)
{
	const size_t i = seed_below(model->seed, MODEL_MODULES);
	const struct model_module *module = &model->modules[i];
	const struct hbm_saved_space space = module_space_of(model);
	const struct hbm_module any = module_of(i, 0);

	if (!one || one->draft_count > 0)
		return false;

	const bool has_room = one->tokens + module->tokens <= pool_rig_facts(one->sequence).max;
	int r = hbm_module_map(one->sequence, &space, &any);

	if (r == HBM_NOT_FOUND || (r == HBM_INVALID && !has_room) || pool_model_is_short(model, r))
		return false;
	assert_true(module->version > 0);
	memcpy(&one->values[one->tokens], module->values,
	       module->tokens * sizeof(module->values[0]));
	one->tokens += module->tokens;

	return true;
}
