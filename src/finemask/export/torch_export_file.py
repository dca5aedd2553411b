"""torch.export: one file (.pt2) from a uint8 image of any size to detections in its pixels, for torch without finemask.

``torch.export.load`` evaluates text and may unpickle what is in a file. So finemask opens such a file only where it has
just written it; whoever trusts one loads it with torch.
"""

import copy
import json
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate, pad

from finemask.errors import FinemaskError
from finemask.export.onnx_file import first_line, quietly
from finemask.export.plain_model import PlainMaskRCNN, check_exportable
from finemask.inference.exported_model import ExportedModel
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json
from finemask.ops.files.atomic_files import atomic_path

_EXAMPLE_HW = (150, 210)  # of the image that it is traced with: two sides that differ
_LARGEST_SIDE = 2**16
_STRIDE = 32  # what padded sides are multiples of, as in ImageTransform


class WholeMaskRCNN(nn.Module):
    """Mask R-CNN of one image, with everything that is done to it before and to the boxes after.

    Args:
        model: in evaluation mode on the CPU; its parameters are used as they are.
    """

    def __init__(self, model: MaskRCNN) -> None:
        super().__init__()
        self.plain = PlainMaskRCNN(model)
        preprocessing = model.preprocessing
        self.min_size, self.max_size = preprocessing.min_size[-1], preprocessing.max_size
        self.register_buffer("mean", 255.0 * torch.tensor(preprocessing.image_mean))
        self.register_buffer("scale", 1.0 / (255.0 * torch.tensor(preprocessing.image_std)))

    def forward(self, image: Tensor, score_thresh: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detections in an image, best first.

        Args:
            image: uint8 [H, W, 3], RGB.
            score_thresh: float32 [], a detection scores more than this.

        Returns:
            Boxes [N, 4], xyxy px of the image; labels int64 [N]; scores [N]; mask probabilities [N, M, M].
        """
        assert isinstance(self.mean, Tensor)
        assert isinstance(self.scale, Tensor)
        sides: tuple[Any, Any] = (image.shape[0], image.shape[1])  # while it is traced, symbols
        scale = torch.sym_min(self.min_size / torch.sym_min(*sides), self.max_size / torch.sym_max(*sides))
        size: list[Any] = [torch.sym_max(1, torch.sym_int(side * scale)) for side in sides]
        size_hw = torch.stack([torch.scalar_tensor(side, dtype=torch.int64) for side in size])
        # Read off a tensor, the padded sides are numbers that nothing is known of, instead of long formulas.
        rows, columns = ((size_hw + _STRIDE - 1) // _STRIDE).tolist()
        for strides in (rows, columns):
            torch._check(strides >= 1)
            torch._check(strides <= _LARGEST_SIDE // _STRIDE)
        pixels = ((image.float() - self.mean) * self.scale).permute(2, 0, 1)[None]
        resized = interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        batch = pad(resized, (0, _STRIDE * columns - size[1], 0, _STRIDE * rows - size[0]))
        boxes, labels, scores, masks = self.plain(batch, size_hw, score_thresh)
        limits = torch.stack([torch.scalar_tensor(side, dtype=torch.float32) for side in sides]).flip(0).repeat(2)
        ratios = limits / size_hw.flip(0).repeat(2)
        return (boxes * ratios).clamp(min=0).minimum(limits), labels, scores, masks


def write_torch_export(model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes a model as ``torch.export.save`` does.

    The program takes ``image``, uint8 [H, W, 3] RGB of any size, and ``score_thresh``, float32 []; it gives ``boxes``
    float32 [N, 4], xyxy px of that image, ``labels`` int64 [N], ``scores`` float32 [N], best first, and ``masks``
    float32 [N, M, M], the probabilities inside each box. The extra file ``finemask`` is the header of the model file,
    as JSON.

    Args:
        model: in evaluation mode on the CPU.
        header: of its model file.
        path: of the file to write.

    Raises:
        ConfigError: a part of the model cannot be exported.
        FinemaskError: torch gave up.
    """
    check_exportable(model)
    whole = WholeMaskRCNN(copy.deepcopy(model).requires_grad_(False)).eval()  # answers are not to be trained through
    image = torch.zeros(*_EXAMPLE_HW, 3, dtype=torch.uint8)
    sides = {axis: torch.export.Dim(name, min=1, max=_LARGEST_SIDE) for axis, name in enumerate(("height", "width"))}
    text = json.dumps(header_to_json(header), allow_nan=False, ensure_ascii=False)
    try:
        with torch.no_grad(), quietly(), _any_number_kept():
            program = torch.export.export(
                whole, (image, torch.tensor(model.roi_heads.score_thresh)), dynamic_shapes=(sides, {}), strict=False
            )
            with atomic_path(path) as temporary:
                torch.export.save(program, temporary, extra_files={HEADER_KEY: text})
    except Exception as error:  # whatever a part does when it is traced: torch's errors have no common parent
        raise FinemaskError(
            f"torch.export cannot follow this model ({type(error).__name__}: {first_line(error)})",
            remedy="Parts of your own must be made of torch's operators, without branches on values.",
        ) from error


@contextmanager
def _any_number_kept() -> Iterator[None]:
    """NMS, as it is traced, keeps any number of boxes; torchvision says two at least, and asserts it in the program."""

    def kept(boxes: Tensor, scores: Tensor, iou_threshold: float) -> Tensor:
        return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)

    library = torch.library.Library("torchvision", "FRAGMENT")
    try:
        torch.library.register_fake("torchvision::nms", kept, lib=library, allow_override=True)
        yield
    finally:
        library._destroy()


class TorchExportModel(ExportedModel):
    """A file that ``write_torch_export`` has just written, in the place of the model.

    Args:
        path: of the file.
        header: of the model file it was made of.
    """

    def __init__(self, path: Path, header: ModelHeader) -> None:
        super().__init__(header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._program = torch.export.load(path).module()
        self._own_thresh = float(header.model["roi_heads"]["score_thresh"])

    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See ``ExportedModel``."""
        thresh = self._own_thresh if self.score_thresh is None else self.score_thresh
        with torch.inference_mode():
            found = self._program(torch.tensor(image), torch.tensor(thresh))
        return [part.numpy() for part in found]
