/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A process whose kernels run has a read lock on a byte of the card's folder, the device's
 * number. Locks belong to the open file, so each process sees those of others only, and
 * they end with it.
 */
#include "kernels/soft/sm.h"

#include "kernels/soft/options.h"
#include "kernels/soft/park.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <unistd.h>

static int file = -1;
static uint64_t slice_ns;
static _Atomic uint64_t waited;
static pthread_mutex_t sm_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned running[SOFT_DEVICES_MAX]; /* kernels of this process */

void sm_configure(const char *folder, double slice_us)
{
	slice_ns = (uint64_t)(slice_us * 1e3);
	if (folder[0] == '\0' || slice_ns == 0)
		return;

	file = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

void sm_reset(void)
{
	if (file >= 0)
		close(file);
	file = -1;
	slice_ns = 0;
	atomic_store(&waited, 0);
	memset(running, 0, sizeof(running));
}

static void sm_set_lock(unsigned device, short type)
{
	struct flock lock = {.l_type = type, .l_start = (off_t)device, .l_len = 1};

	fcntl(file, F_OFD_SETLK, &lock);
}

void sm_kernel_begins(unsigned device)
{
	if (file < 0)
		return;

	pthread_mutex_lock(&sm_lock);
	if (running[device]++ == 0)
		sm_set_lock(device, F_RDLCK);
	pthread_mutex_unlock(&sm_lock);
}

void sm_kernel_ends(unsigned device)
{
	if (file < 0)
		return;

	pthread_mutex_lock(&sm_lock);
	if (--running[device] == 0)
		sm_set_lock(device, F_UNLCK);
	pthread_mutex_unlock(&sm_lock);
}

void sm_wait(unsigned device)
{
	struct flock lock = {.l_type = F_WRLCK, .l_start = (off_t)device, .l_len = 1};

	if (file < 0 || fcntl(file, F_OFD_GETLK, &lock) < 0 || lock.l_type == F_UNLCK)
		return;

	atomic_fetch_add(&waited, 1);
	clock_wait_until(clock_now() + slice_ns);
}

uint64_t sm_waited(void)
{
	return atomic_load(&waited);
}
