"""How often the host waits in a step, how much it queues, and that neither grows with the batch."""

import copy

import pytest
import torch
from model_cases import model_config, random_scene
from part_cases import KINDS, SIDE_PX, build_parts, variants
from pretend_device import PretendDevice, to_device

from finemask.data.batches import PackedBatch
from finemask.model.build import build_model
from finemask.model.devices.gpu.crossing import on_host

EVERY_VARIANT = [(kind, option) for kind in KINDS for option in variants(kind)]
MOST_WAITS_TRAINING, MOST_WAITS_DETECTING, MOST_OPERATIONS = 4, 3, 900


def scenes_of(batch):
    """Images of several sizes, with and without objects."""
    return [random_scene(96 + 8 * (number % 3), 112, (4, 1, 0)[number % 3], number, number) for number in range(batch)]


def training_step(model, optimizer, scenes, device):
    """Waits and operations of a whole step: the batch crosses, forward, backward, clipped, and the optimiser's step."""
    packed = PackedBatch.pack([scene[:2] for scene in scenes]).pin_memory()
    device.clear()
    images, targets = packed.to("cuda")
    total = torch.stack(list(model(images, targets).values())).sum()
    assert torch.isfinite(total)  # as the module asks
    total.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 10.0, foreach=True)
    optimizer.step()
    optimizer.zero_grad()
    return sum(device.waits.values()), device.operations, dict(device.waits)


@pytest.fixture(scope="module")
def standard():
    """The standard model with few proposals: what they are many of is looked at in one operation."""
    names = ("pre_nms_top_n_train", "pre_nms_top_n_test", "post_nms_top_n_train", "post_nms_top_n_test")
    sizes = ["model.min_size=96", "model.max_size=128", *(f"model.rpn.{name}=60" for name in names)]
    torch.manual_seed(0)
    config = model_config("resnet50_fpn", *sizes)
    config["sampler"]["batch_size_per_image"] = config["rpn"]["batch_size_per_image"] = 16
    config["backbone"]["norm"] = "frozen_bn"
    return build_model(config, 4)


def test_a_training_step_of_the_standard_model(standard, capsys):
    model, counted = copy.deepcopy(standard).train(), {}
    with PretendDevice() as device:
        model.to("cuda")
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6, foreach=True)
        training_step(model, optimizer, scenes_of(1), device)  # what is made once
        for batch in (2, 16):
            counted[batch] = training_step(model, optimizer, scenes_of(batch), device)
    with capsys.disabled():
        print("\n" + "\n".join(f"training, batch {batch}: {row}" for batch, row in counted.items()))
    (waits, operations, _), (waits_of_16, operations_of_16, _) = counted[2], counted[16]
    assert waits <= MOST_WAITS_TRAINING
    assert waits_of_16 == waits
    assert operations <= MOST_OPERATIONS
    assert operations_of_16 <= 1.1 * operations


def test_detections_of_the_standard_model(standard, capsys):
    model, counted = copy.deepcopy(standard).eval(), {}
    with PretendDevice() as device, torch.no_grad():
        model.to("cuda")
        for batch in (1, 2, 16):
            images = to_device([random_scene(96, 112, 3, number)[0] for number in range(batch)])
            device.clear()
            found = on_host(model.detect_together(images))
            counted[batch] = (sum(device.waits.values()), device.operations, dict(device.waits))
            assert all(len(of_image["boxes"]) for of_image in found)
    with capsys.disabled():
        print("\n" + "\n".join(f"detecting, batch {batch}: {row}" for batch, row in counted.items()))
    (waits, operations, _), (waits_of_16, operations_of_16, _) = counted[2], counted[16]
    assert waits_of_16 == waits <= MOST_WAITS_DETECTING
    assert operations <= MOST_OPERATIONS
    assert operations_of_16 <= 1.1 * operations


# Each later stage asks how many boxes still have an area, each expert which boxes are its own.
MORE_WAITS = {("box_predictor", "cascade"): 2, ("box_predictor", "multi_expert"): 3}


@pytest.mark.parametrize(("kind", "option"), EVERY_VARIANT)
def test_every_variant_trains_and_detects_on_the_device(kind, option):
    model = build_parts(**{kind: option})
    scenes = [random_scene(SIDE_PX, SIDE_PX, count, count)[:2] for count in (3, 2)]
    torch.manual_seed(0)
    model.fixed_shapes = True
    on_cpu = model([image for image, _ in scenes], [target for _, target in scenes])
    with torch.no_grad():
        detected_on_cpu = copy.deepcopy(model).eval()([image for image, _ in scenes])
    with PretendDevice() as device:
        model.to("cuda")
        anchors = model.rpn.anchor_generator
        anchors.cell_anchors = [cell.to("cuda") for cell in anchors.cell_anchors]  # as after the first step
        images, targets = to_device([image for image, _ in scenes]), to_device([target for _, target in scenes])
        torch.manual_seed(0)
        device.clear()
        losses = model(images, targets)
        torch.stack(list(losses.values())).sum().backward()
        waits = dict(device.waits)
        with torch.no_grad():
            detected = on_host(model.eval()(images))
        found = {name: loss.item() for name, loss in losses.items()}
    assert found == pytest.approx({name: loss.item() for name, loss in on_cpu.items()}, rel=1e-3, abs=1e-4)
    assert sum(waits.values()) <= 1 + MORE_WAITS.get((kind, option), 0), waits
    assert sum(len(of_image["boxes"]) for of_image in detected) > 0
    for mine, other in zip(detected, detected_on_cpu, strict=True):
        near = (mine["boxes"][:, None] - other["boxes"]).abs().amax(2) < 0.1
        share = (near & (mine["labels"][:, None] == other["labels"])).any(1).float().mean()
        assert share > 0.5  # pooled in another order: rounding decides between scores of random weights
