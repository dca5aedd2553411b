"""TIFF pages against the arrays that were written, and against what Pillow's encoders make of them."""

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tiff_data import tiff_bytes

from finemask.ops.images.tiff import read_page, stack_of, tiff_pages

KINDS = [np.uint8, np.int8, np.uint16, np.int16, np.uint32, np.float32, np.float64]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from(KINDS),
    st.tuples(st.integers(1, 40), st.integers(1, 40), st.integers(1, 6)),
    st.booleans(), st.booleans(), st.booleans(), st.sampled_from("<>"), st.booleans(),
    st.none() | st.integers(1, 9), st.none() | st.sampled_from([16, 32]),
)  # fmt: skip
def test_what_was_written_is_read(kind, shape, apart, deflate, differences, order, big, rows, tile):
    values = (np.random.default_rng(0).random(shape) * 300 - 20).astype(np.int16).astype(kind)
    differences = differences and deflate and np.dtype(kind).kind != "f"
    encoded = tiff_bytes(
        values, apart=apart, deflate=deflate, differences=differences, order=order, big=big, rows=rows, tile=tile
    )
    (page,) = tiff_pages(encoded)
    assert page.can_be_read
    found = read_page(encoded, page)
    assert found.dtype == kind
    np.testing.assert_array_equal(found, values)


@pytest.mark.parametrize("predicted", [False, True])
@pytest.mark.parametrize("compression", ["raw", "tiff_lzw", "tiff_adobe_deflate", "packbits", "zstd"])
@pytest.mark.parametrize("kind", [np.uint16, np.float32])
def test_compressions_of_libtiff(kind, compression, predicted):
    values = (np.cumsum(np.ones((37, 50)), axis=1) * 700 % 60000 / (65535 if kind == np.float32 else 1)).astype(kind)
    buffer = io.BytesIO()
    tags = {317: 3 if kind == np.float32 else 2} if predicted and compression not in ("raw", "packbits") else {}
    Image.fromarray(values).save(buffer, "TIFF", compression=compression, tiffinfo=tags)
    (page,) = tiff_pages(buffer.getvalue())
    assert page.tags.get(317, (1,)) == (tags.get(317, 1),)
    np.testing.assert_array_equal(read_page(buffer.getvalue(), page)[:, :, 0], values)


def test_pages_and_smaller_copies():
    pages = [np.full((8, 9, 3), k, np.uint8) for k in range(3)]
    found = tiff_pages(tiff_bytes(*pages, np.zeros((4, 4, 3), np.uint8), meaning=2, reduced=(3,), orientation=6))
    assert [page.number for page in found] == [0, 1, 2, 3]
    assert [page.number for page in stack_of(found)] == [0, 1, 2]
    assert found[0].orientation == 6
    pyramid = tiff_pages(tiff_bytes(np.zeros((64, 64), np.uint8), np.zeros((32, 32), np.uint8)))  # without saying so
    assert [page.number for page in stack_of(pyramid)] == [0]
    unlike = tiff_pages(tiff_bytes(np.zeros((64, 64), np.uint8), np.zeros((60, 64, 3), np.uint16)))
    assert [page.number for page in stack_of(unlike)] == [0, 1]
    assert tiff_pages(b"no TIFF file") == []


def test_cut_off_files_are_refused_wherever_they_are_cut():
    encoded = tiff_bytes(np.arange(600, dtype=np.uint16).reshape(10, 12, 5), rows=3)
    for length in range(4, len(encoded)):
        try:
            (page,) = tiff_pages(encoded[:length])
            read_page(encoded[:length], page)
        except ValueError:
            continue
        assert length >= len(encoded) - 4  # only where the next page would be
