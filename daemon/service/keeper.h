/* SPDX-License-Identifier: Apache-2.0 */
/*
 * keeper: hbmd --keeper, the parent of a daemon that no service manager with a descriptor store
 * starts, in a container for example. It starts hbmd, keeps the descriptors that it is handed,
 * speaks as much of the service manager's protocol as that takes (sd_notify(3),
 * sd_listen_fds(3)), and starts hbmd again with all of them when it dies. It opens none of the
 * daemon's parts and reads no configuration.
 *
 * 	hbmd ended            the keeper
 * 	by itself, with 0     ends
 * 	with 2 or 78          ends: another try would end so too; where one has served before,
 * 	                      keeps what it has and tries now and then, as an operator may mend it
 * 	else                  starts it again: at once, or with growing waits where it never was
 * 	                      ready; ends after so many starts in ten minutes
 * 	not, and is silent    aborts it
 *
 * 	SIGTERM, SIGINT       passed on; the keeper ends with hbmd
 * 	SIGHUP                passed on
 * 	SIGUSR2               hbmd --check-config; where that ends with 0, hbmd is ended by SIGTERM and
 * 	                      started again: a new version's, where the file has been exchanged
 *
 * What is kept ends with the keeper, and so does hbmd, however the keeper ends.
 */
#pragma once

/* Of "hbmd --keeper [--starts N] [--watchdog SECONDS] -- OPTIONS...". The exit status: hbmd's, or 128 and the
 * signal's number. */
int keeper_main(int argc, char **argv);
