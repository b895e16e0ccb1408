# SPDX-License-Identifier: Apache-2.0
"""A cache of transformers whose keys and values are sequences of hbmd.

    from hbm.transformers import HbmCache, layout

    pool = connection.pool(layout(model.config, max_tokens=8192), max_sequences=16)
    cache = HbmCache(pool)
    model.generate(**inputs, past_key_values=cache)

Each row of a batch is a sequence: its memory is mapped as it grows, and the attention reads it where
it is (a batch of one row without a copy). Between calls of the model the cache can be suspended to
host memory or NVMe, and be saved by a name, so that it outlives the process. A prefix that many
prompts begin with is stored once, and is the same memory in all processes of a user:

    prompts = pool.namespace("llama", weights=version)
    cache.store(prompts, ids)                         # in one process, when it has computed them
    cache = HbmCache.cached(pool, prompts, ids)       # in others: only what is new is computed

``HbmCache`` takes layers of full attention, all with as many heads; others are refused. Tested with
transformers 5.16.
"""

from __future__ import annotations

from typing import Any, Iterable, List, Optional, Sequence as Rows, Tuple

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

from .errors import Status, Tier, make_error
from .namespace import Namespace, token_keys
from .sequence import Pool, Sequence, Space

__all__ = ["HbmCache", "HbmLayer", "layout"]


def layout(config: Any, *, dtype: Optional[torch.dtype] = None, max_tokens: int = 0) -> str:
    """The layout of a pool for a model's configuration: its layers, heads and numbers. ``dtype``: of
    keys and values; ``None``: the model's. ``max_tokens``: of a sequence; 0: the model's."""
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    kinds = set(getattr(text, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"}:
        raise ValueError(f"layers of other kinds than full attention: {', '.join(sorted(kinds))}")
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    dim = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    dtype = dtype or getattr(text, "dtype", None) or torch.get_default_dtype()
    if isinstance(dtype, str):
        dtype = getattr(torch, dtype)
    tokens = max_tokens or text.max_position_embeddings
    return f"layers={text.num_hidden_layers} heads={heads} dim={dim} bytes={dtype.itemsize} order=layer max={tokens}"


class HbmLayer(CacheLayerMixin):
    """A layer of an ``HbmCache``: a part of its sequences."""

    is_sliding = False
    supports_early_init = False

    def __init__(self, cache: "HbmCache", index: int) -> None:
        super().__init__()
        self.cache, self.index, self.tokens = cache, index, cache.tokens
        self.is_initialized = bool(cache.sequences)

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        self.dtype, self.device = key_states.dtype, key_states.device
        self.is_initialized = True

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
    ) -> Tuple[torch.Tensor, torch.Tensor]:
        """Appends [batch, heads, tokens, head_dim]; all that there are now, in that shape."""
        self.lazy_initialization(key_states, value_states)
        first, self.tokens = self.tokens, self.tokens + key_states.shape[-2]
        self.cache._grow(key_states.shape[0], self.tokens)
        return self._put(Sequence.keys, key_states, first), self._put(Sequence.values, value_states, first)

    def _put(self, part: Any, states: torch.Tensor, first: int) -> torch.Tensor:
        rows = []
        for sequence, new in zip(self.cache.sequences, states):
            row = torch.from_dlpack(part(sequence, self.index, states.dtype, 0, self.tokens))
            row[first:].copy_(new.transpose(0, 1))
            rows.append(row.transpose(0, 1))
        return rows[0].unsqueeze(0) if len(rows) == 1 else torch.stack(rows)

    def get_mask_sizes(self, query_length: int) -> Tuple[int, int]:
        return self.tokens + query_length, 0

    def get_seq_length(self) -> int:
        return self.tokens

    def get_max_length(self) -> int:
        return -1

    @property
    def batch_size(self) -> int:
        """Rows; -1: not known yet."""
        return len(self.cache.sequences) or -1

    # What is done with one layer is done with all: the cache does it when the last is asked.

    def offload(self) -> None:
        """Suspends the cache to its ``tier``, once all layers are to be offloaded."""
        self.cache._ask("suspend", self.index)

    def prefetch(self) -> None:
        """Resumes the cache."""
        self.cache.resume()

    def reset(self) -> None:
        self.tokens = 0
        self.cache._ask("clear", self.index)

    def crop(self, tokens_to_remove: int) -> None:
        """Drops the last ``-tokens_to_remove`` tokens; > 0: all but so many, as it once was."""
        if tokens_to_remove > 0:
            tokens_to_remove = min(0, tokens_to_remove - self.tokens)
        self.tokens += tokens_to_remove
        self.cache._ask("truncate", self.index)

    def reorder_cache(self, beam_idx: torch.Tensor) -> None:
        self.cache._ask("reorder", self.index, beam_idx.tolist())

    def batch_repeat_interleave(self, repeats: int) -> None:
        rows = range(len(self.cache.sequences))
        self.cache._ask("select", self.index, [row for row in rows for _ in range(repeats)])

    def batch_select_indices(self, indices: torch.Tensor) -> None:
        rows = list(range(len(self.cache.sequences)))
        self.cache._ask("select", self.index, torch.tensor(rows)[indices.cpu()].tolist())


class HbmCache(Cache):
    """Keys and values of a batch in sequences of a pool.

    ``pool``: of a ``layout()`` for the model. ``sequences``: of equal length, one for each row, to go
    on with; they are the cache's from now on. ``tier``: where ``offload()`` of its layers suspends
    them to. The sequences are closed with the cache.
    """

    def __init__(
        self, pool: Pool, sequences: Iterable[Sequence] = (), *, tier: Tier = Tier.DDR
    ) -> None:
        self.pool, self.tier = pool, tier
        self.sequences: List[Sequence] = list(sequences)
        self.suspended = False
        self._asked: dict[str, set[int]] = {}
        lengths = {sequence.tokens for sequence in self.sequences}
        if len(lengths) > 1:
            raise ValueError(f"sequences of different lengths: {sorted(lengths)}")
        self.tokens = lengths.pop() if lengths else 0
        super().__init__(layers=[HbmLayer(self, i) for i in range(pool.layers)])

    # ---- Between calls of the model ----

    def suspend(self, tier: Optional[Tier] = None) -> None:
        """Stores the cache in a tier and gives its device memory back. The next call of the model
        resumes it. Raises ``BufferError`` while tensors of it are alive."""
        if self.sequences and not self.suspended:
            self.pool.suspend(self.sequences, self.tier if tier is None else tier)
            self.suspended = True

    def resume(self) -> None:
        """Brings it back."""
        if self.suspended:
            self.pool.resume(self.sequences)
            self.suspended = False

    def save(self, name: str, space: Space, *, committed: int = 0, durable: bool = False) -> int:
        """Saves its row by a name, so that it outlives this process: how many tokens were. Of a
        batch of several rows, row i by ``name/i``."""
        self.resume()
        saved = [
            sequence.save(_row(name, i, len(self.sequences)), space, committed=committed, durable=durable)
            for i, sequence in enumerate(self.sequences)
        ]
        return min(saved, default=0)

    @classmethod
    def restore(cls, pool: Pool, name: str, space: Space, *, rows: int = 1, tier: Tier = Tier.DDR) -> "HbmCache":
        """A cache with what was saved: as many tokens as there are of all rows. The model is to be
        called with the tokens from the first on: it computes those that are lacking. Raises
        ``hbm.Refused``: NOT_FOUND."""
        sequences = [pool.restore(_row(name, i, rows), space) for i in range(rows)]
        tokens = min(sequence.tokens for sequence in sequences)
        for sequence in sequences:
            sequence.truncate(tokens)
        return cls(pool, sequences, tier=tier)

    def store(self, namespace: Namespace, ids: torch.Tensor) -> int:
        """Stores the prefix of each of its rows for ``cached()``, as far as it is whole blocks: how
        many tokens of a row. ``namespace``: of ``Pool.namespace()``, which says how many tokens a
        block has and is to know the weights. ``ids``: [batch, tokens], of which the cache has
        computed the first. Raises ``hbm.Refused``, also if blocks were not stored."""
        rows = _rows(ids, len(self.sequences))
        self.resume()
        step = self.pool._tokens_of(namespace)
        whole = min(self.tokens, ids.shape[1]) // step * step
        for sequence, row in zip(self.sequences, rows):
            for status in sequence.store(namespace, token_keys(row[:whole], step)):
                if status not in (Status.OK, Status.EXISTS):
                    raise make_error(int(status), "a block of a prefix was not stored")
        return whole

    @classmethod
    def cached(cls, pool: Pool, namespace: Namespace, ids: torch.Tensor, *, tier: Tier = Tier.DDR) -> "HbmCache":
        """A cache that begins with what has been stored of the prompts ``ids``, [batch, tokens]: as many
        tokens as there are of all rows, and not the last one, whose logits are to be computed. Whole
        slabs are not copied: all processes of a user have the same memory. The model is to be called
        with the tokens from the first on, as for ``restore()``."""
        step = pool._tokens_of(namespace)
        sequences = [
            pool.open_cached(namespace, token_keys(row[: max(0, len(row) - 1)], step))
            for row in _rows(ids, len(ids))
        ]
        tokens = min((sequence.tokens for sequence in sequences), default=0)
        for sequence in sequences:
            sequence.truncate(tokens)
        return cls(pool, sequences, tier=tier)

    def close(self) -> None:
        """Closes its sequences: it is empty."""
        for layer in self.layers:
            layer.tokens = 0
        self._clear()

    # ---- For its layers ----

    def _grow(self, rows: int, tokens: int) -> None:
        self.resume()
        if not self.sequences:
            self.sequences = [self.pool.open() for _ in range(rows)]
        if rows != len(self.sequences):
            raise ValueError(f"{rows} rows for a cache of {len(self.sequences)}")
        if tokens > self.tokens:
            self.pool.step(self.sequences, [tokens] * rows)
            self.tokens = tokens

    def _ask(self, what: str, layer: int, *arguments: Any) -> None:
        """A layer is to be changed: all are, when the last one is."""
        asked = self._asked.setdefault(what, set())
        asked.add(layer)
        if len(asked) == len(self.layers):
            asked.clear()
            getattr(self, f"_{what}")(*arguments)

    def _suspend(self) -> None:
        self.suspend()

    def _truncate(self) -> None:
        self.resume()
        self.tokens = self.layers[0].tokens
        for sequence in self.sequences:
            sequence.truncate(self.tokens)

    def _clear(self) -> None:
        for sequence in self.sequences:
            sequence.close()
        self.sequences, self.tokens, self.suspended = [], 0, False

    def _reorder(self, origins: Rows[int]) -> None:
        self.resume()
        if self.sequences:
            self.pool.reorder(self.sequences, origins)

    def _select(self, rows: Rows[int]) -> None:
        self.resume()
        left = {row: list(rows).count(row) - 1 for row in rows}
        forks = {row: self.sequences[row].fork(count) if count else [] for row, count in left.items()}
        for row, sequence in enumerate(self.sequences):
            if row not in left:
                sequence.close()
        self.sequences = [forks[row].pop() if forks[row] else self.sequences[row] for row in rows]
        if self.sequences:  # forks are readable from a step on
            self.pool.step(self.sequences, [self.tokens] * len(self.sequences))


def _row(name: str, row: int, rows: int) -> str:
    return name if rows == 1 else f"{name}/{row}"


def _rows(ids: torch.Tensor, rows: int) -> List[List[int]]:
    if ids.dim() != 2 or ids.shape[0] != rows:
        raise ValueError(f"ids of shape {tuple(ids.shape)} for {rows} rows")
    listed: List[List[int]] = ids.tolist()
    return listed
