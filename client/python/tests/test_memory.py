# SPDX-License-Identifier: Apache-2.0
"""Regions: commits, views that keep them, arrays, DLPack by its ABI, publications."""

import ctypes
import gc
import struct
import types
import unittest

import hbm

from daemon import Daemon, DaemonTest

SLAB = 2 << 20


class Tensor(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = [
        ("data", ctypes.c_void_p), ("device_type", ctypes.c_int32), ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32), ("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("vector", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64),
        ("context", ctypes.c_void_p), ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)),
    ]


class Versioned(ctypes.Structure):
    """The head of DLManagedTensorVersioned."""

    _fields_ = [
        ("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p),
        ("deleter", ctypes.CFUNCTYPE(None, ctypes.c_void_p)), ("flags", ctypes.c_uint64),
    ]


api = ctypes.pythonapi
api.PyCapsule_GetPointer.restype = ctypes.c_void_p
api.PyCapsule_GetPointer.argtypes = [ctypes.py_object, ctypes.c_char_p]
api.PyCapsule_SetName.argtypes = [ctypes.py_object, ctypes.c_char_p]
USED = b"used_dltensor"


def take(capsule):
    """The tensor of a capsule, as a consumer takes it."""
    tensor = Tensor.from_address(api.PyCapsule_GetPointer(capsule, b"dltensor"))
    api.PyCapsule_SetName(capsule, USED)
    return tensor


class Regions(DaemonTest):
    def setUp(self):
        super().setUp()
        self.region = self.connection.region(2 * SLAB)

    def test_facts(self):
        self.assertEqual((self.region.bytes, self.region.slab, self.region.device), (2 * SLAB, SLAB, 0))
        self.assertEqual(len(self.region), 2 * SLAB)
        self.assertGreater(self.region.address, 0)
        self.assertTrue(self.region.is_host)
        self.assertFalse(self.region.read_only)
        larger = self.connection.region(1, slab=2 * SLAB, commit=False)
        self.assertEqual((larger.bytes, larger.slab), (2 * SLAB, 2 * SLAB))
        self.assertEqual(self.connection.device_memory().default_slab, SLAB)

    def test_a_view_keeps_it(self):
        for view in (lambda: memoryview(self.region), lambda: self.region.view(0, 10), lambda: self.region.array(4),
                     lambda: memoryview(self.region.array((2, 2), "float32")),
                     lambda: self.region.array(4).__dlpack__()):
            seen = view()
            for close in (self.region.close, self.connection.close, self.region.decommit):
                with self.assertRaises(BufferError):
                    close()
            self.assertFalse(self.connection.closed)
            del seen
        self.region.close()
        self.assertTrue(self.region.closed)

    def test_a_view_outlives_the_names_of_all(self):
        connection = hbm.Connection(self.daemon.socket)
        view = connection.region(SLAB).view()
        del connection
        gc.collect()
        view[:4] = b"here"
        self.assertEqual(view[:4], b"here")

    def test_commit_and_decommit(self):
        region = self.connection.region(2 * SLAB, commit=False)
        with self.assertRaises(BufferError):
            memoryview(region)
        region.commit(SLAB)
        with self.assertRaises(BufferError):
            memoryview(region)
        with self.assertRaises(BufferError):
            region.view(SLAB - 1, 2)
        with region.view(SLAB) as view:
            view[0] = 7
        region.commit(0, SLAB)
        memoryview(region)[SLAB - 1] = 1
        region.decommit(SLAB, SLAB)
        with self.assertRaises(BufferError):
            region.view(SLAB, 1)
        region.view(0, SLAB)
        with self.assertRaises(ValueError):
            region.decommit(SLAB, SLAB)  # it is not committed
        with self.assertRaises(ValueError):
            region.decommit(0, 4096)
        with self.assertRaises(hbm.Refused):
            region.commit(0, SLAB)  # it is
        with self.assertRaises(ValueError):
            region.commit(SLAB, 2 * SLAB)

    def test_requests_keep_it(self):
        ns = self.namespace(65536, ephemeral=True)
        self.connection.fence(1).signal(0)
        ticket = ns.load([hbm.key("a")], hbm.Spans(self.region, [0]), ready=(1, 1))
        for close in (self.region.close, self.region.decommit):
            with self.assertRaises(BufferError):
                close()
        ticket.cancel()
        self.region.close()

    def test_arrays(self):
        array = self.region.array((2, 3), "float32", 8)
        self.assertEqual((array.shape, array.dtype, array.nbytes), ((2, 3), "float32", 24))
        self.assertEqual(array.address, self.region.address + 8)
        with memoryview(array) as numbers:
            self.assertEqual((numbers.shape, numbers.format, numbers.strides), ((2, 3), "f", (12, 4)))
            numbers[1, 2] = 2.5
        self.assertEqual(struct.unpack("f", self.region.view(8 + 20, 4))[0], 2.5)
        self.assertEqual(self.region.array(5).shape, (5,))
        self.assertEqual(self.region.array(()).nbytes, 1)
        self.assertEqual(bytes(self.region.array((0, 5))), b"")
        with self.assertRaises(BufferError):
            memoryview(self.region.array(4, "bfloat16"))
        with self.assertRaises(AttributeError):
            array.__cuda_array_interface__  # it is no GPU's
        for shape, dtype, offset in (((1 << 40,), "uint8", 0), ((1 << 62, 8), "float64", 0), (4, "complex64", 0),
                                     (4, "float32", 2), (-1, "uint8", 0), (1, "uint8", 2 * SLAB), ([1] * 17, "bool", 0)):
            with self.assertRaises(ValueError):
                self.region.array(shape, dtype, offset)
        with self.assertRaisesRegex(ValueError, "byte order"):
            self.region.array(4, types.SimpleNamespace(name="float32", isnative=False))  # numpy.dtype(">f4")
        self.assertEqual(self.region.array(4, types.SimpleNamespace(name="float32", isnative=True)).dtype, "float32")
        with self.assertRaises(TypeError):
            type(array)()

    def test_dlpack(self):
        array = self.region.array((2, 3), "bfloat16", 4)
        self.assertEqual(array.__dlpack_device__(), (1, 0))
        tensor = take(array.__dlpack__())
        self.assertEqual((tensor.device_type, tensor.device_id, tensor.ndim), (1, 0, 2))
        self.assertEqual((tensor.code, tensor.bits, tensor.vector), (4, 16, 1))
        self.assertEqual(tensor.shape[:2], [2, 3])
        self.assertEqual(tensor.strides[:2], [3, 1])
        self.region.view(4, 2)[:] = b"ab"
        self.assertEqual(ctypes.string_at(tensor.data + tensor.byte_offset, 2), b"ab")
        del array
        with self.assertRaises(BufferError):
            self.region.close()
        tensor.deleter(ctypes.addressof(tensor))
        self.region.close()

    def test_dlpack_of_version_1(self):
        capsule = self.region.__dlpack__(max_version=(1, 1), dl_device=(1, 0), copy=False)
        head = Versioned.from_address(api.PyCapsule_GetPointer(capsule, b"dltensor_versioned"))
        self.assertEqual((head.major, head.flags), (1, 0))
        for options in ({"copy": True}, {"dl_device": (2, 0)}):
            with self.assertRaises(BufferError):
                self.region.__dlpack__(**options)
        for options in ({"max_version": 1}, {"other": 1}):
            with self.assertRaises(TypeError):
                self.region.__dlpack__(**options)

    def test_tensors_are_stored_and_loaded(self):
        class OnlyTensor:  # as torch's bfloat16, which is no buffer
            def __init__(self, array):
                self.array = array

            def __dlpack__(self):
                return self.array.__dlpack__()

        ns = self.namespace(65536, ephemeral=True)
        tensor = OnlyTensor(self.region.array((256, 128), "bfloat16"))
        self.region.view(0, 65536)[:] = b"tens" * 16384
        self.assertEqual(ns.store([hbm.key("a")], [tensor]).wait(), [hbm.Status.OK])
        self.region.view(0, 65536)[:] = bytes(65536)
        self.assertEqual(ns.load([hbm.key("a")], [tensor]).wait(), [hbm.Status.OK])
        self.assertEqual(self.region.view(0, 65536), b"tens" * 16384)
        with self.assertRaises(ValueError):
            ns.load([hbm.key("a")], [OnlyTensor(self.region.array(100))])
        with self.assertRaises(TypeError):
            ns.load([hbm.key("a")], [object()])

    def test_publications(self):
        self.region.view(0, 5)[:] = b"hello"
        self.region.publish("weights", 0, SLAB)
        with self.assertRaises(hbm.Refused) as refused:
            self.region.publish("weights", 0, SLAB)
        self.assertEqual(refused.exception.status, hbm.Status.EXISTS)
        with hbm.Connection(self.daemon.socket) as other, other.attach("weights") as there:
            self.assertTrue(there.read_only)
            with there.view() as view:
                self.assertTrue(view.readonly)
                self.assertEqual(view[:5], b"hello")
            with self.assertRaises(BufferError):
                there.array(5).__dlpack__()  # which cannot say that it is
            there.array(5).__dlpack__(max_version=(1, 0))
            with other.attach("weights", write=True) as written:
                written.view(0, 5)[:] = b"HELLO"
        self.assertEqual(self.region.view(0, 5), b"HELLO")
        self.connection.unpublish("weights")
        with self.assertRaises(hbm.Refused):
            self.connection.attach("weights")

    def test_the_memory_of_what_is_collected_comes_back(self):
        before = self.connection.device_memory().free
        for _ in range(100):  # 400 MiB, of 192
            self.connection.region(2 * SLAB)
        gc.collect()
        with self.connection.region(SLAB):
            pass
        self.assertLessEqual(before - self.connection.device_memory().free, 8 * SLAB)  # what is on its way back


class HostRegions(DaemonTest):
    SETTINGS = {"ddr.regions": "32MiB"}

    def test_memory_of_the_daemon(self):
        ns = self.namespace(65536, ephemeral=True)
        with self.connection.host_region(2 * SLAB) as region:
            self.assertTrue(region.is_host)
            self.assertEqual(memoryview(region).nbytes, 2 * SLAB)
            region.view(0, 65536)[:] = b"host" * 16384
            self.assertEqual(ns.store([hbm.key("a")], hbm.Spans(region, [0])).wait(), [hbm.Status.OK])
            self.assertEqual(ns.load([hbm.key("a")], hbm.Spans(region, [SLAB])).wait(), [hbm.Status.OK])
            self.assertEqual(region.view(SLAB, 65536), region.view(0, 65536))
            self.assertEqual(region.array(4).__dlpack_device__(), (1, 0))

    def test_shared(self):
        before = self.connection.device_memory().free
        with self.connection.region(2 * SLAB) as source, self.connection.region(3 * SLAB, commit=False) as target:
            target.share(source, SLAB, SLAB, SLAB)
            self.assertEqual(before - self.connection.device_memory().free, 2 * SLAB)
            source.view(SLAB, 4)[:] = b"both"
            self.assertEqual(target.view(SLAB, 4), b"both")
            for wrong in (lambda: target.view(0, 4), lambda: target.view(2 * SLAB, 4)):
                with self.assertRaises(BufferError):
                    wrong()
            for status, call in ((hbm.Status.EXISTS, lambda: target.share(source, 0, SLAB, SLAB)),
                                 (hbm.Status.NOT_FOUND, lambda: target.share(target, 0, 2 * SLAB, SLAB))):
                with self.assertRaises(hbm.Refused) as refused:
                    call()
                self.assertEqual(refused.exception.status, status)
            with hbm.Connection(self.daemon.socket) as other, other.region(SLAB) as theirs:
                with self.assertRaises(ValueError):
                    target.share(theirs)
            with self.assertRaises(ValueError):
                target.share(source, 0, 2 * SLAB, 2 * SLAB)
            with self.assertRaises(TypeError):
                target.share(None, 0, 0, SLAB)
            source.decommit()
            self.assertEqual(target.view(SLAB, 4), b"both")
            source.close()
            with self.assertRaises(RuntimeError):
                target.share(source, 0, 0, SLAB)

    def test_reserved(self):
        before = self.connection.device_memory()
        self.connection.reserve({0: 4 * SLAB}).wait()
        after = self.connection.device_memory()
        self.assertEqual(after.promised - before.promised, 4 * SLAB)
        self.assertEqual(before.available - after.available, 4 * SLAB)
        self.connection.reserve({0: -4 * SLAB}).wait()
        self.assertEqual(self.connection.device_memory().promised, before.promised)

        waits = self.connection.reserve({0: before.available}, timeout=20)
        waits.wait()
        with hbm.Connection(self.daemon.socket) as other:
            with self.assertRaises(hbm.Refused) as refused:
                other.reserve({0: SLAB}).wait()
            self.assertEqual(refused.exception.status, hbm.Status.NO_SPACE)
            later = other.reserve({0: SLAB}, timeout=20)
            self.connection.reserve({0: -before.available}).wait()
            later.wait()
            for wrong in ({-1: 1}, {0: 1 << 63}):
                with self.assertRaises((ValueError, OverflowError)):
                    other.reserve(wrong)
            for wrong in ({0: "much"}, {"a": 1}):
                with self.assertRaises(TypeError):
                    other.reserve(wrong)
            with self.assertRaises(ValueError):
                other.reserve({0: 1}, timeout=-1)

    def test_registered_with_the_driver(self):
        with self.connection.host_region(SLAB) as region:
            region.register()
            with self.assertRaises(hbm.Refused) as refused:
                region.register()
            self.assertEqual(refused.exception.status, hbm.Status.EXISTS)
            with self.assertRaises(ValueError):
                region.register(-1)
        with self.assertRaises(RuntimeError):
            region.register()
        with self.connection.region(SLAB) as region, self.assertRaises(hbm.Refused) as refused:
            region.register()
        self.assertEqual(refused.exception.status, hbm.Status.UNSUPPORTED)

    def test_memory_in_no_region(self):
        ns = self.namespace(65536, ephemeral=True)
        buffers = [bytearray(65536) for _ in range(2)]
        names = [hbm.key("a"), hbm.key("b")]
        self.assertEqual(ns.store(names, [b"a" * 65536, b"b" * 65536]).wait(), [hbm.Status.OK] * 2)
        self.assertEqual(ns.load(names, buffers).wait(), [hbm.Status.OK] * 2)
        self.assertEqual(buffers, [b"a" * 65536, b"b" * 65536])

    def test_the_daemon_may_have_none(self):
        other = Daemon()
        self.addCleanup(other.free)
        with hbm.Connection(other.start().socket) as connection:
            for slab in (0, SLAB):
                with self.assertRaises(hbm.Refused) as refused:
                    connection.host_region(SLAB, slab=slab)
                self.assertEqual(refused.exception.status, hbm.Status.UNSUPPORTED)
            connection.ping()


if __name__ == "__main__":
    unittest.main()
