/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Faults: a short array that grows until it is cleared, and the grammar of fault lists.
 * Without faults, a call pays one atomic load.
 */
#include "kernels/soft/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FAULTS_MAX 64
#define NATURAL_RESULT (-1) /* the result depends on the call */
#define GONE_RESULT (-2)    /* the device is gone, from this call on */

struct fault {
	unsigned call; /* CALLS: any */
	uint64_t at;   /* the count that is to fail */
	bool onward;   /* and all after it */
	int result;
};

static pthread_mutex_t fault_lock = PTHREAD_MUTEX_INITIALIZER;
static struct fault faults[FAULTS_MAX];
static atomic_uint fault_count;
static void (*fault_gone)(void); /* set before there are faults */

static CUresult fault_result(const struct fault *fault, enum call call)
{
	if (fault->result == GONE_RESULT) {
		fault_gone();
		return CUDA_ERROR_UNKNOWN;
	}
	if (fault->result != NATURAL_RESULT)
		return (CUresult)fault->result;
	if (call == CALL_cuMemCreate || call == CALL_cuMemAddressReserve ||
	    call == CALL_cuMemHostRegister)
		return CUDA_ERROR_OUT_OF_MEMORY;

	return CUDA_ERROR_OPERATING_SYSTEM;
}

static bool fault_matches(const struct fault *fault, enum call call, uint64_t nth,
			  uint64_t nth_of_all)
{
	uint64_t count = fault->call == CALLS ? nth_of_all : nth;

	if (fault->call != CALLS && fault->call != (unsigned)call)
		return false;
	return count == fault->at || (fault->onward && count > fault->at);
}

CUresult fault_hit(enum call call, uint64_t nth, uint64_t nth_of_all)
{
	CUresult result = CUDA_SUCCESS;

	if (atomic_load(&fault_count) == 0)
		return CUDA_SUCCESS;

	pthread_mutex_lock(&fault_lock);

	for (unsigned i = 0; i < fault_count && result == CUDA_SUCCESS; i++)
		if (fault_matches(&faults[i], call, nth, nth_of_all))
			result = fault_result(&faults[i], call);

	pthread_mutex_unlock(&fault_lock);

	return result;
}

static int fault_add(const struct fault *added, unsigned count)
{
	int result = -ENOSPC;

	pthread_mutex_lock(&fault_lock);

	if (count <= FAULTS_MAX - fault_count) {
		memcpy(&faults[fault_count], added, count * sizeof(*added));
		atomic_fetch_add(&fault_count, count);
		result = 0;
	}

	pthread_mutex_unlock(&fault_lock);

	return result;
}

void fault_on_gone(void (*gone)(void))
{
	fault_gone = gone;
}

void fault_forget(void)
{
	pthread_mutex_lock(&fault_lock);
	atomic_store(&fault_count, 0);
	pthread_mutex_unlock(&fault_lock);
}

int hbm_soft_fail(const char *name, unsigned nth, CUresult result)
{
	struct fault fault = {.result = (int)result};
	int call;

	if (name == NULL) {
		fault_forget();
		return 0;
	}

	call = calls_find(name);
	if (call < 0 || nth == 0)
		return -EINVAL;

	fault.call = (unsigned)call;
	fault.at = calls_count(fault.call) + nth;

	return fault_add(&fault, 1);
}

static int fault_result_parse(const char *text, int *result)
{
	static const struct {
		const char *name;
		int value;
	} names[] = {
#define CUDA_CONSTANT(name, value) {#name, value},
		CUDA_RESULTS(CUDA_CONSTANT)
#undef CUDA_CONSTANT
	};
	char *end;
	long number;

	if (strcmp(text, "gone") == 0) {
		*result = GONE_RESULT;
		return 0;
	}

	for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
		if (strcmp(names[i].name, text) == 0) {
			*result = names[i].value;
			return 0;
		}
	}

	number = strtol(text, &end, 10);
	if (end == text || *end != '\0' || number <= 0 || number > 9999)
		return -EINVAL;

	*result = (int)number;

	return 0;
}

/* Parses one entry of a list, "name:N[+][:code]", in place. */
static int fault_parse(char *entry, struct fault *fault)
{
	char *nth = strchr(entry, ':'), *code, *end;
	int call;

	fault->result = NATURAL_RESULT;
	if (nth == NULL)
		return -EINVAL;

	*nth++ = '\0';
	code = strchr(nth, ':');
	if (code != NULL) {
		*code++ = '\0';
		if (fault_result_parse(code, &fault->result) < 0)
			return -EINVAL;
	}

	call = calls_find(entry);
	fault->at = strtoull(nth, &end, 10);
	fault->onward = *end == '+';
	if (fault->onward)
		end++;
	if (call < 0 || end == nth || *end != '\0' || *nth < '0' || *nth > '9' || fault->at == 0)
		return -EINVAL;

	fault->call = (unsigned)call;
	fault->at += calls_count(fault->call);

	return 0;
}

int hbm_soft_faults(const char *list)
{
	struct fault parsed[FAULTS_MAX];
	unsigned count = 0;
	char text[4096], *rest = text, *entry;

	if (snprintf(text, sizeof(text), "%s", list) >= (int)sizeof(text))
		return -EINVAL;

	while ((entry = strsep(&rest, ",")) != NULL) {
		if (*entry == '\0')
			continue;
		if (count == FAULTS_MAX)
			return -ENOSPC;
		if (fault_parse(entry, &parsed[count]) < 0)
			return -EINVAL;
		count++;
	}

	return fault_add(parsed, count);
}
