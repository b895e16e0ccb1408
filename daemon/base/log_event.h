/* SPDX-License-Identifier: Apache-2.0 */
/*
 * log_event: lines of the log that programs of an operator look for. In the journal each kind has
 * a MESSAGE_ID, by which it is found whatever its words are, and fields; elsewhere it is a line
 * as any other. They are few: each goes to the journal by itself, and never waits for it.
 */
#pragma once

/* The names are also in the table of hbmd(8), which a lint compares. An identifier never changes. */
#define LOG_EVENT_LIST(X)                                                                          \
	X(SERVING, "94a36f3e22334f06927d1fb3ff7ec75e")                                             \
	X(STOPPED, "41d475b2fe6645f99e876cd3f0f9e4c5")                                             \
	X(NOT_STARTED, "eb00535e857d4892b112f83e7fa96644")                                         \
	X(TAKEN_OVER, "013b062c2ea14d4e93c1b62a4c79753f")                                          \
	X(STARTED_EMPTY, "3d43cff9b5d547a0b46e763f31768578")                                       \
	X(NOT_KEPT, "ef8f1e470d0f4b67a6fe5d9e38ffc6a1")                                            \
	X(RELOADED, "78fd8df00b014e9f9be9c5992ef49db4")                                            \
	X(NOT_RELOADED, "d22611c60bc44dfcb2008ce678945efe")                                        \
	X(DEVICE_LOST, "69a9b1d3e4b841d99d8d85808e185ae0")                                         \
	X(DEVICE_RESTART, "5da753e7e0cf42f1b037c4a3eb413ce5")                                      \
	X(NVME_LOST, "209bda64084644f98bfdf98e51e23a4d")                                           \
	X(NVME_BACK, "dbe8acd0f38e45aa88245e493773d765")                                           \
	X(RESIZED, "f41537581b7c466f8239119650ef14b8")                                             \
	X(MEMORY_SHORT, "5fd6ee928412456ba069060bff5187ff")                                        \
	X(MEMORY_CALM, "f32df32d1dcb4914852773cfcb142837")

enum log_event {
#define LOG_EVENT(name, id) LOG_EVENT_##name,
	LOG_EVENT_LIST(LOG_EVENT)
#undef LOG_EVENT
};

/* Any thread. `fields` are "NAME=value" without control characters, one a line, the last without
 * '\n'; NULL: none. */
void log_event(enum log_event event, int level, const char *fields, const char *format, ...)
	__attribute__((format(printf, 4, 5)));
