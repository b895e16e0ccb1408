/* SPDX-License-Identifier: Apache-2.0 */
/*
 * hbmctl: the command as a test sees it: a line to run, an exit status, and what it
 * printed on both outputs, which hbmctl_output keeps until the next run. What is expected
 * and is not so fails the test, with the line and the output. It talks to the daemon of
 * stage.h, which need not run; one to ask about is hbmctl_begin()'s.
 */
#pragma once

#include "tests/support/kv.h"
#include "tests/support/stage.h"

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#define HBMCTL_OUTPUT (1u << 20)

extern char hbmctl_output[HBMCTL_OUTPUT];

#define HBMCTL_BLOCK 65536u
#define HBMCTL_STORED 4u
extern struct kv hbmctl_kv;

/* Starts the daemon, with one client, hbmctl_kv, that has stored the chain 1 to
 * HBMCTL_STORED. */
void hbmctl_begin(void);
void hbmctl_finish(void); /* that client leaves, and stage_finish() */

/* hbmctl with the words of a line, split at spaces: its exit status. */
int hbmctl_run(const char *line);
void hbmctl_expect(const char *line, int status);
/* That a text is in the output of the line that was run last. */
void hbmctl_expect_text(const char *line, const char *text);
/* That it has a row with that label and nothing but the value after it. */
void hbmctl_expect_row(const char *line, const char *label, const char *value);
/* Runs it and expects one line, by hbmctl itself, with a text in it. */
void hbmctl_expect_refusal(const char *line, int status, const char *text);
size_t hbmctl_line_count(void);

/* The document that `--json line` prints, with nothing beside it. The caller's. */
json_t *hbmctl_json(const char *line);
/* Members, which have to be there and of that type; borrowed. Numbers of hbmctl_count()
 * are whole and not negative. */
json_t *hbmctl_member(const json_t *object, const char *name);
json_t *hbmctl_array(const json_t *object, const char *name);
const char *hbmctl_text(const json_t *object, const char *name);
uint64_t hbmctl_count(const json_t *object, const char *name);
double hbmctl_real(const json_t *object, const char *name);
/* How much of a limit is used, by its name. */
uint64_t hbmctl_limit_used(const char *name);
