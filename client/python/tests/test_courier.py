# SPDX-License-Identifier: Apache-2.0
"""hbm.vllm's thread without vLLM: every job has one result, and it sleeps when there is no daemon."""

import logging
import time
import unittest

import hbm
from hbm.vllm.courier import Courier

from daemon import Daemon, keys, pattern

BLOCK = 65536


class Couriers(unittest.TestCase):
    def setUp(self):
        logging.disable()
        self.addCleanup(logging.disable, logging.NOTSET)
        self.daemon = Daemon()
        self.addCleanup(self.daemon.free)
        self.daemon.start()
        self.courier = Courier([{"model": "m", "block_bytes": BLOCK}], socket=self.daemon.socket, reconnect_ms=0)
        self.addCleanup(self.courier.close)

    def results(self, count):
        until = time.monotonic() + 30
        results = []
        while len(results) < count and time.monotonic() < until:
            results += self.courier.finished()
            time.sleep(0.001)
        return results

    def test_no_memory_for_where(self):
        def where():
            raise RuntimeError("out of memory")  # as torch says it

        self.courier.store("stored", keys(1)[0], [pattern(1, BLOCK)], nbytes=BLOCK)
        self.assertTrue(self.results(1)[0].success)
        self.courier.load("loaded", keys(1)[0], where, nbytes=BLOCK)
        self.assertEqual([(each.tag, each.present, each.error) for each in self.results(1)],
                         [("loaded", [False], "out of memory")])
        self.assertEqual(self.courier.outstanding, 0)

    def test_the_daemon_goes_while_nothing_is_asked(self):
        self.courier.lookup("first", keys(1)[0])
        self.assertIsNone(self.results(1)[0].error)
        turns = []
        turn = self.courier._turn
        self.courier._turn = lambda: turns.append(None) or turn()
        self.daemon.kill()
        until = time.monotonic() + 30
        while self.courier._said is None and time.monotonic() < until:
            time.sleep(0.001)
        self.assertLess(len(turns), 100)  # it has heard of it, and has not asked again and again
        self.courier.lookup("second", keys(1)[0])
        self.assertIsNotNone(self.results(1)[0].error)
        self.daemon.start()
        while True:
            self.courier.lookup("third", keys(1)[0])
            if self.results(1)[0].error is None:
                break


if __name__ == "__main__":
    unittest.main()
