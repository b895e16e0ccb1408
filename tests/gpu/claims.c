/* SPDX-License-Identifier: Apache-2.0 */
/* claims: what they have in common. See claims.h. */
#include "tests/gpu/claims.h"

#include "tests/gpu/record.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

bool claim_is_soft(void)
{
	const char *driver = getenv("HBM_TEST_DRIVER");
	return !driver || strcmp(driver, "cuda") != 0;
}

bool claim_is_alone(void)
{
	const char *soft = getenv("HBM_SOFT");
	return claim_is_soft() && (!soft || !strstr(soft, "card="));
}

void claim_sleep_ms(long ms)
{
	const struct timespec time = {ms / 1000, ms % 1000 * 1000000};
	nanosleep(&time, NULL);
}

void claim_verdict(const char *name, const struct cast *cast, bool holds, const char *note)
{
	if (cast->failed)
		record(name, OUTCOME_FAIL, "%s", cast->failure);
	else
		record(name, holds ? OUTCOME_PASS : OUTCOME_FAIL, "%s", note);
}

void claim_make_slab(struct cast *cast)
{
	STEP(cast, MAKER, OPEN, .value = 0);
	STEP(cast, MAKER, MAKE, .bytes = CLAIM_SLAB);
	STEP(cast, MAKER, FILL, .value = 1);
}

uint64_t claim_free_bytes(struct cast *cast)
{
	return STEP(cast, WATCHER, FREE_BYTES, .value = 0);
}

double claim_mib(uint64_t before, uint64_t after)
{
	return ((double)before - (double)after) / (double)MIB;
}
