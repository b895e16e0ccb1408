/* SPDX-License-Identifier: Apache-2.0 */
#include "client/pins.h"

#include "client/channel.h"
#include "client/ticket.h"

#include <stdlib.h>
#include <string.h>

#define PINS_MIN 64u

static uint32_t pins_place(const struct pins *pins, uint32_t ns, const hbm_key *key)
{
	uint64_t half;
	memcpy(&half, key, sizeof(half)); /* a hash */

	return (uint32_t)((half ^ ns) * 0x9e3779b97f4a7c15ull >> 32) & (pins->size - 1);
}

/* Its place, or the free one where it would be. */
static struct pinned *pins_find(const struct pins *pins, uint32_t ns, const hbm_key *key)
{
	uint32_t i = pins_place(pins, ns, key);

	while (pins->entries[i].count > 0 &&
	       (pins->entries[i].ns != ns || memcmp(&pins->entries[i].key, key, sizeof(*key)) != 0))
		i = (i + 1) & (pins->size - 1);

	return &pins->entries[i];
}

static bool pins_grow(struct pins *pins)
{
	struct pins larger = {.size = pins->size ? pins->size * 2 : PINS_MIN, .used = pins->used};
	larger.entries = calloc(larger.size, sizeof(larger.entries[0]));
	if (!larger.entries)
		return false;

	for (uint32_t i = 0; i < pins->size; i++)
		if (pins->entries[i].count > 0)
			*pins_find(&larger, pins->entries[i].ns, &pins->entries[i].key) =
				pins->entries[i];
	free(pins->entries);
	*pins = larger;

	return true;
}

static void pins_add(struct pins *pins, uint32_t ns, const hbm_key *key)
{
	if (pins->used >= pins->size / 2 && !pins_grow(pins))
		return;

	struct pinned *pinned = pins_find(pins, ns, key);
	pins->used += pinned->count == 0;
	*pinned = (struct pinned){.key = *key, .ns = ns, .count = pinned->count + 1};
}

/* Frees a place; those behind it that would not be found any more are put in again. */
static void pins_free_place(struct pins *pins, uint32_t i)
{
	pins->entries[i].count = 0;
	pins->used--;

	while (pins->entries[i = (i + 1) & (pins->size - 1)].count > 0) {
		struct pinned moved = pins->entries[i];
		pins->entries[i].count = 0;
		*pins_find(pins, moved.ns, &moved.key) = moved;
	}
}

static void pins_remove(struct pins *pins, uint32_t ns, const hbm_key *key)
{
	struct pinned *pinned = pins->size > 0 ? pins_find(pins, ns, key) : NULL;

	if (pinned && pinned->count > 0 && --pinned->count == 0) {
		pinned->count = 1;
		pins_free_place(pins, (uint32_t)(pinned - pins->entries));
	}
}

/* ---- Replies ---- */

static void pins_answered_keys(struct pins *pins, const struct hbm_wire_keys *keys,
			       const struct hbm_wire_results *results)
{
	if (keys->flags & HBM_WIRE_KEEP)
		return; /* not the session's */

	for (uint32_t i = 0; i < results->count; i++)
		if (results->results[i].status != HBM_OK)
			continue;
		else if (keys->header.opcode == HBM_WIRE_PIN)
			pins_add(pins, keys->ns, &keys->keys[i]);
		else
			pins_remove(pins, keys->ns, &keys->keys[i]);
}

/* One that was there already when the store was sent again was pinned before (reconnect.c). */
static void pins_answered_store(struct pins *pins, const struct ticket *ticket,
				const struct hbm_wire_results *results)
{
	const struct hbm_wire_blocks *blocks = (const void *)ticket->sent.message;

	for (uint32_t i = 0; i < results->count; i++) {
		uint8_t status = results->results[i].status;
		bool stored = status == HBM_OK || (ticket->sent.again && status == HBM_EXISTS);

		if (stored && blocks->blocks[i].flags & HBM_WIRE_BLOCK_PIN)
			pins_add(pins, blocks->ns, &blocks->blocks[i].key);
	}
}

void hbm_pins_answered(struct pins *pins, const struct ticket *ticket,
		       const struct message *message)
{
	const struct hbm_wire_results *results = (const void *)message->header;

	if (ticket->opcode == HBM_WIRE_PIN || ticket->opcode == HBM_WIRE_UNPIN)
		pins_answered_keys(pins, (const void *)ticket->sent.message, results);
	else if (ticket->opcode == HBM_WIRE_STORE)
		pins_answered_store(pins, ticket, results);
}

void hbm_pins_stored(struct pins *pins, const struct hbm_wire_blocks *blocks)
{
	for (uint32_t i = 0; i < blocks->count; i++)
		if (blocks->blocks[i].flags & HBM_WIRE_BLOCK_PIN)
			pins_add(pins, blocks->ns, &blocks->blocks[i].key);
}

void hbm_pins_forget(struct pins *pins, uint32_t ns)
{
	for (uint32_t i = 0; i < pins->size;)
		if (pins->entries[i].count > 0 && pins->entries[i].ns == ns)
			pins_free_place(pins, i);
		else
			i++;
}

uint32_t hbm_pins_list(const struct pins *pins, uint32_t ns, uint32_t times, uint32_t *at,
		       hbm_key *keys, uint32_t room)
{
	uint32_t count = 0;

	for (; *at < pins->size && count < room; ++*at)
		if (pins->entries[*at].count > times && pins->entries[*at].ns == ns)
			keys[count++] = pins->entries[*at].key;

	return count;
}

void hbm_pins_clear(struct pins *pins)
{
	free(pins->entries);
	*pins = (struct pins){0};
}
