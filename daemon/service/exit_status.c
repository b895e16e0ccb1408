/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/exit_status.h"

#include <errno.h>

/*
 * Only here does an errno decide anything, because only the operator is affected. The
 * question is whether the error can pass by itself: a module loaded late, a disk mounted
 * late, memory, space or a lock that another process frees. Errors not listed are
 * retried: a useless retry is better than a service that stays down.
 */
enum exit_status exit_status_of_start(int error)
{
	switch (-error) {
	case EINVAL: /* a value, or two that contradict each other */
	case EEXIST: /* something not ours that would be overwritten */
	case EACCES: /* rights, */
	case EPERM:  /* a sandbox, */
	case EROFS:  /* or ReadWritePaths= */
	case EFBIG:  /* a resource limit */
	case EISDIR: /* a path of the wrong type */
	case ENOTDIR:
	case ENOTBLK:
	case ENAMETOOLONG:
	case EOPNOTSUPP: /* a device without a needed feature */
		return EXIT_STATUS_CONFIG;
	default:
		return EXIT_STATUS_UNMET;
	}
}
