"""Exports models to ONNX and OpenVINO, compares the files with the models, and times all of them in turn.

    python scripts/bench_export.py "light, cascade" --weights runs/mine/latest/model.safetensors --images photos/

One model takes some minutes; ``--save FILE`` adds each row to a file of JSON lines, so that several calls make one
table. ``light`` has the weights of ``--weights``, heads on it those that fit; the rest is random, with batch norm that
has seen the images and scores that are spread as those of a trained model are. Each model is compared with its files
on the same images, resized to many sizes, at its own threshold, and on one without a detection. Times are of the
processor, all threads together: what else the machine does is not in them. What a file costs in AP is said by
``finemask export data.root=DIR``.
"""

import argparse
import gc
import json
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from bench_train_models import build_ours, build_torchvisions
from PIL import Image
from rich.console import Console
from torch import Tensor, nn

from finemask.bench.timing import interleave
from finemask.errors import ConfigError
from finemask.export.agreement import agreement_of
from finemask.export.onnx_file import onnx_graph, quietly, save_onnx
from finemask.export.openvino_file import save_openvino
from finemask.export.plain_model import check_exportable
from finemask.inference.exported_model import ExportedModel, load_exported
from finemask.model.mask_rcnn import MaskRCNN
from finemask.model_file import load_model_file
from finemask.model_header import ModelHeader
from finemask.ops.terminal import table
from finemask.types import Category

MODELS = {  # configuration and overrides
    "light": ("light",),
    "light, cascade": ("light", "model/box_predictor=cascade"),
    "light, mask_iou": ("light", "model/mask_predictor=mask_iou"),
    "light, deep_fcn": ("light", "model/mask_predictor=deep_fcn"),
    "light, point_rend": ("light", "model/mask_predictor=point_rend"),
    "resnet18_fpn": ("resnet18_fpn",),
    "mobilenet_v3_fpn": ("mobilenet_v3_fpn",),
    "timm resnet10t": ("timm_fpn", "model.backbone.name=resnet10t"),
    "resnet50_fpn": ("resnet50_fpn",),
}
SIZE = 320
SIZES_HW = ((240, 320), (480, 640), (97, 391), (389, 131), (64, 64), (768, 616), (333, 500), (1024, 700), (50, 333))
HEADINGS = (
    "model", "file", "images", "found", "paired", "at the cut", "at a tie", "at a pixel", "faults", "box px",
    "score", "mask %", "ms", "eager ms", "times",
)  # fmt: skip
_OBJECTNESS, _CLASSES, _MASKS = 2.0, 2.5, 4.0  # standard deviations of logits, about as of trained models


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", help=f"any of: {', '.join(MODELS)}; by default all")
    parser.add_argument("--weights", type=Path, help="model file, for the model of that name and what shares its parts")
    parser.add_argument("--images", type=Path, required=True, help="folder of images")
    parser.add_argument("--count", type=int, default=50, help="images to compare on")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--size", type=int, default=SIZE, help="shorter side that models with random weights see, px")
    parser.add_argument("--save", type=Path, help="file of JSON lines to add the rows to")
    parser.add_argument(
        "--torchvisions", action="store_true", help="torchvision's model by torch's older exporter, too"
    )
    arguments = parser.parse_args()
    images = list(many_sizes(arguments.images, arguments.count))
    console = Console(width=120)
    rows: list[tuple[object, ...]] = []
    for name in arguments.models or MODELS:
        added = measure(name, arguments.weights, images, arguments.rounds, arguments.size)
        if arguments.save is not None:
            with arguments.save.open("a", encoding="utf-8") as file:
                file.writelines(json.dumps(dict(zip(HEADINGS, row, strict=True))) + "\n" for row in added)
        rows += added
        console.print(table(HEADINGS, rows, words=HEADINGS[:2]))
    if arguments.torchvisions:
        rows += measure_torchvisions(images[1], arguments.rounds)
        console.print(table(HEADINGS, rows, words=HEADINGS[:2]))
    return 0


def many_sizes(folder: Path, count: int) -> Iterator[Tensor]:
    """Images uint8 [3, H, W] of the folder, each of another size in turn; the first is noise."""
    noise = np.random.default_rng(0).integers(0, 256, (3, 120, 160), dtype=np.uint8)
    yield torch.from_numpy(noise)
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png"))
    step = max(1, len(files) // max(1, count - 1))
    for number, path in enumerate(files[::step][: count - 1]):
        height, width = SIZES_HW[number % len(SIZES_HW)]
        pixels = np.asarray(Image.open(path).convert("RGB").resize((width, height)))
        yield torch.from_numpy(pixels.copy()).permute(2, 0, 1).contiguous()


def measure(name: str, weights: Path | None, images: list[Tensor], rounds: int, size: int) -> list[tuple[object, ...]]:
    """Rows of the table: a model in each format."""
    model, header = build(name, weights, images[1:5], size)
    try:
        check_exportable(model)
    except ConfigError as error:
        return [(name, f"refused: {error.what}", *[None] * (len(HEADINGS) - 2))]
    graph = onnx_graph(model)
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as folder:
        paths = {"ONNX": Path(folder) / "model.onnx", "OpenVINO": Path(folder) / "model.xml"}
        save_openvino(graph, header, paths["OpenVINO"])
        save_onnx(graph, model, header, paths["ONNX"])  # which changes the graph
        del graph
        gc.collect()
        files = {kind: load_exported(path) for kind, path in paths.items()}
        answers = compare_all(model, files, images)
        timing = interleave(
            {kind: lambda each=each: run(each, images[1]) for kind, each in {"eager": model, **files}.items()},
            rounds,
            clock=time.process_time,
        )
        for kind in files:
            numbers = answers[kind]
            ms, eager = 1000 * timing.median(kind), 1000 * timing.median("eager")
            rows.append((name, kind, *numbers, round(ms), round(eager), round(timing.ratio("eager", kind), 2)))
    return rows


def build(name: str, weights: Path | None, images: list[Tensor], size: int) -> tuple[MaskRCNN, ModelHeader]:
    """A model in evaluation mode, and a header for its file."""
    preset, *overrides = MODELS[name]
    given, header = load_model_file(weights) if weights is not None else (None, None)
    if given is not None and header is not None and header.model["name"] == preset:
        if not overrides:
            assert isinstance(given, MaskRCNN)
            return given, header
        model = build_ours(size, len(header.categories), *overrides, name=preset)
        own = model.state_dict()
        fitting = {
            key: value for key, value in given.state_dict().items() if own.get(key, value[:0]).shape == value.shape
        }
        model.load_state_dict(fitting, strict=False)
    else:
        model = build_ours(size, 3, *overrides, name=preset)
        header = ModelHeader({}, tuple(Category(number, str(number)) for number in range(1, 4)), model.preprocessing)
    model = model.eval()
    spread_scores(model, images)
    config = {**header.model, "roi_heads": {"score_thresh": model.roi_heads.score_thresh}}
    return model, ModelHeader(config, header.categories, model.preprocessing)


@torch.no_grad()
def spread_scores(model: MaskRCNN, images: list[Tensor]) -> None:
    """Gives logits the spread of a trained model's: of untrained ones, rounding decides which is first."""
    heads = model.roi_heads
    batch, _ = model.transform(images)
    _spread(model.rpn.head.cls_logits, model.rpn.head(list(model.backbone(batch.tensors).values()))[0], _OBJECTNESS)
    for name, layer in heads.named_modules():
        if name.endswith("cls_score"):
            seen: list[Tensor] = []
            hook = layer.register_forward_hook(lambda _, __, logits, seen=seen: seen.append(logits))
            model(images)
            hook.remove()
            _spread(layer, torch.cat(seen), _CLASSES)
    probs = torch.cat([found["mask_probs"].flatten() for found in model(images)])
    _spread(heads.mask_predictor.mask_fcn_logits, probs.clamp(1e-6, 1 - 1e-6).logit(), _MASKS)


def _spread(layer: nn.Module, logits: Tensor, std: float) -> None:
    factor = std / float(logits.std())
    layer.weight *= factor
    if layer.bias is not None:
        layer.bias *= factor


def run(model: nn.Module, image: Tensor) -> None:
    with torch.inference_mode():
        model([image])


def compare_all(
    model: MaskRCNN, files: dict[str, ExportedModel], images: list[Tensor]
) -> dict[str, tuple[object, ...]]:
    """By file: images, detections, pairs, images that disagree, the largest difference of edge, score and mask."""
    own = model.roi_heads.score_thresh
    found: dict[str, list] = {kind: [] for kind in files}
    for number, image in enumerate(images):
        thresh = own if number else 1.0  # of the first, nothing is let through
        for kind, file in files.items():
            found[kind].append(agreement_of(model, file, image, str(number), thresh))
    for kind, all_of in found.items():
        for one in all_of:
            if one.fault:
                print(f"{kind}, image {one.image} of {one.size_hw}: {one.fault}")
    return {
        kind: (
            len(all_of),
            sum(one.found for one in all_of),
            sum(one.matched for one in all_of),
            sum(one.at_the_cut for one in all_of),
            sum(one.at_a_tie for one in all_of),
            sum(one.at_a_pixel for one in all_of),
            sum(bool(one.fault) for one in all_of),
            f"{max(one.box_px for one in all_of):.1e}",
            f"{max(one.score for one in all_of):.1e}",
            f"{100 * max(one.mask_share for one in all_of):.2f}",
        )
        for kind, all_of in found.items()
    }


def measure_torchvisions(image: Tensor, rounds: int) -> list[tuple[object, ...]]:
    """Torchvision's own way: its resnet50_fpn through torch's older exporter, for images of this one size."""
    import onnxruntime

    model = build_torchvisions(SIZE, 3, build_ours(SIZE, 3)).eval()
    pixels = image.float() / 255
    with tempfile.TemporaryDirectory() as folder, quietly():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(model, ([pixels],), path, dynamo=False, opset_version=17)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(path, options)
    (given,) = session.get_inputs()
    timing = interleave(
        {"eager": lambda: run(model, pixels), "file": lambda: session.run(None, {given.name: pixels.numpy()})},
        rounds,
        clock=time.process_time,
    )
    ms, eager = 1000 * timing.median("file"), 1000 * timing.median("eager")
    ratio = round(timing.ratio("eager", "file"), 2)
    return [("torchvision's resnet50_fpn", "its ONNX", *[None] * (len(HEADINGS) - 5), round(ms), round(eager), ratio)]


if __name__ == "__main__":
    sys.exit(main())
