# SPDX-License-Identifier: Apache-2.0
"""host_pool: a pool of pages in host memory, as SGLang's HiCache has them, without a GPU.

Its constructor is ours; its methods are those that a store calls of SGLang's pools, which
need parts of SGLang that do not import on a machine without a GPU.
"""

import torch


class HostPool:
    """Keys and values of `pages` pages, in one of SGLang's layouts."""

    def __init__(
        self,
        layout="page_first",
        pages=16,
        page_size=16,
        layers=3,
        heads=4,
        head_dim=64,
        start_layer=0,
    ):
        self.layout, self.page_size, self.dtype = layout, page_size, torch.bfloat16
        self.start_layer, self.end_layer = start_layer, start_layer + layers
        self.layers, self.heads, self.head_dim = layers, heads, head_dim
        tokens = pages * page_size
        shape = {
            "page_first": (2, tokens, layers, heads, head_dim),
            "layer_first": (2, layers, tokens, heads, head_dim),
            "page_head": (2, pages, heads, page_size, layers, head_dim),
        }[layout]
        self.kv_buffer = torch.zeros(shape, dtype=self.dtype)

    def fill(self, page, value):
        self._page(page).fill_(value)

    def value(self, page):
        """What fill() has filled the page with; None: nothing has, all of it."""
        flat = self._page(page).flatten().float()
        return flat[0].item() if bool((flat == flat[0]).all()) else None

    def _page(self, page):
        tokens = slice(page * self.page_size, (page + 1) * self.page_size)
        if self.layout == "page_first":
            return self.kv_buffer[:, tokens]
        if self.layout == "layer_first":
            return self.kv_buffer[:, :, tokens]
        return self.kv_buffer[:, page : page + 1]

    def indices(self, pages):
        """The host indices of some pages."""
        return torch.cat([torch.arange(self.page_size) + page * self.page_size for page in pages])

    # ---- What a store calls ----

    def get_page_buffer_meta(self, indices):
        assert len(indices) % self.page_size == 0
        return self._pieces(indices, 1)

    def get_split_heads_page_buffer_meta(self, indices, split_factor):
        assert self.layout == "page_head"
        return self._pieces(indices, split_factor)

    def _pieces(self, indices, split):
        addresses, sizes = [], []
        for first in indices[:: self.page_size].tolist():
            for piece in self._runs(first // self.page_size, split):
                assert piece.is_contiguous()
                addresses.append(piece.data_ptr())
                sizes.append(piece.numel() * piece.element_size())
        return addresses, sizes

    def _runs(self, page, split):
        page = self._page(page)
        if self.layout == "layer_first":
            return [page[half, layer] for layer in range(self.layers) for half in (0, 1)]
        if self.layout == "page_first":
            return [page[0], page[1]]
        width = self.heads // split
        return [
            page[half, 0, group * width : (group + 1) * width]
            for group in range(split)
            for half in (0, 1)
        ]

    def get_data_page(self, index, flat=True):
        page = self._page(int(index) // self.page_size)
        return page.flatten() if flat else page

    def get_dummy_flat_data_page(self):
        return torch.zeros_like(self._page(0)).flatten()

    def set_from_flat_data_page(self, index, data_page):
        page = self._page(int(index) // self.page_size)
        page.copy_(data_page.reshape(page.shape))
