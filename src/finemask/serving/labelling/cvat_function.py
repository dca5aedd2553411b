"""A function for CVAT's ``cvat-cli task auto-annotate`` and its agents: a model labels the frames of a task.

``--function-module finemask.serving.labelling.cvat_function -p model=str:model.safetensors`` names it and its model.
"""

from types import SimpleNamespace
from typing import Any

from PIL import Image

from finemask.errors import MissingExtraError
from finemask.inference.predictor import load
from finemask.inference.score_limits import Threshold
from finemask.ops.contours import TOLERANCE_PX, mask_to_polygons
from finemask.ops.labelme import outline_with_holes
from finemask.ops.rle import rle_to_crop, rle_to_mask


def create(model: str, device: str = "auto") -> Any:
    """What CVAT calls with the parameters given as ``-p``.

    Labels are matched by CVAT, by their names. Its ``--conf-threshold`` is the least score; without one, the thresholds
    of the model file are. ``--conv-mask-to-poly`` makes polygons of masks.

    Args:
        model: as of ``finemask.load``.
        device: likewise.

    Raises:
        MissingExtraError: CVAT's package is not installed.
        FinemaskError: as of ``finemask.load``.
    """
    try:
        import cvat_sdk.auto_annotation as cvat
        from cvat_sdk.masks import encode_mask
    except ImportError as error:
        raise MissingExtraError("cvat-sdk", "cvat", needed_for="annotating in CVAT") from error
    predictor = load(model, device)

    def detect(context: Any, image: Image.Image) -> list[Any]:
        threshold: Threshold = "auto" if context.conf_threshold is None else float(context.conf_threshold)
        found = predictor.predict(image, threshold=threshold)
        shapes = []
        for number, (rle, label) in enumerate(zip(found.rles, found.labels.tolist(), strict=True), start=1):
            parts = mask_to_polygons(*rle_to_crop(rle))
            if context.conv_mask_to_poly:
                group = {"group": number} if len(parts) > 1 else {}
                for part in parts:
                    points = [side for xy in outline_with_holes(part, 2 * TOLERANCE_PX) for side in xy]
                    shapes.append(cvat.polygon(label, points, **group))
            elif parts:
                shapes.append(cvat.mask(label, encode_mask(rle_to_mask(rle).astype(bool))))
        return shapes

    categories = enumerate(predictor.categories, start=1)
    labels = [cvat.label_spec(category.name, label, type="mask") for label, category in categories]
    return SimpleNamespace(spec=cvat.DetectionFunctionSpec(labels=labels), detect=detect)
