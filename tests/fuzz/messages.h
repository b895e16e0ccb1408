/* SPDX-License-Identifier: Apache-2.0 */
/*
 * messages: good messages, and changes of messages that know their form: opcode, fields,
 * counts, and the size that follows from them. The forms are those of
 * tests/support/wire_form.h. For mutators.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

/* A good message of the nth form, with numbers, offsets and sizes of what the clients of
 * fuzz_wire are likely to have; its size, which is at most `room`, else 0. */
size_t message_make(uint8_t *message, size_t room, size_t form, unsigned *seed);
/* The same of any form, in some cases with other numbers. */
size_t message_make_any(uint8_t *message, size_t room, unsigned *seed);
/* Changes a message in one way or another; its size afterwards, at most `room`. In most cases
 * header.size says what it is. */
size_t message_change(uint8_t *message, size_t size, size_t room, unsigned *seed);
/* Below `limit`; the seed goes on. */
uint32_t message_below(unsigned *seed, uint32_t limit);
