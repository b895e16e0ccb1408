/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/support/open_namespace.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "daemon/ledger/user.h"

uint16_t open_namespace(struct namespaces *namespaces, struct ledger *ledger,
			const struct hbm_wire_namespace_spec *spec)
{
	return open_namespace_as(namespaces, ledger, spec, NULL);
}

uint16_t open_namespace_as(struct namespaces *namespaces, struct ledger *ledger,
			   const struct hbm_wire_namespace_spec *spec,
			   const struct hbm_wire_encoding *encoding)
{
	struct user *user = user_open(ledger, 0);

	assert_non_null(user);
	uint16_t number = namespaces_open(
		namespaces, &(struct namespace_identity){.spec = spec, .encoding = encoding}, user);
	user_close(user);

	return number;
}
