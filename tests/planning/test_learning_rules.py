"""Batch, norm, rate, length: each by hand."""

import pytest
from plan_data import GPU, changes, decided, fingerprint

from finemask.planning.learning_rules import batch, length, norm, rate


@pytest.mark.parametrize(
    ("images", "machine", "typed", "expected"),
    [
        (12, None, {}, 2),  # 5 % of 12 are none, and two are the least
        (60, None, {}, 3),
        (77, None, {}, None),  # 4, as the preset has it
        (5000, None, {}, None),
        (5000, GPU, {}, 8),
        (12, None, {"data__batch_size": 4}, None),
        (12, None, {"preset": "light"}, None),
    ],
)
def test_a_batch_is_a_small_share_of_the_images(images, machine, typed, expected) -> None:
    found = changes(decided(batch, fingerprint(images=images), machine=machine, **typed))
    assert found == ({} if expected is None else {"data.batch_size": expected})
    assert decided(batch, fingerprint(images=images), "resnet50_fpn", machine=machine) is None


@pytest.mark.parametrize(
    ("classes", "model", "typed", "is_live"),
    [
        ([40, 60], "light", {}, True),
        ([40, 60], "light", {"data__batch_size": 2}, True),
        ([40, 60], "light", {"data__batch_size": "auto"}, True),
        ([40, 60], "light", {"model__backbone__out_channels": 64}, True),
        ([40, 60], "light", {"model__weights": "imagenet"}, True),
        ([100], "light", {}, False),  # nothing to tell apart
        ([100, 0], "light", {}, False),
        ([40, 60], "light", {"data__batch_size": 1}, False),  # statistics of a single image
        ([40, 60], "light", {"model__backbone__norm": "frozen_bn"}, False),
        ([40, 60], "light", {"transfer__trainable_stages": 0}, False),  # frozen layers keep their statistics anyway
        ([40, 60], "light", {"model__weights": "none"}, False),  # it is live without a plan
        ([40, 60], "resnet50_fpn", {}, False),
        ([40, 60], "tiny", {}, False),
    ],
)
def test_batch_norm_learns_where_classes_are_told_apart(classes, model, typed, is_live) -> None:
    found = decided(norm, fingerprint(images_per_class=classes), model, **typed)
    assert changes(found) == ({"model.backbone.norm": "bn"} if is_live else {})
    if found is not None:
        assert found.why.startswith("2 classes are told apart sooner")


@pytest.mark.parametrize(
    ("model", "typed", "expected"),
    [
        ("light", {}, None),
        ("light", {"data__batch_size": 16}, 0.001),  # four times the batch, twice the rate: Adam
        ("light", {"trainer__accumulate_grad_batches": 4}, 0.001),
        ("light", {"trainer__devices": 4}, 0.001),
        ("light", {"trainer__devices": [0, 1], "trainer__num_nodes": 2}, 0.001),
        ("light", {"data__batch_size": 16, "optimizer__lr": 0.0005}, None),
        ("light", {"data__batch_size": 16, "optimizer": "adamw"}, None),
        ("light", {"data__batch_size": "auto"}, None),  # as many as the preset says, divided where memory is small
        ("light", {"model__backbone__norm": "bn"}, 0.001),  # twice that of frozen statistics
        ("light", {"model__backbone__norm": "bn", "data__batch_size": 1}, 0.0005),  # half of that for the batch
        ("light", {"model__backbone__norm": "bn", "model__weights": "none"}, None),  # nothing was frozen
        ("light", {"model__backbone__norm": "gn"}, None),
        ("resnet50_fpn", {"model__backbone__norm": "bn"}, None),
        ("resnet50_fpn", {"data__batch_size": 8}, 0.02),  # four times, and four times: SGD
        ("resnet50_fpn", {"data__batch_size": 1}, 0.0025),
    ],
)
def test_the_rate_follows_the_images_of_a_step(model, typed, expected) -> None:
    found = changes(decided(rate, fingerprint(), model, **typed))
    assert found == ({} if expected is None else {"optimizer.lr": pytest.approx(expected)})


@pytest.mark.parametrize(
    ("images", "typed", "epochs", "every"),
    [
        (464, {}, 13, None),  # 116 steps
        (12, {}, 150, 8),  # 3 steps; 500 epochs would be no good
        (40_000, {}, 12, None),
        (120, {}, 50, 3),  # 30 steps
        (300, {}, None, None),  # 75 steps: the 20 epochs of the file
        (120, {"budget": "20min"}, None, None),
        (120, {"trainer__max_time": "00:00:20:00"}, None, None),
        (120, {"trainer__max_epochs": 60}, None, 3),
        (120, {"trainer__max_epochs": 60, "trainer__check_val_every_n_epoch": 1}, None, None),
        (120, {"trainer__max_steps": 100}, None, None),
    ],
)
def test_so_many_epochs_as_make_the_steps(images, typed, epochs, every) -> None:
    expected = {"trainer.max_epochs": epochs, "trainer.check_val_every_n_epoch": every}
    found = changes(decided(length, fingerprint(images=images), **typed))
    assert found == {key: value for key, value in expected.items() if value is not None}


def test_a_large_model_is_given_more_steps_on_a_gpu_alone() -> None:
    few = fingerprint(images=120)  # 60 steps of two
    assert decided(length, few, "resnet50_fpn") is None
    assert changes(decided(length, few, "resnet50_fpn", machine=GPU))["trainer.max_epochs"] == 25
