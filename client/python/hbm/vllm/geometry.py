# SPDX-License-Identifier: Apache-2.0
"""How an engine's KV cache is cut into blocks, and which namespaces they belong to.

vLLM has groups of layers; a group has one block table, blocks of so many tokens, and may
attend to a window only. Each rank of an engine has a part of every block: of a tensor-parallel
one some of the heads, of a pipeline some of the layers. A block of hbmd is the part that one
rank has of one block of one group, in a namespace for each group and rank. The daemon uses and
evicts the parts of a block together.

Only a rank knows its layers, and how many bytes they have. So the scheduler's side has the
namespaces from the workers, when the engine starts (Told): a block is there if it is in all of
them. Ranks that have the same bytes, as those of latent attention, have the same namespaces.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Iterable, Mapping

from vllm.distributed.kv_transfer.kv_connector.v1.base import KVConnectorHandshakeMetadata
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
    """Of one rank. groups: those that blocks are kept of. every: tokens between two places where a
    hit may end. per_hash: tokens of one of the request's hashes. draft: whether a draft model's
    layers are among them. namespaces: of each group. stores: whether this rank stores: of ranks
    that have the same bytes one does. why_not: not None: why this engine's blocks cannot be
    kept."""

    groups: tuple[Group, ...] = ()
    every: int = 1
    per_hash: int = 1
    draft: bool = False
    namespaces: tuple[Mapping[str, Any], ...] = ()
    stores: bool = True
    why_not: str | None = None


@dataclass
class Told(KVConnectorHandshakeMetadata):
    """What a worker tells the scheduler's side: its namespaces, by group, or why it has none."""

    namespaces: tuple[Mapping[str, Any], ...]
    why_not: str | None


def gathered(told: Iterable[Told]) -> tuple[list[tuple[Mapping[str, Any], ...]], str | None]:
    """The namespaces of all ranks, each once, and why the engine's blocks cannot be kept, or None."""
    ranks: list[tuple[Mapping[str, Any], ...]] = []
    for each in told:
        if each.why_not is not None:
            return [], each.why_not
        if each.namespaces not in ranks:
            ranks.append(each.namespaces)
    return ranks, None


def geometry(vllm_config: Any, kv_cache_config: Any, salt: str, weights: Any) -> Geometry:
    """Of the rank that the configuration is of. ValueError: the engine is divided in a way that
    this connector does not know."""
    parallel = vllm_config.parallel_config
    if getattr(parallel, "prefill_context_parallel_size", 1) != 1:
        raise ValueError(
            "HbmConnector: prefill_context_parallel_size must be 1: use HbmTier behind the CPU tier"
        )

    why_not = _why_not(vllm_config, kv_cache_config)
    if why_not is not None:
        return Geometry(why_not=why_not)
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
    empty = [group.index for group in groups if not group.nbytes]
    if empty:
        return Geometry(why_not=f"a stage of the pipeline has no layers of group {empty[0]}")

    # Ranks of latent attention have the same bytes: one of each stage is enough.
    replicated = all(isinstance(spec, MLAAttentionSpec) for spec in specs)
    stages = parallel.pipeline_parallel_size
    rank, of_stage = parallel.rank, parallel.world_size // stages
    part = rank - rank % of_stage if replicated else rank
    parts = stages if replicated else parallel.world_size
    model = vllm_config.model_config
    common = dict(
        model=fit(model.model),
        salt=fit(salt),
        weights=weights_version(
            weights,
            model.model,
            getattr(model, "revision", None),
            engine=vllm_config.kv_transfer_config.engine_id,
            told=True,
        ),
    )
    said = {
        "of": "vllm connector",
        "dtype": config.model.dtype,
        "computed": [str(model.dtype), str(model.quantization), _overrides(model)],
        "kv_cache_layout": config.kv_cache_layout,
        "per_hash": config.cache.tokens_per_hash,
        "parallel": [config.parallel.tp_size, config.parallel.dcp_size, stages],
        "replicated": replicated,
    }

    def namespace(g: Group) -> dict[str, Any]:
        of_all = {**said, "group": [g.index, g.tokens, g.window]}  # which all ranks have alike
        together = digest(of_all) if 1 < parts <= _RANKS_TOGETHER else None
        layout = digest({**of_all, "rank": part, "layers": list(g.layers), "bytes": g.nbytes})
        return dict(common, layout=layout, group=together, block_bytes=g.nbytes)

    return Geometry(
        groups=groups,
        every=math.lcm(*(g.tokens for g in groups)),
        per_hash=config.cache.tokens_per_hash,
        draft=any(
            getattr(kv_cache_config.kv_cache_groups[g.index], "is_eagle_group", False)
            for g in groups
        ),
        namespaces=tuple(namespace(g) for g in groups),
        stores=rank == part,
    )


def _overrides(model: Any) -> Any:
    """What the user has changed of the model's configuration, as the scaling of positions."""
    overrides = getattr(model, "hf_overrides", None)
    return getattr(overrides, "__qualname__", overrides)


def _why_not(vllm_config: Any, kv_cache_config: Any) -> str | None:
    """All groups count, also those that vLLM itself would not offload: a request whose tokens were
    loaded would have no states of theirs."""
    if not vllm_config.cache_config.enable_prefix_caching:
        return "prefix caching is off, so blocks have no hashes"
    if kv_cache_config.hisparse_host_num_blocks is not None:
        return "part of the KV cache is in host memory"
    groups = [kv_cache_config.kv_cache_groups[i] for i in _transferred(kv_cache_config)]
    for spec in (spec for group in groups for spec in iter_layer_specs(group.kv_cache_spec)):
        if not isinstance(spec, (FullAttentionSpec, SlidingWindowSpec)):
            return f"it has layers of {type(spec).__name__}; use HbmTier behind the CPU tier"
    return None


def _transferred(kv_cache_config: Any) -> Iterable[int]:
    """The groups that tokens need; others are scratch."""
    every = range(len(kv_cache_config.kv_cache_groups))
    return getattr(kv_cache_config, "transfer_group_ids", every)


def _block_bytes(group: Any) -> int:
    spec = group.kv_cache_spec
    if isinstance(spec, UniformTypeKVCacheSpecs):
        return spec.page_size_bytes  # of all layers together
    return spec.page_size_bytes * len(group.layer_names)
