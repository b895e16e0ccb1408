/* SPDX-License-Identifier: Apache-2.0 */
/* pool: see pool.h. */
#include "client/sequence/pool.h"

#include "client/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* ---- The lock and the line ---- */

void hbm_pool_lock(struct hbm_pool *pool)
{
	if (pool->own_connection)
		pthread_mutex_lock(&pool->lock);
}

void hbm_pool_unlock(struct hbm_pool *pool)
{
	if (pool->own_connection)
		pthread_mutex_unlock(&pool->lock);
}

int hbm_pool_fail(struct hbm_pool *pool, int status, const char *format, ...)
{
	char line[sizeof(pool->error)];
	va_list arguments;

	va_start(arguments, format);
	vsnprintf(line, sizeof(line), format, arguments);
	va_end(arguments);

	if (pool->is_quiet)
		return status;
	memcpy(pool->error, line, sizeof(line));
	if (!pool->own_connection)
		hbm_fail(pool->hbm, status, "%s", line);

	return status;
}

int hbm_pool_fail_call(struct hbm_pool *pool, int status, const char *what)
{
	return hbm_pool_fail(pool, status, "%s: %s", what, hbm_error(pool->hbm));
}

const char *hbm_pool_error(const struct hbm_pool *pool)
{
	return pool->error;
}

/* ---- Facts ---- */

struct hbm *hbm_pool_connection(const struct hbm_pool *pool)
{
	return pool->hbm;
}

struct hbm_region *hbm_pool_region(const struct hbm_pool *pool)
{
	return pool->region;
}

const struct hbm_layout *hbm_pool_layout(const struct hbm_pool *pool)
{
	return pool->layout;
}
