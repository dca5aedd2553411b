"""Compiled parts: the losses of those that are not, no compiling without end, and nothing left of it in files."""

import copy

import pytest
import torch
from model_cases import model_config, random_scene
from torch._dynamo.utils import counters

import finemask
from finemask.model.build import build_model
from finemask.model.devices.compiling import compile_parts
from finemask.training.module import MaskRCNNModule
from finemask.types import Category

# Height, width and number of objects of two images each. First a shape, another one, and each number of masks that is
# compiled by itself; then what may not be compiled any more.
FIRST = [((64, 96, 3), (64, 96, 5)), ((96, 70, 1), (64, 80, 0)), ((64, 96, 0), (64, 96, 0)), ((64, 64, 4), (96, 96, 4))]
LATER = [
    ((64, 128, 6), (70, 64, 2)),
    ((128, 64, 0), (64, 64, 0)),
    ((96, 96, 2), (64, 64, 5)),
    ((64, 96, 1), (60, 96, 1)),
]


def scenes_of(sizes, step):
    scenes = [random_scene(*size, seed=2 * step + number, num_categories=2)[:2] for number, size in enumerate(sizes)]
    return [image for image, _ in scenes], [target for _, target in scenes]


def losses_of(model, optimizer, batch, step):
    torch.manual_seed(step)
    losses = model(*batch)
    optimizer.zero_grad()
    torch.stack(list(losses.values())).sum().backward()
    optimizer.step()
    return {name: loss.item() for name, loss in losses.items()}


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    counters.clear()
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("heads", [True, False], ids=["fixed_shapes", "lists"])
def test_the_losses_are_the_same_and_after_a_few_steps_nothing_is_compiled(heads, fresh_compiler):
    torch.manual_seed(0)
    plain = build_model(model_config("tiny", "model.max_size=160"), 3).train()
    plain.fixed_shapes = heads
    compiled = copy.deepcopy(plain)
    compile_parts(compiled, heads=heads, backend="eager")
    both = [(model, torch.optim.SGD(model.parameters(), lr=1e-3)) for model in (plain, compiled)]
    for step, sizes in enumerate([*FIRST, *LATER]):
        batch = scenes_of(sizes, step)
        with torch._dynamo.config.patch(error_on_recompile=step >= len(FIRST)):
            expected, found = (losses_of(*each, batch, step) for each in both)
        assert found == pytest.approx(expected, rel=1e-5, abs=1e-6), step
    assert counters["stats"]["unique_graphs"] >= (6 if heads else 1)
    assert not counters["graph_break"]
    assert list(compiled.state_dict()) == list(plain.state_dict())


@pytest.mark.slow
def test_so_they_are_by_inductor(fresh_compiler):
    """The default backend: other kernels, the same losses, also without any RoI. Nothing is learned: rounding grows.

    Batch norms of the body make more of rounding than its gradients are.
    """
    torch.manual_seed(0)
    plain = build_model(model_config("tiny"), 3).train()
    plain.fixed_shapes = True
    compiled = copy.deepcopy(plain)
    compile_parts(compiled, heads=True)
    both = [(model, torch.optim.SGD(model.parameters(), lr=0.0)) for model in (plain, compiled)]
    for step, sizes in enumerate(FIRST):
        batch = scenes_of(sizes, step)
        expected, found = (losses_of(*each, batch, step) for each in both)
        assert found == pytest.approx(expected, rel=1e-4, abs=1e-5), step
        for name in ("rpn", "roi_heads"):
            mine, other = (torch.cat([p.grad.flatten() for p in getattr(m, name).parameters()]) for m, _ in both)
            assert (mine - other).norm() <= 0.02 * other.norm(), (step, name)
    assert not counters["graph_break"]


@pytest.mark.parametrize("mode", ["default", "reduce-overhead", "max-autotune"])
def test_graphs_of_heads_are_of_one_number_of_rois(mode):
    model = build_model(model_config("tiny"), 3)
    compile_parts(model, mode, heads=True)
    parts = (model.backbone, model.rpn.head, model.roi_heads.box_head, model.roi_heads.mask_predictor)
    whole = [part._compiled_call_impl for part in parts[:2]]
    of_rows = [part._compiled_call_impl.__closure__[0].cell_contents for part in parts[2:]]
    options = [compiled.get_compiler_config() for compiled in (*whole, *of_rows)]
    assert {of["triton.cudagraphs"] for of in options} == {mode != "default"}
    skips = [of["triton.cudagraph_skip_dynamic_graphs"] for of in options]
    assert skips == [False, False, mode != "default", mode != "default"]


def test_a_model_file_of_a_compiled_model_is_that_of_any_other(tmp_path, fresh_compiler):
    torch.manual_seed(0)
    model = build_model(model_config("tiny"), 3).train()
    compile_parts(model, heads=True, backend="eager")
    batch = scenes_of([(64, 80, 2)], 0)
    losses_of(model, torch.optim.SGD(model.parameters(), lr=1e-3), batch, 0)
    module = MaskRCNNModule(model, categories=[Category(1, "a"), Category(2, "b")])
    finemask.save_model(module, tmp_path / "model.safetensors")
    graphs = counters["stats"]["unique_graphs"]
    loaded = finemask.load(tmp_path / "model.safetensors", device="cpu")
    found = loaded.predict(batch[0][0].permute(1, 2, 0).numpy(), threshold=0.0)
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        (expected,) = model.eval()(batch[0])
    assert len(found) == len(expected["scores"]) > 0
    assert torch.equal(torch.as_tensor(found.scores), expected["scores"])
    assert counters["stats"]["unique_graphs"] == graphs, "what is loaded compiles nothing"
