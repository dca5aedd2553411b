"""What a model finds in an image is the same to the bit in training's validation, ``evaluate`` and ``predict``."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import pytorch_lightning as pl
import torch
from inference_data import CATEGORIES, colour_header
from model_cases import model_config
from PIL import Image

from finemask.coco.index import CocoIndex
from finemask.data.datamodule import CocoDataModule
from finemask.evaluation.evaluator import CocoEvaluator
from finemask.evaluation.ground_truth import load_ground_truth
from finemask.inference.predictor import Predictor
from finemask.model.build import build_model
from finemask.model.devices.compiling import compile_parts
from finemask.training.callbacks.validation import CocoEvaluation
from finemask.training.module import MaskRCNNModule
from finemask.workflows.detect_split import detect_split, refine_by_sobel, with_options

SIZES_HW = {11: (70, 110), 12: (96, 64), 3: (60, 60), 14: (70, 110), 5: (200, 120), 16: (64, 96)}  # by image id
PLAIN = 3  # the image of one grey
OPTIONS = dict.fromkeys(("suppression", "nms_thresh", "detections_per_img", "tta", "refine"))


@dataclass
class Split:
    """Images of mixed sizes on a disk: JPEG, PNG, and a photograph that lies on its side."""

    root: Path
    files: dict[int, Path]

    @property
    def annotations(self) -> Path:
        return self.root / "annotations.json"


@pytest.fixture(scope="module")
def split(tmp_path_factory):
    root = tmp_path_factory.mktemp("split")
    rng = np.random.default_rng(0)
    files, images = {}, []
    for image_id, (height, width) in SIZES_HW.items():
        pixels = rng.integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
        pixels = np.full_like(pixels, 90) if image_id == PLAIN else pixels
        picture = Image.fromarray(pixels).resize((width, height))
        files[image_id] = root / f"{image_id}.{'jpg' if image_id % 2 else 'png'}"
        exif = Image.Exif()
        if image_id == 5:
            exif[0x0112] = 6
            picture = picture.transpose(Image.Transpose.ROTATE_90)
        picture.save(files[image_id], exif=exif)
        images.append({"id": image_id, "file_name": files[image_id].name, "height": height, "width": width})
    outline = {"iscrowd": 0, "segmentation": [[5, 5, 40, 5, 40, 40, 5, 40]], "bbox": [5, 5, 35, 35], "area": 1225}
    objects = [{"id": i, "image_id": i, "category_id": 9, **outline} for i in SIZES_HW]
    categories = [category._asdict() for category in CATEGORIES]
    (root / "annotations.json").write_text(
        json.dumps({"images": images, "annotations": objects, "categories": categories})
    )
    return Split(root, files)


def evaluator(split):
    return CocoEvaluator(load_ground_truth(split.annotations), [category.id for category in CATEGORIES])


def by_image(results):
    found = {image_id: [] for image_id in SIZES_HW}
    for result in results:
        found[result["image_id"]].append(result)
    return found


def evaluated(model, split, batch_size, order, refine=None):
    index = CocoIndex.read(split.annotations, split.root, categories=CATEGORIES, cache=None)
    positions = [index.image_ids.tolist().index(image_id) for image_id in order]
    found = evaluator(split)
    detect_split(model, index, found, torch.device("cpu"), batch_size, 2, refine and refine_by_sobel, positions)
    return by_image(found.results)


def predicted(model, split, batch_size, order, refine=None):
    predictor = Predictor(model, colour_header())
    several = predictor.predict([split.files[image_id] for image_id in order], 0.0, batch_size)
    several = several if refine is None else [instances.refined() for instances in several]
    return {i: instances.to_coco(i) for i, instances in zip(order, several, strict=True)}


def validated(model, split, batch_size, precision="32-true"):
    data = CocoDataModule(
        split.root, *["annotations.json"] * 2, images=".", eval_batch_size=batch_size, num_workers=0, cache=None
    )
    found = evaluator(split)
    trainer = pl.Trainer(
        accelerator="cpu",
        precision=precision,
        callbacks=[CocoEvaluation(found)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.validate(MaskRCNNModule(model, torch.optim.SGD, lambda *_: None, 0.1), datamodule=data, verbose=False)
    return by_image(found.results)


def random_model(split, *words):
    """A model that finds nothing in one of the images, and something in the others."""
    torch.manual_seed(0)
    config = model_config("tiny", "model.min_size=64", "model.max_size=96", *words)
    model = build_model(config, num_classes=len(CATEGORIES) + 1).eval()
    for name, weight in model.roi_heads.box_predictor.named_parameters():
        weight.data *= 30 if name.endswith("cls_score.weight") else 1  # scores spread out
    heads = model.roi_heads
    heads.detections_per_img, heads.score_thresh = 12, 0.0
    best = []

    def note(*arguments):
        found = type(heads).detect_boxes(heads, *arguments)
        best.append(max(found[1][0].tolist()))
        return found

    heads.detect_boxes = note
    alone(model, split)
    del heads.detect_boxes
    heads.score_thresh = sum(sorted(best)[:2]) / 2
    return model


def alone(model, split, **options):
    return {i: predicted(model, split, 1, [i], **options)[i] for i in SIZES_HW}


def assert_as_said(found):
    counts = sorted(map(len, found.values()))
    assert counts[0] == 0 < counts[1]
    assert counts[-1] > 4


FORWARD, BACKWARD, MIXED = list(SIZES_HW), list(SIZES_HW)[::-1], [5, 11, 3, 16, 14, 12]


@pytest.mark.parametrize(
    "word",
    [
        "model.rpn.nms_thresh=0.7",  # the plain one
        "model/box_predictor=cascade",
        "model/mask_predictor=point_rend",
        "model/mask_predictor=mask_iou",
        "model/suppression=mask",
    ],
)
def test_validation_evaluate_and_predict_find_the_same_in_any_batch_and_order(split, word):
    model = random_model(split, word)
    expected = alone(model, split)
    assert_as_said(expected)
    assert evaluated(model, split, 1, FORWARD) == expected
    assert evaluated(model, split, 2, MIXED) == expected
    assert evaluated(model, split, 5, BACKWARD) == expected
    assert predicted(model, split, 2, BACKWARD) == expected
    assert predicted(model, split, 5, MIXED) == expected
    assert validated(model, split, 2) == expected
    assert validated(model, split, 5) == expected


@pytest.mark.parametrize("options", [{"tta": ["flip", 64, 80]}, {"refine": "sobel"}, {"suppression": "soft_linear"}])
def test_so_they_do_with_other_detections_from_the_same_model(split, options):
    model = random_model(split)
    header = colour_header(model=model_config("tiny"))
    model, refine = with_options(model, header, OPTIONS | options).eval(), options.get("refine")
    expected = alone(model, split, refine=refine)
    assert_as_said(expected)
    assert evaluated(model, split, 1, FORWARD, refine) == expected
    assert evaluated(model, split, 5, MIXED, refine) == expected
    assert predicted(model, split, 5, BACKWARD, refine) == expected


def test_validation_is_that_of_prediction_in_half_precision_and_compiled(split):
    model = random_model(split)
    expected = alone(model, split)
    compiled = []
    compile_parts(model, heads=True, backend=lambda graph, inputs: compiled.append(graph) or graph.forward)
    assert validated(model, split, 2, "bf16-mixed") == expected
    assert not compiled
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert alone(model, split) != expected  # so it is training's validation that cares
