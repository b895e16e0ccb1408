# SPDX-License-Identifier: Apache-2.0
"""examples/generate.py, as far as it goes without a GPU."""

from __future__ import annotations

import os
import subprocess
import sys

from soft_daemon import ROOT

SCRIPT = ROOT / "examples" / "generate.py"


def run(socket, *arguments):
    environment = {**os.environ, "HBM_SOCKET": socket, "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(
        [sys.executable, SCRIPT, *arguments], env=environment, capture_output=True, text=True
    )


def test_tokens_are_equal(daemon):
    done = run(daemon.socket, "--soft", "--prompt", "40", "--new", "6", "--rounds", "1")
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["plain", "sequences", "suspended"]
    assert all(line.endswith("tokens equal") for line in lines)


def test_without_a_gpu(daemon):
    done = run(daemon.socket)
    assert done.returncode == 77
    assert done.stdout == "generate: skipped: no GPU (--soft: without one)\n"


def test_what_it_is_asked_for(daemon):
    for wrong in (["--new", "1"], ["--prompt", "9000"], ["--rounds", "0"]):
        done = run(daemon.socket, "--soft", *wrong)
        assert done.returncode == 2
        assert done.stderr.splitlines()[-1].startswith("generate: error: at ")
