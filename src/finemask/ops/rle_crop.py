"""Decoding an RLE to the crop that holds its foreground, at the cost of that crop and not of the picture."""

import numpy as np
from numpy.typing import NDArray

from finemask.types import Rle


def rle_to_crop(rle: Rle) -> tuple[NDArray[np.bool_], int, int]:
    """The tight crop of a compressed RLE.

    Args:
        rle: compressed, ``size`` [H, W].

    Returns:
        ``(crop, x0, y0)``: bool [h, w] and the px position of its upper left corner; a crop of [0, 0] at
        (0, 0) for an empty mask.

    Raises:
        ValueError: the counts do not fit the size.
    """
    height, width = rle["size"]
    ends = np.cumsum(run_lengths(rle["counts"]))
    if len(ends) and ends[-1] != height * width:
        raise ValueError(f"the RLE's counts add up to {ends[-1]}, its size to {height * width}")
    starts, stops = ends[0:-1:2], ends[1::2]  # runs of foreground: [start, stop) in column-major order
    kept = stops > starts
    starts, stops = starts[kept], stops[kept]
    if not len(starts):
        return np.zeros((0, 0), dtype=np.bool_), 0, 0
    x0, x1 = int(starts[0] // height), int((stops[-1] - 1) // height) + 1
    steps = np.zeros((x1 - x0) * height + 1, dtype=np.int8)
    steps[starts - x0 * height] = 1
    steps[stops - x0 * height] -= 1  # a run that begins where another ends leaves 0: the two are one
    columns = np.cumsum(steps[:-1], dtype=np.int8).view(np.bool_).reshape(x1 - x0, height)
    rows = np.flatnonzero(columns.any(axis=0))
    y0, y1 = int(rows[0]), int(rows[-1]) + 1
    return columns[:, y0:y1].T, x0, y0


def run_lengths(counts: str) -> NDArray[np.int64]:
    """Run lengths int64 [runs] of COCO's compressed string, zeros first.

    Each number is groups of five bits, lowest first, plus 48: bit 5 says that another group follows, bit 4
    of the last group is the sign. From the fourth number on it is the difference from the number two before.
    """
    groups = np.frombuffer(counts.encode("ascii"), dtype=np.uint8).astype(np.int64) - 48
    if not len(groups):
        return groups
    last = (groups & 0x20) == 0
    if not last[-1]:
        raise ValueError("the RLE's counts end in the middle of a number")
    firsts = np.concatenate([[0], np.flatnonzero(last)[:-1] + 1])
    place = np.arange(len(groups)) - np.repeat(firsts, np.diff(np.append(firsts, len(groups))))
    values = np.add.reduceat((groups & 0x1F) << (5 * place), firsts)
    negative = (groups[last] & 0x10) != 0
    values -= np.where(negative, np.int64(1) << (5 * (place[last] + 1)), 0)
    values[1::2] = np.cumsum(values[1::2])
    values[2::2] = np.cumsum(values[2::2])
    return values
