# SPDX-License-Identifier: Apache-2.0
"""What makes the namespace of an engine's blocks."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from hbm import identity
from hbm.identity import digest, weights_version
from hbm.link import NAME_MAX

TIME = 1_700_000_000_000_000_000  # ns


def folder(path, time=TIME, **files):
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        file = path / name.replace("__", ".")
        file.write_bytes(data)
        os.utime(file, ns=(time, time))
    return str(path)


def test_version_of_a_folder(tmp_path):
    """It changes with any file of weights, at its begin or its end, with the time of a change, and
    with the configuration; not with where the folder is, or with files of other kinds."""
    big = bytes(1 << 20)
    versions = {
        "begin": weights_version(None, folder(tmp_path / "a", model__safetensors=b"1" + big)),
        "end": weights_version(None, folder(tmp_path / "b", model__safetensors=big + b"1")),
        "size": weights_version(None, folder(tmp_path / "c", model__safetensors=big)),
        "time": weights_version(None, folder(tmp_path / "t", TIME + 1, model__safetensors=big)),
        "name": weights_version(None, folder(tmp_path / "n", other__safetensors=big)),
        "more": weights_version(
            None, folder(tmp_path / "d", model__safetensors=big, config__json=b"{}")
        ),
        "none": weights_version(None, folder(tmp_path / "e")),
    }
    assert len(set(versions.values())) == len(versions)

    again = folder(tmp_path / "f", model__safetensors=big, README__md=b"another text")
    assert weights_version(None, again) == versions["size"]


def test_whole_header_of_safetensors(tmp_path):
    """Also behind the first 64 KiB: the names of many tensors."""

    def version(path, name):
        header = b'{"' + b"a" * 200000 + name + b'":{}}'
        data = len(header).to_bytes(8, "little") + header + bytes(1 << 20)
        return weights_version(None, folder(tmp_path / path, model__safetensors=data))

    assert version("a", b"one") == version("b", b"one") != version("c", b"two")


def test_all_of_an_index(tmp_path):
    def version(path, middle):
        index = b" " * 100000 + middle + b" " * 100000
        return weights_version(None, folder(tmp_path / path, model__safetensors__index__json=index))

    assert version("a", b"1") == version("b", b"1") != version("c", b"2")


def test_damaged_header(tmp_path):
    for i, data in enumerate((b"", b"\xff" * 8, b"\xff" * 100, b"\0" * 3)):
        assert weights_version(None, folder(tmp_path / str(i), model__safetensors=data))


def test_version_that_is_said(tmp_path):
    path = folder(tmp_path / "a", model__safetensors=b"weights")
    assert weights_version(7, path) == 7
    assert weights_version(-1, path) == 2**64 - 1
    assert weights_version("v1", path) != weights_version("v2", path)
    assert 0 <= weights_version("v1", path) < 2**64


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """The hub's cache: downloads a commit, as the main branch or as a branch of another name."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))

    def download(commit, branch="main"):
        model = tmp_path / "models--org--model"
        (model / "snapshots" / commit).mkdir(parents=True)
        (model / "snapshots" / commit / "config.json").write_text("{}")
        (model / "refs").mkdir(exist_ok=True)
        (model / "refs" / branch).write_text(commit)

    return download


def test_revisions_of_the_hub(hub):
    """An engine that tells its revision has that one's; one that does not, the only one's; of
    several it might be any: it has its own."""
    unknown = weights_version(None, "org/model", engine="a")
    one, two = "1" * 40, "2" * 40
    hub(one)
    first = weights_version(None, "org/model", engine="a")
    assert first == weights_version(None, "org/model", told=True) != unknown

    hub(two, "other")
    second = weights_version(None, "org/model", "other", told=True)
    assert second == weights_version(None, "org/model", two, told=True)
    assert second == weights_version(None, "org/model", "other") != first
    assert weights_version(None, "org/model", told=True) == first
    assert weights_version(None, "org/model", engine="a") == unknown


def test_unknown_version_is_of_one_engine(caplog):
    identity._say_unknown.cache_clear()
    name = "no such folder, and no name of a model"
    mine = weights_version(None, name)
    assert "set `weights`" in caplog.text
    assert mine == weights_version(None, name)
    assert weights_version(None, name, engine="a") == weights_version(None, name, engine="a")
    assert len({mine, *(weights_version(None, name, engine=e) for e in "ab")}) == 3

    script = f"from hbm.identity import weights_version; print(weights_version(None, {name!r}))"
    other = subprocess.run([sys.executable, "-c", script], capture_output=True, check=True)
    assert int(other.stdout) != mine


def test_digest_is_of_what_is_said():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({"a": 1}).encode()) <= NAME_MAX
