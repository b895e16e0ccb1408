# SPDX-License-Identifier: Apache-2.0
"""What bench_calls measures, by way of the Python package: a load of 64 blocks, its keys a list of
bytes. Prints "submit value us", the median.

    calls.py ROUNDS
"""

import statistics
import sys
import time

import hbm

BLOCKS = 64
BLOCK_BYTES = 64 << 10
READY_SLOT = 1


def main():
    values = []
    with hbm.Connection() as connection:
        region = connection.region(BLOCKS * BLOCK_BYTES)
        ns = connection.namespace("calls", block_bytes=BLOCK_BYTES)
        keys = [bytes([i + 1]) + bytes(15) for i in range(BLOCKS)]
        spans = hbm.Spans(region, range(0, BLOCKS * BLOCK_BYTES, BLOCK_BYTES))
        ready = connection.fence(READY_SLOT)
        for i in range(1, int(sys.argv[1]) + 1):
            start = time.perf_counter()
            ticket = ns.load(keys, spans, ready=(READY_SLOT, i))
            values.append(time.perf_counter() - start)
            ready.signal(i)
            ticket.wait()
    print(f"submit {statistics.median(values) * 1e6:.2f} us")


main()
