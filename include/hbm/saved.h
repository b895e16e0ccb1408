/* SPDX-License-Identifier: Apache-2.0 */
/*
 * saved.h: sequences (sequence.h) that are kept by name, as blocks of the cache.
 *
 * What is saved outlives its process, however that ends. It is cut into pieces of some tokens
 * each, blocks that follow each other as a chain, and has a manifest, which says what they
 * are and is stored last. So a name stands for all of a save or for nothing of it. Blocks can
 * be evicted: the last pieces first, and what is then left is the beginning. Pins, and a tier
 * further down, keep them longer. What is in NVMe outlives the daemon, and what is saved as
 * durable a power cut; pins end with the daemon.
 *
 * Keys and namespaces are made from these texts, so that processes which share no state find
 * what others saved. A name is at most HBM_SAVED_NAME_MAX bytes.
 *
 * The calls count as calls on the pool and wait until they are done. They take device memory
 * for a landing of some pieces (up to 20 MiB for layouts of usual size) and give it back.
 * Return values and hbm_pool_error() are as in sequence.h.
 */
#ifndef HBM_SAVED_H
#define HBM_SAVED_H

#include <hbm/sequence.h>

#ifdef __cplusplus
extern "C" {
#endif

#define HBM_SAVED_NAME_MAX 255u

/* Whose it is: as in hbm_namespace_options. Spaces that differ share no name. */
struct hbm_saved_space {
	const char *model, *salt; /* NULL: "" */
	uint64_t weights;
	bool memory_only;  /* nothing of it is ever on NVMe */
	bool wipe_on_free; /* what has held it is overwritten before it is used again */
};

/* ---- Save ---- */

struct hbm_save {
	struct hbm_sequence *sequence;
	const char *name;
	uint64_t committed; /* the caller's own number for it, such as its last token */
};

struct hbm_save_options {
	struct hbm_saved_space space;
	enum hbm_tier tier; /* as in hbm_block */
	/* it is not evicted: until the connection of the pool ends, or, with keep, until the name
	 * is saved again or dropped (for uid 0 and the daemon's own) */
	bool pin, keep;
	/* all of it is durable, as in hbm_block, before the call returns, the manifest last; `tier` is
	 * HBM_TIER_NONE or HBM_TIER_NVME then */
	bool durable;
	uint64_t deadline_us; /* from now; 0: none */
	/* asked before some pieces are stored, beside the deadline; NULL: not asked. True: as
	 * if the deadline had passed. It makes no call on the pool. */
	bool (*stop)(void *arg);
	void *stop_arg;
};

/* Saves sequences of the pool, those of the highest priority first, each from its first token
 * on. saved[i], set whatever the status: sequence i can be restored up to so many tokens;
 * less than it has where the deadline came first. 0: nothing of it was saved, and what the name
 * stood for before is as it was; so also where a layout has states, which are of the last token,
 * and not all of it was saved. A name that was saved before stands for this from the moment the
 * call has stored all of it, which may be less; readers see one or the other. If several save by
 * a name at the same time, it stands for what one of them has saved.
 * A sequence that has kept a part of its layers or heads is saved with the layout that it has
 * now (hbm_sequence_layout()), which is not the pool's.
 * HBM_INVALID: no name, too long a name, or one of another sequence in the array; to NVMe, in
 * a space that stays in memory.
 * HBM_NO_SPACE, HBM_LIMIT: the cache does not take or pin a piece, and the rest was not
 * tried. HBM_IO, HBM_UNSUPPORTED: as of a durable hbm_block. HBM_DENIED: keep, and no right to; or others pin all that the name stood for before. */
HBM_API int hbm_sequences_save(struct hbm_pool *pool, const struct hbm_save *saves, size_t count,
			       const struct hbm_save_options *options, uint64_t *saved);

/* ---- Restore ---- */

struct hbm_saved {
	uint64_t first, tokens; /* of the sequence, as it was saved */
	uint64_t present;       /* up to here its pieces are in the cache */
	uint64_t committed;
	uint64_t version; /* of a module, else 0 */
	/* of a module: how often processes of this host have mapped this version of it */
	uint64_t uses;
	uint32_t layers;                  /* of its layout */
	char layout[HBM_WIRE_NAME_BYTES]; /* hbm_layout_fingerprint() */
};

/* What a name stands for. HBM_NOT_FOUND: nothing, or it was evicted. */
HBM_API int hbm_saved_find(struct hbm_pool *pool, const struct hbm_saved_space *space,
			   const char *name, struct hbm_saved *out);

typedef int hbm_saved_fn(const char *name, const struct hbm_saved *saved, void *arg);

/* Calls for each name that stands for something, in the order of their bytes, until a call
 * returns other than 0, which is then returned. schema: its modules; NULL: sequences. It looks
 * at every block of the namespaces that the connection has open, so it is not for the path of a
 * request. each() makes no call on the pool. */
HBM_API int hbm_saved_list(struct hbm_pool *pool, const struct hbm_saved_space *space,
			   const char *schema, hbm_saved_fn *each, void *arg);

/* Opens a sequence with the tokens that were saved, or, where pieces were evicted, with as many
 * as are whole: `out` says how many it has. options: of the sequence; NULL: none. The layout
 * has the layers and heads of the one that was saved; orders, pages, slabs and max may differ.
 * HBM_NOT_FOUND: nothing was saved by that name, or it was dropped meanwhile, or evicted: then
 * what is left of it is dropped. HBM_INVALID: the layout does not fit. HBM_LIMIT, HBM_NO_SPACE:
 * as by hbm_sequence_open() and hbm_step(). */
HBM_API int hbm_sequence_restore(struct hbm_pool *pool, const struct hbm_saved_space *space,
				 const char *name, const struct hbm_sequence_options *options,
				 struct hbm_sequence **out);

/* Which layers and heads of it: what a rank of a pipeline or of tensor parallelism has. */
struct hbm_slice {
	uint32_t first_layer, layers;
	uint32_t first_head, heads; /* in each of the layers; 0 heads: all that the layer has */
};

/* The same into a pool whose layout has just these. */
HBM_API int hbm_sequence_restore_slice(struct hbm_pool *pool, const struct hbm_saved_space *space,
				       const char *name, const struct hbm_slice *slice,
				       const struct hbm_sequence_options *options,
				       struct hbm_sequence **out);

/* Drops what a name stands for. HBM_NOT_FOUND: nothing. HBM_DENIED: others pin it. */
HBM_API int hbm_saved_drop(struct hbm_pool *pool, const struct hbm_saved_space *space,
			   const char *name);

/* ---- Modules ---- */

/*
 * Pieces of prompts by name, such as a system prompt or a document: the tokens of a sequence,
 * to be appended to others at any position. Their bytes are as they were: whether keys that were
 * computed at one position serve at another is the engine's affair. Modules of a schema are in
 * namespaces of their own, and are dropped together.
 *
 * Where a module is whole slabs of a sequence, and the daemon lends device memory, they are
 * mapped, not copied, as those of a cached prefix are (hbm_sequence_open_cached()): they are there
 * once for all processes of a user. They begin at multiples of hbm_layout_block_tokens() of the
 * sequence. So they are those of the sequence that the module was put from, if the module begins
 * there at the same place between two multiples, else those of the first that has it at such a
 * place. The tokens in front of them and behind are copied, and so is all that the daemon does
 * not lend (any more). Neither side writes to lent slabs: a sequence that is truncated into one,
 * and grows, gets a copy first.
 */
struct hbm_module {
	const char *schema, *name; /* at most HBM_SAVED_NAME_MAX bytes each */
	uint64_t version;          /* from 1 on; in hbm_module_map() 0: the one that is there */
};

/* Saves tokens [first, end) of a sequence as a module, and lends those of its slabs that hold
 * nothing else. An older version is dropped as soon as this one is there: who has it mapped keeps
 * it. options: tier, pin, keep and durable; NULL: none. What is lent is stored once more, and neither
 * pinned nor durable. HBM_EXISTS: there is this version
 * or a later one. HBM_INVALID: no such tokens, or the windows of the sequence have slid; the
 * layout has states. HBM_NO_SPACE, HBM_LIMIT: the cache does not take or pin all of it; nothing
 * has changed. */
HBM_API int hbm_module_put(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
			   const struct hbm_module *module, uint64_t first, uint64_t end,
			   const struct hbm_save_options *options);
/* Appends a module to a sequence, as a step with so many more tokens would, with its bytes: mapped
 * or copied. lent_bytes of hbm_sequence_facts() are what is mapped.
 * HBM_NOT_FOUND: there is none of that name and version, or not all of it is in the cache.
 * Otherwise as hbm_sequence_restore() and hbm_step(). */
HBM_API int hbm_module_map(struct hbm_sequence *sequence, const struct hbm_saved_space *space,
			   const struct hbm_module *module);
/* version: ignored, here and in hbm_module_drop(). */
HBM_API int hbm_module_find(struct hbm_pool *pool, const struct hbm_saved_space *space,
			    const struct hbm_module *module, struct hbm_saved *out);
HBM_API int hbm_module_drop(struct hbm_pool *pool, const struct hbm_saved_space *space,
			    const struct hbm_module *module);
/* Drops all modules of a schema. Those of pools of another layout cannot be found any more, and
 * leave the cache as its least recently used blocks. HBM_DENIED: others pin some. */
HBM_API int hbm_schema_drop(struct hbm_pool *pool, const struct hbm_saved_space *space,
			    const char *schema);

#ifdef __cplusplus
}
#endif
#endif
