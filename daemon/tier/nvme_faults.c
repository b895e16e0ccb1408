/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/tier/nvme_faults.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	int error;
} nvme_faults_kinds[] = {{"EIO", -EIO}, {"ENOSPC", -ENOSPC}, {"EINTR", -EINTR}, {"short", 0}};

static bool nvme_faults_parse_kind(const char *name, int *error)
{
	for (size_t i = 0; i < sizeof(nvme_faults_kinds) / sizeof(nvme_faults_kinds[0]); i++) {
		if (strcmp(name, nvme_faults_kinds[i].name) == 0) {
			*error = nvme_faults_kinds[i].error;
			return true;
		}
	}

	return false;
}

static bool nvme_faults_parse_one(struct nvme_faults *faults, const char *text)
{
	char direction[8], kind[16];
	unsigned long long nth;
	if (faults->count == NVME_FAULTS_MAX ||
	    sscanf(text, "%7[a-z]:%llu:%15s", direction, &nth, kind) != 3 || nth == 0)
		return false;

	struct nvme_fault *fault = &faults->list[faults->count++];
	fault->nth = nth;
	fault->write = strcmp(direction, "write") == 0;

	return (fault->write || strcmp(direction, "read") == 0) &&
	       nvme_faults_parse_kind(kind, &fault->error);
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
				  "read:3:EIO,write:1:short",
				  text);
}

int64_t nvme_faults_apply(struct nvme_faults *faults, bool write, int64_t result)
{
	uint64_t nth = write ? ++faults->writes : ++faults->reads;

	for (unsigned i = 0; i < faults->count; i++) {
		const struct nvme_fault *fault = &faults->list[i];
		if (fault->write == write && fault->nth == nth)
			return fault->error < 0
				       ? fault->error
				       : result / 2 / 4096 * 4096 + (result < 8192 ? 512 : 0);
	}

	return result;
}
