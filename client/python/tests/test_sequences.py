# SPDX-License-Identifier: Apache-2.0
"""Sequences: their arrays, growth, forks, suspending, and what is saved by name."""

import gc
import unittest

import hbm

from daemon import DaemonTest

LAYOUT = "layers=2 heads=2 dim=16 bytes=4 order=layer max=65536"
SPACE = hbm.Space("model")


class Sequences(DaemonTest):
    SETTINGS = {"device__lend": "64MiB"}

    def setUp(self):
        super().setUp()
        self.pool = self.connection.pool(LAYOUT, max_sequences=8)
        self.addCleanup(self.pool.close)
        self.one = self.pool.open(name="one")

    def fill(self, sequence, tokens, begin=0):
        sequence.step(tokens)
        for layer in range(self.pool.layers):
            for part, array in enumerate((sequence.keys(layer, "float32"), sequence.values(layer, "float32"))):
                with memoryview(array) as numbers:
                    for token in range(begin, tokens):
                        numbers[token, 1, 3] = self.number(layer, part, token)

    def number(self, layer, part, token):
        return token * 4 + layer * 2 + part

    def check(self, sequence, tokens):
        self.assertEqual(len(sequence), tokens)
        for layer in range(self.pool.layers):
            for part, array in enumerate((sequence.keys(layer, "float32"), sequence.values(layer, "float32"))):
                with memoryview(array) as numbers:
                    self.assertEqual([numbers[token, 1, 3] for token in range(tokens)],
                                     [self.number(layer, part, token) for token in range(tokens)])

    def test_facts(self):
        self.assertEqual((self.pool.layers, self.pool.token_bytes), (2, 2 * 2 * 2 * 16 * 4))
        self.assertIn("layers=2", self.pool.layout)
        self.one.step(10)
        self.assertEqual(self.one.tokens, 10)
        self.assertGreaterEqual(self.one.facts.ready, 10)
        self.assertEqual(self.pool.facts.open, 1)
        self.assertIsNone(self.pool.event())
        array = self.one.keys(1, "float32", 4)
        self.assertEqual((array.shape, array.dtype), ((6, 2, 16), "float32"))
        self.assertEqual(array.address, self.one.facts.address + array.address - self.one.facts.address)

    def test_it_grows(self):
        self.fill(self.one, 100)
        self.fill(self.one, 20000, 19000)
        self.one.truncate(100)
        self.check(self.one, 100)
        with self.assertRaises(hbm.Refused):
            self.one.step(50)
        with self.assertRaises(hbm.Refused):
            self.one.step(1 << 20)

    def test_steps_of_a_batch(self):
        two = self.pool.open()
        self.pool.step([self.one, two], [7, 9])
        self.assertEqual((len(self.one), len(two)), (7, 9))
        with self.assertRaises(ValueError):
            self.pool.step([self.one, two], [8])
        with self.assertRaises(hbm.Refused):
            self.pool.step([self.one, self.one], [8, 8])

    def test_forks(self):
        self.fill(self.one, 200)
        with self.one.fork()[0] as fork:
            fork.step(201)
            fork.truncate(200)
            self.check(fork, 200)
        self.check(self.one, 200)

    def test_reordered(self):
        self.fill(self.one, 50)
        two = self.pool.open()
        two.step(20)
        self.pool.reorder([self.one, two], [0, 0])
        self.check(self.one, 50)
        self.check(two, 50)
        for origins in ([0], [-1, 0], ["a", 0]):
            with self.assertRaises((ValueError, TypeError)):
                self.pool.reorder([self.one, two], origins)
        with self.assertRaises(hbm.Refused):
            self.pool.reorder([self.one, two], [2, 0])

    def test_closed_or_seen_within_a_call(self):
        """Numbers of a call may be Python's own code, which runs after the sequences were looked at."""

        class Number:
            def __init__(self, number, run):
                self.number, self.run = number, run

            def __index__(self):
                self.run()
                return self.number

        two, views = self.pool.open(), []
        self.pool.step([self.one, two], [7, 9])
        with self.assertRaises(BufferError):
            self.pool.reorder([self.one, two], [1, Number(0, lambda: views.append(two.keys(0, "float32")))])
        self.assertEqual((len(self.one), len(two)), (7, 9))
        views.clear()
        for call in (self.pool.step, self.pool.reorder):
            three = self.pool.open()
            with self.assertRaisesRegex(RuntimeError, "the sequence is closed"):
                call([three, self.one, two], [0, 0, Number(0, three.close)])
            self.assertEqual((len(self.one), len(two)), (7, 9))

    def test_suspended_and_resumed(self):
        self.fill(self.one, 200)
        address = self.one.facts.address
        for tier in (hbm.Tier.DDR, hbm.Tier.NVME):
            self.one.suspend(tier)
            self.assertTrue(self.one.facts.suspended)
            self.assertEqual(self.one.facts.tier, tier)
            with self.assertRaises(BufferError):
                self.one.keys(0, "float32")
            self.pool.prefetch([self.one], hbm.Tier.DDR)
            self.one.resume()
            self.assertEqual(self.one.facts.address, address)
            self.check(self.one, 200)

    def test_saved_by_name(self):
        self.fill(self.one, 200)
        self.assertIsNone(self.pool.find("s", SPACE))
        self.assertEqual(self.one.save("s", SPACE, committed=7), 200)
        self.assertEqual(self.pool.find("s", SPACE), hbm.Saved(0, 200, 200, 7))
        self.one.close()
        with hbm.Connection(self.daemon.socket) as other, other.pool(LAYOUT) as pool, pool.restore("s", SPACE) as again:
            self.check(again, 200)
        self.pool.drop("s", SPACE)
        with self.assertRaises(hbm.Refused):
            self.pool.restore("s", SPACE)

    def test_blocks_of_tokens(self):
        self.fill(self.one, 200)
        cache = self.pool.namespace("prompts", block_tokens=64, salt=self.id()[-60:])
        self.assertEqual(cache.block_bytes, 64 * self.pool.token_bytes)
        keys = hbm.token_keys(range(200), 64)
        self.assertEqual(self.one.store(cache, keys[:32]), [hbm.Status.OK] * 2)
        self.assertEqual(self.one.store(cache, keys, first=1), [hbm.Status.EXISTS, hbm.Status.OK])
        with hbm.Connection(self.daemon.socket) as other, other.pool(LAYOUT) as pool:
            mine = pool.namespace("prompts", block_tokens=64, salt=self.id()[-60:])
            self.check(pool.open_cached(mine, keys, name="again"), 192)
            self.check(pool.open_cached(mine, hbm.token_keys([*range(130), *range(99)], 64)), 128)
            self.assertEqual(len(pool.open_cached(mine, hbm.token_keys(range(1, 200), 64))), 0)

    def test_last_block_of_tokens(self):
        self.fill(self.one, 100)
        cache = self.pool.namespace("prompts", block_tokens=64, salt=self.id()[-60:])
        keys = [hbm.key("a"), hbm.key("b")]
        self.assertEqual(self.one.store(cache, keys, tokens=100), [hbm.Status.OK] * 2)
        with self.pool.open_cached(cache, keys, tokens=100) as again:
            self.check(again, 100)

    def test_shared_slabs(self):
        whole = self.pool.block_tokens
        self.fill(self.one, 2 * whole + 5, 2 * whole)
        shown = memoryview(self.one.keys(0, "float32"))
        shown[7, 1, 3] = 42.0
        del shown
        cache = self.pool.namespace("prompts", salt=self.id()[-60:])
        keys = hbm.token_keys(range(2 * whole + 5), whole)
        self.assertEqual(self.one.store(cache, keys), [hbm.Status.OK] * 2)
        with hbm.Connection(self.daemon.socket) as other, other.pool(LAYOUT) as pool:
            free = other.device_memory().free
            one = pool.open_cached(pool.namespace("prompts", salt=self.id()[-60:]), keys)
            self.assertEqual(len(one), 2 * whole)
            self.assertEqual(one.facts.lent_bytes, 2 * whole * pool.token_bytes)
            self.assertEqual(other.device_memory().free, free)
            self.assertEqual(memoryview(one.keys(0, "float32"))[7, 1, 3], 42.0)

    def test_misuse_of_blocks_of_tokens(self):
        self.one.step(100)
        cache = self.pool.namespace("prompts", block_tokens=64)
        keys = hbm.token_keys(range(100), 64)
        for call in (lambda: self.one.store(self.namespace(64 * self.pool.token_bytes), keys),
                     lambda: self.one.store(cache, keys[:7]), lambda: self.one.store(cache, keys, first=2),
                     lambda: self.pool.open_cached(cache, keys, tokens=-1),
                     lambda: self.pool.namespace("prompts", block_tokens=-1)):
            with self.assertRaises(ValueError):
                call()
        with self.assertRaises(hbm.Refused):
            self.one.store(cache, keys * 2)  # more tokens than it has
        with hbm.Connection(self.daemon.socket) as other, other.pool(LAYOUT) as pool:
            with self.assertRaises(ValueError):
                self.one.store(pool.namespace("prompts", block_tokens=64), keys)
        cache.close()
        for call in (lambda: self.one.store(cache, keys), lambda: self.pool.open_cached(cache, keys)):
            with self.assertRaises(RuntimeError):
                call()
        cache = self.pool.namespace("prompts", block_tokens=64)
        self.one.close()
        with self.assertRaises(RuntimeError):
            self.one.store(cache, keys)

    def test_views_keep_it(self):
        self.one.step(10)
        array = self.one.values(0, "float32")
        for call in (self.one.close, self.one.suspend, lambda: self.one.truncate(5), lambda: self.one.slide(5),
                     self.pool.close, self.connection.close):
            with self.assertRaises(BufferError):
                call()
        self.one.step(20)  # it may grow
        del array
        self.one.close()

    def test_misuse(self):
        self.one.step(10)
        for call in (lambda: self.one.keys(9, "float32"), lambda: self.one.keys(0, "float16"),
                     lambda: self.one.keys(0, "float32", 11), lambda: self.one.keys(0, "float32", 5, 6),
                     lambda: self.one.keys(0, "nothing"), lambda: self.connection.pool("layers=none"),
                     lambda: self.pool.step([7], [7])):
            with self.assertRaises(ValueError):
                call()
        with self.assertRaises(TypeError):
            self.pool.step(7, 7)
        with self.connection.pool(LAYOUT) as other:
            with self.assertRaises(ValueError):
                other.step([self.one], [11])
        with self.assertRaises(RuntimeError):
            other.open()
        self.one.close()
        self.one.close()
        with self.assertRaises(RuntimeError):
            self.one.step(11)

    def test_collected_in_any_order(self):
        connection = hbm.Connection(self.daemon.socket)
        pool = connection.pool(LAYOUT)
        sequence = pool.open()
        sequence.step(10)
        array = sequence.keys(0, "float32")
        del connection, pool, sequence
        gc.collect()
        memoryview(array)[0, 0, 0] = 1.0
        del array
        gc.collect()

    def test_the_connection_is_closed_first(self):
        connection = hbm.Connection(self.daemon.socket)
        pool = connection.pool(LAYOUT, thread=True)
        sequence = pool.open()
        sequence.step(10)
        connection.close()
        for call in (lambda: sequence.step(11), pool.open, lambda: pool.facts, lambda: sequence.keys(0, "float32")):
            with self.assertRaises(RuntimeError):
                call()
        sequence.close()
        pool.close()


if __name__ == "__main__":
    unittest.main()
