# SPDX-License-Identifier: Apache-2.0
"""Which namespace of the daemon an engine's blocks belong to.

Blocks of one namespace are interchangeable: whatever makes the same tokens have other bytes is
part of its identity. The model's name is there to be read; the layout is a digest of all that
the engine says about its KV cache; the weights are a number that changes with the checkpoint,
as two checkpoints of one name have other KV.

What is known of the weights, the first of these that there is:

    what the user has set         a number, or any other text
    files of a folder             of each the name, size and time of change; all of what describes
                                  the model (*.json: configuration, index); of a file of weights
                                  the header of safetensors, with all names, types, shapes and
                                  places, and the first and the last 64 KiB
    a commit of the hub           that of the revision that was downloaded; where the engine does
                                  not tell the revision, of the only one that was

Otherwise blocks are the engine's own: no other engine finds them, and it finds no other's. That
costs hits, and never serves the KV of other weights. A file that was changed and has its size, its
time of change, its header and both its ends again is not told from what it was.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import secrets
from typing import Any, Mapping

log = logging.getLogger(__name__)

_SAMPLE = 1 << 16
_HEADER_MAX = 100 << 20  # of safetensors, as that library has it
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_DESCRIPTIONS = (".json",)


def digest(fields: Mapping[str, Any]) -> str:
    """A short name for what `fields` say; any change in them is another name."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def weights_version(
    option: Any,
    model: str,
    revision: str | None = None,
    *,
    engine: str | None = None,
    told: bool = False,
) -> int:
    """64 bits that change with the weights.

    option: what the user has set, or None. model: a folder, or a name of the hub. revision: of
    it, a branch, tag or commit. told: that `revision` is the engine's, and None the main branch.
    engine: what all processes of the engine have alike, and no other; None: this process is it.
    """
    if isinstance(option, int):
        return option & 0xFFFFFFFFFFFFFFFF
    if option is not None:
        return _hash64(str(option).encode())
    if os.path.isdir(model):
        return _hash64(_folder(model))

    commit = _commit(model, revision) if told or revision else _only_commit(model)
    if commit is not None:
        return _hash64(commit.encode())
    _say_unknown(model)
    return _hash64(b"of an engine\0" + (engine.encode() if engine else _PROCESS))


_PROCESS = secrets.token_bytes(16)


@functools.cache
def _say_unknown(model: str) -> None:
    log.warning(
        "the version of the weights of %s is not known, so no other engine finds its blocks: "
        "set `weights`",
        model,
    )


def _hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


# ---- Files of a folder ----


def _folder(path: str) -> bytes:
    seen = hashlib.sha256()
    for name in sorted(os.listdir(path)):
        if not name.endswith(_WEIGHTS + _DESCRIPTIONS):
            continue
        with open(os.path.join(path, name), "rb") as file:
            about = os.fstat(file.fileno())
            size, changed = about.st_size, about.st_mtime_ns
            seen.update(f"{name}\0{size}\0{changed}\0".encode())
            for begin, end in _parts(name, file, size):
                file.seek(begin)
                seen.update(file.read(end - begin))
    return seen.digest()


def _parts(name: str, file: Any, size: int) -> list[tuple[int, int]]:
    """What of a file is looked at."""
    if name.endswith(_DESCRIPTIONS):
        return [(0, size)]
    begin = _SAMPLE
    if name.endswith(".safetensors"):
        header = int.from_bytes(file.read(8), "little")
        begin = max(begin, 8 + min(header, _HEADER_MAX))
    return [(0, min(begin, size)), (max(0, size - _SAMPLE), size)]


# ---- Commits of the hub ----


def _commit(model: str, revision: str | None) -> str | None:
    """Of a revision that was downloaded, without asking the network."""
    try:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(model, "config.json", revision=revision)
    except Exception as error:  # not installed, or a name that is none of the hub's
        log.debug("no snapshot of %s: %s", model, error)
        return None
    if not isinstance(path, str):
        return None
    return os.path.basename(os.path.dirname(path))


def _only_commit(model: str) -> str | None:
    """Of the only revision that was downloaded; None: there is none, or there are several."""
    try:
        from huggingface_hub import constants
        from huggingface_hub.file_download import repo_folder_name

        folder = repo_folder_name(repo_id=model, repo_type="model")
        snapshots = os.path.join(constants.HF_HUB_CACHE, folder, "snapshots")
        (commit,) = os.listdir(snapshots)
    except Exception as error:  # as above; or there is not one
        log.debug("no single snapshot of %s: %s", model, error)
        return None
    return commit
