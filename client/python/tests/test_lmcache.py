# SPDX-License-Identifier: Apache-2.0
"""hbm.lmcache without LMCache: the connector, driven as its native_plugin drives one."""

import ctypes
import json
import logging
import select
import signal
import subprocess
import sys
import threading
import time
import unittest
from unittest import mock

import hbm
from hbm import link
from hbm.lmcache import HbmConnector
from hbm.lmcache.objects import Objects
from hbm.lmcache.sizes import SIZES_MAX, SLOT_BYTES, Sizes

from daemon import WAIT_S, Daemon, DaemonTest, pattern

SMALL, LARGE = 65536, 131072


def readable(connector, seconds=0):
    poll = select.poll()
    poll.register(connector.event_fd(), select.POLLIN)
    return bool(poll.poll(seconds * 1000))


def ended(connector, count=1):
    """The next completions, by their numbers."""
    done = {}
    while len(done) < count:
        assert readable(connector, WAIT_S)
        for number, *outcome in connector.drain_completions():
            done[number] = tuple(outcome)
    return done


def result(connector, number):
    return ended(connector)[number]


def view(data):
    """Bytes as LMCache hands them over: those of an array of C at an address."""
    memory = (ctypes.c_ubyte * len(data)).from_buffer_copy(data)
    return memoryview(memory)


class Connector(DaemonTest):
    def setUp(self):
        super().setUp()
        self.model = self.id()[-40:]
        self.salt = f"salt of {self.model}"
        self.one = self.connector()

    def connector(self):
        connector = HbmConnector(self.daemon.socket, salt=self.salt, weights=1)
        self.addCleanup(connector.close)
        return connector

    def names(self, count):
        return [f"{self.model}@00000000@0@{i:08x}" for i in range(count)]

    def store(self, names, sizes):
        data = [pattern(i + 1, size) for i, size in enumerate(sizes)]
        number = self.one.submit_batch_set(names, [view(each) for each in data])
        self.assertEqual(result(self.one, number), (True, "", None))
        return data

    def test_imports_nothing_of_lmcache(self):
        code = "import sys, hbm.lmcache; sys.exit('lmcache' in sys.modules)"
        self.assertEqual(subprocess.run([sys.executable, "-c", code]).returncode, 0)

    def test_objects_of_two_sizes_are_what_they_were(self):
        names = self.names(4)
        data = self.store(names[:3], [SMALL, LARGE, SMALL])
        found = result(self.one, self.one.submit_batch_exists(names))
        self.assertEqual(found, (True, "", [True, True, True, False]))

        views = [view(bytes(size)) for size in (SMALL, LARGE, SMALL, SMALL)]
        number = self.one.submit_batch_get(names, views)
        self.assertEqual(result(self.one, number), (False, "", [True, True, True, False]))
        self.assertEqual([bytes(each) for each in views], [*data, bytes(SMALL)])

    def test_another_process_finds_them_without_their_sizes(self):
        names = self.names(2)
        other = self.connector()
        absent = (True, "", [False, False])
        self.assertEqual(result(other, other.submit_batch_exists(names)), absent)
        self.store(names, [SMALL, LARGE])
        there = (True, "", [True, True])
        self.assertEqual(result(other, other.submit_batch_exists(names)), there)
        late = self.connector()
        self.assertEqual(result(late, late.submit_batch_delete(names)), there)
        self.assertEqual(result(other, other.submit_batch_exists(names)), absent)

    def test_they_are_not_moved_to_a_device(self):
        hbm_before, ddr_before = self.blocks()
        self.store(self.names(4), [SMALL] * 4)
        # and one block that says their size
        self.assertEqual(self.blocks(), (hbm_before, ddr_before + 5))

    def blocks(self):
        _, said = self.daemon.ctl("--json", "tiers")
        found = {each["tier"]: each["blocks"] for each in json.loads(said)["tiers"]}
        return found["hbm"], found["ddr"]

    def test_a_length_that_was_not_stored_is_a_miss(self):
        names = self.names(1)
        self.store(names, [SMALL])
        into = view(bytes(LARGE))
        self.assertEqual(result(self.one, self.one.submit_batch_get(names, [into]))[0], False)
        self.assertEqual(bytes(into), bytes(LARGE))

    def test_what_is_there_stays_as_it_is(self):
        names = self.names(1)
        (data,) = self.store(names, [SMALL])
        number = self.one.submit_batch_set(names, [bytes(SMALL)])
        self.assertEqual(result(self.one, number), (True, "", None))
        into = view(bytes(SMALL))
        result(self.one, self.one.submit_batch_get(names, [into]))
        self.assertEqual(bytes(into), data)

    def test_the_descriptor_is_readable_while_there_are_completions(self):
        self.assertFalse(readable(self.one))
        first = self.one.submit_batch_exists(self.names(1))
        self.assertTrue(readable(self.one, WAIT_S))
        self.assertTrue(readable(self.one))
        self.assertIn(first, ended(self.one))
        self.assertFalse(readable(self.one))
        self.assertEqual(self.one.drain_completions(), [])

        numbers = {self.one.submit_batch_exists(self.names(1)) for _ in range(8)}
        self.assertEqual(set(ended(self.one, 8)), numbers)
        self.assertFalse(readable(self.one))

    def test_bad_batches_end_with_a_line(self):
        names = self.names(2)
        for views in ([bytes(SMALL)], [bytes(SMALL), b""], [bytes(SMALL), "text"]):
            ok, error, _ = result(self.one, self.one.submit_batch_set(names, views))
            self.assertFalse(ok)
            self.assertTrue(error)
        ok, error, each = result(self.one, self.one.submit_batch_get(names[:1], [bytes(SMALL)]))
        self.assertEqual((ok, each), (False, [False]))
        self.assertTrue(error)
        self.store(names, [SMALL, SMALL])

    def test_empty_batches(self):
        self.assertEqual(result(self.one, self.one.submit_batch_set([], [])), (True, "", None))
        self.assertEqual(result(self.one, self.one.submit_batch_exists([])), (True, "", []))

    def test_salts_share_nothing(self):
        names = self.names(1)
        self.store(names, [SMALL])
        self.salt += ", another"
        other = self.connector()
        self.assertEqual(result(other, other.submit_batch_exists(names))[2], [False])

    def test_no_daemon_is_said_at_once(self):
        with self.assertRaises(hbm.ConnectionLost):
            HbmConnector(self.daemon.socket + ".none")

    def test_closed(self):
        self.one.close()
        self.one.close()
        with self.assertRaises(ValueError):
            self.one.submit_batch_exists(self.names(1))
        self.assertEqual(self.one.drain_completions(), [])

    def test_who_is_told_may_raise(self):
        told = threading.Event()

        def tell(token, outcome):
            if token == 2:
                told.set()
            raise KeyError(token)

        objects = Objects(link.Link(self.daemon.socket), tell)
        self.addCleanup(objects.close)
        with self.assertLogs("hbm.lmcache.objects", logging.ERROR):
            objects.submit("exists", 1, self.names(1))
            objects.submit("exists", 2, self.names(1))
            self.assertTrue(told.wait(WAIT_S))


class ComingAndGoing(unittest.TestCase):
    """Daemons that hang, are killed and come again."""

    def setUp(self):
        self.daemon = Daemon()
        self.addCleanup(self.daemon.free)
        self.daemon.start()
        self.one = HbmConnector(self.daemon.socket, weights=1)
        self.addCleanup(self.one.close)

    def test_no_call_waits_for_a_daemon_that_hangs(self):
        self.daemon.process.send_signal(signal.SIGSTOP)
        names = [f"m@{i}" for i in range(4)]
        numbers = [
            self.one.submit_batch_set(names, [bytes(SMALL)] * 4),
            self.one.submit_batch_exists(names),
            self.one.submit_batch_delete(names),
        ]
        self.assertEqual(self.one.drain_completions(), [])
        self.daemon.process.send_signal(signal.SIGCONT)
        done = ended(self.one, 3)
        self.assertEqual([done[number][0] for number in numbers], [True] * 3)

    def test_a_killed_daemon_is_a_miss_until_the_next_one(self):
        names, views = ["m@1", "m@2"], [view(bytes(SMALL)) for _ in range(2)]
        self.daemon.process.send_signal(signal.SIGSTOP)
        numbers = [self.one.submit_batch_get(names, views) for _ in range(4)]
        self.daemon.kill()
        done = ended(self.one, 4)
        for number in numbers:
            self.assertEqual(done[number][0::2], (False, [False, False]))
            self.assertTrue(done[number][1])

        ok, error, each = result(self.one, self.one.submit_batch_exists(names))
        self.assertEqual((ok, each), (False, [False, False]))
        self.assertTrue(error)

        self.daemon.start()
        while error:
            time.sleep(0.02)
            number = self.one.submit_batch_set(names, [bytes(SMALL)] * 2)
            ok, error, _ = result(self.one, number)
        self.assertTrue(ok)
        found = result(self.one, self.one.submit_batch_exists(names))
        self.assertEqual(found, (True, "", [True, True]))

    def test_a_daemon_that_hangs_is_a_miss(self):
        """Each batch ends in time, whichever way it waits; what was to be loaded is not written late."""
        names = ["m@1@0@a"]
        self.assertEqual(result(self.one, self.one.submit_batch_set(names, [b"a" * SMALL])), (True, "", None))
        one = HbmConnector(self.daemon.socket, weights=1, timeout_ms=1000)
        self.addCleanup(one.close)
        into = bytearray(SMALL)
        self.daemon.process.send_signal(signal.SIGSTOP)
        try:
            number = one.submit_batch_get(names, [memoryview(into)])
            self.assertEqual(result(one, number), (False, mock.ANY, [False]))
            for call in (one.submit_batch_exists, one.submit_batch_delete):
                self.assertEqual(result(one, call(names)), (False, mock.ANY, [False]))
            number = one.submit_batch_set(["m@1@0@b"], [bytes(LARGE)])
            self.assertEqual(result(one, number), (False, mock.ANY, None))
        finally:
            self.daemon.process.send_signal(signal.SIGCONT)

        self.assertEqual(into, bytes(SMALL))
        for call in (one.submit_batch_exists, lambda names: one.submit_batch_get(names, [memoryview(into)])):
            error = "away"
            while error:
                self.assertEqual(into, bytes(SMALL))
                done, error, found = result(one, call(names))
                time.sleep(0.02)
            self.assertEqual((done, found), (True, [True]))
        self.assertEqual(into, b"a" * SMALL)

    def test_what_is_no_time(self):
        for wrong in (0, -1, 0.5, None, 1 << 32):
            with self.assertRaises(ValueError):
                HbmConnector(self.daemon.socket, timeout_ms=wrong)


class SizesOfAModel(DaemonTest):
    def setUp(self):
        super().setUp()
        self.ns = self.namespace(SLOT_BYTES)
        self.link = link.Link(self.daemon.socket)
        self.addCleanup(self.link.close)

    def sizes(self):
        return Sizes(self.link, self.ns)

    def test_two_that_add_at_once_take_two_slots(self):
        one, other = self.sizes(), self.sizes()
        one.read = list  # it has looked before the other came
        other.add(SMALL)
        one.add(LARGE)
        self.assertEqual(one.known(), [SMALL, LARGE])
        self.assertEqual(other.read(), [LARGE])
        self.assertEqual(other.read(), [])

    def test_an_evicted_slot_is_filled_again(self):
        one = self.sizes()
        one.add(SMALL)
        self.assertEqual(self.ns.remove(hbm.key("size 0")), [True])
        self.assertEqual(self.sizes().read(), [])
        one.read()
        self.assertEqual(self.sizes().read(), [SMALL])

    def test_there_is_a_last_slot(self):
        sizes = self.sizes()
        for i in range(SIZES_MAX):
            sizes.add(SMALL + i)
        with self.assertRaises(ValueError):
            sizes.add(LARGE)
        sizes.add(SMALL)
        self.assertEqual(len(self.sizes().read()), SIZES_MAX)


class Names(unittest.TestCase):
    def test_of_namespaces(self):
        self.assertEqual(link.fit("org/model-8B"), "org/model-8B")
        long = "/models/" + "a" * 80
        names = (long, long + "b", "mod\u00e8le", "mod\u00e9le", "a\nb")
        fitted = {link.fit(name) for name in names}
        self.assertEqual(len(fitted), len(names))
        for name in fitted:
            self.assertTrue(len(name) <= link.NAME_MAX and name.isascii() and name.isprintable())


if __name__ == "__main__":
    unittest.main()
