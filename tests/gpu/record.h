/* SPDX-License-Identifier: Apache-2.0 */
/*
 * record: what the programs of this folder print: one line for each thing learned, of six
 * fields separated by tabs:
 *
 * 	part  name  outcome  value  unit  note
 *
 * run.sh shows the lines as they come and keeps them; gpu_report makes the documents of
 * them. Fields never contain tabs or ends of lines. Value and unit are empty where
 * nothing was counted.
 */
#pragma once

enum outcome {
	OUTCOME_PASS,        /* it is as the project assumes */
	OUTCOME_FAIL,        /* it is not */
	OUTCOME_UNSUPPORTED, /* it could not be tried here; the note says why */
	OUTCOME_SEEN,        /* a fact, or the answer to a question that has no wrong one */
};

/* The part all later records belong to, until the next call: "facts", "claims", "costs",
 * "roofs". */
void record_part(const char *part);
/* The note is made of the format. */
__attribute__((format(printf, 3, 4))) void record(const char *name, enum outcome outcome,
						  const char *format, ...);
/* A number that was measured or asked for: an outcome of SEEN. */
__attribute__((format(printf, 4, 5))) void record_number(const char *name, double value,
							 const char *unit, const char *format, ...);
/* A word as a value; what reads as a number becomes one, so a version says of what:
 * "glibc 2.40", not 2.4. */
void record_word(const char *name, const char *value);
