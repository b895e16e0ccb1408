/* SPDX-License-Identifier: Apache-2.0 */
/* command: see command.h. */
#include "client/ctl/command.h"
#include "client/ctl/drain.h"
#include "client/ctl/generate.h"
#include "client/ctl/inspect.h"
#include "client/ctl/metrics.h"
#include "client/ctl/operate.h"
#include "client/ctl/plan.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/replay.h"
#include "client/ctl/suspend.h"
#include "client/ctl/tenants.h"
#include "client/ctl/trace.h"
#include "client/ctl/verify.h"

#include <stdint.h>
#include <string.h>

static const char block_words[] =
	"NAMESPACE is a number, or a model that only one namespace has; KEY is 32 hex digits.\n";
static const char namespaces_words[] =
	"drop: drops every block of the given namespaces, pinned or not.\n"
	"NAMESPACE is a number, or a model that only one namespace has.\n";
static const char tenants_words[] =
	"A tenant is a section [tenant NAME] of the configuration, or a user that none matches.\n"
	"set: changes a key of such a section until the daemon reads the configuration again.\n"
	"What is used beyond a new limit stays; nothing more is let in.\n";
static const char sessions_words[] =
	"end: ends the given sessions, as if their clients had hung up. SESSION is a number.\n"
	"Device memory that a session has comes back when its process ends.\n";
static const char sequences_words[] =
	"What clients say of themselves: OWN and SHARED device memory, SUSPENDED bytes elsewhere.\n"
	"With --json also the sums.\n";
static const char suspend_words[] =
	"SESSION/SEQUENCE as hbmctl sequences shows them; SESSION/all: all of its sequences.\n"
	"The session is asked; its engine decides whether and when.\n"
	"The exit status is 1 if it has not done so in time.\n";
static const char pin_words[] =
	"NAMESPACE is a number, or a model that only one namespace has; KEY is 32 hex digits.\n"
	"A pin stays after hbmctl has exited, until it is unpinned.\n";
static const char verify_words[] =
	"Checks that in every pool free + placed + moving + quarantined = capacity, and counts\n"
	"each sum again from the index and the extents. Counts what is charged against each limit\n"
	"again, too.\n"
	"With --lent it also reads all that is lent and compares it with the checksums of the "
	"blocks.\n"
	"What differs is dropped.\n"
	"The exit status is 1 if anything is wrong.\n";
static const char limits_words[] =
	"USED is the use of all together, BY ONE that of the session (tier, ...) that uses most.\n"
	"REFUSED counts requests since startup. Limits of a single request, block or wait have no\n"
	"use.\n";
static const char evict_words[] = "TIER is hbm, ddr or nvme. Blocks move to the tier below; those "
				  "in the last tier are dropped.\n";
static const char resize_words[] =
	"TIER is hbm, ddr or nvme. The daemon serves meanwhile: hbmctl tiers shows how far it is.\n"
	"It goes on when hbmctl is interrupted; another resize of the tier takes its place. The "
	"size\n"
	"lasts until the daemon restarts.\n";

static const char drain_words[] = "From then on no memory is granted, and blocks in memory go to "
				  "NVMe. When nothing is leased\n"
				  "any more the daemon stops, with status 0. It goes on when "
				  "hbmctl is interrupted; what has\n"
				  "been moved or dropped by a drain that ends early stays so.\n";

static const struct command commands[] = {
	{"status", "", "show the state and statistics of the daemon", inspect_status, NULL, 0, 0,
	 NULL},
	{"devices", "", "show each device and how its memory is divided", inspect_devices, NULL, 0,
	 0, NULL},
	{"tiers", "", "show the capacity and use of each tier", inspect_tiers, NULL, 0, 0, NULL},
	{"tenants", "[set NAME KEY=VALUE...]",
	 "show what tenants may have and do have, or change it", tenants_run, NULL, 0, SIZE_MAX,
	 tenants_words},
	{"sessions", "[end SESSION...]", "show the clients, or end some", operate_sessions, NULL, 0,
	 SIZE_MAX, sessions_words},
	{"regions", "", "show the regions of clients", inspect_regions, NULL, 0, 0, NULL},
	{"sequences", "", "show the sequences of clients", inspect_sequences, NULL, 0, 0,
	 sequences_words},
	{"suspend", "SESSION/SEQUENCE [--tier TIER] [--wait SECONDS]",
	 "ask a session to suspend a sequence", suspend_run, suspend_options, 1, 1, suspend_words},
	{"resume", "SESSION/SEQUENCE [--wait SECONDS]", "ask a session to resume a sequence",
	 suspend_resume, suspend_resume_options, 1, 1, suspend_words},
	{"namespaces", "[drop NAMESPACE...]", "show namespaces, or drop all blocks of some",
	 operate_namespaces, NULL, 0, SIZE_MAX, namespaces_words},
	{"blocks", "[--namespace N] [--limit N]", "show cached blocks, one per line",
	 inspect_blocks, inspect_blocks_options, 0, 0, NULL},
	{"lookup", "NAMESPACE KEY...", "show which blocks are cached, and in which tier",
	 operate_lookup, NULL, 2, SIZE_MAX, block_words},
	{"pin", "NAMESPACE KEY...", "keep blocks from being evicted", operate_pin, NULL, 2,
	 SIZE_MAX, pin_words},
	{"unpin", "NAMESPACE KEY...", "remove a pin", operate_unpin, NULL, 2, SIZE_MAX, pin_words},
	{"evict", "TIER [--device D] SIZE|all", "evict least recently used blocks from a tier",
	 operate_evict, operate_evict_options, 2, 2, evict_words},
	{"resize", "TIER [--device D] SIZE", "make a tier larger or smaller", operate_resize,
	 operate_resize_options, 2, 2, resize_words},
	{"drain", "[--within SECONDS] [--cancel]",
	 "grant nothing new, park what there is, and stop the daemon", drain_run, drain_options, 0,
	 0, drain_words},
	{"limits", "", "show each limit and what is charged against it", inspect_limits, NULL, 0, 0,
	 limits_words},
	{"verify", "[--lent]", "verify the accounting of the daemon", verify_run, verify_options, 0,
	 0, verify_words},
	{"metrics", "", "print all metrics in Prometheus format", metrics_run, NULL, 0, 0, NULL},
	{"trace", "[--last MS] [--width N] [--events N]",
	 "show a timeline of the transfers of each link, and events of sequences", trace_run,
	 trace_options, 0, 0, NULL},
	{"replay", "TRACE [OPTION...] | --generate SPEC",
	 "replay a trace and compare every loaded byte", replay_run, replay_options, 0, 1,
	 replay_details},
	{"plan", "--model NAME --gpu NAME [OPTION...] | --list",
	 "compute how many users fit on a host, and at what cost", plan_run, plan_options, 0, 0,
	 plan_details},
	{"version", "", "print the versions of hbmctl and of the daemon", inspect_version, NULL, 0,
	 0, NULL},
};
#define COMMAND_COUNT (sizeof(commands) / sizeof(commands[0]))

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < COMMAND_COUNT; i++) {
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	}
	return NULL;
}

void command_help_all(const struct option_spec *shared, FILE *out)
{
	fputs("Usage: hbmctl [--socket PATH] [--timeout SECONDS] [--json] COMMAND "
	      "[ARGUMENT...]\n\nCommands:\n",
	      out);
	for (size_t i = 0; i < COMMAND_COUNT; i++)
		fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
	fputs("\nOptions of all commands:\n", out);
	options_help(shared, out);
	fputs("\nExit status: 0 done, 1 refused or failed, 2 usage. See hbmctl(1).\n", out);
}

void command_help(const struct command *command, const struct option_spec *shared, FILE *out)
{
	fprintf(out, "Usage: hbmctl %s%s%s\n\n%s: %s\n", command->name,
		*command->arguments ? " " : "", command->arguments, command->name,
		command->summary);
	if (command->details)
		fprintf(out, "\n%s", command->details);
	if (command->run == replay_run)
		generate_help(out);

	fputs("\nOptions:\n", out);
	options_help(command->options, out);
	options_help(shared, out);
}
