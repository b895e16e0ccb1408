# SPDX-License-Identifier: Apache-2.0
"""LMCache's own tests of its L2 adapters, with ours in the place of its mocks, on a live daemon
(lmcache_substitutes.py)."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("lmcache")

from sdist import source

HERE = Path(__file__).resolve().parent
# Each file, and how many of its tests there are to pass; one of the mock's own is left out.
SUITES = {"test_native_connector_l2_adapter.py": 92, "test_mock_l2_adapter.py": 43}


@pytest.mark.timeout(300)  # each test of a suite waits for half a second at its end
@pytest.mark.parametrize("suite", SUITES)
def test_suite(daemon, tmp_path, suite):
    file = source("lmcache") / "tests" / "v1" / "distributed" / suite
    environment = {**os.environ, "HBM_SOCKET": daemon.socket}
    environment["PYTHONPATH"] = f"{HERE}:{environment.get('PYTHONPATH', '')}"
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-W", "ignore", "-p", "no:cacheprovider"]
    command += ["-p", "lmcache_substitutes", "--noconftest", "--import-mode=importlib"]
    command += [f"--rootdir={tmp_path}", f"--basetemp={tmp_path}/suite", str(file)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    done = subprocess.run(command, cwd=tmp_path, env=environment, **pipes)
    passed = re.search(r"(\d+) passed", done.stdout)
    assert done.returncode == 0 and passed, done.stdout[-4000:]
    assert int(passed[1]) >= SUITES[suite]
