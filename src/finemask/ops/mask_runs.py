"""All masks of an image as runs, and label maps painted from them at once.

A mask of 10,000 pixels is a hundred runs, and the runs of all instances of an image fit in one array: boxes, areas,
collisions and label maps come out of a few calls of numpy, however many instances there are. Runs are column-major,
as COCO counts them.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.ops.layers import MAX_VALUE
from finemask.ops.rle import counted_numbers

_PAIRS_AT_ONCE = 2**21  # bounds the memory for looking at runs that overlap


class MaskRuns(NamedTuple):
    """The pixels of N masks of one image, as S runs that go down its columns.

    A pixel's position is ``x * H + y``. Runs of one mask are in ascending order, do not overlap, and are not empty;
    one that reaches the lower edge may go on at the top of the next column.
    """

    owners: NDArray[np.int64]  # [S], the mask of each run, ascending
    starts: NDArray[np.int64]  # [S], position of the first pixel
    stops: NDArray[np.int64]  # [S], position after the last
    num_masks: int
    size_hw: tuple[int, int]

    def of(self, filled: NDArray[np.int64]) -> "MaskRuns":
        """The same with the masks that have no pixels left out.

        Args:
            filled: int64 [M], those that have some, ascending.
        """
        if len(filled) == self.num_masks:
            return self
        return self._replace(owners=np.searchsorted(filled, self.owners), num_masks=len(filled))


def decode_runs(
    counts: Sequence[bytes], windows_xyxy: NDArray[np.int64] | NDArray[np.int32], size_hw: tuple[int, int]
) -> MaskRuns:
    """Decodes COCO's compressed counts of many masks in one go.

    Args:
        counts: of N masks, each of its window; empty for a mask without pixels.
        windows_xyxy: int [N, 4], px, inside the image.
        size_hw: of the image, px.
    """
    numbers, first = counted_numbers(counts)
    pairs = (first[1:] - first[:-1]) // 2  # zeros and ones take turns; zeros at the end do not matter
    masks = pairs.nonzero()[0]
    pairs = pairs[masks]
    begin = pairs.cumsum() - pairs  # of each mask that has ones
    second = (first[masks] + 1 - 2 * begin).repeat(pairs) + 2 * np.arange(pairs.sum())
    # from a mask's fourth number on, each is the difference from the number two before
    changes = np.stack([numbers[second - 1], numbers[second]])
    first_gaps = changes[0, begin]
    changes[0, begin] = 0
    gaps, lengths = _sums_within(changes, begin, pairs)
    gaps[begin] = first_gaps
    starts = _sums_within(gaps + lengths, begin, pairs) - lengths
    owners = masks.repeat(pairs)
    if (lengths == 0).any():
        filled = lengths.nonzero()[0]
        owners, starts, lengths = owners[filled], starts[filled], lengths[filled]
    height = size_hw[0]
    x0, y0, _, y1 = windows_xyxy.astype(np.int64).T
    if y0.any() or (y1 != height).any():
        columns, rows = np.divmod(
            starts, (y1 - y0)[owners]
        )  # only runs in windows of the image's height change columns
        starts = columns * height + rows
    starts += (x0 * height + y0)[owners]
    return MaskRuns(owners, starts, starts + lengths, len(counts), size_hw)


def interleaved(some: MaskRuns, others: MaskRuns, of_some: NDArray[np.bool_]) -> MaskRuns:
    """Two groups of masks of one image as one.

    Args:
        some: M masks.
        others: N - M masks.
        of_some: bool [N], which places those of ``some`` take; each group keeps its order.
    """
    owners = np.concatenate([of_some.nonzero()[0][some.owners], (~of_some).nonzero()[0][others.owners]])
    order = owners.argsort(kind="stable")
    starts, stops = (np.concatenate(pair)[order] for pair in ((some.starts, others.starts), (some.stops, others.stops)))
    return MaskRuns(owners[order], starts, stops, len(of_some), some.size_hw)


def counts_fit(counts: Sequence[bytes], pixels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether each mask's compressed counts are whole, not negative, and add up to its pixels.

    Args:
        counts: of N masks.
        pixels: int64 [N], height times width of each.

    Returns:
        bool [N]. All are False if the characters of any cannot be counts, which spoils what stands beside it.
    """
    joined = np.frombuffer(b"".join(counts), dtype=np.uint8) - np.uint8(48)  # wraps where it is too small
    ends = np.cumsum([len(of_mask) for of_mask in counts])
    if (joined > 63).any() or not all(counts) or (joined[ends - 1] >= 32).any():
        return np.zeros(len(counts), dtype=np.bool_)
    numbers, edges = counted_numbers(counts)
    first, sizes = edges[:-1], np.diff(edges)
    totals = numbers[first]  # the first stands for itself, each later one for the difference from the one two before
    fits = totals >= 0
    numbers[first] = 0
    left = edges[1:].repeat(sizes) - np.arange(1, len(numbers) + 1)  # how many of the mask come after each
    for chain in (0, 1):
        runs = np.where((left & 1) == chain, numbers, 0).cumsum()
        fits &= np.minimum.reduceat(runs, first) >= runs[first]
    totals += np.add.reduceat(numbers * ((left >> 1) + 1), first)  # it is in itself and in every second one after it
    return np.asarray(fits & (totals == pixels))


def boxes_and_areas_from_runs(masks: MaskRuns) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Boxes and areas of N masks; zeros for one without pixels.

    Returns:
        float32 [N, 4], xyxy px, where x2 and y2 are one past the last pixel; int64 [N], px.
    """
    height = masks.size_hw[0]
    boxes = np.zeros((masks.num_masks, 4), dtype=np.float32)
    areas = np.zeros(masks.num_masks, dtype=np.int64)
    if not len(masks.owners):
        return boxes, areas
    changes = (masks.owners[1:] != masks.owners[:-1]).nonzero()[0]
    firsts = np.concatenate([[0], changes + 1])
    lasts = np.concatenate([changes, [len(masks.owners) - 1]])
    x = masks.starts // height
    top, bottom = masks.starts - x * height, masks.stops - x * height
    turns = bottom > height  # it goes on in the next column, so it touches both edges
    x2 = (masks.stops[lasts] - 1) // height + 1
    y1 = np.minimum.reduceat(np.where(turns, 0, top), firsts)
    y2 = np.maximum.reduceat(np.minimum(bottom, height), firsts)
    owners = masks.owners[firsts]
    for side, values in enumerate((x[firsts], y1, x2, y2)):
        boxes[owners, side] = values
    areas[owners] = np.add.reduceat(masks.stops - masks.starts, firsts)
    return boxes, areas


def layers_from_runs(masks: MaskRuns) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Label maps as ``LayerPainter`` paints them: each mask, in turn, in the first layer that has room for it.

    Returns:
        ``layers`` uint8 [L, H, W], L at least 1, and ``slots`` int64 [N, 2].
    """
    height, width = masks.size_hw
    order = np.argsort(masks.starts, kind="stable")
    sorted_masks = masks._replace(owners=masks.owners[order], starts=masks.starts[order], stops=masks.stops[order])
    slots, number = _assign(_collisions(sorted_masks), masks.num_masks)
    starts, stops, values = sorted_masks.starts, sorted_masks.stops, slots[:, 1].astype(np.uint8)[sorted_masks.owners]
    if number > 1:  # one layer after another
        shift = (slots[:, 0] * (height * width))[sorted_masks.owners]
        starts, stops = starts + shift, stops + shift
        by_layer = starts.argsort(kind="stable")
        starts, stops, values = starts[by_layer], stops[by_layer], values[by_layer]
    layers = np.empty((number, height, width), dtype=np.uint8)
    edges = np.empty(2 * len(starts) + 1, dtype=np.int64)
    edges[:-1:2], edges[1::2], edges[-1] = starts, stops, layers.size
    edges[1:] -= edges[:-1].copy()
    painted = np.zeros(len(edges), dtype=np.uint8)  # nothing between runs
    painted[1::2] = values
    columns = painted.repeat(edges).reshape(number, width, height)
    for down_the_columns, pixels in zip(columns, layers, strict=True):
        cv2.transpose(down_the_columns, pixels)
    return layers, slots


def _sums_within(values: NDArray[np.int64], begin: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Running sums int64 [..., S] that start anew where each group begins."""
    sums = values.cumsum(axis=-1)
    return np.asarray(sums - (sums[..., begin] - values[..., begin]).repeat(sizes, axis=-1))


def _collisions(masks: MaskRuns) -> dict[int, list[int]]:
    """For each mask that shares a pixel with earlier ones, those; runs must be sorted by where they start."""
    found: dict[int, list[int]] = {}
    rows = (masks.starts[1:] < masks.stops[:-1]).nonzero()[0]  # whatever collides with a later run does with the next
    if not rows.size:
        return found
    number = masks.starts.searchsorted(masks.stops[rows]) - rows - 1  # of later runs that begin inside each
    keys = [_pairs(masks, rows[part], number[part]) for part in _parts(number)]
    for key in (keys[0] if len(keys) == 1 else np.unique(np.concatenate(keys))).tolist():
        later, earlier = divmod(key, masks.num_masks)
        found.setdefault(later, []).append(earlier)
    return found


def _pairs(masks: MaskRuns, rows: NDArray[np.int64], number: NDArray[np.int64]) -> NDArray[np.int64]:
    """Pairs of masks that collide in some of the runs, each once: ``later * N + earlier``."""
    one = masks.owners[rows].repeat(number)
    begin = number.cumsum() - number
    other = masks.owners[np.arange(1, len(one) + 1) + (rows - begin).repeat(number)]
    return np.unique(np.maximum(one, other) * masks.num_masks + np.minimum(one, other))


def _parts(number: NDArray[np.int64]) -> Iterator[slice]:
    """Slices of the runs that have so many pairs together; at least one run each."""
    total = number.cumsum()
    row = 0
    while row < len(number):
        done = total[row] - number[row]
        end = max(row + 1, int(total.searchsorted(done + _PAIRS_AT_ONCE, side="right")))
        yield slice(row, end)
        row = end


def _assign(collisions: dict[int, list[int]], num_masks: int) -> tuple[NDArray[np.int64], int]:
    """Slots int64 [N, 2] and the number of layers, at least 1."""
    homes: list[int] = []
    values: list[int] = []
    used = [0]
    for mask in range(num_masks):
        taken = {homes[other] for other in collisions.get(mask, ())}
        home = 0
        while home in taken or (home < len(used) and used[home] == MAX_VALUE):
            home += 1
        if home == len(used):
            used.append(0)
        used[home] += 1
        homes.append(home)
        values.append(used[home])
    return np.array([homes, values], dtype=np.int64).reshape(2, -1).T.copy(), len(used)
