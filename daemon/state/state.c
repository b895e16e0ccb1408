/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/state/state.h"

#include "daemon/base/checksum.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define STATE_MAGIC 0x6574617473646d68ull /* "hmdstate", little-endian */
#define STATE_PAGE 4096u
#define STATE_BODY_MAX 4096u

struct state_header {
	uint64_t magic;
	uint32_t version, tables;
	struct state_shape shapes[STATE_TABLES];
	uint64_t bytes; /* of the memfd */
	uint8_t identity[16];
	_Atomic uint64_t counters[STATE_COUNTERS];
	_Atomic uint32_t ends[STATE_TABLES]; /* no record from that index on was ever used */
};

struct state_record {
	_Atomic uint64_t stamp;
	_Atomic uint64_t word;
	unsigned char body[];
};

struct table {
	char *records;
	uint32_t record_bytes, body_bytes, capacity;
	uint32_t free; /* the first free record below the end, whose body has the next */
	uint32_t count;
};

struct state {
	struct state_header *header;
	struct table tables[STATE_TABLES];
	uint64_t rotten;
	int fd;
};

_Static_assert(sizeof(struct state_header) <= STATE_PAGE, "the header is one page");

/* ---- the memory ---- */

static uint32_t state_record_bytes(const struct state_shape *shape)
{
	return (uint32_t)sizeof(struct state_record) + shape->body_bytes;
}

static uint64_t state_table_bytes(const struct state_shape *shape)
{
	uint64_t bytes = (uint64_t)state_record_bytes(shape) * shape->capacity;
	return (bytes + STATE_PAGE - 1) / STATE_PAGE * STATE_PAGE;
}

static bool state_shapes_are_valid(const struct state_shape shapes[STATE_TABLES])
{
	for (size_t i = 0; i < STATE_TABLES; i++)
		if (shapes[i].body_bytes == 0 || shapes[i].body_bytes % sizeof(uint64_t) != 0 ||
		    shapes[i].body_bytes > STATE_BODY_MAX || shapes[i].capacity == 0 ||
		    shapes[i].capacity > STATE_CAPACITY_MAX)
			return false;
	return true;
}

uint64_t state_bytes(const struct state_shape shapes[STATE_TABLES])
{
	uint64_t bytes = STATE_PAGE;
	for (size_t i = 0; i < STATE_TABLES; i++)
		bytes += state_table_bytes(&shapes[i]);
	return bytes;
}

/* Maps what the descriptor has, which is then the state's. */
static int state_map(struct state **out, int fd, const struct state_shape shapes[STATE_TABLES])
{
	struct state *state = calloc(1, sizeof(*state));
	if (!state)
		return -ENOMEM;

	void *memory = mmap(NULL, state_bytes(shapes), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_NORESERVE, fd, 0);
	if (memory == MAP_FAILED) {
		int r = -errno;
		free(state);
		return r;
	}

	(void)madvise(memory, state_bytes(shapes), MADV_DONTDUMP);
	state->header = memory;
	state->fd = fd;
	char *next = (char *)memory + STATE_PAGE;
	for (size_t i = 0; i < STATE_TABLES; i++) {
		state->tables[i] = (struct table){.records = next,
						  .record_bytes = state_record_bytes(&shapes[i]),
						  .body_bytes = shapes[i].body_bytes,
						  .capacity = shapes[i].capacity,
						  .free = STATE_NONE};
		next += state_table_bytes(&shapes[i]);
	}

	*out = state;

	return 0;
}

/* A memfd that no one can cut, so that no access to it can fail. */
static int state_create_memory(uint64_t bytes)
{
	int fd = memfd_create("hbmd-state", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	if (fd < 0)
		return -errno;
	if (ftruncate(fd, (off_t)bytes) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW) < 0) {
		int r = -errno;
		close(fd);
		return r;
	}
	return fd;
}

int state_new(struct state **out, const struct state_shape shapes[STATE_TABLES])
{
	if (!state_shapes_are_valid(shapes))
		return -EINVAL;

	int fd = state_create_memory(state_bytes(shapes));
	if (fd < 0)
		return fd;

	struct state *state;
	int r = state_map(&state, fd, shapes);
	if (r < 0) {
		close(fd);
		return r;
	}

	struct state_header *header = state->header;
	if (getrandom(header->identity, sizeof(header->identity), 0) != sizeof(header->identity)) {
		state_free(state);
		return -EIO;
	}

	header->version = STATE_VERSION;
	header->tables = STATE_TABLES;
	memcpy(header->shapes, shapes, sizeof(header->shapes));
	header->bytes = state_bytes(shapes);
	header->magic = STATE_MAGIC;
	*out = state;

	return 0;
}

struct state *state_free(struct state *state)
{
	if (!state)
		return NULL;
	munmap(state->header, state->header->bytes);
	close(state->fd);
	free(state);
	return NULL;
}

/* ---- records ---- */

static struct state_record *state_record(const struct state *state, enum state_table table,
					 uint32_t index)
{
	const struct table *t = &state->tables[table];
	return (void *)(t->records + (size_t)index * t->record_bytes);
}

/* Never 0. */
static uint64_t state_stamp(const struct state *state, enum state_table table, uint32_t index,
			    const void *body)
{
	uint64_t sum = checksum(body, state->tables[table].body_bytes);
	uint64_t where = ((uint64_t)table << 32 | index) * 0x9e3779b97f4a7c15ull;
	return (sum ^ where) | 1;
}

static void state_put_free(struct state *state, enum state_table table, uint32_t index)
{
	struct table *t = &state->tables[table];
	memcpy(state_record(state, table, index)->body, &t->free, sizeof(t->free));
	t->free = index;
}

/* The index of a free record, or STATE_NONE. */
static uint32_t state_take_free(struct state *state, enum state_table table)
{
	struct table *t = &state->tables[table];
	uint32_t index = t->free;
	if (index != STATE_NONE) {
		memcpy(&t->free, state_record(state, table, index)->body, sizeof(t->free));
		return index;
	}

	index = atomic_load_explicit(&state->header->ends[table], memory_order_relaxed);
	if (index == t->capacity)
		return STATE_NONE;

	atomic_store_explicit(&state->header->ends[table], index + 1, memory_order_release);

	return index;
}

uint32_t state_add(struct state *state, enum state_table table, const void *body, uint64_t word)
{
	struct table *t = &state->tables[table];
	uint32_t index = state_take_free(state, table);
	if (index == STATE_NONE)
		return STATE_NONE;

	struct state_record *record = state_record(state, table, index);
	memcpy(record->body, body, t->body_bytes);
	atomic_store_explicit(&record->word, word, memory_order_relaxed);
	atomic_store_explicit(&record->stamp, state_stamp(state, table, index, body),
			      memory_order_release);
	t->count++;

	return index;
}

void state_drop(struct state *state, enum state_table table, uint32_t index)
{
	if (index == STATE_NONE)
		return;

	struct state_record *record = state_record(state, table, index);
	atomic_store_explicit(&record->stamp, 0, memory_order_relaxed);
	atomic_signal_fence(memory_order_seq_cst); /* before its body has something else */
	atomic_thread_fence(memory_order_release);
	memset(record->body, 0, state->tables[table].body_bytes); /* it may have been a secret */
	state_put_free(state, table, index);
	state->tables[table].count--;
}

const void *state_body(const struct state *state, enum state_table table, uint32_t index)
{
	return state_record(state, table, index)->body;
}

uint64_t state_word(const struct state *state, enum state_table table, uint32_t index)
{
	return atomic_load_explicit(&state_record(state, table, index)->word, memory_order_relaxed);
}

void state_set_word(struct state *state, enum state_table table, uint32_t index, uint64_t word)
{
	atomic_store_explicit(&state_record(state, table, index)->word, word, memory_order_release);
}

uint32_t state_next(const struct state *state, enum state_table table, uint32_t from)
{
	uint32_t end = atomic_load_explicit(&state->header->ends[table], memory_order_relaxed);

	for (uint32_t i = from; i < end; i++)
		if (atomic_load_explicit(&state_record(state, table, i)->stamp,
					 memory_order_relaxed) != 0)
			return i;

	return STATE_NONE;
}

uint32_t state_count(const struct state *state, enum state_table table)
{
	return state->tables[table].count;
}

/* ---- adopting ---- */

/* Finds what is there and what is free. */
static void state_recover_table(struct state *state, enum state_table table)
{
	struct table *t = &state->tables[table];

	for (uint32_t i = state->header->ends[table]; i-- > 0;) {
		struct state_record *record = state_record(state, table, i);
		if (record->stamp == state_stamp(state, table, i, record->body)) {
			t->count++;
			continue;
		}

		if (record->stamp != 0)
			state->rotten++;
		record->stamp = 0;
		state_put_free(state, table, i);
	}
}

/* Returns what is wrong with a header that says of itself that it is one, or NULL. */
static const char *state_header_fault(const struct state_header *header,
				      const struct state_shape shapes[STATE_TABLES], off_t size)
{
	if (header->magic != STATE_MAGIC)
		return "it is not one of hbmd";
	if (header->version != STATE_VERSION || header->tables != STATE_TABLES)
		return "it is of another version of hbmd";
	for (size_t i = 0; i < STATE_TABLES; i++)
		if (header->shapes[i].body_bytes != shapes[i].body_bytes)
			return "its records are of another version of hbmd";
	if (!state_shapes_are_valid(header->shapes) || header->bytes != (uint64_t)size ||
	    state_bytes(header->shapes) != header->bytes)
		return "its sizes are wrong";
	for (size_t i = 0; i < STATE_TABLES; i++)
		if (header->ends[i] > header->shapes[i].capacity)
			return "its counts are wrong";
	return NULL;
}

static int state_refuse(int r, const char *why, char *error, size_t error_size)
{
	snprintf(error, error_size, "the state of the daemon before cannot be used: %s", why);
	return r;
}

/* Checks the descriptor and its header, of which it leaves a copy. */
static int state_check(int fd, const struct state_shape shapes[STATE_TABLES],
		       struct state_header *header, char *error, size_t error_size)
{
	struct stat stat;
	int seals = fcntl(fd, F_GET_SEALS);
	if (seals < 0 || !(seals & F_SEAL_SHRINK) || fstat(fd, &stat) < 0 ||
	    pread(fd, header, sizeof(*header), 0) != sizeof(*header))
		return state_refuse(-EPROTO, "it is not one of hbmd", error, error_size);

	const char *fault = state_header_fault(header, shapes, stat.st_size);

	return fault ? state_refuse(-EPROTO, fault, error, error_size) : 0;
}

/* Every record of `from` has the same index in `to`, which is empty. */
static void state_copy(struct state *to, const struct state *from)
{
	memcpy(to->header->identity, from->header->identity, sizeof(to->header->identity));
	for (size_t i = 0; i < STATE_COUNTERS; i++)
		to->header->counters[i] = from->header->counters[i];

	for (size_t i = 0; i < STATE_TABLES; i++) {
		to->header->ends[i] = from->header->ends[i];
		memcpy(to->tables[i].records, from->tables[i].records,
		       (size_t)from->header->ends[i] * from->tables[i].record_bytes);
	}
}

/* Moves it into one with those capacities, and frees it. */
static int state_reshape(struct state **state, const struct state_shape shapes[STATE_TABLES])
{
	struct state *reshaped;
	int r = state_new(&reshaped, shapes);
	if (r < 0)
		return r;

	state_copy(reshaped, *state);
	state_free(*state);
	*state = reshaped;

	return 0;
}

/* A limit that is lower now is none on what is there. */
static void state_fit(struct state_shape fitting[STATE_TABLES],
		      const struct state_shape shapes[STATE_TABLES],
		      const struct state_header *header)
{
	for (size_t i = 0; i < STATE_TABLES; i++) {
		fitting[i] = shapes[i];
		if (header->ends[i] > fitting[i].capacity)
			fitting[i].capacity = header->ends[i];
	}
}

int state_adopt(struct state **out, int fd, const struct state_shape shapes[STATE_TABLES],
		char *error, size_t error_size)
{
	if (!state_shapes_are_valid(shapes))
		return state_refuse(-EINVAL, "no such shape", error, error_size);

	struct state_header header;
	int r = state_check(fd, shapes, &header, error, error_size);
	if (r < 0)
		return r;

	int own = fcntl(fd, F_DUPFD_CLOEXEC, 0);
	if (own < 0)
		return state_refuse(-errno, strerror(errno), error, error_size);

	struct state_shape fitting[STATE_TABLES];
	state_fit(fitting, shapes, &header);
	struct state *state = NULL;
	r = state_map(&state, own, header.shapes);
	if (r < 0)
		close(own);
	else if (memcmp(header.shapes, fitting, sizeof(header.shapes)) != 0)
		r = state_reshape(&state, fitting);

	if (r < 0) {
		state_free(state);
		return state_refuse(r, strerror(-r), error, error_size);
	}

	for (size_t i = 0; i < STATE_TABLES; i++)
		state_recover_table(state, (enum state_table)i);

	close(fd);
	*out = state;

	return 0;
}

/* ---- the header ---- */

int state_fd(const struct state *state)
{
	return state->fd;
}

const uint8_t *state_identity(const struct state *state)
{
	return state->header->identity;
}

uint64_t state_rotten(const struct state *state)
{
	return state->rotten;
}

uint64_t state_counter(const struct state *state, enum state_counter counter)
{
	return atomic_load_explicit(&state->header->counters[counter], memory_order_relaxed);
}

void state_count_to(struct state *state, enum state_counter counter, uint64_t value)
{
	atomic_store_explicit(&state->header->counters[counter], value, memory_order_release);
}
