# SPDX-License-Identifier: Apache-2.0
"""The source of an engine's release, which has its tests; wheels do not. It is fetched from PyPI
once, for the version that is installed, and kept in the virtual environment, under src/."""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tarfile
import urllib.request
from importlib.metadata import version
from pathlib import Path

import pytest

INDEX = "https://pypi.org/simple"
FORMAT = "application/vnd.pypi.simple.v1+json"
BYTES_MAX = 64 << 20
WAIT_S = 60


def source(name: str) -> Path:
    """The folder of its source. Skips the test if PyPI cannot be reached."""
    release = f"{name}-{version(name)}"
    folder = Path(sys.prefix) / "src" / release
    if not folder.exists():
        try:
            archive = _fetch(name, f"{release}.tar.gz")
        except OSError as error:
            pytest.skip(f"the source of {release} is not here, and PyPI not reached: {error}")
        with tarfile.open(fileobj=io.BytesIO(archive)) as members:
            members.extractall(folder.parent, filter="data")
    return folder


def _fetch(name: str, file: str) -> bytes:
    request = urllib.request.Request(f"{INDEX}/{name}/", headers={"Accept": FORMAT})
    with urllib.request.urlopen(request, timeout=WAIT_S) as answer:
        files = json.load(answer)["files"]
    (found,) = [each for each in files if each["filename"] == file]

    with urllib.request.urlopen(found["url"], timeout=WAIT_S) as answer:
        archive = answer.read(BYTES_MAX)
    assert hashlib.sha256(archive).hexdigest() == found["hashes"]["sha256"]
    return archive
