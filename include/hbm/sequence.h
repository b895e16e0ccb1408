/* SPDX-License-Identifier: Apache-2.0 */
/*
 * sequence.h: the KV cache of a request as one contiguous address range, whose memory is
 * mapped as it grows. Where in it the keys and values of each token are is its layout's
 * affair: layout.h, which is included here.
 */
#ifndef HBM_SEQUENCE_H
#define HBM_SEQUENCE_H

#include <hbm/layout.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Pools ---- */

/*
 * A pool has sequences of one layout on one device, in a region of max_sequences slots. The
 * KV cache of a sequence is contiguous in each buffer of its slot, and stays at its address
 * as long as the sequence is open. Memory is mapped as a sequence grows:
 *
 *	each iteration:	hbm_step() with the new length of every sequence of the batch; then
 *			queue the kernels, which write up to these lengths.
 *	while the GPU works: hbm_pool_map_ahead(), unless the pool has a thread for that.
 *
 * A step for which everything is mapped makes no system call and takes no lock. With
 * map-ahead that is every step, as long as there is memory.
 *
 * A sequence that is closed leaves its slabs mapped in its slot, up to warm_bytes of the
 * pool. The next sequence takes them over as they are, and with them what they hold. They
 * are given back when the daemon has no memory left for a step of the pool.
 *
 * Without map_ahead_thread, a pool uses the connection it was opened on; all of its calls
 * count as calls on that connection: one thread at a time. With it, the pool has a
 * connection and a thread of its own, and any thread may call it at any time, but for two
 * calls on the same sequence at once, and hbm_pool_close(). In a child made by fork() a
 * pool must not be used.
 *
 * Layers with a window keep it, and what the last step and the one before it may read: as a
 * sequence grows, slabs in front of that are given back. Kernels of earlier steps are done by
 * then.
 *
 * Before a call that unmaps memory, the caller waits for the work on its streams that uses
 * it: hbm_sequence_close(), hbm_sequence_truncate(), hbm_sequence_slide(),
 * hbm_sequences_reorder(), and the first step that grows a sequence whose last tokens, as it
 * was truncated, lie in a slab that others have, too: it gets a copy in its place.
 *
 * Return values are those of hbm.h. A refused call has changed nothing, and hbm_pool_error()
 * says why, in one line.
 */
struct hbm_pool;
struct hbm_sequence;

#define HBM_AHEAD_TOKENS 64u

struct hbm_pool_options {
	uint32_t device;
	const struct hbm_layout *layout; /* copied */
	uint32_t max_sequences;          /* that are open at a time */
	/* how many tokens more than it has a sequence is to have mapped; 0: HBM_AHEAD_TOKENS */
	uint64_t ahead_tokens;
	bool map_ahead_thread; /* the pool maps ahead in a thread of its own */
	uint64_t warm_bytes;   /* at most as much of closed sequences stays mapped */
	/* CUstream for copies; NULL: the pool has its own, and waits for it */
	void *stream;
	/* Where less of the device's memory is free and not promised than the low watermark, the
	 * pool suspends idle sequences until as much is as the high one, as hbm_pool_balance()
	 * does: hbm_sequence_idle(). low: bytes; 0: never. high: bytes; 0: as low. tier:
	 * HBM_TIER_DDR or HBM_TIER_NVME; HBM_TIER_NONE: DDR */
	uint64_t watermark_low, watermark_high;
	enum hbm_tier watermark_tier;
	/* what is suspended stays in memory, and is refused (HBM_INVALID) to go to NVMe */
	bool memory_only;
	/* what has held it in the daemon's tiers is overwritten before it is used again, as of
	 * hbm_namespace_options */
	bool wipe_on_free;
};

/* Counted since the pool was opened. */
struct hbm_pool_totals {
	uint64_t overruns;
	uint64_t closed;                         /* sequences */
	uint64_t expected_tokens, actual_tokens; /* of those that were closed */
	uint64_t suspended;                      /* idle sequences, for the watermark */
};

struct hbm_pool_facts {
	uint32_t open;         /* sequences */
	uint64_t mapped_bytes; /* of open sequences, and warm */
	uint64_t warm_bytes;
	/* that new sequences could have: memory that is free and not promised, and warm;
	 * read without a system call. Tokens: of the layout, whole slabs of them */
	uint64_t free_slabs, free_tokens;
	uint64_t handle_bytes; /* of this process's memory, for each of max_sequences */
	struct hbm_pool_totals totals;
	/* of all pools of the connection on the device: slabs that they have; what is promised
	 * to sequences and not mapped; and what the daemon has reserved, which is at least both
	 * of these, if anything is promised */
	uint64_t committed_bytes, promised_bytes, reserved_bytes;
};

/* Opens a pool: reserves address space, and allocates no device memory. The refusal's line is
 * that of the connection, hbm_error(). */
HBM_API int hbm_pool_open(struct hbm *hbm, const struct hbm_pool_options *options,
			  struct hbm_pool **out);
/* Closes what is open in it, gives all memory back and frees the pool, whatever the status.
 * Takes NULL. Before hbm_close() of the connection. */
HBM_API int hbm_pool_close(struct hbm_pool *pool);
/* The connection that the pool uses: the caller's, or its own, which is only for queries
 * while no other thread calls. */
HBM_API struct hbm *hbm_pool_connection(const struct hbm_pool *pool);
HBM_API struct hbm_region *hbm_pool_region(const struct hbm_pool *pool);
HBM_API const struct hbm_layout *hbm_pool_layout(const struct hbm_pool *pool);
HBM_API void hbm_pool_facts(struct hbm_pool *pool, struct hbm_pool_facts *facts);
/* Why the last call on the pool or on a sequence of it was refused or failed; "" if none was.
 * Valid until the next call. */
HBM_API const char *hbm_pool_error(const struct hbm_pool *pool);
/* Maps what sequences need next: those that a step has left with fewer than ahead_tokens
 * mapped beyond their length; and with a watermark, suspends idle sequences: each call begins
 * or goes on, and waits for nothing of it. Nothing is due: makes no system call. HBM_NO_SPACE,
 * HBM_LIMIT: not all of it; those come first that have the fewest tokens left, and a step that
 * needs more tries again. With a thread there is no need to call it. */
HBM_API int hbm_pool_map_ahead(struct hbm_pool *pool);

enum hbm_event_kind {
	HBM_EVENT_OVERRUN = 1,
	HBM_EVENT_SUSPEND,
	HBM_EVENT_RESUME,
	HBM_EVENT_PRESSURE,
};

struct hbm_event {
	enum hbm_event_kind kind;
	struct hbm_sequence *sequence; /* PRESSURE: NULL */
	uint64_t tokens, expected;     /* of the sequence */
	enum hbm_tier tier; /* SUSPEND: where it is to go; HBM_TIER_NONE: where you like */
	uint64_t bytes;     /* PRESSURE */
};

/* Takes the oldest event. HBM_NOT_FOUND: there is none.
 * HBM_EVENT_OVERRUN: a sequence has more tokens than were expected; once for each.
 * HBM_EVENT_SUSPEND, HBM_EVENT_RESUME: an operator asks for it (hbmctl suspend, resume); of what
 * was asked of a sequence in between, only the last. The caller decides whether, and when.
 * HBM_EVENT_PRESSURE: of the device's memory for regions, `bytes` are lacking that should be free
 * (device.watermark): once, until they are there again.
 * If there is none, it makes no system call. */
HBM_API int hbm_pool_event(struct hbm_pool *pool, struct hbm_event *event);

/* ---- Sequences ---- */

struct hbm_sequence_options {
	/* tokens, for which memory is promised; 0: not known. More is an overrun, no error: it
	 * takes memory that is not promised, to this or any other sequence. Forks are promised
	 * none. */
	uint64_t expected;
	uint64_t max; /* 0: what the layout has */
	int32_t priority;
	uint64_t next_use;
	/* for people: shown by hbmctl sequences, as far as it fits in
	 * HBM_WIRE_SEQUENCE_NAME_BYTES; copied. NULL: none */
	const char *name;
};

struct hbm_sequence_facts {
	uint64_t number; /* as hbmctl sequences shows it: of all of the connection */
	uint32_t slot;
	uint64_t address; /* of its slot: hbm_layout_view() says what is where in it */
	uint64_t tokens;
	uint32_t drafts; /* places that they take behind the tokens */
	uint64_t first;  /* tokens in front of it were given up by hbm_sequence_slide() */
	uint64_t ready;  /* tokens for which memory is mapped */
	uint64_t expected, max;
	int32_t priority;
	uint64_t next_use;
	uint64_t mapped_bytes;
	uint64_t shared_bytes; /* of them: that other sequences or the cache have, too */
	uint64_t lent_bytes;   /* of these: borrowed from the cache, and not charged for */
	enum hbm_sequence_state state;
	enum hbm_tier tier;       /* that it is suspended to; HBM_TIER_NONE: it is not */
	uint64_t suspended_bytes; /* of slabs that are stored instead of being mapped */
	uint64_t promised_bytes;  /* that it can still have mapped without being refused */
};

/* Opens a sequence without tokens. options may be NULL. Memory for the expected tokens is
 * promised to the sequence: no step within them is refused for want of memory, whatever other
 * sequences have. Those that have more than was expected of them, or of which nothing was,
 * reserve it first, as long as any is promised something; that may be refused. Two things
 * lessen a promise: slabs that forks of the sequence have and it writes, or gives up, where
 * there is no memory for others; and the caller's own regions on the connection, unless they
 * are reserved for, hbm_reserve(). Of layers with a window, it holds for steps of at most half
 * of ahead_tokens.
 * HBM_NO_SPACE: there is not so much that is free and not promised, also without the warm
 * slabs. HBM_LIMIT: max_sequences are open, or limits.reserved. The caller closes it. */
HBM_API int hbm_sequence_open(struct hbm_pool *pool, const struct hbm_sequence_options *options,
			      struct hbm_sequence **out);
/* Opens `count` of them, all or none. timeout_ms: how long to wait for the memory of all of
 * them, after who asked the daemon before; then HBM_TIMEOUT. HBM_NO_SPACE: the connection
 * would have more than the device has, and no other thread can close what the pool has. If it
 * does not return 0, out has no meaning. */
HBM_API int hbm_sequences_open(struct hbm_pool *pool, const struct hbm_sequence_options *options,
			       size_t count, uint32_t timeout_ms, struct hbm_sequence **out);
/* Its slabs stay mapped for the next one, or are given back. HBM_DEVICE: the device refuses to
 * map a fork that needs them, or to unmap what it shares; in the second case the sequence can
 * only be closed, by another call. HBM_INVALID: it was closed. Its handle is refused so from
 * then on, until a later sequence of the pool has the same one. */
HBM_API int hbm_sequence_close(struct hbm_sequence *sequence);
HBM_API int hbm_sequence_facts(const struct hbm_sequence *sequence,
			       struct hbm_sequence_facts *facts);

/* Sets the lengths of a batch, all or none: when it returns 0, every slab for them is mapped.
 * A length is at least what the sequence has. HBM_INVALID: a length is shorter, or longer
 * than the sequence's max; a sequence is in the batch twice, closed, or another pool's.
 * HBM_NO_SPACE, HBM_LIMIT: there is no memory for all of them, also without the warm slabs. */
HBM_API int hbm_step(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
		     const uint64_t *lengths, size_t count);
/* Opens `count` sequences that begin with the tokens of another, at addresses of their own, all
 * or none; what is written to one later is not seen in the others. Slabs that hold the last
 * tokens, and states, are copied, in order on the stream of the pool; all slabs in front of them are
 * shared. These are mapped when the pool maps ahead, or by the step that first names the
 * fork: until then it cannot be read. Takes as long for long sequences as for short ones.
 * HBM_LIMIT: max_sequences would be open. */
HBM_API int hbm_sequence_fork(struct hbm_sequence *sequence, size_t count,
			      struct hbm_sequence **out);
/* Lets sequence i take over the tokens of sequence from[i] of the array, as they are before the
 * call, all or none: beam search. Addresses stay. Slabs are shared and copied as by a fork;
 * those that a sequence has already stay. HBM_INVALID: a sequence is in the array twice, from
 * is beyond it, or a sequence has more tokens than another may. HBM_DEVICE: the device has
 * refused twice to exchange slabs; unless none of them was unmapped, the sequences that were to
 * change can only be closed then. */
HBM_API int hbm_sequences_reorder(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
				  const uint32_t *from, size_t count);
/* Drops all but the first `tokens`. Slabs far beyond them are given back; what the device
 * refuses to unmap stays mapped, here and in hbm_sequence_slide(). HBM_INVALID: it has fewer
 * tokens, or some of them, or of the windows of layers, were given up. */
HBM_API int hbm_sequence_truncate(struct hbm_sequence *sequence, uint64_t tokens);
/* Gives up the tokens in front of `first`, as a sliding window does: whole slabs in front of
 * it are given back, and addresses stay. HBM_INVALID: it has fewer tokens, or first is less
 * than it was. */
HBM_API int hbm_sequence_slide(struct hbm_sequence *sequence, uint64_t first);

/* ---- Keeping less ---- */

enum hbm_axis { HBM_AXIS_TOKENS = 1, HBM_AXIS_LAYERS, HBM_AXIS_HEADS };

/*
 * Drops all tokens, layers or heads but those of a set: numbers in ascending order, each
 * once. Memory that is not needed any more is given back at once, and so is what was promised
 * for it. What is shared with others is copied before it is changed, which takes memory for a
 * moment. The caller waits for work that uses the sequence first.
 *
 * Tokens: those that are kept become tokens `first`, `first` + 1, ... and the next ones follow
 * them. What a position means to the model is the engine's affair: keys stay as they were
 * written. HBM_INVALID: layers with a window have given up tokens.
 *
 * Layers, heads: they have new numbers, from 0 on, in a layout of the sequence's own,
 * hbm_sequence_layout(). Its base is hbm_sequence_facts.address; it is slot 0 of it. Heads: of
 * all layers that have some; each layer has all of the set. In layer order, layers that are
 * kept stay where they are. Forks have the same layout, and only sequences with equal ones
 * are reordered.
 *
 * HBM_INVALID: also an empty set, or drafts. HBM_NO_SPACE, HBM_LIMIT. HBM_DEVICE: the device
 * has refused a copy twice, and if some were made already, the sequence can only be closed.
 */
HBM_API int hbm_sequence_keep(struct hbm_sequence *sequence, enum hbm_axis axis,
			      const uint64_t *set, size_t count);
/* The pool's, or what was kept of it. Valid until the sequence is closed, or keeps less. */
HBM_API const struct hbm_layout *hbm_sequence_layout(const struct hbm_sequence *sequence);

/* ---- Trees ---- */

/*
 * Speculation: tokens that follow a sequence in more than one way. Drafts are numbered from 0
 * on, in the order in which they are added; draft n has the place of token `tokens` + n, and
 * nothing moves as long as there are drafts. A sequence with drafts does not grow by a step;
 * forks of it have its tokens alone; hbm_sequence_truncate() drops all drafts.
 */

/* Adds drafts, all or none. Each is below a parent: -1, the last token, or a draft, also an
 * earlier one of this call. Writes the place of each to tokens[]; memory is mapped for them
 * as by a step. HBM_INVALID: a parent is not in the tree, or there would be more than the
 * sequence's max. HBM_NO_SPACE, HBM_LIMIT. */
HBM_API int hbm_sequence_draft(struct hbm_sequence *sequence, const int32_t *parents, size_t count,
			       uint64_t *tokens);
/* Makes drafts the next tokens of the sequence, and drops all others: `path` is a chain from the
 * last token on, each below the one before. They are copied to the places behind the tokens,
 * in order on the stream of the pool; those that are in their place are not. 0 of them: drops
 * all. HBM_INVALID: a draft is not in the tree, or not below the one before. HBM_DEVICE: the
 * device has refused a copy twice; the tokens are as they were, and if some drafts were
 * copied already, there are no drafts. */
HBM_API int hbm_sequence_accept(struct hbm_sequence *sequence, const int32_t *path, size_t count);
/* Drops a draft and all below it; -1: all drafts. The others keep their numbers and places; a
 * place is used again when all behind it are free. HBM_INVALID: it is not in the tree. */
HBM_API int hbm_sequence_prune(struct hbm_sequence *sequence, int32_t draft);

/* ---- Suspend and resume ---- */

/*
 * A sequence that is suspended has no device memory: the slabs that its tokens use are blocks
 * of an ephemeral namespace of the pool, pinned in the tier that it was suspended to. It keeps
 * its slot, and is resumed to the same addresses. Until then it can be prefetched, resumed and
 * closed, its priority be set and its facts be read; everything else is refused with
 * HBM_INVALID. It is gone with the pool's connection: what is to outlive the process is saved
 * instead.
 *
 * A group is suspended or resumed as a whole, or remains as it was. Slabs that sequences of a
 * group share are stored once, and are shared again when they are resumed together. What a
 * sequence shares with others, it has of its own after it was resumed alone.
 *
 * What is promised to a sequence for its expected tokens is not while it is suspended, and is
 * asked for again when it is resumed. The caller waits for the work on its streams that uses
 * the sequences, before they are suspended.
 */

/* Suspends, to HBM_TIER_DDR or HBM_TIER_NVME, or the next tier below that exists.
 * HBM_INVALID: a sequence is suspended, or in the group twice; another tier. HBM_NO_SPACE:
 * the tier cannot take them. HBM_LIMIT: as many bytes are pinned as may be. HBM_DEVICE: a
 * device or a disk has failed. */
HBM_API int hbm_sequences_suspend(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
				  size_t count, enum hbm_tier tier);
/* One that is on its way out by hbm_pool_balance() or the watermark is called back, and all of it
 * is where it was. HBM_INVALID: a sequence is not suspended, or in the group twice. HBM_NO_SPACE:
 * there is no device memory for all of them, also without the warm slabs. */
HBM_API int hbm_sequences_resume(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
				 size_t count);
/* Suspends some and resumes others, all or none, both directions of the link at work: the
 * slabs of what goes out become those of what comes in. */
HBM_API int hbm_sequences_switch(struct hbm_pool *pool, struct hbm_sequence *const *out,
				 size_t out_count, enum hbm_tier tier,
				 struct hbm_sequence *const *in, size_t in_count);

/* Moves what suspended sequences have stored to a tier above or below, HBM_TIER_DDR or
 * HBM_TIER_NVME: from NVMe to DDR before they are resumed. deadline_us: from now, when they are
 * to be resumed; 0: none. What has the nearest deadline moves first: hbm_move_by(); of a call,
 * the sequence of the highest priority, of these the one with the least next_use. Returns when
 * it is decided; they can be resumed, and closed, all the time. HBM_INVALID: a sequence is not
 * suspended, or another tier. HBM_LIMIT: as many bytes are pinned in that tier as may be; what
 * was moved before is there, and hbm_sequence_facts.tier says the old one. */
HBM_API int hbm_sequences_prefetch(struct hbm_pool *pool, struct hbm_sequence *const *sequences,
				   size_t count, enum hbm_tier tier, uint64_t deadline_us);

/* Says whether a sequence is idle: no work on the device uses it, and hbm_pool_balance() and
 * the watermark of the pool may suspend it; and when it is used next, in any unit. A new
 * sequence is not idle, and only this call makes it so. A resume ends it; a step does not: who
 * uses a sequence again says so first. When that returns 0, the sequence is suspended, as its
 * facts say, or will not be. One that is on its way out is called back then, and by any other
 * call that would be refused for that; the call waits for what is in flight. */
HBM_API int hbm_sequence_idle(struct hbm_sequence *sequence, bool idle, uint64_t next_use);
/* Changes the priority of a sequence, and when it is used next, also while it is suspended: from
 * now on it is chosen by them where sequences are suspended, prefetched and saved. Whether it is
 * idle stays, and one that is on its way out goes on. HBM_INVALID: it is closed. */
HBM_API int hbm_sequence_set_priority(struct hbm_sequence *sequence, int32_t priority,
				      uint64_t next_use);
/* Sees to it, before memory is needed, that so much device memory is free, not promised and
 * not taken by warm slabs: suspends idle sequences, that of the lowest priority first, of
 * these the one with the greatest next_use, one after the other until it is enough or none
 * is left. Their number is written to *count, whatever the status. Refused as a suspend is;
 * those before it stay suspended. */
HBM_API int hbm_pool_balance(struct hbm_pool *pool, uint64_t free_bytes, enum hbm_tier tier,
			     size_t *count);

/* The same without waiting: a switch is under way until hbm_switch_wait() has freed it. */
struct hbm_switch;

struct hbm_switch_options {
	struct hbm_sequence *const *out; /* to be suspended */
	size_t out_count;
	enum hbm_tier tier;
	struct hbm_sequence *const *in; /* to be resumed */
	size_t in_count;
	/* When group g of the layout has arrived, as of struct hbm_buffer, the daemon sets fence
	 * fence_slot + g of the pool's connection to fence_value; if something fails, too. In
	 * HBM_ORDER_LAYER each layer is a group, and layer 0 is the first to arrive. Each group is
	 * one load; of a resume, all are sent at once. */
	bool has_fences;
	uint32_t fence_slot;
	uint64_t fence_value;
};

/* Begins a switch. It goes on in hbm_switch_poll() and hbm_switch_wait(). Until it has ended,
 * its sequences cannot be used, not even be closed; but what a fence says has arrived can be
 * read by kernels. */
HBM_API int hbm_submit_switch(struct hbm_pool *pool, const struct hbm_switch_options *options,
			      struct hbm_switch **out);
/* -EAGAIN: it is under way. Else its status, which hbm_switch_wait() says again. */
HBM_API int hbm_switch_poll(struct hbm_switch *change);
/* Waits at most timeout_ms (-1: no timeout), frees it and returns its status. -ETIMEDOUT: it
 * has not ended and stays valid. */
HBM_API int hbm_switch_wait(struct hbm_switch *change, int timeout_ms);
/* Ends it with HBM_CANCELLED: all is as it was before. Waits for what is in flight. 0, or
 * HBM_NOT_FOUND: it had ended. It is freed by hbm_switch_wait() as any other: no other thread
 * may be within that, as it frees what is cancelled here. */
HBM_API int hbm_switch_cancel(struct hbm_switch *change);

/* ---- Cached prefixes ---- */

/*
 * Tokens of a sequence as blocks of the cache, from its first token on: block i has tokens
 * [i * block_tokens, (i + 1) * block_tokens), and continues block i - 1. In the block, the
 * bytes of its tokens in each buffer lie one after the other. States are not tokens: a layout
 * that has some is refused (HBM_UNSUPPORTED).
 *
 * Where block_tokens is a multiple of hbm_layout_block_tokens(), blocks are whole slabs. A
 * sequence that is stored then lends these slabs to all processes of its user, and one that is
 * opened on them has the same memory, mapped read-only, and is not charged for it: the first
 * call of a process takes as long as mapping does, and nothing is copied. How much all
 * processes may have lent is the daemon's device.lend; beyond it, and where the daemon lends
 * nothing, blocks are loaded.
 */
struct hbm_token_blocks {
	uint32_t ns; /* of hbm_pool_namespace() */
	uint64_t block_tokens;
	uint64_t tokens;     /* of all; 0: all blocks are full. The last one may have fewer. */
	const hbm_key *keys; /* [count] */
	size_t count;
};

/* Opens a namespace for blocks of so many tokens, on the connection of the pool. `options` as
 * of hbm_namespace_open(): `layout` and `block_bytes` are filled in, and an encoding is refused
 * (HBM_UNSUPPORTED). HBM_INVALID: block_tokens is 0, or more than the layout has, or no whole
 * number of its pages. */
HBM_API int hbm_pool_namespace(struct hbm_pool *pool, const struct hbm_namespace_options *options,
			       uint64_t block_tokens, uint32_t *ns);
/* Stores blocks [first, count): the tokens are written, and the caller has waited for the work
 * that did. Slabs that are lent are not written any more: a sequence that is truncated into
 * one and grows gets a copy. results: NULL, or count - first of them: HBM_OK, HBM_EXISTS, or
 * why it was not stored. HBM_INVALID: the sequence has fewer tokens, or has given some up.
 * HBM_UNSUPPORTED: it has kept a part of its layers or heads. */
HBM_API int hbm_sequence_store(struct hbm_sequence *sequence, const struct hbm_token_blocks *blocks,
			       size_t first, hbm_result *results);
/* Opens a sequence that begins with the blocks that are in the cache, without a gap from the
 * first one on: *tokens of them, 0 if there is none. A last block of fewer tokens is copied, as
 * the sequence goes on in it. options may be NULL. A refusal opens nothing: HBM_INVALID: more
 * tokens than the sequence may have; HBM_LIMIT; HBM_NO_SPACE: no memory for what is loaded;
 * HBM_DEVICE. */
HBM_API int hbm_sequence_open_cached(struct hbm_pool *pool,
				     const struct hbm_sequence_options *options,
				     const struct hbm_token_blocks *blocks,
				     struct hbm_sequence **out, uint64_t *tokens);

#ifdef __cplusplus
}
#endif
#endif
