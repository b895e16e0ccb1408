# SPDX-License-Identifier: Apache-2.0
"""lmcache_substitutes: a plugin of pytest that puts ours in the place of LMCache's mocks, in
LMCache's own tests, so that they judge ours. $HBM_SOCKET says which daemon they use.

Each test has a salt of its own, so that it begins with an empty store, as with a mock.
"""

import time
import uuid

# What asserts that the mock simulates a bandwidth.
NOT_OURS = ("test_store_completion_is_delayed_by_bandwidth",)


WAIT_S = 30


def _connector():
    from hbm.lmcache import HbmConnector

    class Connector(HbmConnector):
        def __init__(self):
            super().__init__(salt=uuid.uuid4().hex)

    return Connector


def _adapter():
    from hbm.lmcache import HbmL2Adapter

    class Adapter(HbmL2Adapter):
        def __init__(self, config):
            gigabytes = config.max_size_gb
            super().__init__({"salt": uuid.uuid4().hex, "max_capacity_gb": gigabytes})

    return Adapter


def _counted(adapter):
    """LMCache's own adapter of native connectors says that a store has ended before it counts its
    bytes. Its tests ask for the count at once, and some other process may run in between."""

    class Adapter(adapter):
        def get_usage(self):
            deadline = time.monotonic() + WAIT_S
            while time.monotonic() < deadline:
                usage = super().get_usage()
                with self._lock:
                    if usage.total_bytes_used == sum(self._key_sizes.values()):
                        break
                time.sleep(0.001)
            return usage

    return Adapter


def pytest_collection_modifyitems(config, items):
    for module in {item.module for item in items}:
        if hasattr(module, "MockNativeConnector"):
            module.MockNativeConnector = _connector()
            module.NativeConnectorL2Adapter = _counted(module.NativeConnectorL2Adapter)
            module.RecordingNativeConnector.__bases__ = (module.MockNativeConnector,)
        else:
            module.MockL2Adapter = _adapter()

    dropped = [item for item in items if item.name in NOT_OURS]
    items[:] = [item for item in items if item.name not in NOT_OURS]
    config.hook.pytest_deselected(items=dropped)
