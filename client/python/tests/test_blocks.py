# SPDX-License-Identifier: Apache-2.0
"""Blocks that are stored, looked up and loaded: of regions, of segments, of any memory."""

import array
import json
import unittest

import hbm
from hbm import Status

from daemon import DaemonTest, keys, pattern

BLOCK = 65536
COUNT = 16


class Blocks(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ns = self.namespace(BLOCK, ephemeral=True)
        self.keys = keys(COUNT)
        self.data = [pattern(i + 1, BLOCK) for i in range(COUNT)]

    def fill(self, region):
        with region.view() as bytes_:
            for i, data in enumerate(self.data):
                bytes_[i * BLOCK : (i + 1) * BLOCK] = data

    def test_watched(self):
        ns = self.namespace()
        begin = ns.watch()
        self.assertEqual((begin.events, begin.missed), ([], 0))
        names = keys(2)
        ns.store(names, [pattern(i, 65536) for i in range(2)], tier=hbm.Tier.DDR).wait()
        ns.remove(names[0])
        seen, at = [], begin.position
        while (found := ns.watch(at)).events:
            seen, at = seen + found.events, found.position
        stored = [event for event in seen if event.what == hbm.Happened.STORED]
        self.assertEqual(sorted(event.key for event in stored), sorted(names))
        self.assertEqual({event.before for event in stored}, {hbm.Tier.NONE})
        dropped = [event for event in seen if event.what == hbm.Happened.DROPPED]
        self.assertEqual([(event.key, event.after) for event in dropped], [(names[0], hbm.Tier.NONE)])
        with self.assertRaises(hbm.Refused):
            ns.watch(at + 1000)
        with self.assertRaises(ValueError):
            ns.watch(-1)
        ns.close()
        with self.assertRaises(RuntimeError):
            ns.watch(at)

    def test_spans_of_a_region(self):
        region = self.connection.region(2 * COUNT * BLOCK)
        self.fill(region)
        there = hbm.Spans(region, [i * BLOCK for i in range(COUNT)])
        self.assertEqual(self.ns.store(self.keys, there).wait(), [Status.OK] * COUNT)
        self.assertEqual(self.ns.store(self.keys, there).wait(), [Status.EXISTS] * COUNT)
        for offsets in (range(COUNT * BLOCK, 2 * COUNT * BLOCK, BLOCK),
                        array.array("Q", range(COUNT * BLOCK, 2 * COUNT * BLOCK, BLOCK))):
            with region.view() as bytes_:
                bytes_[COUNT * BLOCK :] = bytes(COUNT * BLOCK)
            back = hbm.Spans(region, offsets, BLOCK)
            self.assertEqual(len(back), COUNT)
            self.assertEqual(self.ns.load(self.keys, back).wait(), [Status.OK] * COUNT)
            with region.view() as bytes_:
                self.assertEqual(bytes_[COUNT * BLOCK :], bytes_[: COUNT * BLOCK])
                self.assertEqual(bytes_[: COUNT * BLOCK], b"".join(self.data))

    def test_segments(self):
        region = self.connection.region(COUNT * BLOCK)
        self.fill(region)
        half = BLOCK // 2
        # each block begins with the second half of the place, and ends with the first
        where = [[(region, i * BLOCK + half, half), (region, i * BLOCK, half)] for i in range(COUNT)]
        self.assertEqual(self.ns.store(self.keys, where).wait(), [Status.OK] * COUNT)
        buffers = [bytearray(BLOCK) for _ in range(COUNT)]
        self.ns.load(self.keys, buffers).wait()
        for data, buffer in zip(self.data, buffers):
            self.assertEqual(buffer, data[half:] + data[:half])

    def test_any_memory(self):
        self.assertEqual(self.ns.store(self.keys, self.data).wait(), [Status.OK] * COUNT)
        large = bytearray(COUNT * BLOCK)
        with memoryview(large) as view:
            places = [view[i * BLOCK : (i + 1) * BLOCK] for i in range(COUNT)]
            self.assertEqual(self.ns.load(self.keys, places).wait(), [Status.OK] * COUNT)
            del places
        self.assertEqual(large, b"".join(self.data))

    def test_more_memory_than_a_landing_has(self):
        many = keys(300, "many")
        data = [pattern(i, BLOCK) for i in range(300)]
        self.assertEqual(set(self.ns.store(many, data).wait()), {Status.OK})
        buffers = [bytearray(BLOCK) for _ in many]
        self.assertEqual(set(self.ns.load(many, buffers).wait()), {Status.OK})
        self.assertEqual(buffers, data)

    def test_a_miss_leaves_the_buffer(self):
        self.ns.store(self.keys[:1], self.data[:1]).wait()
        buffers = [bytearray(b"x" * BLOCK) for _ in range(2)]
        statuses = self.ns.load(self.keys[:2], buffers).wait()
        self.assertEqual(statuses, [Status.OK, Status.MISS])
        self.assertEqual(buffers, [self.data[0], b"x" * BLOCK])

    def test_lookup(self):
        self.ns.store(self.keys, self.data, parents=hbm.chain(self.keys)).wait()
        found = self.ns.lookup(self.keys + keys(2, "other") + self.keys[:1])
        self.assertEqual(found.resident, COUNT)
        self.assertGreater(found.load_seconds, 0)
        self.assertEqual(found.present, [True] * COUNT + [False, False, True])
        # one bytes object of all keys is the same
        self.assertEqual(self.ns.lookup(b"".join(self.keys)).resident, COUNT)
        self.assertEqual(self.ns.lookup([]).present, [])

    def test_parents(self):
        two = self.keys[:2]
        statuses = self.ns.store(two, self.data[:2], parents=[None, hbm.key("nowhere")]).wait()
        self.assertEqual(statuses, [Status.OK, Status.NO_PARENT])
        statuses = self.ns.store(self.keys[1:3], self.data[1:3], parents=hbm.chain(self.keys[1:3], two[0])).wait()
        self.assertEqual(statuses, [Status.OK, Status.OK])
        # what continues a block goes with it
        self.assertEqual(self.ns.remove(two[:1]), [True])
        self.assertEqual(self.ns.lookup(self.keys[:3]).present, [False] * 3)

    def test_remove_and_drop(self):
        self.ns.store(self.keys, self.data).wait()
        self.assertEqual(self.ns.remove([self.keys[0], hbm.key("nowhere")]), [True, False])
        self.assertEqual(self.ns.drop(), hbm.Amount(COUNT - 1, (COUNT - 1) * BLOCK))
        self.assertEqual(self.ns.lookup(self.keys).resident, 0)

    def test_tiers_and_pins(self):
        store = self.ns.store(self.keys, self.data, tier=hbm.Tier.DDR)
        self.assertEqual(set(store.wait()), {Status.OK})
        self.assertEqual(set(self.ns.prefetch(self.keys).wait()), {Status.OK})
        self.assertEqual(set(self.ns.move(self.keys, hbm.Tier.DDR).wait()), {Status.OK})
        self.assertEqual(set(self.ns.touch(self.keys).wait()), {Status.OK})
        self.assertEqual(set(self.ns.pin(self.keys).wait()), {Status.OK})
        self.assertEqual(set(self.ns.unpin(self.keys).wait()), {Status.OK})
        self.assertEqual(set(self.ns.unpin(self.keys).wait()), {Status.NOT_FOUND})

    def test_durable(self):
        lasting = self.namespace(BLOCK, salt="durable")
        self.assertEqual(set(lasting.store(self.keys, self.data, durable=True).wait()), {Status.OK})

    def test_namespaces_share_nothing(self):
        self.ns.store(self.keys, self.data).wait()
        for options in (
            {"salt": "other"}, {"weights": 1}, {"layout": "other"}, {"memory_only": True}, {"group": "g"},
        ):
            with self.namespace(BLOCK, ephemeral=True, **options) as other:
                self.assertEqual(other.lookup(self.keys).resident, 0, options)

    def test_no_blocks(self):
        self.assertEqual(self.ns.lookup([]), hbm.Lookup(0, 0.0, []))
        for ticket in (self.ns.store([], []), self.ns.load(b"", []), self.ns.prefetch([])):
            self.assertTrue(ticket.done())
            self.assertEqual(ticket.wait(), [])

    def test_keys(self):
        self.assertEqual(len(hbm.key("x")), hbm.Key.SIZE)
        self.assertEqual(hbm.key("x"), hbm.key(b"x"))
        self.assertNotEqual(hbm.key("x"), hbm.key("y"))
        self.assertEqual(hbm.chain([b"a" * 16, b"b" * 16]), bytes(16) + b"a" * 16)
        self.assertEqual(hbm.chain(b"a" * 16, b"p" * 16), b"p" * 16)
        self.assertEqual(hbm.chain([]), b"")


class Landings(DaemonTest):
    """Slabs are larger than what a landing has to have."""

    SETTINGS = {"device__slab": "32MiB", "ddr__regions": "64MiB"}

    def test_they_take_no_more_than_they_have_to(self):
        ns = self.namespace(BLOCK)
        tickets = [ns.store(keys(COUNT, f"ticket {i}"), [bytes(BLOCK)] * COUNT) for i in range(8)]
        for ticket in tickets:
            self.assertEqual(ticket.wait(), [Status.OK] * COUNT)
        _, said = self.daemon.ctl("--json", "regions")
        committed = [region["committed"] for region in json.loads(said)["regions"]]
        self.assertEqual(committed, [8 << 20], said)  # the library's, for all of them


if __name__ == "__main__":
    unittest.main()
