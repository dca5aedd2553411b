"""Ground truth of a batch in tensors of one size, whatever the images hold."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from finemask.model.devices.gpu.crossing import pad_rows, send
from finemask.types import Target

_FEWEST = 8  # places for instances; from there on they double, so that sizes are few


@dataclass(frozen=True)
class Truths:
    """Ground truth of B images with G places for instances each, in pixels of the resized images.

    Label maps stay at the size in which they came: whoever reads them knows which pixel nearest-neighbour resizing
    would have taken.
    """

    boxes: Tensor  # float32 [B, G, 4], xyxy px; zeros where there is no instance
    labels: Tensor  # int64 [B, G], 1..K
    slots: Tensor  # int64 [B, G, 2]: layer number, value in that layer
    valid: Tensor  # bool [B, G]
    counts: list[int]  # instances of each image
    layers: Tensor  # uint8, the label maps of all images one after another
    starts: list[int]  # where each image's maps begin there
    sizes: list[tuple[int, int]]  # H, W of each image's maps
    resized: list[tuple[int, int]]  # H, W of each image as the model sees it

    @property
    def places(self) -> int:
        """G."""
        return self.valid.shape[1]


def truths_of(targets: Sequence[Target], resized: list[tuple[int, int]]) -> Truths:
    """Targets as the data hold them, to the sizes at which the model sees their images.

    Args:
        targets: of each image, on the device that is computed on.
        resized: height and width of each resized image, px.
    """
    device = targets[0]["boxes"].device
    counts = [len(target["boxes"]) for target in targets]
    places = max(_FEWEST, 2 ** (max(counts) - 1).bit_length() if max(counts) else 0)
    sizes = [(target["layers"].shape[-2], target["layers"].shape[-1]) for target in targets]
    old, new = np.array(sizes, dtype=np.float32), np.array(resized, dtype=np.float32)
    ratio = (new / old)[:, None, [1, 0, 1, 0]]
    columns = ([target[name] for target in targets] for name in ("boxes", "labels", "slots"))
    (boxes, labels, slots), valid = pad_rows(*columns, places=places)
    return Truths(
        boxes=boxes.float() * send(ratio, device),
        labels=labels,
        slots=slots,
        valid=valid,
        counts=counts,
        layers=torch.cat([target["layers"].flatten() for target in targets]),
        starts=np.cumsum([0, *(target["layers"].numel() for target in targets)])[:-1].tolist(),
        sizes=sizes,
        resized=list(resized),
    )
