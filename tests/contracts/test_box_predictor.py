"""What every box predictor keeps to; a new one is covered as soon as its YAML file is there."""

from pathlib import Path

import pytest
import torch
from part_cases import (
    NUM_CLASSES,
    SIDE_PX,
    build_parts,
    parts_config,
    second_stage_detections,
    second_stage_input,
    second_stage_losses,
    spread_scores,
    variants,
    without_gradient,
)

from finemask.model.mask_rcnn import preprocessing_from
from finemask.model_file import load_model_file, save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

# Options that change what a predictor does, besides the shipped values.
OPTIONS = [
    "multi_expert predictor=own",
    "multi_expert assign=learned",
    "multi_expert assign=learned warmup_steps=0 predictor=own",
    "multi_expert assign=learned mixing=soft",
]
CASES = variants("box_predictor") + OPTIONS


@pytest.fixture(params=CASES)
def case(request):
    return request.param


@pytest.fixture
def model(case):
    return build_parts(box_predictor=case)


def total(losses):
    return torch.stack(list(losses.values())).sum()


def test_options_are_of_shipped_predictors():
    assert {option.split()[0] for option in OPTIONS} <= set(variants("box_predictor"))


def test_losses_are_named_scalars_and_their_gradient_reaches_every_parameter_and_feature(model, batch):
    losses = second_stage_losses(model, batch)
    assert {"loss_classifier", "loss_box_reg", "loss_mask"} <= losses.keys()
    assert all(name.startswith("loss_") and loss.shape == () for name, loss in losses.items())
    total(losses).backward()
    assert without_gradient(model) == []
    assert all(p.grad.isfinite().all() for p in model.roi_heads.parameters())
    assert all(feature.grad is not None for feature in batch[0].values())
    assert any(p.grad.any() for p in model.roi_heads.box_predictor.parameters())


@pytest.mark.parametrize(
    ("instances", "proposals"), [((0, 0), 0), ((0, 0), 9), ((2, 0), 0)], ids=["no box", "no positive", "one image"]
)
def test_a_batch_that_lacks_something_still_has_finite_losses_and_gradients_everywhere(model, instances, proposals):
    losses = second_stage_losses(model, second_stage_input(instances, proposals))
    assert torch.isfinite(total(losses))
    total(losses).backward()
    assert without_gradient(model) == []


def test_no_proposal_is_no_detection(model):
    for found in second_stage_detections(model, second_stage_input((0, 0), 0)):
        assert {key: tuple(value.shape) for key, value in found.items()} == {
            "boxes": (0, 4),
            "labels": (0,),
            "scores": (0,),
            "mask_probs": (0, 28, 28),
        }


def test_mixed_precision_stays_finite(model, half):
    batch = second_stage_input((1, 0), 8)  # half precision is slow on a CPU
    model.roi_heads.detections_per_img = 5
    with torch.autocast("cpu", dtype=half):
        losses = second_stage_losses(model, batch)
        found = second_stage_detections(model, batch)
    assert torch.isfinite(total(losses))
    total(losses).backward()
    assert all(p.grad.isfinite().all() for p in model.roi_heads.parameters())
    for of_image in found:
        assert of_image["boxes"].dtype == of_image["scores"].dtype == torch.float32
        assert all(value.isfinite().all() for value in of_image.values())


def test_detections_are_what_the_types_say(model):
    spread_scores(model)
    model.roi_heads.score_thresh = 0.01
    image = torch.randint(0, 256, (3, 50, SIDE_PX), dtype=torch.uint8)
    with torch.inference_mode():
        (found,) = model.eval()([image])
    count = len(found["scores"])
    assert count > 5
    assert found["image_size_hw"] == (50, SIDE_PX)
    assert found["boxes"].shape == (count, 4)
    assert found["mask_probs"].shape == (count, 28, 28)
    assert {key: value.dtype for key, value in found.items() if key != "image_size_hw"} == {
        "boxes": torch.float32,
        "labels": torch.int64,
        "scores": torch.float32,
        "mask_probs": torch.float32,
    }
    x1, y1, x2, y2 = found["boxes"].unbind(1)
    assert (x1 >= 0).all()
    assert (y1 >= 0).all()
    assert (x2 <= SIDE_PX + 1e-3).all()
    assert (y2 <= 50 + 1e-3).all()
    assert (x2 > x1).all()
    assert (y2 > y1).all()
    assert found["labels"].min() >= 1
    assert found["labels"].max() < NUM_CLASSES
    assert (found["scores"][:-1] >= found["scores"][1:]).all()
    assert found["scores"].min() > 0.01
    assert found["scores"].max() <= 1 + 1e-6
    assert found["mask_probs"].min() >= 0
    assert found["mask_probs"].max() <= 1


def test_a_model_file_rebuilds_it_to_the_last_bit(case, model, batch, tmp_path: Path):
    spread_scores(model)
    config = parts_config(box_predictor=case)
    categories = [Category(number, f"class {number}") for number in range(1, NUM_CLASSES)]
    header = ModelHeader(model=config, categories=categories, preprocessing=preprocessing_from(config))
    save_model_file(tmp_path / "model.safetensors", model.state_dict(), header)
    rebuilt, _ = load_model_file(tmp_path / "model.safetensors")
    found, again = second_stage_detections(model, batch), second_stage_detections(rebuilt, batch)
    assert sum(len(of_image["scores"]) for of_image in found) > 5
    for of_image, same in zip(found, again, strict=True):
        assert all(torch.equal(of_image[key], same[key]) for key in of_image)


def test_the_same_seed_gives_the_same_losses(case, batch):
    once, again = (second_stage_losses(build_parts(7, box_predictor=case), batch) for _ in range(2))
    assert {name: loss.item() for name, loss in once.items()} == {name: loss.item() for name, loss in again.items()}
