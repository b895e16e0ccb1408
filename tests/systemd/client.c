/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client that outlives daemons, for tests/systemd/guest: it fills a region of a soft device,
 * and at each SIGUSR1 says in a file whether all of it is as it was and calls succeed. SIGTERM ends it.
 *
 * 	client FILE		in FILE: how often it has looked, and "ok" or what is wrong
 */
#include <hbm/hbm.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "kernels/driver/driver.h"

#define SLAB (2u << 20)
#define WORDS (SLAB / sizeof(uint64_t))

struct client {
	struct hbm *hbm;
	struct driver *driver;
	uint64_t words[WORDS]; /* what is in its memory */
	uint64_t found[WORDS];
	struct hbm_region *region;
	uint64_t session;
	unsigned looks;
};

/* The device, beside the library. */
static bool client_enter(struct client *client)
{
	char error[256];
	CUdevice device;
	CUcontext context;

	return driver_open(&client->driver, DRIVER_SOFT, NULL, error, sizeof(error)) == 0 &&
	       client->driver->cuDeviceGet(&device, 0) == CUDA_SUCCESS &&
	       client->driver->cuDevicePrimaryCtxRetain(&context, device) == CUDA_SUCCESS &&
	       client->driver->cuCtxSetCurrent(context) == CUDA_SUCCESS;
}

static bool client_write(struct client *client, uint64_t offset)
{
	return client->driver->cuMemcpyHtoD(hbm_region_address(client->region) + offset,
					    client->words, SLAB) == CUDA_SUCCESS &&
	       client->driver->cuCtxSynchronize() == CUDA_SUCCESS;
}

/* Whether its memory is as it was. */
static bool client_reads(struct client *client)
{
	return client->driver->cuMemcpyDtoH(client->found, hbm_region_address(client->region),
					    SLAB) == CUDA_SUCCESS &&
	       memcmp(client->found, client->words, SLAB) == 0;
}

static bool client_open(struct client *client)
{
	const struct hbm_options options = {.name = "client"};
	const struct hbm_region_options region = {.address_space = 2 * SLAB, .slab = SLAB};

	if (hbm_connect(&client->hbm, &options) != 0 ||
	    hbm_region_create(client->hbm, &region, &client->region) != 0)
		return false;

	const struct hbm_range range = {client->region, 0, SLAB};
	if (hbm_commit(client->hbm, &range, 1) != 0)
		return false;

	for (uint64_t i = 0; i < WORDS; i++)
		client->words[i] = (i + 1) * 0x9e3779b97f4a7c15u;
	client->session = hbm_info(client->hbm)->session;

	return client_enter(client) && client_write(client, 0);
}

/* NULL, or what is wrong. */
static const char *client_look(struct client *client)
{
	const struct hbm_range range = {client->region, SLAB, SLAB};

	if (hbm_commit(client->hbm, &range, 1) != 0)
		return "a commit fails";
	if (!client_write(client, SLAB))
		return "new memory cannot be written";
	if (hbm_decommit(client->hbm, &range, 1) != 0)
		return "a decommit fails";

	if (!client_reads(client))
		return "the memory is another";

	return hbm_info(client->hbm)->session == client->session ? NULL : "the session is another";
}

static void client_tell(struct client *client, const char *path, const char *wrong)
{
	FILE *file = fopen(path, "we");
	if (!file)
		return;
	fprintf(file, "%u %s\n", client->looks, wrong ? wrong : "ok");
	fclose(file);
}

int main(int argc, char **argv)
{
	static struct client client;
	sigset_t set;
	int signal;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGTERM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	if (argc != 2 || !client_open(&client))
		return 1;

	client_tell(&client, argv[1], NULL);
	while (sigwait(&set, &signal) == 0 && signal == SIGUSR1) {
		const char *wrong = client_look(&client);
		client.looks++;
		client_tell(&client, argv[1], wrong);
	}

	if (hbm_region_destroy(client.hbm, client.region) != 0)
		return 1;
	hbm_close(client.hbm);
	driver_close(client.driver);

	return 0;
}
