/* SPDX-License-Identifier: Apache-2.0 */
/* load: see load.h. */
#include "client/plan/load.h"

struct plan_load plan_load_default(void)
{
	return (struct plan_load){
		.output_tokens = 250,
		.batch = 1,
		.rounds = 1,
		.keep_layers = 1,
		.keep_heads = 1,
		.keep_tokens = 1,
	};
}
