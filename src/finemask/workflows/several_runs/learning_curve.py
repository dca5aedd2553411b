"""Learning curve: the same training on nested parts of the training images, and what more labels would give."""

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from math import ceil
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig, OmegaConf

from finemask.config import arguments, plain
from finemask.config.composing import Asked
from finemask.errors import ConfigError
from finemask.evaluation.ground_truth import GroundTruth, load_ground_truth
from finemask.evaluation.uncertainty.power_law import CONFIDENCE, FEWEST_POINTS, Forecast, forecast
from finemask.evaluation.uncertainty.resampling import jackknife_error
from finemask.ops.files.atomic_files import write_json
from finemask.ops.files.documents import read_json, sha256_of
from finemask.ops.wording import plural
from finemask.training.console import progress_alone
from finemask.workflows.build_trainer import build_datamodule
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.running.compose_training import SERIES_PLANS, compose_training
from finemask.workflows.several_runs.run_series import RunSeries, begun_with, check_series, metric_of, open_series
from finemask.workflows.train_model import run_training

PLAN, RESULT = SERIES_PLANS["learning_curve"], "learning_curve.json"
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Point:
    """One run of the curve.

    Args:
        fraction: of the training images.
        images: how many that is.
        objects: annotations in them.
        ap: AP of its best weights on val.
        error: standard error of it over the choice of validation images; None: unknown.
        run_dir: folder of the run.
    """

    fraction: float
    images: int
    objects: int
    ap: float
    error: float | None
    run_dir: Path


@dataclass(frozen=True)
class LearningCurve:
    """All runs, and the power law fitted to them.

    Args:
        metric: name of the AP: ``"segm_AP"`` or another that is monitored.
        points: by rising fraction.
        outlook: None where an AP or its error is unknown.
        folder: of everything written.
    """

    metric: str
    points: list[Point]
    outlook: Forecast | None
    folder: Path


@dataclass(frozen=True)
class _Part:
    """A fraction of the training images, as a file of its own."""

    fraction: float
    images: int
    objects: int
    file: Path

    @property
    def name(self) -> str:
        return f"fraction_{self.fraction:g}"


def learning_curve(
    data_root: str | Path,
    fractions: Sequence[float] = (0.25, 0.5, 1.0),
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> LearningCurve | None:
    """What ``finemask train learning_curve=[…]`` does: ``learning_curve("DIR").outlook`` says what more labels give.

    Args:
        data_root: folder of the dataset.
        fractions: of the training images, at least three different ones.
        overrides: as on the command line: ``["model=light", "trainer.max_epochs=30"]``.
        config_dir: folder of YAML files of your own.

    Returns:
        The curve, which is written as well; None when a run was interrupted, after saving.

    Raises:
        FinemaskError: something the user can mend.
    """
    given = {"data.root": data_root, "learning_curve": list(fractions)}
    return run_learning_curve(compose_training(Asked("train", (*arguments(given), *overrides), config_dir)))


def run_learning_curve(
    cfg: DictConfig, train_one: Callable[[DictConfig], TrainedRun | None] = run_training
) -> LearningCurve | None:
    """Trains on each fraction, one run after another, and fits a power law to what comes of it.

    Every run takes about as many optimiser steps as the one on all images would, and is evaluated as often: with equal
    epochs a quarter of the images would also be a quarter of the training, and the curve would show how long is trained
    instead of how much is labelled.

    Args:
        cfg: of the verb ``train``, with ``learning_curve``.
        train_one: makes one run of it.

    Returns:
        The curve, which is written as well; None when a run was interrupted, after saving.

    Raises:
        FinemaskError: something the user can mend.
    """
    fractions = checked_fractions(plain(cfg)["learning_curve"])
    check_series(cfg, "a learning curve")
    if cfg.data.val is None:
        raise ConfigError("a learning curve needs validation images", where="data.val", remedy="Name their COCO file.")
    source = Path(cfg.data.root) / cfg.data.train
    document = read_json(source, "a COCO annotation file")
    counts = [part_size(fraction, len(document["images"])) for fraction in fractions]
    if len(set(counts)) < len(counts):
        raise ConfigError(
            f"of {len(document['images'])} images, {fractions} are {counts}: not all different",
            where="learning_curve",
            remedy="Give fractions that are further apart.",
        )
    metric = metric_of(str(cfg.monitor))
    plan = begun_with(cfg, {"fractions": fractions, "seed": cfg.seed, "train": sha256_of(source)})
    series = open_series(cfg, PLAN, plan, "the curve")
    folder = series.folder
    parts = [
        _write_part(document, fraction, count, int(cfg.seed), folder)
        for fraction, count in zip(fractions, counts, strict=True)
    ]
    batches = {part: _batches(cfg, part.file) for part in parts}
    whole = _batches(cfg, source.absolute())
    ground_truth = load_ground_truth(Path(cfg.data.root) / cfg.data.val)
    points: list[Point] = []
    for part in parts:
        print(
            f"\n== {part.fraction:g} of the training images: {plural(part.images, 'image')}, "
            f"{plural(part.objects, 'object')}"
        )
        run_dir = series.finished(part.name, "metrics.json")
        if run_dir is None:
            with progress_alone() if points else nullcontext():
                finished = train_one(_run_config(cfg, part, series, whole / batches[part]))
            if finished is None:
                return None
            run_dir = finished.model_path.parent.resolve()
        points.append(_point(part, run_dir, ground_truth, metric))
    curve = LearningCurve("_".join(metric), points, _outlook(points, int(cfg.seed)), folder)
    write_json(folder / RESULT, as_json(curve))
    return curve


def checked_fractions(value: Sequence[float]) -> list[float]:
    """The fractions, from above 0 to 1, in rising order.

    Raises:
        ConfigError: they are not at least three different ones.
    """
    if len({float(n) for n in value}) < max(FEWEST_POINTS, len(value)):
        raise ConfigError(
            f"learning_curve is {value}",
            remedy="Give at least three different fractions above 0 and up to 1: 'learning_curve=[0.25,0.5,1.0]'.",
        )
    return sorted(float(n) for n in value)


def part_size(fraction: float, images: int) -> int:
    """Images in a fraction of so many, at least one."""
    return max(1, round(fraction * images))


def choose_images(count: int, images: int, seed: int) -> list[int]:
    """Positions of the images of a part, ascending; a smaller part of the same seed lies inside a larger one."""
    order = np.random.default_rng([seed, images]).permutation(images)
    return sorted(order[:count].tolist())


def as_json(curve: LearningCurve) -> dict[str, Any]:
    """The content of ``learning_curve.json``."""
    law, doubling = None, None
    if (outlook := curve.outlook) is not None:
        law = asdict(outlook.law)
        doubling = {"images": 2 * max(point.images for point in curve.points), "confidence": CONFIDENCE}
        doubling |= {name: getattr(outlook, name) for name in ("gain", "low", "high", "verdict")}
    return {
        "metric": curve.metric,
        "points": [
            {
                "fraction": point.fraction,
                "images": point.images,
                "objects": point.objects,
                "AP": point.ap,
                "standard_error": point.error,
                "run": str(point.run_dir),
            }
            for point in curve.points
        ],
        "law": law,
        "doubling": doubling,
        "text": text_of(curve),
    }


def text_of(curve: LearningCurve) -> str:
    """The finding in a sentence."""
    if curve.outlook is not None:
        return curve.outlook.text
    return "The curve says nothing: there are too few validation images to tell how sure each AP is."


def _write_part(document: Mapping[str, Any], fraction: float, count: int, seed: int, folder: Path) -> _Part:
    images = document["images"]
    chosen = [images[position] for position in choose_images(count, len(images), seed)]
    ids = {image["id"] for image in chosen}
    annotations = [entry for entry in document["annotations"] if entry["image_id"] in ids]
    path = folder / f"train_{fraction:g}.json"
    write_json(path, {**document, "images": chosen, "annotations": annotations}, indent=None)
    return _Part(fraction, count, len(annotations), path)


def _batches(cfg: DictConfig, annotations: Path) -> float:
    """Batches of an epoch of training on a file."""
    changed = cfg.copy()
    OmegaConf.update(changed, "data.train", str(annotations))
    datamodule = build_datamodule(changed)
    datamodule.setup("fit")
    count = len(datamodule.train_dataloader().batch_sampler)
    limit = plain(cfg.trainer).get("limit_train_batches", 1.0)
    return float(min(count, limit) if isinstance(limit, int) else max(1, int(count * limit)))


def _run_config(cfg: DictConfig, part: _Part, series: RunSeries, ratio: float) -> DictConfig:
    """The configuration of one run: its file, its folder, and epochs for the steps of the run on all images."""
    trainer = plain(cfg.trainer)
    changes: dict[str, Any] = {"data.train": str(part.file)}
    epochs = trainer.get("max_epochs") or -1
    if epochs > 0:
        evaluations = ceil(epochs / (trainer.get("check_val_every_n_epoch") or 1))
        changes["trainer.max_epochs"] = max(1, round(epochs * ratio))
        changes["trainer.check_val_every_n_epoch"] = ceil(changes["trainer.max_epochs"] / evaluations)
    return series.config(cfg, part.name, changes)


def _point(part: _Part, run_dir: Path, ground_truth: GroundTruth, metric: tuple[str, str]) -> Point:
    iou_type, key = metric
    metrics = read_json(run_dir / "metrics.json", "the metrics of a run")
    results = read_json(run_dir / "predictions.json", "the predictions of a run")
    error = jackknife_error(ground_truth, results, iou_type, key, metrics["max_detections"])
    return Point(part.fraction, part.images, part.objects, float(metrics[iou_type][key] or 0.0), error, run_dir)


def _outlook(points: Sequence[Point], seed: int) -> Forecast | None:
    errors = [point.error for point in points if point.error is not None]
    if len(errors) < len(points):
        return None
    return forecast([point.images for point in points], [point.ap for point in points], errors, seed=seed)
