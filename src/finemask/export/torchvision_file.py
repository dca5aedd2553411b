"""torchvision: the plain weights, a Python file that loads them with torchvision alone, and both as one model."""

import runpy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.models.detection import MaskRCNN as TorchvisionMaskRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads
from torchvision.models.detection.transform import resize_boxes

from finemask.errors import ConfigError
from finemask.export.torchvision_source import BACKBONES, backbone_target, torchvision_source
from finemask.inference.exported_model import ExportedModel
from finemask.model.box_predictor.linear import LinearBoxPredictor
from finemask.model.mask_predictor.fcn import FCNMaskPredictor
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.rpn import RowsRegionProposalNetwork
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.ops.files.atomic_files import atomic_path, python_beside, write_text

# A loss may have weights as well, and torchvision's have none.
_HEADS = ("box_head", "box_predictor", "mask_head", "mask_predictor")
_PREDICTING = ("backbone.", "rpn.head.", *(f"roi_heads.{part}." for part in _HEADS))


def check_torchvision(model: MaskRCNN) -> None:
    """Says what torchvision has no part for, before any work is done.

    Args:
        model: as ``build_model`` makes it.

    Raises:
        ConfigError: a part that torchvision does not have.
    """
    heads, rpn = model.roi_heads, model.rpn
    backbone = backbone_target(model).rpartition(".")[2] or type(model.backbone).__name__
    is_theirs = {
        f"{backbone} (model.backbone)": backbone_target(model) in BACKBONES,
        _named(rpn, "rpn"): type(rpn) is RowsRegionProposalNetwork and type(rpn.anchor_generator) is AnchorGenerator,
        _named(heads.box_head, "box_head"): type(heads.box_head) in (TwoMLPHead, FastRCNNConvFCHead),
        _named(heads.box_predictor, "box_predictor"): type(heads.box_predictor) is LinearBoxPredictor,
        _named(heads.mask_head, "mask_head"): type(heads.mask_head) is MaskRCNNHeads,
        _named(heads.mask_predictor, "mask_predictor"): type(heads.mask_predictor) is FCNMaskPredictor,
        _named(heads.suppression, "suppression"): type(heads.suppression) is NMS,
        "contrast equalisation (model.clahe)": not model.preprocessing.clahe,
    }
    if foreign := [part for part, fits in is_theirs.items() if not fits]:
        raise ConfigError(
            f"torchvision has no part for {', '.join(foreign)}, so that its own classes cannot hold these weights",
            remedy="format=onnx takes most models. torchvision's parts are the backbones resnet* and mobilenet_*, "
            "box_predictor=linear, mask_predictor=fcn and suppression=nms.",
        )


def _named(part: object, key: str) -> str:
    return f"{type(part).__name__} (model.{key})"


def write_torchvision(model: MaskRCNN, header: ModelHeader, path: Path) -> None:
    """Writes the weights as torchvision names them, and beside them ``NAME_torchvision.py``, which loads them.

    Args:
        model: in evaluation mode.
        header: of its model file.
        path: of the file to write; ``torch.load(path, weights_only=True)`` reads it.

    Raises:
        ConfigError: see ``check_torchvision``.
    """
    check_torchvision(model)
    state = model.state_dict()
    weights = {name: tensor.cpu().contiguous() for name, tensor in state.items() if name.startswith(_PREDICTING)}
    with atomic_path(path) as temporary:
        torch.save(weights, temporary)
    write_text(python_beside(path, "torchvision"), torchvision_source(model, header, path))


def build_torchvision(model: MaskRCNN, header: ModelHeader) -> TorchvisionMaskRCNN:
    """The same model of torchvision's parts, in evaluation mode, by the very file that is written for others.

    Args:
        model: see ``check_torchvision``.
        header: of its model file.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.pth"
        write_torchvision(model, header, path)
        return _run_source(path)


def _run_source(path: Path) -> TorchvisionMaskRCNN:
    """The model that the Python file beside weights loads, both just written; the file is run."""
    model: TorchvisionMaskRCNN = runpy.run_path(str(python_beside(path, "torchvision")))["load"]()
    return model


class TorchvisionModel(ExportedModel):
    """torchvision's model in the place of ours, its masks as the head gives them.

    Args:
        model: in evaluation mode.
        header: of the model file it was made of.
    """

    def __init__(self, model: TorchvisionMaskRCNN, header: ModelHeader) -> None:
        super().__init__(header)
        self.model = model
        self._own_thresh = model.roi_heads.score_thresh
        model.transform.postprocess = _without_pasting  # of masks, which takes longer than the rest

    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See ``ExportedModel``."""
        self.model.roi_heads.score_thresh = self._own_thresh if self.score_thresh is None else self.score_thresh
        with torch.inference_mode():
            (found,) = self.model([torch.tensor(image).permute(2, 0, 1) / 255])
        return [found[name].numpy() for name in ("boxes", "labels", "scores")] + [found["masks"][:, 0].numpy()]


def open_torchvision(path: Path, header: ModelHeader) -> TorchvisionModel:
    """What ``write_torchvision`` has just written, loaded as its Python file loads it."""
    return TorchvisionModel(_run_source(path), header)


def _without_pasting(
    found: list[dict[str, Tensor]], sizes: list[tuple[int, int]], originals: list[tuple[int, int]]
) -> list[dict[str, Tensor]]:
    return [
        of_image | {"boxes": resize_boxes(of_image["boxes"], size, original)}
        for of_image, size, original in zip(found, sizes, originals, strict=True)
    ]
