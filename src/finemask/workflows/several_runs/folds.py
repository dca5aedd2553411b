"""Folds: a protocol for small data. Every image is predicted by a training that has not seen it; the model sees all.

K trainings a seed, each without one fold; what they find in the folds they have not seen is put together and scored
once. Nothing is chosen by those images: the last weights are taken, not the best. Another seed divides the images anew
and trains anew.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from omegaconf import DictConfig

from finemask.coco.coco_file import save_coco
from finemask.config import arguments, plain
from finemask.config.composing import Asked
from finemask.datatools.split.image_groups import Groups, grouped, grouping_rules
from finemask.datatools.split.pooled_annotations import pooled_source
from finemask.datatools.split.split_files import Split
from finemask.datatools.split.split_images import SplitSource
from finemask.errors import ConfigError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import GroundTruth, load_ground_truth
from finemask.evaluation.result_table import ResultTable
from finemask.evaluation.results import read_results
from finemask.evaluation.uncertainty.several_seeds import SeedSpread, spread_over_seeds
from finemask.ops.files.atomic_files import copy_file, write_json
from finemask.ops.files.documents import read_json, sha256_of
from finemask.ops.files.run_folders import FOLDS, MODEL_FILE
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.wording import fraction
from finemask.reports.evaluation_report import ReportContext, WrittenEvaluation, write_evaluation
from finemask.reports.folds_section import folds_text
from finemask.workflows.finish_run import TrainedRun
from finemask.workflows.running.compose_training import SERIES_PLANS, compose_training
from finemask.workflows.several_runs.fold_trainings import FoldTrainings, TrainOne
from finemask.workflows.several_runs.run_series import begun_with, check_series, metric_of, open_series
from finemask.workflows.train_model import run_training

PLAN, POOLED = SERIES_PLANS["folds"], "all_images.json"


@dataclass(frozen=True)
class CrossValidation:
    """What the folds say, and the model of all images.

    Args:
        content: of ``folds.json``.
        trained: ``metrics`` of the folds, the model file, and the paths written.
        folder: of everything.
    """

    content: Mapping[str, Any]
    trained: TrainedRun
    folder: Path


def cross_validate(
    data_root: str | Path,
    folds: int = 5,
    seeds: int = 1,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> CrossValidation | None:
    """What ``finemask train folds=K seeds=N`` does: ``cross_validate("DIR").content["text"]`` says what it found.

    Args:
        data_root: folder of the dataset.
        folds: K, at least 2.
        seeds: N, how often the images are divided anew.
        overrides: as on the command line: ``["model=light", "budget=2h"]``.
        config_dir: folder of YAML files of your own.

    Returns:
        The result, which is written as well; None when a run was interrupted, after saving.

    Raises:
        FinemaskError: something the user can mend.
    """
    started = time.monotonic()
    given = {"data.root": data_root, "folds": folds, "seeds": seeds}
    return run_folds(compose_folds(Asked("train", (*arguments(given), *overrides), config_dir)), started)


def compose_folds(asked: Asked) -> DictConfig:
    """What comes before folds: a plan, and a look at the annotations.

    The plan is made once, of ``data.train``, and not anew of what each fold leaves: all trainings are then of one
    configuration, so that the number is that of the model of all images. A fingerprint is of sizes, counts and classes,
    which a fold fewer hardly changes, and no rule has seen a prediction.

    Folds need no validation images: where the file of that name is not there, nobody has to say so.

    Args:
        asked: of the verb ``train``, with ``folds``.

    Raises:
        ConfigError: a learning curve as well.
        DataError: the annotations have errors; its remedy is the command that repairs them.
    """
    cfg = asked.compose()
    if cfg.learning_curve is not None:
        raise ConfigError("folds and learning_curve are two different questions", remedy="Give one of them.")
    root = Path(cfg.data.root)
    if cfg.data.val == "annotations/val.json" and root.is_dir() and not (root / cfg.data.val).is_file():
        asked = replace(asked, words=(*asked.words, "data.val=null"))
    return compose_training(asked)


def run_folds(
    cfg: DictConfig, started: float | None = None, train_one: TrainOne | None = None
) -> CrossValidation | None:
    """Trains K x N times on all but a fold, scores what was found in the folds, and trains the model on all images.

    Args:
        cfg: of the verb ``train``, with ``folds`` and ``seeds``, as ``compose_folds`` gives it.
        started: ``time.monotonic()`` from which a time budget counts; it is for everything. By default now.
        train_one: makes a run of a configuration; the metrics are what the model file is to state.

    Returns:
        The result, which is written as well; None when a run was interrupted, after saving.

    Raises:
        FinemaskError: something the user can mend.
    """
    started = time.monotonic() if started is None else started
    train_one = train_one or (lambda run, measured: run_training(run, measured=measured))
    check_series(cfg, "a run of folds")
    if cfg.data.held_out is not None:
        raise ConfigError(f"data.held_out={cfg.data.held_out} with folds", remedy="Folds hold images out. Give one.")
    files = [Path(cfg.data.root) / name for name in (cfg.data.train, cfg.data.val) if name is not None]
    source, groups = _images(cfg, files)
    seeds = [int(cfg.seed) + number for number in range(int(cfg.seeds))]
    plan = {
        "folds": int(cfg.folds),
        "seeds": seeds,
        "group_by": _listed(cfg.group_by),
        "annotations": [sha256_of(file) for file in files],
    }
    splits = {seed: _split(source, groups, int(cfg.folds), seed) for seed in seeds}
    series = open_series(cfg, PLAN, begun_with(cfg, plan), "the folds")
    pooled = series.folder / POOLED
    if not pooled.is_file():
        save_coco(pooled, source.document)
    work = FoldTrainings(cfg, series, started, len(seeds) * int(cfg.folds) + 1, train_one)
    work.say_beginning(len(source.file_names))
    truth = load_ground_truth(pooled)
    tables: list[ResultTable] = []
    rows: list[dict[str, Any]] = []
    for seed in seeds:
        runs = work.folds_of(seed, splits[seed])
        if runs is None:
            return None
        row, table = _pooled(cfg, truth, seed, runs, series.folder)
        rows.append(row)
        tables.append(table)
    content = _content(cfg, truth, rows, tables, plan)
    written = _write_report(cfg, truth, content, series.folder)
    final = work.final(str(pooled), written.metrics)
    if final is None:
        return None
    model_file = series.folder / MODEL_FILE
    copy_file(final / MODEL_FILE, model_file)
    content["model"] = str(final.relative_to(series.folder))
    write_json(series.folder / FOLDS, content)
    paths = [model_file, series.folder / FOLDS, *written.paths]
    return CrossValidation(content, TrainedRun(written.metrics, model_file, paths), series.folder)


def _images(cfg: DictConfig, files: Sequence[Path]) -> tuple[SplitSource, Groups]:
    images_dir = Path(cfg.data.root) / cfg.data.images
    source = pooled_source(files, files[0] if len(files) == 1 else Path(cfg.data.root))
    rules = grouping_rules(_listed(cfg.group_by), has_images=True)
    groups = grouped(source.file_names, rules, images_dir)
    for note in groups.notes:
        print(note)
    return source, groups


def _listed(value: Any) -> list[Any]:
    listed = plain(DictConfig({"value": value}))["value"]
    return listed if isinstance(listed, list) else [listed]


def _split(source: SplitSource, groups: Groups, folds: int, seed: int) -> Split:
    names = [f"fold{number + 1}" for number in range(folds)]
    return Split.of(source, names, [1 / folds] * folds, groups, stratify=True, seed=seed)


def _pooled(
    cfg: DictConfig, truth: GroundTruth, seed: int, runs: Sequence[Path], folder: Path
) -> tuple[dict[str, Any], ResultTable]:
    """What the trainings of a seed found in their folds, put together: written, and scored fold by fold."""
    evaluator = _evaluator(cfg, truth)
    iou_type, key = metric_of(str(cfg.monitor))
    of_folds = []
    for run in runs:
        evaluator.add_results(read_results(run / "predictions.json"), run / "predictions.json")
        metrics = read_json(run / "metrics.json", "the metrics of a run")
        of_folds.append({"images": metrics["images"], key: metrics[iou_type][key], "run": str(run.relative_to(folder))})
    name = f"predictions_seed{seed}.json"
    write_json(folder / name, evaluator.results, indent=None)
    return {"seed": seed, "predictions": name, "folds": of_folds}, evaluator.result_table


def _evaluator(cfg: DictConfig, truth: GroundTruth) -> CocoEvaluator:
    return CocoEvaluator(truth, max_detections=cfg.max_detections, threshold=cfg.threshold, backend=cfg.backend)


def _content(
    cfg: DictConfig,
    truth: GroundTruth,
    rows: list[dict[str, Any]],
    tables: Sequence[ResultTable],
    plan: Mapping[str, Any],
) -> dict[str, Any]:
    """Of ``folds.json``, as far as it is known before the model of all images is trained."""
    evaluator = _evaluator(cfg, truth)
    spread = spread_over_seeds(truth, tables, evaluator.iou_types, evaluator.max_detections)
    iou_type, key = metric_of(str(cfg.monitor))
    main: SeedSpread = spread[iou_type][key]
    known = [np.inf if value is None or main.mean is None else abs(value - main.mean) for value in main.values]
    for row, value in zip(rows, main.values, strict=True):
        row[key] = value
    content: dict[str, Any] = {
        "folds": plan["folds"],
        "images": len(truth.images),
        "metric": f"{iou_type}_{key}",
        "shown_seed": rows[int(np.argmin(known))]["seed"],
        "seeds": rows,
        **{kind: {name: asdict(number) for name, number in numbers.items()} for kind, numbers in spread.items()},
    }
    content["text"] = folds_text(content)
    return content


def _write_report(cfg: DictConfig, truth: GroundTruth, content: Mapping[str, Any], folder: Path) -> WrittenEvaluation:
    """The evaluation of the seed whose number is nearest the mean, and what all of them say."""
    evaluator = _evaluator(cfg, truth)
    shown = next(row for row in content["seeds"] if row["seed"] == content["shown_seed"])
    evaluator.add_results(read_results(folder / shown["predictions"]), shown["predictions"])
    seeds, (kind, key) = len(content["seeds"]), content["metric"].split("_")
    mean = content[kind][key]["mean"]
    of_seed = f"; seed {content['shown_seed']} of {seeds}, whose mean {key} is {fraction(mean)}" if seeds > 1 else ""
    context = ReportContext(
        images_dir=Path(cfg.data.root) / cfg.data.images,
        reading=ImageReading.of(plain(cfg.data)["image"]),
        title=f"{cfg.name}: {content['folds']} folds",
        subtitle=f"{cfg.model.name}; every image predicted by a training that has not seen it{of_seed}",
        provenance={"run": folder.name, "data": str(cfg.data.root), "model": str(cfg.model.name)},
        folds=content,
    )
    settings = {
        "model.min_size": plain(cfg.model)["min_size"],
        "model.roi_heads.nms_thresh": cfg.model.roi_heads.nms_thresh,
        "data.repeat_threshold": cfg.data.repeat_threshold,
    }
    return write_evaluation(folder, evaluator, context, settings=settings)
