/* SPDX-License-Identifier: Apache-2.0 */
#include "daemon/move/pieces.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "daemon/base/checksum.h"

/* A step of one piece. */
struct piece_step {
	struct step step;
	struct pieces *pieces;
	bool ended;
};

/* IN or OUT. */
struct pieces_stage {
	struct piece_step steps[PIECES_IN_FLIGHT]; /* piece n has n % PIECES_IN_FLIGHT */
	uint32_t begun;                            /* pieces */
	uint32_t ended;                            /* those before the first that has not */
	uint32_t in_flight;
	int status;
};

struct pieces {
	struct pieces_options options;
	uint32_t count;
	bool told; /* on_host() has been called */
	struct pieces_stage in, out;

	struct checksum_stream *stream; /* NULL: no checksum is wanted */
	struct hash_job job;
	uint32_t hashed, to_hash; /* pieces: before the job, after it */
	bool hashing;

	const struct span *next; /* of the next piece to come in */
	uint32_t span_count;
	struct span spans[]; /* of the source, cut where pieces end */
};

static uint64_t pieces_offset(const struct pieces *pieces, uint32_t n)
{
	uint64_t offset = n * pieces->options.size;
	return offset < pieces->options.bytes ? offset : pieces->options.bytes;
}

static void pieces_pump(struct pieces *pieces);

static bool pieces_failed(const struct pieces *pieces)
{
	return pieces->in.status != HBM_OK;
}

static bool pieces_writes(const struct pieces *pieces)
{
	return pieces->options.to.tier;
}

/* ---- IN and OUT ---- */

static bool pieces_may_begin(const struct pieces_stage *stage, uint32_t there)
{
	return stage->status == HBM_OK && stage->begun < there &&
	       stage->begun < stage->ended + PIECES_IN_FLIGHT;
}

static void pieces_end_step(struct pieces_stage *stage, struct step *step)
{
	struct piece_step *piece = container_of(step, struct piece_step, step);
	struct pieces *pieces = piece->pieces;

	step->queue = NULL;
	piece->ended = true;
	stage->in_flight--;
	if (stage->status == HBM_OK)
		stage->status = step->status;
	if (step->late)
		pieces->options.late(pieces->options.arg, step->late);

	while (stage->ended < stage->begun && stage->steps[stage->ended % PIECES_IN_FLIGHT].ended)
		stage->ended++;
	pieces_pump(pieces);
}

static void pieces_in_done(struct step *step)
{
	pieces_end_step(&container_of(step, struct piece_step, step)->pieces->in, step);
}

static void pieces_out_done(struct step *step)
{
	pieces_end_step(&container_of(step, struct piece_step, step)->pieces->out, step);
}

/* The step of the next piece; a disk takes whole units. */
static struct step *pieces_step(struct pieces *pieces, struct pieces_stage *stage,
				const struct tier *tier, void (*done)(struct step *step))
{
	const struct pieces_options *options = &pieces->options;
	uint32_t n = stage->begun++;
	struct piece_step *piece = &stage->steps[n % PIECES_IN_FLIGHT];
	uint64_t from = pieces_offset(pieces, n), bytes = pieces_offset(pieces, n + 1) - from;

	stage->in_flight++;
	*piece = (struct piece_step){
		.step = {.host = options->host + from,
			 .bytes = tier && tier_has_io(tier) ? extent_bytes(bytes) : bytes,
			 .payer = options->payer,
			 .urgent = options->urgent,
			 .done = done},
		.pieces = pieces,
	};

	return &piece->step;
}

static uint32_t pieces_unit(const struct pieces *pieces, const struct place *place,
			    const struct step *step)
{
	return place->unit + (uint32_t)((step->host - pieces->options.host) / EXTENT_UNIT);
}

/* How many spans the next piece has. */
static uint32_t pieces_spans(const struct pieces *pieces, uint64_t bytes)
{
	uint32_t count = 0;

	for (; bytes > 0; count++)
		bytes -= pieces->next[count].bytes;

	return count;
}

static void pieces_read(struct pieces *pieces)
{
	const struct place *from = &pieces->options.from;
	const struct tier *tier = from->tier;
	struct step *step = pieces_step(pieces, &pieces->in, tier, pieces_in_done);

	if (tier) {
		tier->ops->read(tier, pieces_unit(pieces, from, step), step);
		return;
	}

	uint32_t count = pieces_spans(pieces, step->bytes);
	step_gather(step, pieces->options.device, pieces->next, count);
	pieces->next += count;
}

static void pieces_write_next(struct pieces *pieces)
{
	const struct place *to = &pieces->options.to;
	struct step *step = pieces_step(pieces, &pieces->out, to->tier, pieces_out_done);
	char *end = pieces->options.host + pieces->options.bytes;

	if (step->host + step->bytes > end) /* a disk has zeros there */
		memset(end, 0, (size_t)(step->host + step->bytes - end));
	to->tier->ops->write(to->tier, pieces_unit(pieces, to, step), step);
}

/* ---- HASH ---- */

static void pieces_hashed(struct hash_job *job)
{
	struct pieces *pieces = container_of(job, struct pieces, job);

	pieces->hashing = false;
	pieces->hashed = pieces->to_hash;
	pieces_pump(pieces);
}

static void pieces_hash(struct pieces *pieces)
{
	const struct pieces_options *options = &pieces->options;
	uint64_t from = pieces_offset(pieces, pieces->hashed);

	if (!pieces->stream || pieces->hashing || pieces->hashed == pieces->in.ended)
		return;

	pieces->hashing = true;
	pieces->to_hash = pieces->in.ended;
	pieces->job = (struct hash_job){.payer = options->payer,
					.host = options->host + from,
					.bytes = pieces_offset(pieces, pieces->to_hash) - from,
					.stream = pieces->stream,
					.done = pieces_hashed};
	hash_pool_post(options->hash_pool, &pieces->job, options->urgent);
}

/* ---- all of them ---- */

/* Nothing of a stage is in flight, and nothing more will be. */
static bool pieces_is_over(const struct pieces *pieces)
{
	bool failed = pieces_failed(pieces);
	bool in = failed || pieces->in.ended == pieces->count;
	bool out = !pieces_writes(pieces) || failed || pieces->out.status != HBM_OK ||
		   pieces->out.ended == pieces->count;
	bool hash = !pieces->stream || failed || pieces->hashed == pieces->count;

	return in && out && hash && pieces->in.in_flight + pieces->out.in_flight == 0 &&
	       !pieces->hashing;
}

static void pieces_start(struct pieces *pieces)
{
	if (pieces_failed(pieces))
		return;

	while (pieces_may_begin(&pieces->in, pieces->count))
		pieces_read(pieces);
	while (pieces_writes(pieces) && pieces_may_begin(&pieces->out, pieces->in.ended))
		pieces_write_next(pieces);
	pieces_hash(pieces);
}

static bool pieces_has_come_in(const struct pieces *pieces)
{
	return !pieces_failed(pieces) && pieces->in.ended == pieces->count;
}

/* Begins what can begin, and tells what has ended. */
static void pieces_pump(struct pieces *pieces)
{
	const struct pieces_options *options = &pieces->options;

	pieces_start(pieces);
	*options->at = pieces->out.in_flight > 0  ? options->to.tier
		       : pieces->in.in_flight > 0 ? options->from.tier
						  : NULL;

	if (pieces_writes(pieces) && !pieces->told && pieces_has_come_in(pieces)) {
		pieces->told = true;
		options->on_host(options->arg);
	}

	if (pieces_is_over(pieces))
		options->done(options->arg);
}

void pieces_hasten(struct pieces *pieces, struct fair_payer payer)
{
	pieces->options.payer = payer;
	pieces->options.urgent = true;
	for (uint32_t i = 0; i < PIECES_IN_FLIGHT; i++) {
		step_hasten(&pieces->in.steps[i].step, payer);
		step_hasten(&pieces->out.steps[i].step, payer);
	}

	if (pieces->hashing)
		hash_pool_hasten(&pieces->job, payer);
}

int pieces_in_status(const struct pieces *pieces)
{
	return pieces->in.status;
}

int pieces_out_status(const struct pieces *pieces)
{
	return pieces->out.status;
}

uint64_t pieces_checksum(const struct pieces *pieces)
{
	return checksum_stream_end(pieces->stream);
}

/* ---- begin and end ---- */

/* Cuts the spans of the source where pieces end. */
static void pieces_cut(struct pieces *pieces)
{
	uint64_t size = pieces->options.size, left = size;

	pieces->next = pieces->spans;
	for (uint32_t i = 0; i < pieces->options.span_count; i++) {
		struct span span = pieces->options.spans[i];
		while (span.bytes > 0) {
			uint64_t bytes = span.bytes < left ? span.bytes : left;
			pieces->spans[pieces->span_count++] = (struct span){span.address, bytes};
			span.address += bytes;
			span.bytes -= bytes;
			left = left == bytes ? size : left - bytes;
		}
	}
}

struct pieces *pieces_begin(const struct pieces_options *options)
{
	uint32_t count = (uint32_t)((options->bytes + options->size - 1) / options->size);
	uint32_t spans = options->span_count + count;
	struct pieces *pieces = calloc(1, sizeof(*pieces) + spans * sizeof(pieces->spans[0]));
	if (!pieces)
		return NULL;

	pieces->options = *options;
	pieces->count = count;
	if (options->hash_pool && !(pieces->stream = checksum_stream_new()))
		return pieces_free(pieces);

	pieces_cut(pieces);
	pieces_pump(pieces);

	return pieces;
}

struct pieces *pieces_free(struct pieces *pieces)
{
	if (pieces)
		checksum_stream_free(pieces->stream);
	free(pieces);

	return NULL;
}
