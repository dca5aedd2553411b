"""Evaluating a model file on a split, or a COCO results file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from finemask.config import verb_options
from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import GroundTruth, ground_truth_of, load_ground_truth
from finemask.evaluation.image_ids import with_ids_of
from finemask.evaluation.results import iou_types_of, read_results
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.wording import plural
from finemask.reports.evaluation_report import ReportContext, WrittenEvaluation, write_evaluation

_OF_A_MODEL = ("suppression", "nms_thresh", "detections_per_img", "tta", "refine", "tile")


def evaluate(
    model: str | Path | None = None,
    data_root: str | Path | None = None,
    *,
    predictions: str | Path | None = None,
    annotations: str | Path | None = None,
    output: str | Path = "evaluation",
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """What ``finemask evaluate`` does: scores a model file on a split, or a COCO results file.

    Args:
        model: a model file or a run; needs ``data_root``.
        data_root: folder of the dataset.
        predictions: a COCO results file instead of a model; needs ``annotations``.
        annotations: COCO file that it is compared with.
        output: folder that the metrics, predictions and report are written into.
        overrides: as on the command line: ``["split=test", "iou_types=[bbox]"]``.

    Returns:
        The content of ``metrics.json``.

    Raises:
        FinemaskError: settings that contradict each other, or files that cannot be used.
    """
    given = {
        "model": model,
        "data.root": data_root,
        "predictions": predictions,
        "annotations": annotations,
        "output": output,
    }
    return evaluate_model_or_results(verb_options("evaluate", given, overrides)).metrics


def evaluate_model_or_results(options: Mapping[str, Any]) -> WrittenEvaluation:
    """Evaluates, and writes metrics, predictions and report.

    Args:
        options: as in ``configs/evaluate.yaml``.

    Raises:
        FinemaskError: settings that contradict each other, or files that cannot be used.
    """
    if (options["model"] is None) == (options["predictions"] is None):
        raise ConfigError(
            "give either model= or predictions=" + ("" if options["model"] is None else ", not both at once"),
            remedy="finemask evaluate --help shows an example of each.",
        )
    return _evaluate_results(options) if options["model"] is None else _evaluate_model(options)


def _evaluate_results(options: Mapping[str, Any]) -> WrittenEvaluation:
    if options["annotations"] is None:
        raise ConfigError("predictions= needs annotations=", remedy="Give the COCO annotation file to compare with.")
    if options["threshold"] == "model":
        raise ConfigError("threshold=model needs model=", remedy="Give a score from 0 to 1, or auto.")
    for key in _OF_A_MODEL:
        if options[key] is not None:
            raise ConfigError(f"{key}= needs model=", remedy="A results file is scored as it is.")
    predictions = Path(options["predictions"])
    ground_truth = load_ground_truth(options["annotations"])
    results = with_ids_of(ground_truth, read_results(predictions), predictions)
    evaluator = _evaluator(options, ground_truth, iou_types_of(results, ground_truth))
    evaluator.add_results(results, source=predictions)
    del results  # the evaluator holds them in a tenth of the memory
    return write_evaluation(
        Path(options["output"]),
        evaluator,
        ReportContext(
            images_dir=_images_dir(options["images"]),
            title=predictions.stem,
            subtitle=f"compared with {Path(options['annotations']).name}",
            provenance={"Predictions": str(predictions)},
        ),
    )


def _evaluate_model(options: Mapping[str, Any]) -> WrittenEvaluation:
    if options["data"]["root"] is None:
        raise ConfigError("model= needs data.root=", remedy="Give the folder of the dataset.")
    # Only this route needs torch's models; scoring a results file should not wait for them.
    from finemask.coco.index import CocoIndex
    from finemask.inference.exported_model import is_exported
    from finemask.inference.predictor import load
    from finemask.model_file import find_model_file
    from finemask.workflows.detect_split import (
        detect_split,
        detect_split_in_tiles,
        options_in_words,
        refine_by_sobel,
        settings_in_use,
        split_paths,
        with_options,
    )

    annotations, images_dir = split_paths(options["data"], options["split"])
    file = find_model_file(options["model"])
    predictor = load(file, options["device"], options["trust"])
    header = predictor.header
    predictor.model = with_options(predictor.model, header, options).to(predictor.device).eval()
    reading = ImageReading.of(options["data"]["image"], header.reading)
    index = CocoIndex.read(annotations, images_dir, categories=header.categories, reading=reading)
    ground_truth = ground_truth_of(index.columns, str(annotations))
    threshold = header.thresholds["global"] if options["threshold"] == "model" else options["threshold"]
    options = {**options, "threshold": threshold}
    evaluator = _evaluator(options, ground_truth, iou_types_of([], ground_truth), index.category_ids)
    Path(options["output"]).mkdir(parents=True, exist_ok=True)  # a bad path shows now, not after the work
    refine = None if options["refine"] is None else refine_by_sobel
    if options["tile"] is None:
        model, device = predictor.model, predictor.device
        detect_split(model, index, evaluator, device, options["batch_size"], options["num_workers"], refine)
    else:
        how = (options["batch_size"], options["tile"], options["overlap"])
        detect_split_in_tiles(predictor, index, evaluator, *how, refine=refine is not None)
    weights = "exported from weights of SHA-256" if is_exported(file) else "SHA-256 of the weights"
    return write_evaluation(
        Path(options["output"]),
        evaluator,
        ReportContext(
            images_dir=_images_dir(options["images"]) or images_dir,
            reading=reading,
            title=f"{Path(options['data']['root']).resolve().name} · {options['split']}",
            subtitle=f"{file.name} on {plural(len(index), 'image')}",
            provenance={"Model": f"{file} ({weights} {header.sha256[:12]}…)"}
            | ({"Changed": changed} if (changed := options_in_words(options)) else {}),
        ),
        settings=settings_in_use(header, options),
    )


def _evaluator(
    options: Mapping[str, Any],
    ground_truth: GroundTruth,
    iou_types: Sequence[str],
    category_ids: Sequence[int] | None = None,
) -> CocoEvaluator:
    """The evaluator that the options describe; ``iou_types`` are those that ``auto`` stands for."""
    return CocoEvaluator(
        ground_truth,
        category_ids,
        iou_types=iou_types if options["iou_types"] == "auto" else options["iou_types"],
        **{key: options[key] for key in ("max_detections", "threshold", "backend", "operating_iou")},
    )


def _images_dir(images: str | None) -> Path | None:
    if images is None:
        return None
    if not Path(images).is_dir():
        raise ConfigError(f"images={images} is not a folder", remedy="Give the folder of the images.")
    return Path(images)
