/* SPDX-License-Identifier: Apache-2.0 */
/* command: see command.h. */
#include "client/ctl/command.h"
#include "client/ctl/generate.h"
#include "client/ctl/inspect.h"
#include "client/ctl/metrics.h"
#include "client/ctl/operate.h"
#include "client/ctl/plan.h"
#include "client/ctl/plan_request.h"
#include "client/ctl/replay.h"
#include "client/ctl/trace.h"

#include <stdint.h>
#include <string.h>

static const char block_words[] =
	"NAMESPACE is a number, or a model that only one namespace has; KEY is 32 hex digits.\n";
static const char namespaces_words[] =
	"drop drops every block of those namespaces, pinned or not.\n"
	"NAMESPACE is a number, or a model that only one namespace has.\n";
static const char pin_words[] =
	"NAMESPACE is a number, or a model that only one namespace has; KEY is 32 hex digits.\n"
	"A pin made here outlives hbmctl: it is taken back with unpin.\n";
static const char verify_words[] = "For every pool: free + placed + moving + quarantined = "
				   "capacity, and what the daemon checks beyond it.\n"
				   "For every limit: what is charged is what is there.\n"
				   "The exit status is 1 if anything is wrong.\n";
static const char limits_words[] =
	"USED is by all together, BY ONE by the session (tier, ...) that uses most.\n"
	"REFUSED counts requests since start. Limits of one request, block or wait use nothing.\n";
static const char evict_words[] =
	"TIER is hbm, ddr or nvme. Blocks go to the next tier below, from the last one away.\n";

static const struct command commands[] = {
	{"status", "", "what the daemon is and what it has done", inspect_status, NULL, 0, 0, NULL},
	{"devices", "", "memory of each device and how it is divided", inspect_devices, NULL, 0, 0,
	 NULL},
	{"tiers", "", "capacity and use of each tier", inspect_tiers, NULL, 0, 0, NULL},
	{"sessions", "", "connected clients", inspect_sessions, NULL, 0, 0, NULL},
	{"regions", "", "clients' regions", inspect_regions, NULL, 0, 0, NULL},
	{"namespaces", "[drop NAMESPACE...]", "families of blocks; drop all blocks of some",
	 operate_namespaces, NULL, 0, SIZE_MAX, namespaces_words},
	{"blocks", "[--namespace N] [--limit N]", "cached blocks, one a line", inspect_blocks,
	 inspect_blocks_options, 0, 0, NULL},
	{"lookup", "NAMESPACE KEY...", "which of the keys are cached, and in which tier",
	 operate_lookup, NULL, 2, SIZE_MAX, block_words},
	{"pin", "NAMESPACE KEY...", "keep blocks from being evicted", operate_pin, NULL, 2,
	 SIZE_MAX, pin_words},
	{"unpin", "NAMESPACE KEY...", "take back a pin", operate_unpin, NULL, 2, SIZE_MAX,
	 pin_words},
	{"evict", "TIER [--device D] SIZE|all", "evict least recently used blocks from a tier",
	 operate_evict, operate_evict_options, 2, 2, evict_words},
	{"limits", "", "limits of the configuration, and what is charged against them",
	 inspect_limits, NULL, 0, 0, limits_words},
	{"verify", "", "check that the daemon's accounts balance", inspect_verify, NULL, 0, 0,
	 verify_words},
	{"metrics", "", "all numbers as Prometheus text", metrics_run, NULL, 0, 0, NULL},
	{"trace", "[--last MS] [--width N]", "timeline of transfers, by link", trace_run,
	 trace_options, 0, 0, NULL},
	{"replay", "TRACE [OPTION...] | --generate SPEC",
	 "drive the daemon with a trace, checking every byte", replay_run, replay_options, 0, 1,
	 replay_details},
	{"plan", "--model NAME --gpu NAME [OPTION...] | --list",
	 "how many users fit on a host, and what they cost", plan_run, plan_options, 0, 0,
	 plan_details},
	{"version", "", "versions of hbmctl and of the daemon", inspect_version, NULL, 0, 0, NULL},
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
