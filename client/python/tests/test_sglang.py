# SPDX-License-Identifier: Apache-2.0
"""hbm.sglang without SGLang: what its pages are named, and how much of a prompt pools can serve."""

import subprocess
import sys
import types
import unittest

from hbm.sglang.fold import Pool, fold, leading
import hbm
from hbm.sglang.pages import Pages, Part, Share, buffer_of, layout_of

YES, NO = True, False


class Fold(unittest.TestCase):
    def test_leading(self):
        runs = [leading(each) for each in ([], [NO], [YES, NO, YES], [YES] * 3)]
        self.assertEqual(runs, [0, 0, 1, 3])

    def test_without_other_pools(self):
        self.assertEqual(fold(3, []), (3, {"kv": 3}, [1, 2, 3]))
        self.assertEqual(fold(0, []), (0, {}, []))

    def test_all_pages(self):
        pool = Pool("indexer", "all_pages", 1, [YES, YES, NO, YES])
        self.assertEqual(fold(4, [pool]), (2, {"kv": 4, "indexer": 2}, [1, 2]))
        self.assertEqual(fold(1, [pool]), (1, {"kv": 1, "indexer": 1}, [1]))

    def test_trailing_pages_have_gaps(self):
        state = Pool("mamba", "trailing_pages", 1, [NO, YES, NO, YES, NO])
        self.assertEqual(fold(5, [state]), (4, {"kv": 5, "mamba": 4}, [2, 4]))
        window = Pool("swa", "trailing_pages", 2, [YES, YES, NO, YES, YES])
        self.assertEqual(fold(5, [window]), (5, {"kv": 5, "swa": 5}, [1, 2, 5]))

    def test_all_must_serve_it(self):
        state = Pool("mamba", "trailing_pages", 1, [NO, YES, NO, YES, NO])
        pages = Pool("indexer", "all_pages", 1, [YES, YES, YES, NO, NO])
        self.assertEqual(fold(5, [state, pages]), (2, {"kv": 5, "mamba": 4, "indexer": 3}, [2]))
        none = Pool("swa", "trailing_pages", 1, [NO] * 5)
        self.assertEqual(fold(5, [none]), (0, {"kv": 5}, []))

    def test_block_groups_hold_nothing_up(self):
        groups = Pool("compressed", "block_groups", 2, [YES, YES, YES, NO], 8)
        self.assertEqual(fold(3, [groups]), (3, {"kv": 3, "compressed": 8}, [1, 2, 3]))

    def test_an_unknown_policy(self):
        with self.assertRaises(ValueError):
            fold(1, [Pool("x", "every other", 1, [YES])])


class Names(unittest.TestCase):
    POOL = types.SimpleNamespace(
        dtype="torch.bfloat16", layout="page_first", page_size=64, start_layer=16, end_layer=32
    )

    def name(self, share=Share(0, 1, ""), **changes):
        pool = types.SimpleNamespace(**{**vars(self.POOL), **changes})
        return layout_of("kv", pool, share, share.rank, share.ranks)

    def test_they_say_what_is_held(self):
        self.assertEqual(self.name(), "kv bfloat16 page_first p64 L16-32")
        whole = "kv bfloat16 page_first p64 L16-32"
        self.assertEqual(self.name(Share(1, 4, "C0/2")), f"{whole} H1/4 C0/2")
        self.assertEqual(self.name(storage_format_tag="mx"), f"{whole} mx")

    def test_what_is_another_has_another_name(self):
        names = {
            self.name(),
            self.name(Share(0, 2, "")),
            self.name(dtype="torch.float16"),
            self.name(layout="page_head"),
            self.name(page_size=32),
            self.name(start_layer=0),
            self.name(storage_format_tag="mx"),
        }
        self.assertEqual(len(names), 7)

    def test_imports_nothing_of_sglang(self):
        engines = "{'sglang', 'torch'}"
        code = f"import sys, hbm.sglang.pages; sys.exit(bool({engines} & set(sys.modules)))"
        self.assertEqual(subprocess.run([sys.executable, "-c", code]).returncode, 0)


class Waiting:
    """A namespace whose loads end when they are waited for, so that it is seen whether they were."""

    def __init__(self, ends):
        self.ends, self.over = ends, 0

    def load(self, keys, buffers):
        return self

    def wait(self):
        self.over += 1
        if isinstance(self.ends, Exception):
            raise self.ends
        return self.ends


class Memory(unittest.TestCase):
    def test_nothing_is_in_flight_after_a_load_that_failed(self):
        spaces = {"keys": Waiting(hbm.Refused("busy")), "values": Waiting([hbm.Status.OK])}
        link = types.SimpleNamespace(
            namespace=lambda model, layout, size: spaces[layout], wait=lambda ticket: ticket.wait()
        )
        pages = Pages(link, "model", [Part("keys", 16, (0,)), Part("values", 16, (1,))])
        with self.assertRaises(hbm.Refused):
            pages.load_buffers(["page"], [bytearray(16), bytearray(16)])
        self.assertEqual([space.over for space in spaces.values()], [1, 1])

    def test_a_buffer_of_another_tensor(self):
        for contiguous, device in ((False, "cpu"), (True, "cuda")):
            tensor = types.SimpleNamespace(
                is_contiguous=lambda: contiguous, device=types.SimpleNamespace(type=device),
                numel=lambda: 1, element_size=lambda: 1, data_ptr=lambda: 0,
            )
            with self.assertRaises(ValueError):
                buffer_of(tensor)


if __name__ == "__main__":
    unittest.main()
