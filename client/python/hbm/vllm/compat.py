# SPDX-License-Identifier: Apache-2.0
"""What moves between releases of vLLM, found where this one has it.

The interface of secondary tiers changed its names three times in 2026. Everything that
differs is detected here, when hbm.vllm.tier is imported; the rest of the package sees one form.
Tested with the releases that tests/engines/requirements.txt names.
"""

from __future__ import annotations

import dataclasses
from typing import Any, Collection

from vllm.v1.kv_offload.tiering import base as tiering

try:
    from vllm.v1.kv_offload.base import LookupResult
except ImportError:  # a look-up said True, False, or None for later
    LookupResult = None

try:
    from vllm.v1.kv_offload.base import RequestOffloadingContext
except ImportError:
    RequestOffloadingContext = None

try:
    from vllm.v1.kv_offload.base import Medium

    MEDIUM = Medium.STORAGE
except ImportError:
    MEDIUM = None

SecondaryTierManager: Any = tiering.SecondaryTierManager
JobResult: Any = tiering.JobResult
_RESULT_FIELDS = {f.name for f in dataclasses.fields(JobResult)}

HIT = LookupResult.HIT if LookupResult else True
MISS = LookupResult.MISS if LookupResult else False
RETRY = LookupResult.RETRY if LookupResult else None


def job_result(
    job_id: int, success: bool, loaded: Collection[bytes] | None, seconds: float, nbytes: int
) -> Any:
    """`loaded`: what a promotion that failed in part has; where that cannot be said, all has
    failed."""
    fields = dict(
        job_id=job_id,
        success=success,
        successful_keys=loaded,
        transfer_time=seconds,
        transfer_bytes=nbytes,
    )
    return JobResult(**{k: v for k, v in fields.items() if k in _RESULT_FIELDS})


def chunk_ids(job: Any) -> Any:
    """The rows of the primary tier that a job is about; they were called blocks."""
    return job.chunk_ids if hasattr(job, "chunk_ids") else job.block_ids


def group_of(key: bytes) -> int:
    """The group of the KV cache that a key names in its last four bytes."""
    return int.from_bytes(key[-4:], "big")


def position(context: Any, key: bytes) -> int | None:
    """Up to which token of its request a key reaches, where that is said."""
    get = getattr(context, "get_offload_key_position", None)
    return get(key) if get else None


def new_request() -> Any:
    return RequestOffloadingContext() if RequestOffloadingContext else None
