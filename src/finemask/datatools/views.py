"""Images with their instances, ready to be drawn: as on disk, and as a model's transform makes them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from finemask.coco.index import CocoIndex
from finemask.data.augmentation import Draw, Scene, SceneAugmentation
from finemask.ops.colours import colours
from finemask.ops.drawing import draw_instances
from finemask.ops.layers import boxes_and_areas_from_layers
from finemask.ops.mask_runs import boxes_and_areas_from_runs, layers_from_runs
from finemask.ops.rle import crop_to_rle
from finemask.types import Target

_CROWD_GREY = 150
_STRIPE_PX = 6  # of crowd regions, on the drawn picture


class View(NamedTuple):
    """An image with its instances, ready to be drawn.

    Args:
        image: uint8 [H, W, 3], RGB.
        layers: uint8 [L, H, W], label maps; see ``finemask.ops.layers``.
        slots: int64 [N, 2].
        keys: N whole numbers; equal keys get equal colours.
        crowd: bool [H, W], regions that are not trained on; None: there are none.
    """

    image: NDArray[np.uint8]
    layers: NDArray[np.uint8]
    slots: NDArray[np.int64]
    keys: Sequence[int]
    crowd: NDArray[np.bool_] | None = None


def load_view(index: CocoIndex, row: int) -> View:
    """One image and everything that is annotated in it, crowd regions too; its keys are the labels.

    Raises:
        DataError: the image cannot be read or has another size than the annotations say.
    """
    instances = index.instances(row)
    targets = np.flatnonzero(~instances.iscrowd)
    masks = instances.runs(targets)
    filled = np.flatnonzero(boxes_and_areas_from_runs(masks)[1])
    layers, slots = layers_from_runs(masks.of(filled))
    crowd = np.zeros(index.size_hw(row), dtype=np.bool_)
    for k in np.flatnonzero(instances.iscrowd).tolist():
        crop, x0, y0 = instances.crop(k)
        crowd[y0 : y0 + crop.shape[0], x0 : x0 + crop.shape[1]] |= crop
    labels = instances.labels[targets[filled]].tolist()
    return View(index.read_image(row), layers, slots, labels, crowd if crowd.any() else None)


def view_of_tensors(
    pixels: Tensor,
    target: Target,
    *,
    mean: Sequence[float],
    std: Sequence[float],
    keys: Sequence[int],
) -> View:
    """What a model gets, turned back into a picture.

    Args:
        pixels: float [3, H, W], normalised, without padding.
        target: resized likewise, on the CPU.
        mean: of the normalisation, per channel on the 0..1 scale.
        std: likewise.
        keys: see ``View``.
    """
    scale, shift = (torch.tensor(list(values), dtype=torch.float32)[:, None, None] for values in (std, mean))
    image = ((pixels.float() * scale + shift) * 255).round().clamp(0, 255).to(torch.uint8)
    return View(image.permute(1, 2, 0).numpy(), target["layers"].numpy(), target["slots"].numpy(), keys)


def draw_view(view: View, size_wh: tuple[int, int]) -> Image.Image:
    """Draws a view as large as it fits into a cell.

    The picture is brought to its size first and drawn on then, so that lines are as thick in one cell as in another.

    Args:
        view: of any size.
        size_wh: of the cell, px.

    Returns:
        An RGB picture with the view's proportions, at most ``size_wh``.
    """
    height, width = view.image.shape[:2]
    factor = min(size_wh[0] / width, size_wh[1] / height)
    fitted = (max(1, round(width * factor)), max(1, round(height * factor)))
    smooth = Image.Resampling.LANCZOS if factor < 1 else Image.Resampling.BICUBIC
    image = np.array(Image.fromarray(view.image).resize(fitted, smooth))
    layers = np.stack(
        [np.asarray(Image.fromarray(layer).resize(fitted, Image.Resampling.NEAREST)) for layer in view.layers]
    )
    if view.crowd is not None:
        crowd = np.asarray(Image.fromarray(view.crowd).resize(fitted, Image.Resampling.NEAREST))
        _stripe(image, crowd)
    boxes, areas = boxes_and_areas_from_layers(layers, view.slots)
    shown: list[int] = np.flatnonzero(areas > 0).tolist()
    rles = []
    for row in shown:
        x0, y0, x1, y1 = map(int, boxes[row])
        layer, value = map(int, view.slots[row])
        rles.append(crop_to_rle(layers[layer, y0:y1, x0:x1] == value, x0, y0, *image.shape[:2]))
    drawn = draw_instances(
        image,
        rles=rles,
        boxes_xyxy=boxes[shown],
        captions=[""] * len(shown),
        palette=colours(view.keys[row] for row in shown),
    )
    return drawn if drawn.size == fitted else drawn.resize(fitted, Image.Resampling.LANCZOS)


def _stripe(image: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """Grey stripes over a region, in place."""
    diagonal = np.arange(mask.shape[0])[:, None] + np.arange(mask.shape[1])
    striped = mask & (diagonal // _STRIPE_PX % 2 == 0)
    image[striped] = (image[striped] * 0.35 + _CROWD_GREY * 0.65).astype(np.uint8)


class Tracing:
    """An augmentation that hands out tags in the place of labels.

    Instances keep their label through any augmentation, whatever else becomes of them. So each instance is given a
    number of its own for a label while it is augmented: the targets that a dataset makes say by their labels which
    instances they are. Tags of the image itself are 1..N in the order of the dataset; instances that come from other
    images follow.

    Args:
        augment: what is traced.

    Attributes:
        labels: true label of each tag, tag 1 first; of the latest scene.
        num_own: how many of these tags belong to the image itself.
    """

    def __init__(self, augment: SceneAugmentation) -> None:
        self._augment = augment
        self.labels: list[int] = []
        self.num_own = 0

    def augment_scene(self, scene: Scene, draw: Draw, rng: np.random.Generator) -> Scene:
        """See ``SceneAugmentation``; labels of the result are tags."""
        self.labels = []
        tagged = self._tagged(scene)
        self.num_own = len(self.labels)
        return self._augment.augment_scene(tagged, lambda other: self._tagged(draw(other)), rng)

    def _tagged(self, scene: Scene) -> Scene:
        first = len(self.labels) + 1
        self.labels.extend(scene.labels.tolist())
        return scene._replace(labels=np.arange(first, len(self.labels) + 1, dtype=scene.labels.dtype))
