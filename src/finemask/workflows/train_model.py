"""Fine-tuning, top to bottom: data, model, weights, trainer, fit, evaluation of the best weights."""

import logging
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
from omegaconf import DictConfig

from finemask.config import arguments, plain
from finemask.config.composing import Asked
from finemask.errors import ConfigError, FinemaskError, chain_of, is_disk_full
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import ground_truth_of
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.machine.processes import is_first_process
from finemask.model.backbones.norms import has_sync_norm
from finemask.model.backbones.recomputation import recompute_backbone
from finemask.model.build import build_model
from finemask.model.devices.compiling import compile_parts
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.transfer import Transfer, apply_transfer, first_epochs
from finemask.model.pretrained.weights import load_weights
from finemask.model.resolve import resolve_model
from finemask.ops.wording import plural
from finemask.planning.plan_tables import plan_table
from finemask.training.callbacks.checkpoints import LAST
from finemask.training.callbacks.speed import trains_on_cpu
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.console import RunLog, display_path, logging_to, show_table
from finemask.training.loggers import CsvLogger
from finemask.training.module import MaskRCNNModule
from finemask.training.optim import Unfreezing
from finemask.training.run_dir import Run, choose_run, close_run, open_run, write_origin
from finemask.training.save_model import trained_boxes
from finemask.training.tables import anchors_line, classes_table, data_table, model_table, weights_table
from finemask.workflows.build_trainer import (
    build,
    build_budget,
    build_datamodule,
    build_optimizer,
    build_trainer,
    check_monitors,
    take_found_rate,
)
from finemask.workflows.finish_run import TrainedRun, evaluate_best_weights
from finemask.workflows.running.compose_training import compose_training
from finemask.workflows.running.fit_memory import fit_to_memory
from finemask.workflows.running.interruptions import until_interrupted
from finemask.workflows.running.resume_run import (
    check_resumable,
    class_order,
    read_resume_checkpoint,
    reorder_class_weights,
    restore_fitted_anchors,
    resume_settings,
)
from finemask.workflows.running.several_processes import agreed_run

log = logging.getLogger(__name__)

_TRIAL_STEPS = 1000  # of an optimiser that is only built to see that it can be
_MOST_SELF_CHECKED = 1000  # images: beyond, checking the evaluator takes longer than a user should wait


def train(
    data_root: str | Path | None = None, overrides: Sequence[str] = (), config_dir: str | Path | None = None
) -> TrainedRun | None:
    """What ``finemask train`` does: trains, evaluates the best weights, writes a model file and a report.

    Args:
        data_root: folder of the dataset; see data/README.md. None where an experiment brings its own.
        overrides: as on the command line: ``["model=light", "trainer.max_epochs=30"]``.
        config_dir: folder of YAML files of your own.

    Returns:
        ``metrics`` (the content of ``metrics.json``), ``model_path`` and ``paths`` of all files; None when the run
        was interrupted, after saving.

    Raises:
        FinemaskError: something that can be mended, before anything was trained; or a training that diverged.
    """
    started = time.monotonic()
    asked = Asked("train", (*arguments({"data.root": data_root}), *overrides), config_dir)
    cfg = asked.compose()
    for key, function in (("folds", "folds.cross_validate"), ("learning_curve", "learning_curve.learning_curve")):
        if cfg.get(key) is not None:
            raise ConfigError(
                f"{key} is many trainings", remedy=f"There is finemask.workflows.several_runs.{function}."
            )
    return run_training(compose_training(asked, cfg), started)


def run_training(
    cfg: DictConfig, started: float | None = None, measured: Mapping[str, Any] | None = None
) -> TrainedRun | None:
    """Trains and evaluates the best weights, as configured.

    Args:
        cfg: of the verb ``train``, as ``finemask.workflows.running.compose_training.compose_training`` gives it.
        started: ``time.monotonic()`` from which a time budget counts; by default now.
        measured: content of ``metrics.json`` that the model file states; with it a run needs no validation images.

    Returns:
        The results and the paths written; ``None`` when the run was interrupted, after saving.

    Raises:
        FinemaskError: something the user can mend, before anything was trained, or a training that diverged.
    """
    run_log = RunLog()
    started = time.monotonic() if started is None else started
    try:
        run = agreed_run(choose_run(Path(cfg.output), str(cfg.name), cfg.resume))
        cfg.run_dir = str(run.folder)
        with logging_to(run_log, is_main=is_first_process()):
            return _train(cfg, run, run_log, started, measured or {})
    except Exception as error:
        if any(map(is_disk_full, chain_of(error))):
            raise _full_disk(Path(cfg.run_dir)) from error
        raise
    finally:
        close_run()


def _full_disk(run_dir: Path) -> FinemaskError:
    has_checkpoint = (run_dir / "checkpoints" / LAST).is_file()
    return FinemaskError(
        "the disk is full: no space left on the device",
        where=run_dir,
        remedy="Free some. "
        + (
            f"The checkpoint before is whole: the same command with resume=auto goes on from {LAST}."
            if has_checkpoint
            else "No checkpoint was written yet: type the same command again, or choose another place with output=DIR."
        ),
    )


def _train(
    cfg: DictConfig, run: Run, run_log: RunLog, started: float, measured: Mapping[str, Any]
) -> TrainedRun | None:
    """Everything is built before the run's folder is opened: a start that fails leaves nothing behind."""
    if run.note:
        log.info("%s", run.note)
    if cfg.get("planned"):
        show_table(plan_table(cfg.planned))
        log.info("To overrule a line of the plan, type its key; to do without: plan=none")
    checkpoint = read_resume_checkpoint(run.checkpoint) if run.checkpoint else None
    datamodule = build_datamodule(cfg)
    of_file = [category.name for category in datamodule.categories]
    if checkpoint and (order := class_order(checkpoint, of_file)):
        datamodule.order_classes(order)
        log.info("The data list their classes in another order; the run goes on with its own: %s", ", ".join(order))
    datamodule.setup()
    if datamodule.val_index is None and not measured:
        raise ConfigError("training needs validation images", where="data.val", remedy="Name their COCO file.")
    splits = {
        name: index for name in ("train", "val", "test") if (index := getattr(datamodule, f"{name}_index")) is not None
    }
    class_names = [category.name for category in datamodule.categories]
    show_table(data_table(splits, len(class_names), datamodule.root))
    pl.seed_everything(cfg.seed, workers=True, verbose=False)

    boxes = trained_boxes(splits["train"])
    fullest = max(index.max_instances_per_image for index in splits.values())
    counts = splits["train"].instances_per_label
    composed = reorder_class_weights(plain(cfg.model), of_file, class_names)
    model_config = resolve_model(composed, fullest, instances_per_label=counts, boxes=boxes)
    if checkpoint:
        restore_fitted_anchors(checkpoint, composed, model_config)
    model = build_model(model_config, num_classes=len(class_names) + 1)
    transfer = Transfer(**plain(cfg.transfer))
    apply_transfer(model, transfer)
    if cfg.get("recompute_backbone"):
        recompute_backbone(model)
    if cfg.data.batch_size == "auto":
        fit_to_memory(cfg, datamodule, model)
    begins = first_epochs(transfer, cfg.trainer.max_epochs if (cfg.trainer.max_epochs or -1) > 0 else None)
    show_table(model_table(model, model_config, begins))
    if line := anchors_line(composed, model_config, boxes):
        log.info("%s", line)
    report = None if checkpoint else load_weights(model, model_config, class_names)
    if report is not None:
        show_table(weights_table(report))
        if report.class_rows is not None:
            show_table(classes_table(report.class_rows))

    evaluators = {name: _evaluator(cfg, index) for name, index in splits.items() if name != "train"}
    fingerprints = {name: index.fingerprint for name, index in splits.items()}
    module = MaskRCNNModule(
        model,
        optimizer=build_optimizer(cfg),
        scheduler=build(cfg.scheduler, "scheduler"),
        lr=cfg.optimizer.lr,
        weight_decay=cfg.optimizer.weight_decay or 0.0,
        backbone_lr_scale=transfer.backbone_lr_scale,
        layer_decay=transfer.layer_decay,
        unfreezing=Unfreezing(model, begins) if begins else None,
        seed=cfg.seed,
        categories=datamodule.categories,
        settings=resume_settings(plain(cfg), model_config, fingerprints),
    )
    evaluation = CocoEvaluation(evaluators.get("val"))
    check_monitors(cfg, evaluation.logged if "val" in evaluators else [])
    budget = build_budget(cfg, started, len(splits["test"]) / len(splits["val"]) if len(evaluators) == 2 else 0.0)
    trainer = build_trainer(cfg, evaluation, budget)
    if trainer.world_size > 1 and trains_on_cpu(trainer) and has_sync_norm(model):
        raise ConfigError(
            "sync_bn needs GPUs where several processes train", where="model.backbone.norm", remedy="Take bn or gn."
        )
    if trainer.world_size > 1 and cfg.get("find_lr") and not run.goes_on:
        raise ConfigError(
            f"find_lr=true with {trainer.world_size} processes, each of which would find its own",
            remedy="Find it with trainer.devices=1, then type it: optimizer.lr=RATE.",
        )
    optimizer, _ = module.build_optimizer(_TRIAL_STEPS)  # what it does not take is refused now
    if checkpoint:
        check_resumable(checkpoint, module, optimizer, trainer, starts_anew=not run.goes_on)
    if "val" in evaluators:
        _check_evaluator(evaluators["val"], cfg)
    if trains_on_cpu(trainer):
        model.use_channels_last()
    if cfg.compile is not None:
        _compile(model, str(cfg.compile), heads=not trains_on_cpu(trainer))
    chosen, run = run, _opened(cfg, run)
    if run != chosen:  # another run took the folder: callbacks and loggers are told of the next one
        trainer = build_trainer(cfg, evaluation, budget)
    if trainer.is_global_zero:
        run_log.open(run.folder / "train.log")
        log.info(
            "Run: %s%s", display_path(run.folder), f", resumed from {run.checkpoint.name}" if run.checkpoint else ""
        )
        if trainer.world_size > 1:
            images, batches = plural(cfg.data.batch_size, "image"), trainer.world_size * trainer.accumulate_grad_batches
            of_all = cfg.data.batch_size * batches
            log.info("%d processes of %s: a step learns from %d.", trainer.world_size, images, of_all)
        if cfg.get("find_lr") and not run.goes_on:
            take_found_rate(cfg, module, datamodule, trainer)
        write_origin(run.folder, cfg, fingerprints)
        for logger in trainer.loggers:
            logger.log_hyperparams(plain(cfg))
        if checkpoint and run.goes_on:
            _forget_repeated_steps(trainer, checkpoint.step)

    def work() -> TrainedRun:
        trainer.fit(module, datamodule=datamodule, ckpt_path=run.checkpoint, weights_only=True)
        return evaluate_best_weights(
            trainer, module, datamodule, evaluation, evaluators, model_config, run.folder, measured
        )

    finished = until_interrupted(trainer, work)
    if finished is None:
        log.info("Interrupted. With resume=auto it goes on from its last checkpoint.")
    return finished


def _opened(cfg: DictConfig, run: Run) -> Run:
    """The run whose folder is there now, for all processes; another than was chosen if somebody else took that."""
    while is_first_process() and not open_run(run):
        run = choose_run(Path(cfg.output), str(cfg.name), cfg.resume)
    run = agreed_run(run)
    cfg.run_dir = str(run.folder)
    return run


def _compile(model: MaskRCNN, mode: str, *, heads: bool) -> None:
    compile_parts(model, mode, heads=heads)
    parts = "backbone, pyramid and heads are" if heads else "backbone and pyramid are"
    log.info("compile=%s: %s compiled while the first steps run, which takes minutes.", mode, parts)
    if not heads:
        log.info("On a CPU a step is hardly quicker for it; compile=null is to do without.")


def _forget_repeated_steps(trainer: pl.Trainer, step: int) -> None:
    """Drops metrics of the steps after the checkpoint: a resumed run takes these steps again."""
    for logger in trainer.loggers:
        if isinstance(logger, CsvLogger):
            logger.drop_after(step)


def _evaluator(cfg: DictConfig, index: Any) -> CocoEvaluator:
    return CocoEvaluator(
        ground_truth_of(index.columns, str(index.annotations_path)),
        category_ids=index.category_ids,
        max_detections=cfg.max_detections,
        threshold=cfg.threshold,
        backend=cfg.backend,
    )


def _check_evaluator(evaluator: CocoEvaluator, cfg: DictConfig) -> None:
    """Ground truth as predictions must score 1.0: otherwise every number of the run would be wrong."""
    ground_truth = evaluator.ground_truth
    if len(ground_truth.images) > _MOST_SELF_CHECKED:
        return
    # an evaluator of its own: the run's compares its backend with the reference on what the model finds
    trial = CocoEvaluator(
        ground_truth,
        iou_types=evaluator.iou_types,
        max_detections=evaluator.max_detections,
        backend=evaluator.backend,
    )
    trial.add_results(ground_truth_as_predictions(ground_truth))
    metrics: Mapping[str, Any] = trial.compute()
    for iou_type in evaluator.iou_types:
        score = metrics[iou_type]["AP"]
        if score is not None and score < 1.0 - 1e-6:
            log.warning(
                "The validation labels fed back as predictions score %s AP %.4f instead of 1: some boxes or masks in "
                "%s are empty or contradict each other.",
                iou_type,
                score,
                cfg.data.val,
            )
