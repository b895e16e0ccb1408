/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/service/exit_status.h"

#include <errno.h>

/*
 * The one place where an errno decides something, as nobody but the operator is
 * concerned. Asked of each is whether time alone can mend it: a module that is loaded
 * late, a disk that is mounted late, memory, room or a lock that another process gives
 * back. Whatever is not listed is tried again: to give up wrongly is worse than to try in
 * vain.
 */
enum exit_status exit_status_of_start(int error)
{
	switch (-error) {
	case EINVAL: /* a value, or two that contradict each other */
	case EEXIST: /* something that is not ours and would be overwritten */
	case EACCES: /* rights, */
	case EPERM:  /* a sandbox, */
	case EROFS:  /* or ReadWritePaths= */
	case EFBIG:  /* a resource limit */
	case EISDIR: /* what is at a path is of the wrong kind */
	case ENOTDIR:
	case ENOTBLK:
	case ENAMETOOLONG:
	case EOPNOTSUPP: /* a device without what is needed */
		return EXIT_STATUS_CONFIG;
	default:
		return EXIT_STATUS_UNMET;
	}
}
