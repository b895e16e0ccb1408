/* SPDX-License-Identifier: Apache-2.0 */
/* ptx: the PTX of a NAME.cu as a string of its NAME.c. */
#pragma once

/* Defines `const char symbol[]`, which the file declares: the PTX of its NAME.cu with a
 * zero at its end. */
#define DEVICE_CODE(symbol)                                                                        \
	__asm__(".pushsection .rodata\n.globl " #symbol "\n.hidden " #symbol "\n" #symbol ":\n"    \
		".incbin \"" DEVICE_PTX "\"\n" /* the build says where */                          \
		".byte 0\n"                                                                        \
		".popsection\n")
