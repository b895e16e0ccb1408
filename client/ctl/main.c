/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl: asks a running hbmd, or drives it. The command line is `hbmctl [OPTION...]
 * COMMAND [ARGUMENT or OPTION...]`; the options that all commands share may be on either
 * side of the command.
 */
#include "client/ctl/command.h"
#include "client/ctl/ctl.h"

#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#define TIMEOUT_S 30

enum { SHARED_SOCKET, SHARED_TIMEOUT, SHARED_JSON, SHARED_HELP };
static const struct option_spec shared_options[] = {
	[SHARED_SOCKET] = {"socket", "PATH",
			   "connect to this socket; default $HBM_SOCKET, else " HBM_DEFAULT_SOCKET},
	[SHARED_TIMEOUT] = {"timeout", "SECONDS",
			    "wait at most so long for an answer; default 30, 0: forever"},
	[SHARED_JSON] = {"json", NULL, "print one JSON document"},
	[SHARED_HELP] = {"help", NULL, "print this help"},
	{NULL, NULL, NULL},
};

static bool hbmctl_is_option(const char *word)
{
	return strncmp(word, "--", 2) == 0;
}

static int hbmctl_read_option(struct ctl *ctl, struct option_set *shared, char ***args)
{
	char error[256];
	struct option_set *sets[] = {shared, &ctl->options};
	if (options_take(sets, ctl->command ? 2 : 1, args, error, sizeof(error)) == 0)
		return CTL_DONE;
	return ctl_usage(ctl, "%s", error);
}

/* Splits what follows the command into options and words; `--` ends the options.
 * ctl->words has room for all. */
static int hbmctl_read_arguments(struct ctl *ctl, struct option_set *shared, char **args)
{
	bool options_over = false;
	while (*args) {
		if (!options_over && strcmp(*args, "--") == 0) {
			options_over = true;
			args++;
		} else if (!options_over && hbmctl_is_option(*args)) {
			int r = hbmctl_read_option(ctl, shared, &args);
			if (r != CTL_DONE)
				return r;
		} else {
			ctl->words[ctl->word_count++] = *args++;
		}
	}

	return CTL_DONE;
}

/* `hbmctl help [COMMAND]` is `hbmctl [COMMAND] --help`. */
static int hbmctl_help(struct ctl *ctl, char **args)
{
	if (!args[0]) {
		command_help_all(shared_options, stdout);
		return CTL_DONE;
	}

	const struct command *command = command_find(args[0]);
	if (!command)
		return ctl_usage(ctl, "there is no command \"%s\"", args[0]);

	command_help(command, shared_options, stdout);

	return CTL_DONE;
}

static int hbmctl_run_command(struct ctl *ctl, struct option_set *shared, char **args)
{
	ctl->options.specs = ctl->command->options;
	int r = hbmctl_read_arguments(ctl, shared, args);
	if (r != CTL_DONE)
		return r;

	if (shared->values[SHARED_HELP]) {
		command_help(ctl->command, shared_options, stdout);
		return CTL_DONE;
	}

	if (ctl->word_count < ctl->command->least || ctl->word_count > ctl->command->most)
		return ctl_usage(ctl, "%s takes %s", ctl->command->name,
				 *ctl->command->arguments ? ctl->command->arguments
							  : "no arguments");

	ctl->socket = shared->values[SHARED_SOCKET];
	ctl->json = shared->values[SHARED_JSON] != NULL;
	ctl->timeout_s = TIMEOUT_S;
	r = ctl_count(ctl, "--timeout", shared->values[SHARED_TIMEOUT], &ctl->timeout_s);
	if (r != CTL_DONE)
		return r;

	r = ctl->command->run(ctl);
	ctl->hbm = hbm_close(ctl->hbm);

	return r;
}

static int hbmctl_run(struct ctl *ctl, char **args)
{
	struct option_set shared = {.specs = shared_options};

	while (*args && hbmctl_is_option(*args)) {
		int r = hbmctl_read_option(ctl, &shared, &args);
		if (r != CTL_DONE)
			return r;
	}

	if (shared.values[SHARED_HELP])
		return hbmctl_help(ctl, args);
	if (!*args)
		return ctl_usage(ctl, "expected a command");
	if (strcmp(*args, "help") == 0)
		return hbmctl_help(ctl, args + 1);

	ctl->command = command_find(*args);
	if (!ctl->command)
		return ctl_usage(ctl, "there is no command \"%s\"", *args);

	return hbmctl_run_command(ctl, &shared, args + 1);
}

int main(int argc, char **argv)
{
	setlocale(LC_CTYPE, ""); /* only to learn whether the terminal supports UTF-8 */
	struct ctl ctl = {.words = calloc((size_t)argc + 1, sizeof(char *))};
	int r = ctl.words && argc > 0 ? hbmctl_run(&ctl, argv + 1) : ctl_fail("out of memory");
	free(ctl.words);
	if ((fflush(stdout) != 0 || ferror(stdout)) && r == CTL_DONE)
		r = ctl_fail("cannot write the result: %s", strerror(errno));

	return r;
}
