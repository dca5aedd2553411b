"""TorchScript: one file from a uint8 image of any size to detections in its pixels, for programs that still load it.

torch has deprecated TorchScript; what it compiles here is torchvision's own model, the one that it was made for.
"""

import io
import json
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.image_list import ImageList

from finemask.export.torchvision_file import build_torchvision, check_torchvision
from finemask.inference.exported_model import ExportedModel
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import HEADER_KEY
from finemask.model_header import ModelHeader, header_to_json
from finemask.ops.files.atomic_files import atomic_path


class ScriptableMaskRCNN(nn.Module):
    """torchvision's Mask R-CNN of one image, with the outputs of all of finemask's exported files.

    Resizing is written out: in TorchScript, torchvision rounds it in single precision, and a few sizes of image come
    out a pixel smaller than in training.

    Args:
        model: torchvision's, in evaluation mode.
    """

    def __init__(self, model: TorchvisionMaskRCNN) -> None:
        super().__init__()
        self.transform: Any = model.transform
        self.backbone, self.rpn, self.roi_heads = model.backbone, model.rpn, model.roi_heads
        self.min_size = float(model.transform.min_size[-1])
        self.max_size = float(model.transform.max_size)
        self.own_thresh = float(model.roi_heads.score_thresh)

    def forward(self, image: Tensor, score_thresh: float | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Detections in an image, best first.

        Args:
            image: uint8 [H, W, 3], RGB.
            score_thresh: a detection scores more than this; the model's own by default.

        Returns:
            Boxes [N, 4], xyxy px of the image; labels int64 [N]; scores [N]; mask probabilities [N, M, M].
        """
        self.roi_heads.score_thresh = self.own_thresh if score_thresh is None else score_thresh
        height, width = image.shape[0], image.shape[1]
        scale = min(self.min_size / min(height, width), self.max_size / max(height, width))
        size = (max(1, math.floor(height * scale)), max(1, math.floor(width * scale)))
        pixels = self.transform.normalize(image.permute(2, 0, 1).to(torch.float32) / 255.0)
        resized = interpolate(pixels[None], size=[size[0], size[1]], mode="bilinear", align_corners=False)
        images = ImageList(self.transform.batch_images([resized[0]], 32), [size])
        features = self.backbone(images.tensors)
        proposals, _ = self.rpn(images, features, None)
        found, _ = self.roi_heads(features, proposals, images.image_sizes, None)
        ratios = torch.tensor([width / size[1], height / size[0], width / size[1], height / size[0]])
        boxes = found[0]["boxes"] * ratios.to(found[0]["boxes"])
        return boxes, found[0]["labels"], found[0]["scores"], found[0]["masks"][:, 0]


def write_torchscript(model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes a model as ``torch.jit.save`` does; the extra file ``finemask`` is the header of the model file, as JSON.

    Args:
        model: in evaluation mode.
        header: of its model file.
        path: of the file to write.

    Raises:
        ConfigError: a part that torchvision does not have.
    """
    check_torchvision(model)
    text = json.dumps(header_to_json(header), allow_nan=False, ensure_ascii=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is deprecated: who asks for it knows, and the page says it
        whole = ScriptableMaskRCNN(build_torchvision(model, header)).eval().requires_grad_(False)
        scripted = torch.jit.script(whole)
        with atomic_path(path) as temporary:
            torch.jit.save(scripted, temporary, _extra_files={HEADER_KEY: text})


class TorchScriptModel(ExportedModel):
    """A file that ``write_torchscript`` has just written, in the place of the model.

    Args:
        path: of the file.
        header: of the model file it was made of.
    """

    def __init__(self, path: Path, header: ModelHeader) -> None:
        super().__init__(header)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._script = torch.jit.load(io.BytesIO(path.read_bytes()), map_location="cpu")

    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See ``ExportedModel``."""
        with torch.inference_mode():
            found = self._script(torch.tensor(image), self.score_thresh)
        return [part.numpy() for part in found]
