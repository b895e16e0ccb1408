/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/session/unread.h"

#include <linux/sockios.h>
#include <sys/ioctl.h>

#include "daemon/base/clock.h"

#define UNREADS_AT_ONCE 256u /* connections, some tens of microseconds */
#define PAUSE_FIRST_NS 1000000u
#define PAUSE_LAST_NS 100000000u /* while none is read */

/* ---- all of them ---- */

static void unread_look_later(struct unreads *unreads)
{
	loop_timer_set(unreads->loop, &unreads->timer, clock_now() + unreads->pause_ns);
}

/* The next one to look at; it goes to the end. */
static struct unread *unread_next(struct unreads *unreads)
{
	struct list *node = list_pop_front(&unreads->list);
	if (!node)
		return NULL;

	list_push_back(&unreads->list, node);

	return container_of(node, struct unread, link);
}

static void unread_look(struct timer *timer)
{
	struct unreads *unreads = container_of(timer, struct unreads, timer);
	uint64_t left = unreads->count < UNREADS_AT_ONCE ? unreads->count : UNREADS_AT_ONCE;
	struct unread *unread;
	bool any = false;

	/* read() may free its own, and closes no others. */
	for (; left > 0 && (unread = unread_next(unreads)); left--) {
		if (!unread_is_read(unread))
			continue;
		any = true;
		unread->read(unread);
	}

	uint64_t longer = unreads->pause_ns * 2;
	unreads->pause_ns = longer < PAUSE_LAST_NS ? longer : PAUSE_LAST_NS;
	if (any)
		unreads->pause_ns = PAUSE_FIRST_NS;
	if (unreads->count > 0)
		unread_look_later(unreads);
}

void unreads_open(struct unreads *unreads, struct loop *loop)
{
	*unreads = (struct unreads){.loop = loop, .timer = {.fire = unread_look}};
	list_init(&unreads->list);
}

/* ---- one connection's ---- */

void unread_open(struct unread *unread, struct unreads *all, struct payer *payer, int socket,
		 void (*read)(struct unread *unread))
{
	*unread = (struct unread){.all = all, .payer = payer, .socket = socket, .read = read};
	list_init(&unread->link);
}

void unread_close(struct unread *unread)
{
	struct unreads *all = unread->all;
	if (!unread->charge.payer)
		return;

	ledger_release(&unread->charge);
	list_remove(&unread->link);
	if (--all->count == 0)
		loop_timer_stop(all->loop, &all->timer);
}

bool unread_is_read(struct unread *unread)
{
	int bytes = 0;

	if (unread->charge.payer && (ioctl(unread->socket, SIOCOUTQ, &bytes) < 0 || bytes > 0))
		return false;

	unread_close(unread);

	return true;
}

bool unread_has_room(struct unread *unread, size_t fds)
{
	return fds == 0 || ledger_has_room(unread->payer, LEDGER_UNREAD_FDS, fds) ||
	       (unread_is_read(unread) && ledger_has_room(unread->payer, LEDGER_UNREAD_FDS, fds));
}

void unread_sent(struct unread *unread, size_t fds)
{
	struct unreads *all = unread->all;
	if (fds == 0)
		return;

	if (!unread->charge.payer) {
		list_push_back(&all->list, &unread->link);
		all->count++;
	}

	ledger_charge_always(&unread->charge, unread->payer, LEDGER_UNREAD_FDS, fds);
	all->pause_ns = PAUSE_FIRST_NS;
	if (!timer_is_set(&all->timer))
		unread_look_later(all);
}
