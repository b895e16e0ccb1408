# SPDX-License-Identifier: Apache-2.0
"""Fixtures of the engine tests: a live hbmd for each, and nothing left behind by it."""

from __future__ import annotations

import os

import pytest

from soft_daemon import BUILD, SoftDaemon

os.environ["HBM_SOFT_DRIVER"] = str(BUILD / "libhbmsoft.so")


def pytest_configure(config):
    config.addinivalue_line("markers", "settings(...): of the daemon, as for hbmd --set")


@pytest.fixture
def daemon(tmp_path, request):
    """A soft hbmd in service."""
    marker = request.node.get_closest_marker("settings")
    soft = SoftDaemon(tmp_path, *(marker.args if marker else ()))
    soft.start()
    yield soft
    soft.stop()
