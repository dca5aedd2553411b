"""Mask refinement: a watershed on Sobel's gradient moves outlines to the edges of the picture."""

import math

import cv2
import numpy as np
from numpy.typing import NDArray

from finemask.ops.rle import crop_to_rle, rle_to_crop
from finemask.types import Rle

_SMALLEST_BAND_PX = 2
_STEP = 4 * 255.0  # what Sobel's operator answers to a step from black to white
_INSIDE, _OUTSIDE = 0, 1  # nodes that stand for all pixels whose side is certain


def refine_mask(image: NDArray[np.uint8], rle: Rle, band: float = 0.1, inertia: float = 0.04) -> Rle:
    """The mask with its outline moved to the picture's edges nearby.

    After Zhang, Wu, Fan, Gao and Shao 2020 (Sensors 20(5), 1465), who extract buildings with Mask R-CNN fused with
    Sobel: the network says where an object is, Sobel's edges say where it ends. How they fuse the two is not known
    to us in detail; this is our reconstruction, a watershed. The mask's innermost pixels and the ring around it are
    certain; the band between them goes to whichever of the two floods it first on the magnitude of Sobel's gradient.
    It is computed as a minimum spanning forest (Cousty et al. 2009, "Watershed Cuts"), in the mask's own window.

    Args:
        image: uint8 [H, W, 3], RGB.
        rle: of the image's size.
        band: half the width of the band, as a share of the square root of the mask's area; at least 2 px.
        inertia: how much higher than at the mask's own outline the gradient must be for the outline to move, as a share
            of a step from black to white.

    Returns:
        The mask moved; as it was where the picture has no such edges, or if it is nowhere more than 2 px deep.
    """
    height, width = rle["size"]
    crop, x0, y0 = rle_to_crop(rle)
    if not crop.size:
        return rle
    reach = max(_SMALLEST_BAND_PX, round(band * math.sqrt(float(crop.sum()))))
    margin = reach + 2  # of the mask's surroundings
    top, left = max(y0 - margin, 0), max(x0 - margin, 0)
    bottom, right = min(y0 + crop.shape[0] + margin, height), min(x0 + crop.shape[1] + margin, width)
    mask = np.zeros((bottom - top, right - left), dtype=np.bool_)
    mask[y0 - top : y0 - top + crop.shape[0], x0 - left : x0 - left + crop.shape[1]] = crop
    if mask.all() or _distance(mask).max() <= _SMALLEST_BAND_PX:
        return rle  # nothing around it, or thinner than what Sobel's operator can tell apart
    moved = flood(_gradient(image[top:bottom, left:right]), _seeds(mask, reach), mask, inertia)
    return crop_to_rle(moved, left, top, height, width)


def _seeds(mask: NDArray[np.bool_], reach: int) -> NDArray[np.int8]:
    """What is certain, int8 [h, w]: 0 unknown, 1 inside, 2 outside.

    A part of the mask, or a hole in it, that is thinner than the band keeps its innermost pixels.
    """
    seeds = np.zeros(mask.shape, dtype=np.int8)
    for side, value in ((mask, _INSIDE + 1), (~mask, _OUTSIDE + 1)):
        depth = _distance(side)
        number, parts = cv2.connectedComponents(side.astype(np.uint8), connectivity=4)
        deepest = np.zeros(number, dtype=np.float32)
        np.maximum.at(deepest, parts.ravel().astype(np.intp), depth.ravel())
        seeds[side & (depth > np.minimum(reach, 0.5 * deepest)[parts])] = value
    return seeds


def _distance(side: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Px to the nearest pixel that is not on this side, float32 [h, w]; the window's edge is not an outline."""
    if side.all():
        return np.full(side.shape, np.inf, dtype=np.float32)
    return np.asarray(cv2.distanceTransform(side.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE))


def _gradient(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Magnitude of Sobel's gradient, the largest of the three channels; 1 is a step from black to white."""
    pixels = image.astype(np.float32)
    across, down = (cv2.Sobel(pixels, cv2.CV_32F, *order, ksize=3, scale=1 / _STEP) for order in ((1, 0), (0, 1)))
    return np.asarray(np.hypot(across, down).max(axis=2), dtype=np.float32)


def flood(
    relief: NDArray[np.float32], seeds: NDArray[np.int8], mask: NDArray[np.bool_], inertia: float
) -> NDArray[np.bool_]:
    """The watershed between inside and outside.

    Args:
        relief: [h, w], height of each pixel, 0 and more.
        seeds: [h, w]: 0 unknown, 1 inside, 2 outside; both must be there.
        mask: [h, w]; its outline is a wall.
        inertia: height of that wall.

    Returns:
        bool [h, w]: True where the lowest way to what is inside is no higher than that to what is outside.
    """
    from scipy.sparse import coo_matrix
    from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

    unknown = seeds == 0
    node = np.where(seeds == _INSIDE + 1, _INSIDE, _OUTSIDE)
    node[unknown] = np.arange(2, 2 + int(unknown.sum()))
    pairs, weights = [], []
    for one, other in ((np.s_[:, :-1], np.s_[:, 1:]), (np.s_[:-1], np.s_[1:])):
        ends = np.stack([node[one].ravel(), node[other].ravel()])
        # Between two pixels, the mean: a step's gradient is at both pixels beside it, and its crest between them.
        height = (relief[one] + relief[other]).ravel() / 2 + inertia * (mask[one] != mask[other]).ravel()
        uncertain = ends.max(axis=0) >= 2
        pairs.append(ends[:, uncertain])
        weights.append(height[uncertain])
    ends, height = np.concatenate(pairs, axis=1), np.concatenate(weights)
    ends.sort(axis=0)
    order = np.argsort(height, kind="stable")
    size = 2 + int(unknown.sum())
    # A pixel of the band may touch what is certain at several places: the lowest way counts.
    keys, first = np.unique((ends[0] * size + ends[1])[order], return_index=True)
    rows, columns = np.divmod(keys, size)
    # No weight may be 0, which would mean no edge; the two certain ones are joined first, and parted in the end.
    lowest = 1.0 + height[order][first].astype(np.float64)
    graph = coo_matrix(
        (np.append(lowest, 0.5), (np.append(rows, _INSIDE), np.append(columns, _OUTSIDE))), shape=(size, size)
    )
    forest = minimum_spanning_tree(graph.tocsr()).tocoo()
    kept = forest.data >= 1.0
    parted = coo_matrix((forest.data[kept], (forest.row[kept], forest.col[kept])), shape=(size, size))
    _, sides = connected_components(parted.tocsr(), directed=False)
    return np.asarray((sides == sides[_INSIDE])[node])
