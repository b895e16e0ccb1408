# SPDX-License-Identifier: Apache-2.0
"""How an engine's KV cache is cut into blocks, and which namespaces they belong to.

vLLM has groups of layers; a group has one block table, blocks of so many tokens, and may
attend to a window only. Each rank of a tensor-parallel engine has a part of every block. A
block of hbmd is the part that one rank has of one block of one group, in a namespace for each
group and rank: both sides of a connector, and every rank, make the same namespaces of the same
configuration. The daemon uses and evicts the parts of a block together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Mapping

from vllm.distributed.kv_transfer.kv_connector.v1.offloading.config import build_offloading_config
from vllm.v1.kv_cache_interface import (
    FullAttentionSpec,
    MLAAttentionSpec,
    SlidingWindowSpec,
    UniformTypeKVCacheSpecs,
    iter_layer_specs,
)

from hbm.identity import digest, weights_version
from hbm.link import fit

# So many namespaces may be used and evicted together: HBM_WIRE_GROUP_MAX.
_RANKS_TOGETHER = 64


@dataclass(frozen=True)
class Group:
    """index: its number in the engine. tokens: of a block. window: how many blocks before a
    token its layers attend to; None: all. nbytes: of the part that a rank has of a block."""

    index: int
    tokens: int
    window: int | None
    nbytes: int
    layers: tuple[str, ...]


@dataclass(frozen=True)
class Geometry:
    """groups: those that blocks are kept of. every: tokens between two places where a hit may
    end. per_hash: tokens of one of the request's hashes. ranks: how many have parts of their own.
    draft: whether a draft model's layers are among them. why_not: not None: why this
    engine's blocks cannot be kept."""

    groups: tuple[Group, ...]
    every: int
    per_hash: int
    ranks: int
    draft: bool
    namespaces: tuple[Mapping[str, Any], ...]  # of rank 0 all groups, of rank 1 all groups, ...
    why_not: str | None

    def namespace(self, rank: int, group: int) -> int:
        """The index of a group's namespace; `group`: its place in `groups`."""
        return rank * len(self.groups) + group

    def of_rank(self, rank: int) -> tuple[Mapping[str, Any], ...]:
        rank = rank % self.ranks
        return self.namespaces[self.namespace(rank, 0) : self.namespace(rank + 1, 0)]


def geometry(vllm_config: Any, kv_cache_config: Any, salt: str, weights: Any) -> Geometry:
    """Of an engine. ValueError: it is divided in a way that this connector does not know."""
    parallel = vllm_config.parallel_config
    for axis in ("pipeline_parallel_size", "prefill_context_parallel_size"):
        if getattr(parallel, axis, 1) != 1:
            raise ValueError(f"HbmConnector: {axis} must be 1: use HbmTier behind the CPU tier")

    config = build_offloading_config(vllm_config, kv_cache_config)
    specs = [
        spec
        for group in config.groups
        for spec in iter_layer_specs(kv_cache_config.kv_cache_groups[group.group_id].kv_cache_spec)
    ]
    groups = tuple(
        Group(
            index=group.group_id,
            tokens=group.tokens_per_block,
            window=group.sliding_window_size_in_chunks,
            nbytes=_block_bytes(kv_cache_config.kv_cache_groups[group.group_id]),
            layers=tuple(group.layer_names),
        )
        for group in config.groups
    )
    # Ranks of latent attention have the same bytes: one of them is enough.
    replicated = all(isinstance(spec, MLAAttentionSpec) for spec in specs)
    ranks = 1 if replicated else parallel.world_size
    model = vllm_config.model_config
    common = dict(
        model=fit(model.model),
        salt=fit(salt),
        weights=weights_version(weights, model.model, getattr(model, "revision", None)),
    )
    said = {
        "of": "vllm connector",
        "dtype": config.model.dtype,
        "kv_cache_layout": config.kv_cache_layout,
        "per_hash": config.cache.tokens_per_hash,
        "parallel": [config.parallel.tp_size, config.parallel.dcp_size],
        "replicated": replicated,
    }

    def namespace(rank: int, g: Group) -> dict[str, Any]:
        of_all = {**said, "group": [g.tokens, g.nbytes, list(g.layers)]}
        together = digest(of_all) if 1 < ranks <= _RANKS_TOGETHER else None
        layout = digest({**of_all, "rank": rank})
        return dict(common, layout=layout, group=together, block_bytes=g.nbytes)

    namespaces = tuple(namespace(rank, g) for rank in range(ranks) for g in groups)
    return Geometry(
        groups=groups,
        every=math.lcm(*(g.tokens for g in groups)),
        per_hash=config.cache.tokens_per_hash,
        ranks=ranks,
        draft=any(
            getattr(kv_cache_config.kv_cache_groups[g.index], "is_eagle_group", False)
            for g in groups
        ),
        namespaces=namespaces,
        why_not=_why_not(vllm_config, kv_cache_config, specs),
    )


def _why_not(vllm_config: Any, kv_cache_config: Any, specs: list[Any]) -> str | None:
    if not vllm_config.cache_config.enable_prefix_caching:
        return "prefix caching is off, so blocks have no hashes"
    if kv_cache_config.hisparse_host_num_blocks is not None:
        return "part of the KV cache is in host memory"
    for spec in specs:
        if not isinstance(spec, (FullAttentionSpec, SlidingWindowSpec)):
            return f"it has layers of {type(spec).__name__}; use HbmTier behind the CPU tier"
    return None


def _block_bytes(group: Any) -> int:
    spec = group.kv_cache_spec
    if isinstance(spec, UniformTypeKVCacheSpecs):
        return spec.page_size_bytes  # of all layers together
    return spec.page_size_bytes * len(group.layer_names)
