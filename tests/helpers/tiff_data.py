"""Writes TIFF files that no library here writes: several pages, any number of channels, any kind of value."""

import struct
import zlib
from collections.abc import Sequence

import numpy as np

_SIZES = {3: "H", 4: "I", 16: "Q"}


def tiff_bytes(
    *pages: np.ndarray,
    meaning: int = 1,
    extra: Sequence[int] = (),
    apart: bool = False,
    deflate: bool = False,
    differences: bool = False,
    order: str = "<",
    big: bool = False,
    rows: int | None = None,
    tile: int | None = None,
    reduced: Sequence[int] = (),
    orientation: int = 1,
) -> bytes:
    """Encodes pages [H, W] or [H, W, C].

    Args:
        pages: the pictures.
        meaning: 0 white is zero, 1 black is zero, 2 RGB.
        extra: what the channels beyond grey or RGB are; 0 for each that is not named.
        apart: a plane for each channel.
        deflate: compress.
        differences: store each value as the difference from its left neighbour.
        order: of bytes, ``<`` or ``>``.
        big: BigTIFF.
        rows: in a strip; None: all.
        tile: side of tiles, a multiple of 16; None: strips.
        reduced: pages that are smaller copies of others.
        orientation: as in EXIF.
    """
    word = "Q" if big else "I"
    out = bytearray(b"II" if order == "<" else b"MM")
    out += struct.pack(order + ("HHHQ" if big else "HI"), *((43, 8, 0, 0) if big else (42, 0)))
    link = len(out) - (8 if big else 4)
    for number, page in enumerate(pages):
        values = np.atleast_3d(page)
        values = values.astype(values.dtype.newbyteorder(order))
        height, width, channels = values.shape
        planes = [values[:, :, k : k + 1] for k in range(channels)] if apart else [values]
        offsets, counts = [], []
        for piece in (piece for plane in planes for piece in _pieces(plane, rows or height, tile)):
            if differences:
                piece = np.concatenate([piece[:, :1], piece[:, 1:] - piece[:, :-1]], axis=1)
            content = piece.astype(values.dtype).tobytes()
            content = zlib.compress(content) if deflate else content
            offsets.append(_append(out, content))
            counts.append(len(content))
        kind = {"u": 1, "i": 2, "f": 3}[values.dtype.kind]
        beyond = channels - (3 if meaning == 2 else 1)
        tags = [
            (254, 4, [int(number in reduced)]), (256, 4, [width]), (257, 4, [height]),
            (258, 3, [8 * values.dtype.itemsize] * channels), (259, 3, [8 if deflate else 1]), (262, 3, [meaning]),
            (324 if tile else 273, 4, offsets), (274, 3, [orientation]), (277, 3, [channels]),
            (325 if tile else 279, 4, counts), (284, 3, [2 if apart else 1]), (317, 3, [2 if differences else 1]),
            (339, 3, [kind] * channels),
        ]  # fmt: skip
        tags += [(322, 3, [tile]), (323, 3, [tile])] if tile else [(278, 4, [rows or height])]
        tags += [(338, 3, [*extra, *[0] * (beyond - len(extra))])] if beyond else []
        entries = b""
        for tag, form, numbers in sorted(tags):
            packed = struct.pack(order + _SIZES[form] * len(numbers), *numbers)
            room = 8 if big else 4
            if len(packed) > room:
                packed = struct.pack(order + word, _append(out, packed))
            entries += struct.pack(order + "HH" + word, tag, form, len(numbers)) + packed.ljust(room, b"\0")
        at = _append(out, struct.pack(order + ("Q" if big else "H"), len(tags)) + entries)
        struct.pack_into(order + word, out, link, at)
        link = len(out)
        out += b"\0" * (8 if big else 4)
    return bytes(out)


def _append(out: bytearray, content: bytes) -> int:
    out += b"\0" * (len(out) % 2)
    at = len(out)
    out += content
    return at


def _pieces(plane: np.ndarray, rows: int, tile: int | None):
    height, width, _ = plane.shape
    if tile is None:
        yield from (plane[y : y + rows] for y in range(0, height, rows))
        return
    padded = np.pad(plane, ((0, -height % tile), (0, -width % tile), (0, 0)))
    for y in range(0, height, tile):
        yield from (padded[y : y + tile, x : x + tile] for x in range(0, width, tile))
