# SPDX-License-Identifier: Apache-2.0
"""LMCache's own benchmark of L2 adapters, with ours, fs_native and resp (redis), in turns.

    PYTHONPATH=$BUILD/python/lib $ENGINES/bin/python tests/engines/bench_lmcache.py [KIB...]

For each size of an object, the best round of each, in GB/s, and ours to the better of the
others. A figure counts only if every object was stored and loaded. What fs_native writes
stays in the page cache. `copy` is what no adapter that copies can do better than: objects of
a batch copied from one buffer to another, by a thread of each processor. On a machine with
anything else to do, the ratios say little.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

os.environ.update(LMCACHE_LOG_LEVEL="ERROR", LMCACHE_DISABLE_BANNER="1")

import numpy
from lmcache.cli.main import main as lmcache
from soft_daemon import BUILD, SoftDaemon

os.environ["HBM_SOFT_DRIVER"] = str(BUILD / "libhbmsoft.so")
ROUNDS, IN_FLIGHT, TURNS = 4, 4, 2
BATCH = 32 << 20  # bytes of a submit, of at most KEYS objects
KEYS = 128
SETTINGS = ("ddr.size=2GiB", "ddr.regions=512MiB", "device.slab=2MiB", "nvme.size=3GiB")
OPERATIONS = ("Store", "Load")


def bench(spec: dict, kib: int) -> dict[str, float]:
    """GB/s of each operation, in its best round; 0: not everything has come."""
    keys = max(1, min(KEYS, BATCH // (kib << 10)))
    sys.argv = ["lmcache", "bench", "l2", "--l2-adapter", json.dumps(spec)]
    sys.argv += ["--num-keys", str(keys), "--in-flight", str(IN_FLIGHT)]
    sys.argv += ["--data-size-kb", str(kib), "--rounds", str(ROUNDS)]
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        lmcache()

    return {operation: best_of(said.getvalue(), operation) for operation in OPERATIONS}


def best_of(said: str, operation: str) -> float:
    part = said.partition(f"- {operation} -")[2]
    names = ("Total keys", "Total success", "Throughput max")
    found = [re.search(rf"{name}[^:]*: +([\d.]+)", part) for name in names]
    if not all(found) or found[0][1] != found[1][1]:
        return 0
    return float(found[2][1]) * 2**20 / 1e9


def ours(folder: Path, form: str, kib: int) -> dict[str, float]:
    daemon = SoftDaemon(folder, *SETTINGS)
    daemon.start()
    spec = {"type": form, "module_path": "hbm.lmcache", "adapter_params": {"socket": daemon.socket}}
    spec["class_name"] = {"native_plugin": "HbmConnector", "plugin": "HbmL2Adapter"}[form]
    try:
        return bench(spec, kib)
    finally:
        daemon.stop()


def files(folder: Path, kib: int) -> dict[str, float]:
    return bench({"type": "fs_native", "base_path": str(folder)}, kib)


def redis(folder: Path, kib: int) -> dict[str, float]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = ["redis-server", "--port", str(port), "--save", "", "--dir", str(folder)]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        for _ in range(500):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.01)
        return bench({"type": "resp", "host": "127.0.0.1", "port": port}, kib)
    finally:
        server.terminate()
        server.wait()


def copy(kib: int) -> float:
    """GB/s of bytes copied once, in the best of the rounds."""
    size, threads = kib << 10, os.cpu_count() or 1
    count = max(1, BATCH // size)
    source, target = (numpy.ones(count * size, dtype=numpy.uint8) for _ in range(2))

    def part(number: int) -> None:
        for start in range(number * size, count * size, threads * size):
            target[start : start + size] = source[start : start + size]

    best = 0.0
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS * IN_FLIGHT):
            begun = time.perf_counter()
            list(pool.map(part, range(threads)))
            best = max(best, count * size / (time.perf_counter() - begun) / 1e9)
    return best


CONTESTANTS = {
    "native_plugin": lambda folder, kib: ours(folder, "native_plugin", kib),
    "plugin": lambda folder, kib: ours(folder, "plugin", kib),
    "fs_native": files,
    "resp": redis,
}


def main() -> None:
    if not shutil.which("redis-server"):
        del CONTESTANTS["resp"]
    print("KiB    operation " + "".join(f"{name:>15}" for name in CONTESTANTS) + f"{'ratio':>15}{'copy':>15}")
    for kib in [int(word) for word in sys.argv[1:]] or [64, 512, 4096]:
        best, roof = {name: dict.fromkeys(OPERATIONS, 0.0) for name in CONTESTANTS}, copy(kib)
        for _ in range(TURNS):
            for name, run in CONTESTANTS.items():
                with tempfile.TemporaryDirectory(prefix="hbm-bench.") as folder:
                    figures = run(Path(folder), kib)
                for operation, figure in figures.items():
                    best[name][operation] = max(best[name][operation], figure)
        for operation in OPERATIONS:
            line = [best[name][operation] for name in CONTESTANTS]
            ratio = max(line[:2]) / max(*line[2:], 1e-9)
            print(f"{kib:<6} {operation:9} " + "".join(f"{x:15.2f}" for x in [*line, ratio, roof]), flush=True)


if __name__ == "__main__":
    main()
