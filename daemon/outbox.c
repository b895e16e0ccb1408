/* SPDX-License-Identifier: Apache-2.0 */
/* outbox: see outbox.h. */
#include "daemon/outbox.h"

#include <stdlib.h>
#include <unistd.h>

#include "daemon/fdpass.h"

static void free_parcel(struct parcel *parcel)
{
	free(parcel);
}

struct parcel *parcel_new(size_t size, size_t fd_count)
{
	/* One allocation: the parcel, its fds, its bytes (aligned for a message). */
	size_t at = sizeof(struct parcel) + fd_count * sizeof(int);
	at = (at + 15) & ~(size_t)15;
	struct parcel *parcel = malloc(at + size);
	if (!parcel)
		return NULL;
	*parcel = (struct parcel){
		.bytes = (unsigned char *)parcel + at,
		.size = size,
		.fds = (int *)(parcel + 1),
		.fd_count = fd_count,
		.over = free_parcel,
	};
	list_init(&parcel->link);
	for (size_t i = 0; i < fd_count; i++)
		parcel->fds[i] = -1;
	return parcel;
}

struct parcel *parcel_end(struct parcel *parcel)
{
	if (!parcel)
		return NULL;
	for (size_t i = 0; i < parcel->fd_count; i++)
		if (parcel->fds[i] >= 0)
			close(parcel->fds[i]);
	parcel->over(parcel);
	return NULL;
}

void outbox_init(struct outbox *outbox)
{
	list_init(&outbox->parcels);
}

void outbox_push(struct outbox *outbox, struct parcel *parcel)
{
	list_push_back(&outbox->parcels, &parcel->link);
}

int outbox_flush(struct outbox *outbox, int socket)
{
	while (!list_empty(&outbox->parcels)) {
		struct parcel *parcel = container_of(outbox->parcels.next, struct parcel, link);
		struct iovec iov = {parcel->bytes, parcel->size};
		int r = fdpass_send(socket, &iov, 1, parcel->fds, parcel->fd_count);
		if (r < 0)
			return r;
		list_remove(&parcel->link);
		parcel_end(parcel);
	}
	return 0;
}

void outbox_clear(struct outbox *outbox)
{
	for (struct list *node; (node = list_pop_front(&outbox->parcels));)
		parcel_end(container_of(node, struct parcel, link));
}
