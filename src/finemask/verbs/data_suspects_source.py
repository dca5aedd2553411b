"""Where the detections of ``finemask data suspects`` come from: a model run over a split, or a results file."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from finemask.data.index import CocoIndex
from finemask.errors import ConfigError, DataError
from finemask.types import CocoResult

_SPLITS = ("train", "val", "test")


@dataclass(frozen=True)
class Source:
    """Labels, and what was detected on their images.

    Args:
        index: the labels.
        results: the detections, with masks; ids are those of the index's file.
        facts: for the list: what the detections come from.
        footer: for the page: the same, for people.
    """

    index: CocoIndex
    results: Sequence[CocoResult]
    facts: dict[str, Any]
    footer: dict[str, str]


def results_source(options: Mapping[str, Any]) -> Source:
    """Detections from a COCO results file.

    Raises:
        ConfigError: ``annotations`` or ``images`` is missing.
        DataError: a file that cannot be used, or detections without masks.
    """
    from finemask.evaluation.ground_truth import load_ground_truth
    from finemask.evaluation.results import check_results, read_results

    for key, what in (("annotations", "the COCO file with the labels"), ("images", "the folder of the images")):
        if options[key] is None:
            raise ConfigError(f"predictions= needs {key}=", remedy=f"Give {what}.")
    predictions, annotations = Path(options["predictions"]), Path(options["annotations"])
    index = CocoIndex.read(annotations, Path(options["images"]))
    found = read_results(predictions)
    for number, entry in enumerate(found):
        if isinstance(entry, dict) and not entry.get("segmentation"):
            raise DataError(
                f"entry {number} has no segmentation, and labels are compared by their masks",
                where=predictions,
                remedy="Give results with masks.",
            )
    results = check_results(found, load_ground_truth(annotations), ("bbox", "segm"), source=predictions)
    facts = {"predictions": str(predictions)}
    return Source(index, results, facts, {"Labels": str(annotations), "Detections": str(predictions)})


def model_source(options: Mapping[str, Any]) -> Source:
    """What a model file finds in a split.

    Raises:
        FinemaskError: settings that contradict each other, or files that cannot be used.
    """
    annotations, images_dir = _split_paths(options["data"], options["split"])
    # Only this route needs torch's models.
    from finemask.evaluation.coco import CocoEvaluator
    from finemask.evaluation.ground_truth import load_ground_truth
    from finemask.inference.predictor import choose_device
    from finemask.model_file import load_model_file
    from finemask.verbs.detect_split import detect_split

    device = choose_device(options["device"])
    model, header = load_model_file(options["model"])
    index = CocoIndex.read(annotations, images_dir, categories=header.categories)
    collected = CocoEvaluator(load_ground_truth(annotations), index.category_ids)
    detect_split(model, index, collected, device, options["batch_size"], options["num_workers"])
    facts = {"model": str(options["model"]), "model_sha256": header.sha256, "split": options["split"]}
    footer = {"Labels": str(annotations), "Model": f"{options['model']} (SHA-256 of the weights {header.sha256[:12]}…)"}
    return Source(index, collected.results, facts, footer)


def _split_paths(data: Mapping[str, Any], split: str) -> tuple[Path, Path]:
    """Annotation file and folder of images of a split."""
    if data["root"] is None:
        raise ConfigError("model= needs data.root=", remedy="Give the folder of the dataset.")
    if split not in _SPLITS:
        raise ConfigError(f"there is no split {split!r}", remedy=f"Choose from: {', '.join(_SPLITS)}.")
    if data[split] is None:
        raise ConfigError(
            f"data.{split} is not set", remedy=f"Give its annotation file, relative to data.root: data.{split}=FILE."
        )
    root = Path(data["root"])
    return root / data[split], root / data["images"]
