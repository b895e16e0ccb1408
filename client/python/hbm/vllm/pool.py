# SPDX-License-Identifier: Apache-2.0
"""The engine's KV cache in memory of the daemon: what vLLM allocates within get_mem_pool_context().

Each allocation is a region of hbmd (hbm.torch.use_allocator()), charged to the engine like any
other region. GPUs alone: torch has no pools of memory for others. It has a connection of its own,
which lives as long as the memory: a torch that frees some later finds it. Blocks are stored and loaded
by that connection (hbm.vllm.bound).
"""

from __future__ import annotations

import logging
from contextlib import AbstractContextManager
from typing import Any

import torch

import hbm

log = logging.getLogger(__name__)


def check(vllm_config: Any) -> None:
    """ValueError: vLLM is to use an allocator of its own for the same memory."""
    model = vllm_config.model_config
    for option in ("enable_sleep_mode", "enable_cumem_allocator"):
        if getattr(model, option, False):
            raise ValueError(f"HbmConnector: kv_in_regions excludes {option}: both allocate the KV cache")


class KvPool:
    """socket: of the daemon. name: of the connection."""

    def __init__(self, socket: str | None, name: str) -> None:
        self._socket, self._name = socket, name
        self._connection: hbm.Connection | None = None

    @property
    def connection(self) -> hbm.Connection | None:
        """That has the memory; None: there is none."""
        return self._connection

    def context(self) -> AbstractContextManager[Any] | None:
        """None: it cannot be, and why is logged: vLLM's own memory is used."""
        why = self._connect()
        if why is not None:
            log.warning("the KV cache is not in memory of hbmd: %s", why)
            return None
        from hbm.torch import use_allocator

        return use_allocator(self._connection, device=self._device)

    def _connect(self) -> str | None:
        if self._connection is not None:
            return None
        if not torch.cuda.is_available():
            return "torch has no GPU here"
        try:
            connection = hbm.Connection(self._socket, name=self._name)
        except hbm.Error as error:
            return str(error)

        ordinal = torch.cuda.current_device()
        for device in range(connection.info.devices):
            if connection.device_ordinal(device) == ordinal:
                self._connection, self._device = connection, device
                return None
        connection.close()
        return f"GPU {ordinal} is none of the daemon's"
