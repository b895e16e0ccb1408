/* SPDX-License-Identifier: Apache-2.0 */
/* no_daemon: see no_daemon.h. */
#include "client/ctl/no_daemon.h"

#include <hbm/hbm.h>

#include <errno.h>
#include <stdio.h>

/* The text before and after the socket and the status. */
struct wording {
	const char *before, *after;
};

static struct wording wording_for(int status)
{
	switch (status) {
	case -ENOENT:
	case -ECONNREFUSED:
		return (struct wording){
			"no daemon at",
			": is hbmd running? Start it, or name its socket with --socket"};
	case -ETIMEDOUT:
		return (struct wording){"no answer from",
					": see what hbmd is doing, or wait longer with --timeout"};
	case -EACCES:
	case -EPERM:
		return (struct wording){"no access to", ": join its group or run as root"};
	case -EPROTO:
		return (struct wording){"no hbmd of this version at",
					": compare hbmd --version and hbmctl version"};
	case HBM_LIMIT:
		return (struct wording){"refused by the daemon at",
					": see [limits] in hbmd.conf(5)"};
	default:
		return (struct wording){
			status > 0 ? "refused by the daemon at" : "no connection to", ""};
	}
}

void no_daemon_text(char *text, size_t size, const char *socket, int status)
{
	struct wording wording = wording_for(status);
	snprintf(text, size, "%s %s (%s)%s", wording.before, socket, hbm_strerror(status),
		 wording.after);
}
