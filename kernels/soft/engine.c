/* SPDX-License-Identifier: Apache-2.0 */
/* Copy engines: see engine.h. */
#include "kernels/soft/engine.h"

void engine_setup(struct engine *engine, double gib_s, double latency_us)
{
	pthread_mutex_lock(&engine->lock);
	engine->ns_per_byte = gib_s > 0 ? 1e9 / (gib_s * (double)(1u << 30)) : 0;
	engine->latency_ns = latency_us * 1e3;
	engine->free_at = 0;
	pthread_mutex_unlock(&engine->lock);
}

bool engine_is_limited(const struct engine *engine)
{
	return engine->ns_per_byte > 0 || engine->latency_ns > 0;
}

uint64_t engine_schedule(struct engine *engine, uint64_t ready, uint64_t bytes)
{
	uint64_t due;

	pthread_mutex_lock(&engine->lock);
	due = ready > engine->free_at ? ready : engine->free_at;
	due += (uint64_t)(engine->latency_ns + engine->ns_per_byte * (double)bytes);
	engine->free_at = due;
	pthread_mutex_unlock(&engine->lock);

	return due;
}
