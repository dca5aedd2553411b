"""The four measurements of ``finemask benchmark``, each of ours alone, on drawn images."""

import statistics
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

import torch
from lightning_fabric.utilities import move_data_to_device
from omegaconf import DictConfig
from torch import Tensor, nn

from finemask.bench.scenes import scene, write_scenes
from finemask.bench.timing import interleave
from finemask.coco.index import CocoIndex
from finemask.config import plain
from finemask.data.dataset import InstanceDataset
from finemask.errors import ConfigError, FinemaskError
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.evaluation.numbers.pycocotools_reference import ground_truth_as_predictions
from finemask.inference.exported_model import is_exported, open_model
from finemask.model.build import build_model
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model.resolve import resolve_model
from finemask.ops.mask_ops import masks_to_rles
from finemask.ops.terminal import Progress
from finemask.types import Target
from finemask.workflows.build_trainer import build, precision_of

WORK = ("data", "train", "predict", "evaluate")
_MIB = 1024**2


@dataclass(frozen=True, slots=True)
class Speed:
    """What one kind of work achieved.

    Args:
        images_per_s: median over the rounds.
        what: what was done with each image, in words.
        peak_memory_mib: of the GPU where one works, else of the process, so far.
    """

    images_per_s: float
    what: str
    peak_memory_mib: float


def measure_machine(cfg: DictConfig, device: torch.device) -> dict[str, Speed]:
    """Each kind of work that is asked for, one after another.

    Args:
        cfg: keys as in ``configs/benchmark.yaml``.
        device: that trains and predicts.

    Raises:
        ConfigError: an exported file is to be trained.
        ModelFileError: the file cannot be opened.
    """
    if cfg.model_file is not None and is_exported(cfg.model_file) and "train" in cfg.work:
        raise ConfigError(
            f"model_file={cfg.model_file} cannot be trained: it is an exported file",
            remedy='Leave train out, "work=[predict]", or give the model file that it was made of.',
        )
    speeds: dict[str, Speed] = {}
    with (
        tempfile.TemporaryDirectory(prefix="finemask-benchmark-") as folder,
        Progress("measuring", len(cfg.work)) as bar,
    ):
        write_scenes(Path(folder), cfg.images, cfg.height, cfg.width, cfg.objects)
        for work in (name for name in WORK if name in cfg.work):
            speeds[work] = _measure(work, cfg, Path(folder), device)
            bar.advance()
    return speeds


def _measure(work: str, cfg: DictConfig, folder: Path, device: torch.device) -> Speed:
    annotations = folder / "annotations" / "train.json"
    if work == "data":
        index = CocoIndex.read(annotations, folder / "images")
        return measure_data(InstanceDataset(index, build(cfg.augment, "augment"), cfg.seed), cfg.rounds)
    if work == "evaluate":
        return measure_evaluation(annotations, cfg.rounds)
    model = _model(cfg)
    drawn = [scene(cfg.height, cfg.width, cfg.objects, cfg.seed + number) for number in range(cfg.batch_size)]
    images = [image for image, _ in drawn]
    if work == "predict":
        if cfg.model_file is None:
            _widen_scores(model)
        return measure_prediction(model, images, device, cfg.rounds)
    assert isinstance(model, MaskRCNN)
    precision = precision_of(cfg.precision, device)
    return measure_training(model, images, [target for _, target in drawn], device, precision, cfg.rounds)


def _model(cfg: DictConfig) -> nn.Module:
    """The model of the file that is given, or one with random weights."""
    if cfg.model_file is not None:
        return open_model(cfg.model_file, plain(cfg)["trust"])[0]
    torch.manual_seed(cfg.seed)
    return build_model(resolve_model({**plain(cfg.model), "weights": "none"}, cfg.objects), num_classes=2)


def measure_data(dataset: InstanceDataset, rounds: int) -> Speed:
    """Files to samples, in this one process: what a worker does."""

    def load() -> None:
        for position in range(len(dataset)):
            dataset[position]

    per_s = len(dataset) / _median(load, rounds)
    augmented = "augmented" if dataset.augment is not None else "not augmented"
    return Speed(per_s, f"read, decoded, {augmented}: for each worker process", _peak_memory(torch.device("cpu")))


def measure_training(
    model: MaskRCNN, images: list[Tensor], targets: list[Target], device: torch.device, precision: str, rounds: int
) -> Speed:
    """Forward, backward and a step of SGD, on images that are there already."""
    model.to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    images, targets = move_data_to_device((images, targets), device)

    def step() -> None:
        optimizer.zero_grad()
        with _autocast(device, precision):
            losses: dict[str, Tensor] = model(images, targets)
            total = torch.stack(list(losses.values())).sum()
        total.backward()
        optimizer.step()
        _wait(device)

    seconds = _median(step, rounds)
    what = f"{seconds:.3g} s a step of {len(images)}, {precision}"
    return Speed(len(images) / seconds, what, _peak_memory(device))


def measure_prediction(model: nn.Module, images: list[Tensor], device: torch.device, rounds: int) -> Speed:
    """Detections and their masks as RLE."""
    model.to(device).eval()
    images = [image.to(device) for image in images]
    found: list[int] = []

    @torch.inference_mode()
    def predict() -> None:
        for one in model(images):
            masks_to_rles(one["mask_probs"], one["boxes"], one["image_size_hw"])
            found.append(len(one["labels"]))
        _wait(device)

    per_s = len(images) / _median(predict, rounds)
    return Speed(per_s, f"{statistics.median(found):.0f} instances an image, masks as RLE", _peak_memory(device))


def measure_evaluation(annotations: Path, rounds: int) -> Speed:
    """COCO's numbers for boxes and masks, of detections that are there already."""
    ground_truth = load_ground_truth(annotations)
    results = ground_truth_as_predictions(ground_truth)

    def evaluate() -> None:
        evaluator = CocoEvaluator(ground_truth)
        evaluator.add_results(results)
        evaluator.compute()

    per_s = len(ground_truth.images) / _median(evaluate, rounds)
    what = f"bbox and segm, {len(results) / len(ground_truth.images):.0f} detections an image"
    return Speed(per_s, what, _peak_memory(torch.device("cpu")))


def _median(work: Callable[[], object], rounds: int) -> float:
    return interleave({"work": work}, rounds).median("work")


def _autocast(device: torch.device, precision: str) -> AbstractContextManager[object]:
    if precision == "32-true":
        return nullcontext()
    return torch.autocast(device.type, dtype=torch.bfloat16 if precision == "bf16-mixed" else torch.float16)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def _peak_memory(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / _MIB
    # Linux counts in KiB, macOS in bytes
    if sys.platform == "win32":
        raise FinemaskError(
            "Windows does not report the peak memory of a process", remedy="finemask benchmark runs on Linux and macOS."
        )
    import resource  # Windows has none

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (_MIB if sys.platform == "darwin" else 1024)


def _widen_scores(model: nn.Module) -> None:
    """Spreads the scores of random weights, so that detections pass the threshold as a trained model's do."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("cls_score.weight"):
                parameter.mul_(30)
