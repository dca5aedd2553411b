"""Bytes of tensors, counted; and what three small steps say about a large one."""

import copy

import pytest
import torch

from finemask.data.shapes import draw_shapes
from finemask.training.memory_plan import StepMemory, TensorLedger, measure_step, padded, plan_memory
from finemask.workflows.build_maskrcnn import maskrcnn


def test_the_ledger_counts_what_is_there_at_once():
    ledger = TensorLedger()
    with ledger:
        first = torch.zeros(1000)  # 4,000 bytes
        second = first + 1
        first.add_(1)
        assert (ledger.live, ledger.peak) == (8000, 8000)
        view = second[10:20]
        del first
        assert ledger.live == 4000
        del second
        assert ledger.live == 4000, "a view holds all of it"
        del view
        assert (ledger.live, ledger.peak) == (0, 8000)


def test_the_ledger_counts_what_is_kept_for_the_gradient_and_the_gradient():
    weight = torch.ones(1000, requires_grad=True)
    ledger = TensorLedger()
    ledger.own([weight])
    with ledger:
        loss = weight.sin().exp().sum()  # keeps the result of exp, and weight, which is not new
        kept = ledger.live
        loss.backward()
        del loss
    assert kept == 4000 + 4
    assert ledger.live == 4000
    assert weight.grad is not None


def test_the_peak_of_a_step_is_that_of_the_passes_or_of_the_optimiser():
    memory = StepMemory(fixed=100, an_image=10, a_pixel=2, optimizer=50, gradients=40)
    assert memory.peak(batch_size=3, pixels=5) == 50 + 100 + 3 * (10 + 2 * 5)
    few = StepMemory(fixed=0, an_image=1, a_pixel=0, optimizer=50, gradients=40)
    assert few.peak(batch_size=1, pixels=5) == 50 + 2 * 40


def test_a_batch_is_padded_to_whole_strides():
    assert padded((65, 96)) == (96, 96)


def test_three_small_steps_tell_what_a_large_one_takes(tmp_path):
    import finemask

    root = draw_shapes(tmp_path / "data", images=10, size=160, seed=1)
    data = finemask.CocoDataModule(root, batch_size=3, num_workers=0)
    data.setup()
    torch.manual_seed(0)
    # so few positives a sample that the objects themselves are enough, before anything is learned
    options = ["model.min_size=160", "model.max_size=160", "model.sampler.positive_fraction=0.07"]
    model = maskrcnn("tiny", num_classes=data.num_classes, weights="none", overrides=options).eval()
    before, chance = copy.deepcopy(model.state_dict()), torch.get_rng_state()
    fullest = data.train_index.max_instances_per_image
    plan = plan_memory(model, (160, 160), fullest, states=0, around=torch.enable_grad)
    assert not model.training
    assert torch.equal(torch.get_rng_state(), chance)
    for name, tensor in model.state_dict().items():
        assert torch.equal(before[name], tensor), name
    assert all(parameter.grad is None for parameter in model.parameters())

    images, targets = next(iter(data.train_dataloader()))
    ledger = TensorLedger()
    ledger.own([*model.parameters(), *model.buffers()])
    with ledger:
        sum(model.train().losses(images, targets).values()).backward()
    assert plan.peak(3, 160 * 160) == pytest.approx(ledger.peak, rel=0.25)
    tried = measure_step(model.eval(), (160, 160), 3, fullest, states=0, around=torch.enable_grad)
    assert tried == pytest.approx(ledger.peak, rel=0.25)
    assert not model.training
