/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define DELAY_MS_MAX 3600000

static const struct {
	const char *name;
	enum nvme_fault_kind kind;
	int error;
} nvme_faults_kinds[] = {
	{"EIO", NVME_FAULT_ERROR, -EIO},     {"ENOSPC", NVME_FAULT_ERROR, -ENOSPC},
	{"EINTR", NVME_FAULT_ERROR, -EINTR}, {"short", NVME_FAULT_SHORT, 0},
	{"hang", NVME_FAULT_HANG, 0},
};

static bool nvme_faults_parse_delay(const char *text, struct nvme_fault *fault)
{
	unsigned long long ms;
	int end = 0;
	if (sscanf(text, "%llums%n", &ms, &end) != 1 || end == 0 || text[end] != '\0' || ms == 0 ||
	    ms > DELAY_MS_MAX)
		return false;

	fault->kind = NVME_FAULT_DELAY;
	fault->delay_ns = ms * 1000000;

	return true;
}

static bool nvme_faults_parse_kind(const char *text, struct nvme_fault *fault)
{
	for (size_t i = 0; i < sizeof(nvme_faults_kinds) / sizeof(nvme_faults_kinds[0]); i++) {
		if (strcmp(text, nvme_faults_kinds[i].name) == 0) {
			fault->kind = nvme_faults_kinds[i].kind;
			fault->error = nvme_faults_kinds[i].error;
			return true;
		}
	}

	return nvme_faults_parse_delay(text, fault);
}

/* "N", "N+" or "N-M". */
static bool nvme_faults_parse_range(const char *text, struct nvme_fault *fault)
{
	unsigned long long first, last;
	char rest[2];
	if (*text == '-')
		return false;

	int found = sscanf(text, "%llu-%llu%1s", &first, &last, rest);
	if (found == 1) {
		last = first;
		if (sscanf(text, "%*u%1s", rest) == 1) {
			if (strcmp(strchr(text, rest[0]), "+") != 0)
				return false;
			last = UINT64_MAX;
		}
	} else if (found != 2) {
		return false;
	}

	fault->first = first;
	fault->last = last;

	return first > 0 && last >= first;
}

static bool nvme_faults_parse_one(struct nvme_faults *faults, const char *text)
{
	char direction[8], range[48], kind[16];
	if (faults->count == NVME_FAULTS_MAX ||
	    sscanf(text, "%7[a-z]:%47[0-9+-]:%15s", direction, range, kind) != 3)
		return false;

	struct nvme_fault *fault = &faults->list[faults->count++];
	fault->write = strcmp(direction, "write") == 0;

	return (fault->write || strcmp(direction, "read") == 0) &&
	       nvme_faults_parse_range(range, fault) && nvme_faults_parse_kind(kind, fault);
}

int nvme_faults_parse(struct nvme_faults *faults, const char *text, const struct reason *reason)
{
	char *copy = strdup(text), *rest = copy;
	bool valid = true;

	*faults = (struct nvme_faults){0};
	if (!copy)
		return reason_set(reason, -ENOMEM, "nvme: out of memory");

	for (char *item; valid && (item = strsep(&rest, ",")) != NULL;)
		valid = *item == '\0' || nvme_faults_parse_one(faults, item);
	free(copy);

	return valid ? 0
		     : reason_set(reason, -EINVAL,
				  "nvme.fail: got '%s', expected a list such as "
				  "read:3:EIO,write:1+:20ms,write:5-9:hang",
				  text);
}

static void nvme_faults_strike(const struct nvme_fault *fault, struct nvme_outcome *outcome)
{
	switch (fault->kind) {
	case NVME_FAULT_ERROR:
		outcome->result = fault->error;
		break;
	case NVME_FAULT_SHORT:
		outcome->result =
			outcome->result / 2 / 4096 * 4096 + (outcome->result < 8192 ? 512 : 0);
		break;
	case NVME_FAULT_DELAY:
		outcome->delay_ns += fault->delay_ns;
		break;
	case NVME_FAULT_HANG:
		outcome->hangs = true;
		break;
	}
}

struct nvme_outcome nvme_faults_apply(struct nvme_faults *faults, bool write, int64_t result)
{
	uint64_t nth = write ? ++faults->writes : ++faults->reads;
	struct nvme_outcome outcome = {.result = result};

	for (unsigned i = 0; i < faults->count; i++) {
		const struct nvme_fault *fault = &faults->list[i];
		if (fault->write == write && fault->first <= nth && nth <= fault->last)
			nvme_faults_strike(fault, &outcome);
	}

	return outcome;
}
