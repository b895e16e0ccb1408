/* SPDX-License-Identifier: Apache-2.0 */
/* plan_name: see plan_name.h. */
#include "client/ctl/plan_name.h"
#include "client/plan/names.h"

#include <string.h>

#define PLAN_NAME_NEAREST 3      /* suggested for a name that is not known */
#define PLAN_NAME_CANDIDATES 8   /* listed for one that stands for several rows */
#define PLAN_NAME_LIST_BYTES 512 /* more than all candidates have */

static void plan_name_list(names_at *name, const size_t *rows, size_t count,
			   char list[PLAN_NAME_LIST_BYTES])
{
	list[0] = '\0';
	for (size_t i = 0; i < count; i++) {
		size_t used = strlen(list);

		snprintf(list + used, PLAN_NAME_LIST_BYTES - used, "%s%s", i ? ", " : "",
			 name(rows[i], 0));
	}
}

static int plan_name_find(const struct ctl *ctl, const char *what, const char *asked,
			  names_at *name, size_t count, size_t *row)
{
	size_t rows[PLAN_NAME_CANDIDATES];
	size_t found = names_find(asked, name, count, rows, PLAN_NAME_CANDIDATES);
	char list[PLAN_NAME_LIST_BYTES];

	if (found == 1) {
		*row = rows[0];
		return CTL_DONE;
	}

	if (found == 0) {
		size_t near = names_nearest(asked, name, count, rows, PLAN_NAME_NEAREST);

		plan_name_list(name, rows, near, list);
		return ctl_usage(
			ctl, "unknown %s \"%.64s\"; the nearest are: %s (all: hbmctl plan --list)",
			what, asked, list);
	}

	bool all = found <= PLAN_NAME_CANDIDATES;
	plan_name_list(name, rows, all ? found : PLAN_NAME_CANDIDATES, list);

	return ctl_usage(ctl, "%s \"%.64s\" is ambiguous: %s%s", what, asked, list,
			 all ? "" : ", and more (hbmctl plan --list)");
}

int plan_name_model(const struct ctl *ctl, const char *asked, const struct plan_model **out)
{
	size_t row;
	int r = plan_name_find(ctl, "model", asked, plan_model_name, plan_model_count, &row);

	if (r == CTL_DONE)
		*out = &plan_models[row];
	return r;
}

int plan_name_gpu(const struct ctl *ctl, const char *asked, const struct plan_gpu **out)
{
	size_t row;
	int r = plan_name_find(ctl, "GPU", asked, plan_gpu_name, plan_gpu_count, &row);

	if (r == CTL_DONE)
		*out = &plan_gpus[row];
	return r;
}
