# SPDX-License-Identifier: Apache-2.0
"""What the daemon says of itself, as hbmctl shows it; where blocks are; how many sequences fit."""

import asyncio
import json
import unittest

import hbm

from daemon import DaemonTest, keys, pattern

BLOCK = 65536
SLAB = 2 << 20


#: Members that change from one moment to the next, or that hbmctl writes in a way of its own.
_ELSEWHERE = {
    "BLOCKS": {"readers", "checksum", "checksummed"}, "NAMESPACES": {"weights"},
    "SESSIONS": {"connected_ms", "requests", "in_flight", "held", "leased"}, "LIMITS": {"used", "highest"},
    "DEVICES": {"uuid", "leased", "quarantined", "retiring", "ready", "uncreated", "held", "free"},
}


def plain(value):
    """As hbmctl --json writes a member."""
    if isinstance(value, hbm.Tier):
        return value.name.lower()
    if isinstance(value, tuple):
        return {tier.name.lower(): value[tier] for tier in hbm.Tier if tier}
    return value.hex() if isinstance(value, bytes) else value


class Queries(DaemonTest):
    def test_as_hbmctl_shows_it(self):
        ns, region = self.namespace(BLOCK), self.connection.region(SLAB)
        ns.store(keys(3), [pattern(i, BLOCK) for i in range(3)], parents=hbm.chain(keys(3))).wait()
        mine = {"session": self.connection.info.session, "ns": ns.number}

        def is_mine(record):
            return all(record.get(name, number) == number for name, number in mine.items())

        for kind in ("DEVICES", "SESSIONS", "REGIONS", "NAMESPACES", "BLOCKS", "LIMITS"):
            status, said = self.daemon.ctl("--json", kind.lower())
            self.assertEqual(status, 0, said)
            theirs, left_out = json.loads(said)[kind.lower()], _ELSEWHERE.get(kind, set())
            theirs = [each for each in theirs if is_mine(each)]
            ours = [each for each in self.connection.query(hbm.Query[kind]) if is_mine(each)]
            self.assertGreater(len(ours), 0)
            self.assertEqual(set(ours[0]), set(theirs[0]))
            self.assertEqual(
                [{name: plain(each[name]) for name in each if name not in left_out} for each in ours],
                [{name: each[name] for name in each if name not in left_out} for each in theirs],
            )
        region.close()

    def test_values(self):
        ns = self.namespace(BLOCK, salt="a")
        ns.store(keys(2), [pattern(i, BLOCK) for i in range(2)], parents=hbm.chain(keys(2))).wait()
        blocks = {block["key"]: block for block in self.connection.query(hbm.Query.BLOCKS) if block["ns"] == ns.number}
        self.assertEqual(set(blocks), set(keys(2)))
        self.assertEqual(blocks[keys(2)[1]]["parent"], keys(2)[0])
        self.assertEqual(blocks[keys(2)[0]]["parent"], bytes(16))
        for block in blocks.values():
            self.assertEqual((block["bytes"], block["tier"], block["durable"]), (BLOCK, hbm.Tier.HBM, False))
            self.assertIsInstance(block["place"], hbm.Tier)
            self.assertIs(type(block["durable"]), bool)
        status, = self.connection.query(hbm.Query.STATUS)
        self.assertEqual((status["version"], status["driver"]), (hbm.__version__, "soft"))
        self.assertEqual(status["boot_id"], self.connection.info.boot_id)
        self.assertEqual(len(status["hits"]), len(hbm.Tier))  # hits[Tier.DDR]
        session, = [each for each in self.connection.query(hbm.Query.SESSIONS)
                    if each["session"] == self.connection.info.session]
        self.assertEqual((session["name"], session["state"]), ("test", "live"))
        self.assertIn("d2h", {link["link"] for link in self.connection.query(hbm.Query.LINKS)})
        self.assertIn("bytes", {limit["unit"] for limit in self.connection.query(hbm.Query.LIMITS)})
        accounts = self.connection.query(hbm.Query.VERIFY)
        self.assertTrue(all(account["balanced"] for account in accounts))
        self.assertFalse(any("zero" in account for account in accounts))

    def test_every_kind(self):
        with hbm.Connection(self.daemon.socket, inspect_only=True) as inspector:
            for kind in hbm.Query:
                for record in inspector.query(kind):
                    self.assertIsInstance(record, dict)
            for wrong in (0, 99, -1, "BLOCKS", None):
                with self.assertRaises(ValueError):
                    inspector.query(wrong)
        with self.assertRaises(RuntimeError):
            inspector.query(hbm.Query.STATUS)
        for wrong in ((self.connection, 0), (self.connection, -1), (self.connection, 1 << 40)):
            with self.assertRaises(ValueError):
                hbm._native.query(*wrong)
        for wrong in ((7, 1), (self.connection, "a"), ()):
            with self.assertRaises(TypeError):
                hbm._native.query(*wrong)

    def test_many(self):
        """More than a message has."""
        ns = self.namespace(4096)
        before = len(self.connection.query(hbm.Query.BLOCKS))
        names = b"".join(keys(3000))
        ns.store(names, [pattern(i, 4096) for i in range(3000)]).wait()
        found = [block["key"] for block in self.connection.query(hbm.Query.BLOCKS) if block["ns"] == ns.number]
        self.assertEqual((len(found), b"".join(sorted(found))), (3000, b"".join(sorted(keys(3000)))))
        ns.drop()
        self.assertEqual(len(self.connection.query(hbm.Query.BLOCKS)), before)


class Lookups(DaemonTest):
    def test_where_blocks_are(self):
        ns = self.namespace(BLOCK, ephemeral=True)
        stored = ns.store(keys(2), [pattern(i, BLOCK) for i in range(2)], tier=hbm.Tier.DDR)
        stored.wait()
        self.assertEqual(stored.tiers, [hbm.Tier.DDR] * 2)
        ns.store(keys(3)[2:], [pattern(2, BLOCK)]).wait()
        ticket = ns.submit_lookup([*keys(3), hbm.key("none")])
        self.assertEqual(ticket.wait(), [hbm.Status.OK] * 3 + [hbm.Status.MISS])
        self.assertEqual(ticket.tiers, [hbm.Tier.DDR, hbm.Tier.DDR, hbm.Tier.HBM, hbm.Tier.NONE])
        self.assertEqual(ticket.lookup, ns.lookup([*keys(3), hbm.key("none")]))
        self.assertEqual(ticket.lookup.resident, 3)
        self.assertGreater(ticket.lookup.load_seconds, 0)
        self.assertEqual(ns.submit_lookup([]).lookup, (0, 0.0, []))

        async def awaited():
            later = ns.submit_lookup(keys(1))
            await later
            return later.lookup.present

        self.assertEqual(asyncio.run(awaited()), [True])

    def test_moves_with_a_deadline(self):
        ns = self.namespace(BLOCK, ephemeral=True)
        ns.store(keys(2), [pattern(i, BLOCK) for i in range(2)], tier=hbm.Tier.DDR).wait()
        ns.move(keys(2), hbm.Tier.HBM, deadline=0.5).wait()
        ticket = ns.submit_lookup(keys(2))
        ticket.wait()
        self.assertEqual(ticket.tiers, [hbm.Tier.HBM] * 2)
        with self.assertRaises(ValueError):
            ns.move(keys(2), hbm.Tier.HBM, deadline=-1)

    def test_pins_that_stay(self):
        with hbm.Connection(self.daemon.socket) as other:
            theirs = other.namespace(self.id()[-60:], block_bytes=BLOCK)
            theirs.store(keys(1), [pattern(0, BLOCK)]).wait()
            self.assertEqual(theirs.pin(keys(1), keep=True).wait(), [hbm.Status.OK])
        ns = self.namespace(BLOCK)
        pins = {block["key"]: block["pins"] for block in self.connection.query(hbm.Query.BLOCKS)}
        self.assertEqual(pins[keys(1)[0]], 1)
        self.assertEqual(ns.unpin(keys(1)).wait(), [hbm.Status.NOT_FOUND])
        self.assertEqual(ns.unpin(keys(1), keep=True).wait(), [hbm.Status.OK])
        ns.drop()


class Admission(unittest.TestCase):
    def test_how_many_fit(self):
        one = hbm.Demand(present=10, to_come=10, token_bytes=100)
        self.assertEqual(hbm.peak_demand([one]), 2000)
        self.assertEqual(hbm.peak_demand([one, hbm.Demand(15, 0, 100)]), 2500)  # which ends before the first grows
        self.assertEqual(hbm.admit(4000, [one], [one, one]), 1)
        self.assertEqual(hbm.admit(4000, [], [one._replace(slab_bytes=SLAB)]), 0)
        self.assertEqual((hbm.admit(0, [], []), hbm.peak_demand([])), (0, 0))

    def test_misuse(self):
        for kind, call in (
            (TypeError, lambda: hbm.admit(1, 7, [])),
            (TypeError, lambda: hbm.admit("1", [], [])),
            (TypeError, lambda: hbm.peak_demand([(1, 2, 3)])),
            (TypeError, lambda: hbm.peak_demand([7])),
            (TypeError, lambda: hbm.peak_demand([(1, 2, "3", 4)])),
            (ValueError, lambda: hbm.admit(-1, [], [])),
            (ValueError, lambda: hbm.peak_demand([(1, 2, -3, 4)])),
            (hbm.Refused, lambda: hbm.peak_demand([((1 << 64) - 1, 2, 1 << 63, 0)])),
        ):
            with self.assertRaises(kind):
                call()


if __name__ == "__main__":
    unittest.main()
