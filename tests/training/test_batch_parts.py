"""A step that does not fit is taken again in parts."""

import copy

import pytest
import pytorch_lightning as pl
import torch

import finemask
from finemask.data.shapes import draw_shapes
from finemask.training.batch_parts import is_out_of_memory

# Nothing random, and norms that do not look at the rest of the batch: parts can be compared with the whole.
MODEL = [
    "model.min_size=64",
    "model.max_size=64",
    "model.backbone.norm=gn",
    "model.backbone.fpn_norm=gn",
    "model.rpn.batch_size_per_image=100000",
    "model.sampler.batch_size_per_image=1000",
]
LR = 0.01


def constant(optimizer, total_steps):
    return torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1.0)


class TooLarge(pl.Callback):
    """Memory that holds so many images; it runs out in the forward pass, or in the backward pass of the box head."""

    def __init__(self, images, where="forward"):
        self.images, self.where, self.times = images, where, 0

    def on_train_start(self, trainer, pl_module):
        forward = pl_module.model.losses

        def full(*_):
            self.times += 1
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

        def losses(images, targets):
            if len(images) <= self.images:
                return forward(images, targets)
            if self.where == "forward":
                full()
            found = forward(images, targets)
            found["loss_mask"].register_hook(full)
            return found

        pl_module.model.losses = losses


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = draw_shapes(tmp_path_factory.mktemp("parts") / "data", images=10, size=64, seed=1)
    data = finemask.CocoDataModule(root, batch_size=4, num_workers=0)
    data.setup()
    return data


def train(data, *callbacks, **options):
    torch.manual_seed(0)
    model = finemask.maskrcnn("tiny", num_classes=data.num_classes, weights="none", overrides=MODEL)
    before = copy.deepcopy(model)
    module = finemask.MaskRCNNModule(model, optimizer=torch.optim.SGD, scheduler=constant, lr=LR, weight_decay=0.0)
    trainer = pl.Trainer(
        accelerator="cpu", callbacks=list(callbacks), logger=False, enable_checkpointing=False, limit_val_batches=0,
        enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False, **options,
    )  # fmt: skip
    trainer.fit(module, data)
    return module, before


def gradients(model, images, targets):
    model.zero_grad()
    sum(model.losses(images, targets).values()).backward()
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


@pytest.mark.parametrize("where", ["forward", "backward"])
def test_the_step_that_did_not_fit_is_the_mean_of_its_parts(data, where, caplog):
    full = TooLarge(2, where)
    module, before = train(data, full, max_steps=1)
    assert (full.times, module.parts) == (1, 2)
    assert "a batch of 4 images goes through the model in 2 parts" in caplog.text
    assert "data.batch_size=2 trainer.accumulate_grad_batches=2" in caplog.text

    images, targets = next(iter(data.train_dataloader()))
    before.train()
    first, second = (gradients(before, images[i : i + 2], targets[i : i + 2]) for i in (0, 2))
    for name, parameter in before.named_parameters():
        wanted = parameter - LR * (first[name] + second[name]) / 2
        torch.testing.assert_close(module.model.get_parameter(name).data, wanted.data, atol=1e-6, rtol=1e-4)


def test_later_batches_are_divided_too_and_what_does_not_fit_either_in_more_parts(data):
    full = TooLarge(1)
    module, before = train(data, full, max_steps=2)
    assert (full.times, module.parts) == (2, 4), "once whole, once in halves, then never again"
    moved = [not torch.equal(a, b) for a, b in zip(module.model.parameters(), before.parameters(), strict=True)]
    assert all(moved)


def test_accumulated_batches_count_alike(data):
    """Two batches a step: the second, in parts, neither forgets the first nor outweighs it."""
    whole, _ = train(data, max_epochs=1, accumulate_grad_batches=2)
    parts, _ = train(data, TooLarge(2), max_epochs=1, accumulate_grad_batches=2)
    for name, parameter in whole.model.named_parameters():
        # the mean of two means over masks is a little other than one over all of them
        torch.testing.assert_close(parts.model.get_parameter(name).data, parameter.data, atol=2e-3, rtol=0.0)


def test_a_single_image_that_does_not_fit_ends_the_training(data):
    with pytest.raises(torch.OutOfMemoryError):
        train(data, TooLarge(0), max_steps=1)


def test_other_errors_are_no_reason_to_divide(data):
    class Broken(pl.Callback):
        def on_train_start(self, trainer, pl_module):
            def losses(images, targets):
                raise RuntimeError("shapes do not match")

            pl_module.model.losses = losses

    with pytest.raises(RuntimeError, match="shapes do not match"):
        train(data, Broken(), max_steps=1)


def test_a_checkpoint_says_in_how_many_parts(data):
    module, _ = train(data, TooLarge(2), max_steps=1)
    checkpoint = {}
    module.on_save_checkpoint(checkpoint)
    fresh = finemask.MaskRCNNModule(module.model)
    fresh.on_load_checkpoint(checkpoint)
    assert fresh.parts == 2
    fresh.on_load_checkpoint({})
    assert fresh.parts == 1, "checkpoints of before do not say"


def test_what_says_that_memory_is_full():
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert is_out_of_memory(RuntimeError("[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"))
    assert not is_out_of_memory(RuntimeError("shapes do not match"))
