"""What a model finds in a split of a dataset, and the options of detection that users may change."""

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import nn

from finemask.config import config_dir, plain
from finemask.errors import ConfigError, DataError
from finemask.inference.cutting import Tile
from finemask.inference.exported_model import ExportedModel
from finemask.inference.predictor import Predictor
from finemask.inference.read_ahead import map_ahead
from finemask.inference.sources import Item
from finemask.inference.tta import AugmentedMaskRCNN, parse_views
from finemask.machine.hardware import bytes_for_an_image, cores
from finemask.model.build import build_suppression
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.suppression import NMS
from finemask.model_header import ModelHeader
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.sobel_refine import refine_mask
from finemask.ops.terminal import Progress
from finemask.types import Detections, Rle

if TYPE_CHECKING:  # predicting does without them
    from finemask.coco.index import CocoIndex
    from finemask.evaluation.evaluator import CocoEvaluator

_MAX_THREADS = 8

Refine: TypeAlias = Callable[[NDArray[np.uint8], Detections], Sequence[Rle]]
"""Image uint8 [H, W, 3] and N detections in it to their N masks."""


def detect_split(
    model: nn.Module,
    index: "CocoIndex",
    evaluator: "CocoEvaluator",
    device: torch.device,
    batch_size: int,
    num_workers: int | Literal["auto"],
    refine: Refine | None = None,
    positions: Sequence[int] | None = None,
) -> None:
    """Adds the model's detections in the images of ``index`` to the evaluator.

    Args:
        model: images uint8 [3, H, W] to ``Detections``; moved to ``device`` and put into evaluation mode.
        index: of the split.
        evaluator: with the split's ground truth and ``index.category_ids``.
        device: where the model runs.
        batch_size: images that are handed to the model at a time.
        num_workers: threads that read images; ``"auto"`` is one for each core, up to 8.
        refine: makes better masks out of an image and its detections; None leaves them as they are.
        positions: of the images in the index; None: all of them.

    Raises:
        ConfigError: a batch size or number of threads below 1.
        DataError: an image cannot be read, or is not of the size that the annotations state.
    """
    threads = min(cores(), _MAX_THREADS) if num_workers == "auto" else num_workers
    for key, value in (("batch_size", batch_size), ("num_workers", threads)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ConfigError(f"{key} is {value!r}", remedy="Give a whole number of at least 1.")
    model.to(device).eval()
    chosen = range(len(index)) if positions is None else positions
    images = map_ahead(lambda i: (i, index.read_image(i)), chosen, threads, ahead=2 * batch_size + threads)
    with torch.inference_mode(), closing(images), Progress("evaluating", len(chosen), "images") as progress:
        for batch in _batches(images, batch_size):
            tensors = [torch.from_numpy(image).permute(2, 0, 1).to(device) for _, image in batch]
            for (i, image), detections in zip(batch, model(tensors), strict=True):
                rles = None if refine is None else refine(image, detections)
                evaluator.add(int(index.image_ids[i]), detections, rles)
            progress.advance(len(batch))


def detect_split_in_tiles(
    predictor: Predictor,
    index: "CocoIndex",
    evaluator: "CocoEvaluator",
    batch_size: int,
    tile: Tile,
    overlap: float,
    *,
    refine: bool = False,
) -> None:
    """As ``detect_split``, with images cut into tiles as in prediction, by the same code.

    Args:
        predictor: with the model.
        index: of the split.
        evaluator: as of ``detect_split``.
        batch_size: tiles that are handed to the model at a time.
        tile: see ``Predictor.predict``; not None.
        overlap: see ``Predictor.predict``.
        refine: whether masks are refined.

    Raises:
        ConfigError: a tile, an overlap or a batch size that cannot be.
        DataError: an image cannot be read, or is too large to be refined.
    """
    predictor.reading, predictor.free_memory_bytes = index.reading, bytes_for_an_image()
    items = [Item(str(i), index.image_path(i), index.size_hw(i)) for i in range(len(index))]
    answers = predictor.stream(items, 0.0, batch_size, "raise", tile=tile, overlap=overlap)
    with Progress("evaluating", len(index), "images") as progress:
        for i, instances in enumerate(answers):
            if refine and instances.image is None:
                raise too_large_to_refine(index.image_path(i))
            found = Detections(
                boxes=torch.from_numpy(instances.boxes),
                labels=torch.from_numpy(instances.labels),
                scores=torch.from_numpy(instances.scores),
                mask_probs=torch.empty(len(instances), 0, 0),  # they are RLEs already
                image_size_hw=instances.image_size_hw,
            )
            evaluator.add(int(index.image_ids[i]), found, (instances.refined() if refine else instances).rles)
            progress.advance()


def too_large_to_refine(where: Path | str) -> DataError:
    """What ``refine=`` says to an image that is read in pieces."""
    return DataError(
        "too large for refine=, which needs the whole picture in memory", where=where, remedy="Leave it out."
    )


def _batches(items: Iterator[tuple[int, Any]], size: int) -> Iterator[list[tuple[int, Any]]]:
    while batch := list(islice(items, size)):
        yield batch


def split_paths(data: Mapping[str, Any], split: str) -> tuple[Path, Path]:
    """Annotation file and folder of images of a split.

    Args:
        data: the group ``data``, with its ``root``.
        split: ``train``, ``val`` or ``test``.

    Raises:
        ConfigError: the split has no annotation file.
    """
    if data[split] is None:
        raise ConfigError(
            f"data.{split} is not set",
            remedy=f"Give the annotation file, relative to data.root: data.{split}=FILE.",
        )
    root = Path(data["root"])
    return root / data[split], root / data["images"]


KEYS = ("suppression", "nms_thresh", "detections_per_img", "tta")


def with_options(model: nn.Module, header: ModelHeader, options: Mapping[str, Any]) -> nn.Module:
    """The model as the options ask for it; as its file describes it where they are null.

    Args:
        model: as loaded; it is changed.
        header: of its file.
        options: ``suppression``, ``nms_thresh``, ``detections_per_img``, ``tta``; see ``configs/predict.yaml``.

    Raises:
        ConfigError: a value that cannot be.
    """
    if all(options[key] is None for key in KEYS):
        return model
    if isinstance(model, ExportedModel):
        named = " ".join(f"{key}=" for key in KEYS if options[key] is not None)
        raise ConfigError(
            f"{named} cannot change an exported file, whose parts are fixed",
            remedy="Give the model file that it was made of, model.safetensors.",
        )
    if not isinstance(model, MaskRCNN):
        raise ConfigError(f"{', '.join(KEYS)} need a Mask R-CNN, not a {type(model).__name__}")
    config = _changed(header.model, options["suppression"], options["nms_thresh"])
    model.roi_heads.suppression = build_suppression(config) or NMS(config["roi_heads"]["nms_thresh"])
    limit = options["detections_per_img"]
    if limit is not None:
        model.roi_heads.detections_per_img = limit
    if options["tta"] is None:
        return model
    return AugmentedMaskRCNN(model, parse_views(options["tta"], model.preprocessing.min_size[-1]))


def refine_by_sobel(image: NDArray[np.uint8], detections: Detections) -> list[Rle]:
    """What ``refine=sobel`` does to the masks of an image uint8 [H, W, 3]."""
    rles = masks_to_rles(detections["mask_probs"], detections["boxes"], detections["image_size_hw"])
    return [refine_mask(image, rle) for rle in rles]


def options_in_words(options: Mapping[str, Any]) -> str:
    """The options that are set, as they are typed; empty if none is."""
    named = [key for key in (*KEYS, "refine", "tile") if options.get(key) is not None]
    if "tile" in named:
        named.append("overlap")
    return " ".join(f"{key}={options[key]}".replace("'", "") for key in named)


def settings_in_use(header: ModelHeader, options: Mapping[str, Any]) -> dict[str, Any]:
    """What advice has to know: the model's own values, or those of the options that are set, by the model's keys."""
    roi_heads = header.model.get("roi_heads", {})
    own = {f"model.roi_heads.{key}": roi_heads.get(key) for key in ("nms_thresh", "detections_per_img")}
    typed = {f"model.roi_heads.{key}": options[key] for key in ("nms_thresh", "detections_per_img")}
    changed = {key: value for key, value in typed.items() if value is not None}
    return {"model.min_size": header.model.get("min_size")} | own | changed


def _changed(own: Mapping[str, Any], suppression: str | None, nms_thresh: Any) -> dict[str, Any]:
    """The model's configuration with another suppression, another threshold, or both."""
    config = copy.deepcopy(dict(own))
    if suppression is not None:
        config["suppression"] = OmegaConf.load(config_dir() / "model" / "suppression" / f"{suppression}.yaml")
    if nms_thresh is not None:
        part = config.get("suppression", {})
        if part and "iou_thresh" not in part:
            raise ConfigError(
                f"nms_thresh={nms_thresh} means nothing to this suppression, whose scores sink at every overlap",
                remedy="There is suppression=soft_linear, whose scores sink from a threshold on.",
            )
        config["roi_heads"]["nms_thresh"] = nms_thresh
        if part:
            part["iou_thresh"] = nms_thresh
    resolved: dict[str, Any] = plain(OmegaConf.create({"model": config}))["model"]
    return resolved
