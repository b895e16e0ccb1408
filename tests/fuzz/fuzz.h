/* SPDX-License-Identifier: Apache-2.0 */
/*
 * fuzz: what the harnesses of `make fuzz` share: bytes of an input taken one after another,
 * an input as a file, text that is printed into memory, and the way to say that an input has
 * shown a fault. A harness is a program with libFuzzer's entry points; it keeps
 * nothing from one input to the next, so that an input alone shows its fault again.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

/* Of libFuzzer, which has no header for them. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerInitialize(int *argc, char ***argv);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t room, unsigned seed);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t room);

/* Says what is wrong and aborts, which libFuzzer takes for a crash. */
__attribute__((noreturn, format(printf, 1, 2))) void fuzz_fail(const char *format, ...);
#define fuzz_check(condition)                                                                      \
	((condition) ? (void)0 : fuzz_fail("%s:%d: not so: %s", __FILE__, __LINE__, #condition))

/* An input that is read from the front; past its end are zeros. */
struct fuzz_input {
	const uint8_t *at;
	size_t left;
};

uint64_t fuzz_take(struct fuzz_input *input, size_t bytes); /* 1 to 8 of them */
uint32_t fuzz_below(struct fuzz_input *input, uint32_t limit);
/* The next `size` bytes, or zeros. */
void fuzz_take_bytes(struct fuzz_input *input, void *to, size_t size);

/* A text that ends with a zero byte, of exactly the room that it needs; the caller frees it. */
char *fuzz_text(const uint8_t *data, size_t size);
/* A file in memory with those bytes: its path, and its descriptor to be closed. */
int fuzz_file(const void *data, size_t size, char path[32]);
/* Makes a folder in $TMPDIR that every user may enter: its path, shorter than 64 bytes. */
void fuzz_folder(char path[64]);
/* What `print` writes; the caller frees it. */
char *fuzz_printed(void (*print)(const void *what, FILE *out), const void *what);

/* Open descriptors of this process, without pipes, which only a sanitizer makes here, and the
 * soft driver's memory, of which a pool of slabs makes some ahead; says what they are if it is told to. */
unsigned fuzz_descriptors(bool say);
/* Those of the soft driver's memory. */
unsigned fuzz_descriptors_of_slabs(void);
