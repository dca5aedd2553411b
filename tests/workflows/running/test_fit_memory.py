"""How many images at once, so that a step learns from as many as it should."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from run_cases import small_run

from finemask.errors import ConfigError
from finemask.training.memory_plan import StepMemory
from finemask.types import Preprocessing
from finemask.workflows.running import fit_memory

GIB = 1024**3


@pytest.fixture
def cfg(tmp_path):
    (tmp_path / "data").mkdir()
    return small_run(tmp_path / "data", tmp_path / "runs", "trainer.accumulate_grad_batches=2")


@pytest.fixture
def model():
    return SimpleNamespace(preprocessing=Preprocessing((640, 800), 1333, (0.5,) * 3, (0.5,) * 3, 0.0))


@pytest.fixture
def index():
    # the largest as the backbone sees it is not the largest: 1333 / 3000 against 800 / 1000
    return SimpleNamespace(
        heights=np.array([500, 1000, 1000]), widths=np.array([500, 3000, 1500]), max_instances_per_image=7
    )


def test_the_largest_image_after_resizing_and_padding(index, model):
    assert fit_memory.largest_size(index, model) == (800, 1216)  # 800 × 1200


@pytest.mark.parametrize(("free_gib", "expected"), [(100, (12, 1)), (10, (6, 2)), (6.5, (4, 3)), (2, (1, 12))])
def test_a_step_learns_from_as_many_as_it_should(monkeypatch, cfg, index, model, free_gib, expected):
    a_gib_an_image = StepMemory(fixed=0, an_image=GIB, a_pixel=0, optimizer=0, gradients=0)
    monkeypatch.setattr(fit_memory, "memory_of", lambda *_: a_gib_an_image)
    monkeypatch.setattr(fit_memory, "_free_bytes", lambda device: free_gib * GIB)
    monkeypatch.setattr(fit_memory, "_tried", lambda cfg, model, size_hw, objects, batch, device: batch * GIB)
    assert fit_memory.fit_batch(cfg, model, index, 12) == expected  # 70 % of 0.3 less: 6.8 GiB hold 6, 4.3 hold 4


@pytest.mark.parametrize(("an_image_gib", "expected"), [(1, (6, 2)), (2, (3, 4))])
def test_what_a_step_took_when_tried_counts_more_than_the_plan(monkeypatch, cfg, index, model, an_image_gib, expected):
    monkeypatch.setattr(fit_memory, "memory_of", lambda *_: StepMemory(GIB, 0, 0, 0, 0))
    monkeypatch.setattr(fit_memory, "_free_bytes", lambda device: 10 * GIB)
    sizes = []

    def tried(cfg, model, size_hw, objects, batch, device):
        sizes.append((size_hw, objects, batch))
        return batch * an_image_gib * GIB

    monkeypatch.setattr(fit_memory, "_tried", tried)
    assert fit_memory.fit_batch(cfg, model, index, 12) == expected
    assert sizes[0] == ((800, 1216), 7, 12)


def test_a_step_that_runs_out_of_memory_when_tried_is_divided(monkeypatch, cfg, index):
    class FakeModel(torch.nn.Linear):
        preprocessing = Preprocessing((640,), 1333, (0.5,) * 3, (0.5,) * 3, 0.0)

    def measured(model, size_hw, batch, objects, states, around):
        if batch > 3:
            raise torch.OutOfMemoryError("out of memory")
        return 100.0

    monkeypatch.setattr(fit_memory, "memory_of", lambda *_: StepMemory(1, 0, 0, 0, 0))
    monkeypatch.setattr(fit_memory, "measure_step", measured)
    assert fit_memory.fit_batch(cfg, FakeModel(1, 1), index, 12) == (3, 4)


def test_an_image_that_does_not_fit_is_refused_with_both_numbers(monkeypatch, cfg, index, model):
    monkeypatch.setattr(fit_memory, "memory_of", lambda *_: StepMemory(3 * GIB, 0, 0, 0, 0))
    monkeypatch.setattr(fit_memory, "_free_bytes", lambda device: 2.0 * GIB)
    with pytest.raises(ConfigError, match=r"800 × 1216 px takes about 3\.0 GiB in training, and 2\.0 GiB are free"):
        fit_memory.fit_batch(cfg, model, index, 2)


def test_it_is_written_into_the_configuration(monkeypatch, cfg):
    data = SimpleNamespace(batch_size=12, train_index=None)
    monkeypatch.setattr(fit_memory, "fit_batch", lambda cfg, model, index, wanted: (wanted // 3, 3))
    fit_memory.fit_to_memory(cfg, data, None)
    assert (cfg.data.batch_size, data.batch_size, cfg.trainer.accumulate_grad_batches) == (4, 4, 6)


def test_several_processes_would_have_to_decide_together(cfg):
    cfg.trainer.devices = 2
    with pytest.raises(ConfigError, match="auto is for one process"):
        fit_memory.fit_to_memory(cfg, None, None)
