"""The end of a run: its best weights evaluated, with predictions, a report and the model file."""

import csv
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl

from finemask.errors import WeightsError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.weights import read_torch_file
from finemask.ops.files.run_folders import MODEL_FILE
from finemask.ops.wording import plural
from finemask.reports.evaluation_report import ReportContext, write_evaluation
from finemask.reports.report_numbers import operating_point_text, results_table
from finemask.training.callbacks.checkpoints import BEST, LAST
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.console import show_table
from finemask.training.module import MaskRCNNModule
from finemask.training.save_model import save_model
from finemask.training.tables import titled

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainedRun:
    """The results of a run.

    Args:
        metrics: of the best weights on the validation split, as in ``metrics.json``; empty where there is none.
        model_path: the best weights, self-describing.
        paths: everything written for people to open.
    """

    metrics: Mapping[str, Any]
    model_path: Path
    paths: list[Path]


def evaluate_best_weights(
    trainer: pl.Trainer,
    module: MaskRCNNModule,
    datamodule: Any,
    evaluation: CocoEvaluation,
    evaluators: Mapping[str, CocoEvaluator],
    model_config: Mapping[str, Any],
    run_dir: Path,
    measured: Mapping[str, Any],
) -> TrainedRun:
    """Evaluates the best weights on every split but training, writes all results and the model file.

    Args:
        trainer: after ``fit``.
        module: whose weights are replaced by the best ones.
        datamodule: the one that was trained on.
        evaluation: the trainer's callback.
        evaluators: by split; ``val`` and ``test``, as far as there are any.
        model_config: resolved; it goes into the model file.
        run_dir: of the run.
        measured: what the model file states where there is no ``val``.
    """
    checkpoint = _best_checkpoint(run_dir)
    try:
        content = read_torch_file(checkpoint)
    except WeightsError as error:
        raise WeightsError(
            error.what,
            where=checkpoint,
            remedy="The training is done. Delete this file: the same command with resume=auto takes the last weights.",
        ) from error
    module.load_state_dict(content["state_dict"])
    which = "Best" if "val" in evaluators else "Last"
    log.info("%s weights: epoch %d (%s)", which, content["epoch"] + 1, checkpoint.name)

    if evaluation.step != content["global_step"]:  # else the last validation was of these very weights
        evaluation.step = None
    settings = {
        "model.min_size": model_config["min_size"],
        "model.roi_heads.nms_thresh": model_config["roi_heads"]["nms_thresh"],
        "model.roi_heads.detections_per_img": model_config["roi_heads"]["detections_per_img"],
        "data.repeat_threshold": getattr(datamodule, "repeat_threshold", None),
    }
    trainer.loggers = []  # what is measured now goes into files: it is no point of the training's curves
    loaders = {"val": datamodule.val_dataloader, "test": datamodule.test_dataloader}
    metrics: dict[str, Any] = {}
    paths: list[Path] = []
    for split, evaluator in evaluators.items():
        if split != "val" or evaluation.step is None:
            evaluation.evaluator = evaluator
            trainer.validate(module, dataloaders=loaders[split](), verbose=False)
        if not trainer.is_global_zero:
            continue
        written = write_evaluation(
            run_dir,
            evaluator,
            ReportContext(
                images_dir=datamodule.images_dir,
                reading=datamodule.reading,
                title=f"{run_dir.parent.name}: {split}",
                subtitle=f"{model_config['name']}, epoch {content['epoch'] + 1}",
                provenance={"run": run_dir.name, "data": str(datamodule.root), "model": str(model_config["name"])},
                training_curves=_metrics_rows(run_dir / "metrics.csv"),
            ),
            suffix="" if split == "val" else f"_{split}",
            settings=settings,
        )
        metrics[split] = written.metrics
        paths += written.paths
        title = f"{which} weights on {split}, {plural(written.metrics['images'], 'image')}"
        show_table(titled(title, results_table(written.metrics), [operating_point_text(written.metrics)]))
    if not trainer.is_global_zero:
        return TrainedRun({}, run_dir / MODEL_FILE, [])

    assert isinstance(module.model, MaskRCNN)
    model_file = run_dir / MODEL_FILE
    of_model = metrics.get("val", measured)
    save_model(module, model_file, of_model)
    return TrainedRun(metrics.get("val", {}), model_file, [model_file, *paths])


def _best_checkpoint(run_dir: Path) -> Path:
    """The best weights; the last ones where no validation told which are best."""
    best = run_dir / "checkpoints" / BEST
    return best if best.is_file() else run_dir / "checkpoints" / LAST


def _metrics_rows(path: Path) -> list[dict[str, Any]] | None:
    if not path.is_file():
        return None
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))
