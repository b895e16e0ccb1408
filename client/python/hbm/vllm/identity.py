# SPDX-License-Identifier: Apache-2.0
"""Which namespace of the daemon an engine's blocks belong to.

Blocks of one namespace are interchangeable: whatever makes the same tokens have other bytes is
part of its identity. The model's name is there to be read; the layout is a digest of all that
the engine says about its KV cache; the weights are a number that changes with the checkpoint,
as two checkpoints of one name have other KV.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
from typing import Any, Mapping

log = logging.getLogger(__name__)

# Of each file of weights as much is read from its begin and its end: the header of a
# safetensors file, with all names and shapes, and tensors of the first and the last layer.
_SAMPLE = 1 << 16
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf")
_DESCRIPTIONS = (".json",)


def digest(fields: Mapping[str, Any]) -> str:
    """A short name for what `fields` say; any change in them is another name."""
    text = json.dumps(fields, sort_keys=True, separators=(",", ":"), default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def weights_version(option: Any, model: str, revision: str | None = None) -> int:
    """64 bits that change with the weights.

    option: what the user has set: a number is taken as it is, any other string is hashed. None:
    of a folder, the names, sizes and samples of its files; of a model of the Hugging Face cache,
    the commit that was downloaded. 0 if neither is there, and a warning: then who changes the
    weights under one name has to set `weights`.
    """
    if isinstance(option, int):
        return option & 0xFFFFFFFFFFFFFFFF
    if option is not None:
        return _hash64(str(option).encode())
    if os.path.isdir(model):
        return _hash64(_folder(model))

    commit = _downloaded_commit(model, revision)
    if commit is not None:
        return _hash64(commit.encode())
    log.warning("the version of the weights of %s is not known: set `weights`", model)
    return 0


def _hash64(data: bytes) -> int:
    return int.from_bytes(hashlib.sha256(data).digest()[:8], "little")


def _folder(path: str) -> bytes:
    seen = hashlib.sha256()
    for name in sorted(os.listdir(path)):
        if not name.endswith(_WEIGHTS + _DESCRIPTIONS):
            continue
        with open(os.path.join(path, name), "rb") as file:
            size = file.seek(0, os.SEEK_END)
            seen.update(f"{name}\0{size}\0".encode())
            file.seek(0)
            if name.endswith(_DESCRIPTIONS):
                seen.update(file.read())
                continue
            seen.update(file.read(_SAMPLE))
            file.seek(max(0, size - _SAMPLE))
            seen.update(file.read(_SAMPLE))
    return seen.digest()


def _downloaded_commit(model: str, revision: str | None) -> str | None:
    """The name of the snapshot's folder, without asking the network."""
    try:
        from huggingface_hub import try_to_load_from_cache

        path = try_to_load_from_cache(model, "config.json", revision=revision)
    except Exception as error:  # not installed, or a name that is none of the hub's
        log.debug("no snapshot of %s: %s", model, error)
        return None
    if not isinstance(path, str):
        return None
    return os.path.basename(os.path.dirname(path))
