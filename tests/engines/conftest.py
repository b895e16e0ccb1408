# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the engine tests: a live hbmd for each, and nothing left behind by it."""

from __future__ import annotations

import os

import pytest

from soft_daemon import BUILD, SoftDaemon

os.environ["HBM_SOFT_DRIVER"] = str(BUILD / "libhbmsoft.so")


@pytest.fixture
def daemon(tmp_path):
    """A soft hbmd in service."""
    soft = SoftDaemon(tmp_path)
    soft.start()
    yield soft
    soft.stop()
