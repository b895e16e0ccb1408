/* SPDX-License-Identifier: Apache-2.0 */
#include "client/cork.h"

#include <stdlib.h>
#include <string.h>

static size_t cork_bytes_of(const struct iovec *pieces, size_t count)
{
	size_t bytes = 0;

	for (size_t i = 0; i < count; i++)
		bytes += pieces[i].iov_len;

	return bytes;
}

bool hbm_cork_add(struct cork *cork, const struct iovec *pieces, size_t count)
{
	size_t bytes = cork_bytes_of(pieces, count);
	if (!cork->on || cork->first + cork->count == CORK_MESSAGES ||
	    bytes > CORK_BYTES - cork->used)
		return false;

	unsigned char *at = cork->bytes + cork->used;
	cork->messages[cork->first + cork->count++] = (struct iovec){at, bytes};
	cork->used += (bytes + 7) & ~(size_t)7;

	for (size_t i = 0; i < count; i++) {
		memcpy(at, pieces[i].iov_base, pieces[i].iov_len);
		at += pieces[i].iov_len;
	}

	return true;
}

int hbm_cork_send(struct cork *cork, const struct channel *channel)
{
	while (cork->count > 0) {
		int sent = hbm_channel_send_all(channel, &cork->messages[cork->first], cork->count);
		if (sent < 0)
			return sent;

		cork->first += (size_t)sent;
		cork->count -= (size_t)sent;
	}

	hbm_cork_forget(cork);

	return 0;
}

void hbm_cork_forget(struct cork *cork)
{
	if (cork->used > 0)
		explicit_bzero(cork->bytes, cork->used); /* salts of namespaces too */
	cork->first = cork->count = cork->used = 0;
}

void hbm_cork_clear(struct cork *cork)
{
	if (cork->bytes)
		explicit_bzero(cork->bytes, CORK_BYTES);
	free(cork->bytes);
	*cork = (struct cork){0};
}
