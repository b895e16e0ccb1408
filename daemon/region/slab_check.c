/* SPDX-License-Identifier: Apache-2.0 */
/* slab_check: adds up a pool's slabs, and compares with what it counts. */
#include "daemon/region/slab.h"

#include "daemon/region/slab_pool.h"

const char *slabs_check(const struct slabs *slabs)
{
	const struct slabs_books *books = &slabs->books;
	if (books->leased + books->quarantined + books->retiring + books->ready + books->uncreated +
		    books->held !=
	    books->budget)
		return "leased, quarantined, retiring, ready, uncreated and held do not add up to "
		       "the budget";
	if (books->held != slabs->held.bytes)
		return "the held bytes are counted twice, differently";

	uint64_t ready = slabs->making ? slabs->making->bytes : 0, lost = 0;
	list_for_each (node, &slabs->ready)
		ready += container_of(node, struct slab, link)->bytes;
	if (ready != books->ready)
		return "the ready slabs do not add up";

	list_for_each (node, &slabs->lost)
		lost += container_of(node, struct slab, link)->bytes;
	if (lost > books->quarantined)
		return "more bytes are lost than quarantined";

	return held_check(&slabs->held);
}
