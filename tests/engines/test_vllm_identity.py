# SPDX-License-Identifier: Apache-2.0
"""What makes the namespace of an engine's blocks."""

from __future__ import annotations

from hbm.link import NAME_MAX
from hbm.vllm.identity import digest, weights_version


def folder(path, **files):
    path.mkdir(exist_ok=True)
    for name, data in files.items():
        (path / name.replace("__", ".")).write_bytes(data)
    return str(path)


def test_version_of_a_folder(tmp_path):
    """It changes with any file of weights, at its begin or its end, and with the configuration;
    not with where the folder is, or with files of other kinds."""
    big = bytes(1 << 20)
    versions = {
        "begin": weights_version(None, folder(tmp_path / "a", model__safetensors=b"1" + big)),
        "end": weights_version(None, folder(tmp_path / "b", model__safetensors=big + b"1")),
        "size": weights_version(None, folder(tmp_path / "c", model__safetensors=big)),
        "more": weights_version(
            None, folder(tmp_path / "d", model__safetensors=big, config__json=b"{}")
        ),
        "none": weights_version(None, folder(tmp_path / "e")),
    }
    assert len(set(versions.values())) == len(versions)

    again = folder(tmp_path / "f", model__safetensors=big, README__md=b"another text")
    assert weights_version(None, again) == versions["size"]


def test_version_that_is_said(tmp_path):
    path = folder(tmp_path / "a", model__safetensors=b"weights")
    assert weights_version(7, path) == 7
    assert weights_version(-1, path) == 2**64 - 1
    assert weights_version("v1", path) != weights_version("v2", path)
    assert 0 <= weights_version("v1", path) < 2**64


def test_unknown_version_is_said(caplog):
    assert weights_version(None, "no such folder, and no name of a model") == 0
    assert "set `weights`" in caplog.text


def test_digest_is_of_what_is_said():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})
    assert len(digest({"a": 1}).encode()) <= NAME_MAX
