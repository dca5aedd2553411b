"""What ``import finemask`` offers besides classes: models by name, and the verbs train and evaluate as functions."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finemask.config import compose, plain
from finemask.config.overrides import quoted
from finemask.errors import ConfigError
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.pretrained.transfer import Transfer, apply_transfer
from finemask.model.pretrained.weights import load_weights
from finemask.model.resolve import resolve_model
from finemask.workflows.finish_run import Finished


def maskrcnn(
    name: str = "resnet50_fpn",
    num_classes: int = 91,
    weights: str | Path = "auto",
    *,
    trainable_stages: int | None = None,
    max_instances_per_image: int = 0,
    overrides: Sequence[str] = (),
    config_dir: str | Path | None = None,
) -> MaskRCNN:
    """Mask R-CNN by the name of its configuration, as torchvision's builders: with pretrained weights.

    Args:
        name: an option of the group ``model``: ``resnet50_fpn``, ``light``, ``timm_fpn``, …; see
            ``finemask config list model``.
        num_classes: K + 1, background included; ``CocoDataModule.num_classes``.
        weights: ``auto`` takes what the configuration names; ``coco``, ``imagenet``, ``none``, or a file.
        trainable_stages: of the backbone's five parts, counted from the last; by default 3, or 5 without weights, as
            torchvision has it.
        max_instances_per_image: of the fullest image: the cap on detections leaves room for half as many again, and is
            100 at least.
        overrides: keys of the model as on the command line: ``["model.min_size=512", "model/mask_loss=edge"]``.
        config_dir: folder of YAML files of your own.

    Returns:
        The model, in training mode. In training it takes images uint8 [3, H, W] and targets and gives losses; in
        evaluation it gives one ``Detections`` an image.

    Raises:
        ConfigError: there is no such option or key.
        WeightsError: the weights cannot be had, or do not fit.
    """
    if num_classes < 2:
        raise ConfigError(f"num_classes={num_classes}", remedy="It counts the background, too: 2 for one category.")
    cfg = compose("train", [f"model={name}", *overrides], config_dir=config_dir, check=False)
    config = plain(cfg.model) if weights == "auto" else {**plain(cfg.model), "weights": str(weights)}
    config = resolve_model(config, max_instances_per_image)
    model = build_model(config, num_classes)
    if trainable_stages is None:
        trainable_stages = 5 if config["weights"] == "none" else 3
    apply_transfer(model, Transfer(trainable_stages=trainable_stages))
    load_weights(model, config)
    return model


def train(
    data_root: str | Path | None = None, overrides: Sequence[str] = (), config_dir: str | Path | None = None
) -> Finished | None:
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
    from finemask.workflows.check_before_training import check_data
    from finemask.workflows.train_model import prepare_data
    from finemask.workflows.train_model import train as run_training

    root = [] if data_root is None else [f"data.root={quoted(str(data_root))}"]
    cfg = compose("train", [*root, *overrides], config_dir=config_dir)
    prepare_data(cfg)
    if cfg.data.check:
        check_data(cfg)
    return run_training(cfg)


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
    from finemask.workflows.evaluate_model import evaluate_model_or_results

    given = {
        "model": model,
        "data.root": data_root,
        "predictions": predictions,
        "annotations": annotations,
        "output": output,
    }
    typed = [f"{key}={quoted(str(value))}" for key, value in given.items() if value is not None]
    return evaluate_model_or_results(plain(compose("evaluate", [*typed, *overrides]))).metrics
