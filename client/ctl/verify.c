/* SPDX-License-Identifier: Apache-2.0 */
/* verify: see verify.h. */
#include "client/ctl/verify.h"
#include "client/ctl/ctl.h"
#include "client/ctl/view.h"

#include <inttypes.h>

enum { VERIFY_LENT };
const struct option_spec verify_options[] = {
	[VERIFY_LENT] = {"lent", NULL, "also compare what is lent with the blocks"},
	{NULL, NULL, NULL},
};

/* What the daemon has answered; without --lent, no `lent`. */
struct verify {
	struct query accounts, limits, lent;
	bool with_lent;
};

/* The accounts of pools and of limits that do not balance. */
static size_t verify_count_unbalanced(const struct verify *verify)
{
	size_t count = 0;
	for (size_t i = 0; i < verify->accounts.count; i++)
		count += ((const struct hbm_wire_account *)query_record(&verify->accounts, i))
				 ->balanced != 1;
	for (size_t i = 0; i < verify->limits.count; i++)
		count += ((const struct hbm_wire_limit *)query_record(&verify->limits, i))
				 ->balanced != 1;
	return count;
}

static uint64_t verify_count_mismatches(const struct verify *verify)
{
	uint64_t count = 0;
	for (size_t i = 0; i < verify->lent.count; i++)
		count += ((const struct hbm_wire_lent *)query_record(&verify->lent, i))->mismatches;
	return count;
}

/* ---- What is shown ---- */

/* Of a limit only what is charged against it. */
static int verify_show_charges(const struct query *limits)
{
	static const char *const columns[] = {"name", "used", "unit", "balanced", "problem"};
	const struct record *limit = record_of(HBM_QUERY_LIMITS);
	struct field fields[sizeof(columns) / sizeof(columns[0])];
	struct record charge = {limit->name, limit->bytes, fields, 0};

	for (; charge.count < sizeof(columns) / sizeof(columns[0]); charge.count++)
		fields[charge.count] = *record_field(limit, columns[charge.count]);
	fields[0].header = "CHARGED AGAINST";

	return ctl_printed(view_table(&charge, limits, stdout));
}

static int verify_show_json(const struct verify *verify, bool balanced)
{
	const struct record *account = record_of(HBM_QUERY_VERIFY),
			    *limit = record_of(HBM_QUERY_LIMITS), *lent = record_of(HBM_QUERY_LENT);
	json_t *object = json_pack("{s:b,s:o,s:o}", "balanced", balanced, account->name,
				   view_json_all(account, &verify->accounts), limit->name,
				   view_json_all(limit, &verify->limits));

	if (object && verify->with_lent &&
	    json_object_set_new(object, lent->name, view_json_all(lent, &verify->lent)) != 0) {
		json_decref(object);
		object = NULL;
	}

	return ctl_print_json(object);
}

static int verify_show(struct ctl *ctl, const struct verify *verify, bool balanced)
{
	if (ctl->json)
		return verify_show_json(verify, balanced);

	int r = ctl_printed(view_table(record_of(HBM_QUERY_VERIFY), &verify->accounts, stdout));
	if (r != CTL_DONE)
		return r;

	putchar('\n');
	r = verify_show_charges(&verify->limits);
	if (r != CTL_DONE || !verify->with_lent)
		return r;

	putchar('\n');

	return ctl_printed(view_table(record_of(HBM_QUERY_LENT), &verify->lent, stdout));
}

static int verify_judge(struct ctl *ctl, const struct verify *verify)
{
	size_t wrong = verify_count_unbalanced(verify);
	uint64_t mismatches = verify_count_mismatches(verify);
	int r = verify_show(ctl, verify, wrong == 0);

	if (r == CTL_DONE && wrong > 0)
		r = ctl_fail("%zu of %zu accounts do not balance: this is a bug in hbmd; report "
			     "the lines above and restart it",
			     wrong, verify->accounts.count + verify->limits.count);
	if (r == CTL_DONE && mismatches > 0)
		r = ctl_fail("%" PRIu64
			     " checksum mismatches in what is lent: dropped; a process that "
			     "had it has written to it, of a uid that the log of hbmd names",
			     mismatches);

	return r;
}

/* ---- What is asked ---- */

static int verify_query(struct ctl *ctl, enum hbm_wire_query_kind kind, struct query *query)
{
	int r = query_all(ctl->hbm, kind, query);

	return r == 0 ? CTL_DONE : ctl_refused(ctl->hbm, "verify", r);
}

int verify_run(struct ctl *ctl)
{
	struct verify verify = {.with_lent = ctl->options.values[VERIFY_LENT]};
	int r = ctl_connect(ctl);

	if (r == CTL_DONE)
		r = verify_query(ctl, HBM_QUERY_VERIFY, &verify.accounts);
	if (r == CTL_DONE)
		r = verify_query(ctl, HBM_QUERY_LIMITS, &verify.limits);
	if (r == CTL_DONE && verify.with_lent)
		r = verify_query(ctl, HBM_QUERY_LENT, &verify.lent);
	if (r == CTL_DONE)
		r = verify_judge(ctl, &verify);

	query_clear(&verify.accounts);
	query_clear(&verify.limits);
	query_clear(&verify.lent);

	return r;
}
