"""A training by the clock, with a clock of our own: it ends on time and annealed, whatever the machine does."""

import math
from types import SimpleNamespace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.optim.lr_scheduler import StepLR

from finemask.config import compose, plain
from finemask.config.kinds import check_values
from finemask.errors import ConfigError
from finemask.training.callbacks import budget as budget_module
from finemask.training.callbacks.budget import SCHEDULE_STEPS, Budget, Pace
from finemask.training.optim import cosine, multistep
from finemask.workflows.build_trainer import build_budget, seconds_of

START_S = 7.0  # from the run's start to the first step


class Clock:
    def __init__(self):
        self.now = 1000.0

    def monotonic(self):
        return self.now


def schedule_of(factory):
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    optimizer.step()
    return factory(optimizer, total_steps=SCHEDULE_STEPS)


def trainer_of(schedule, per_epoch, steps=math.inf):
    return SimpleNamespace(
        lr_scheduler_configs=[SimpleNamespace(scheduler=schedule)],
        estimated_stepping_batches=steps,
        check_val_every_n_epoch=1,
        log_every_n_steps=10,
        global_step=0,
        current_epoch=0,
        world_size=1,
        should_stop=False,
        is_last_batch=False,
        num_training_batches=per_epoch,
    )


def run(budget, clock, step_s, validation_s, per_epoch, factory=cosine, steps=math.inf):
    """Steps until the budget or the steps end the training; rates, evaluations by step, and when the run ends.

    Args:
        step_s: seconds of a step, by its number.
    """
    schedule = schedule_of(factory)
    trainer = trainer_of(schedule, per_epoch, steps)
    clock.now += START_S
    budget.on_train_start(trainer, None)
    rates, evaluated = [], []
    while not trainer.should_stop and trainer.global_step < steps:
        rates.append(schedule.get_last_lr()[0])
        seconds = step_s(trainer.global_step)
        clock.now += seconds
        trainer.global_step += 1
        trainer.is_last_batch = trainer.global_step % per_epoch == 0
        schedule.step()  # as Lightning does, just before
        budget.pace = Pace(seconds, validation_s)
        budget.on_train_batch_end(trainer, None, None, None, 0)
        if trainer.should_stop or (trainer.is_last_batch and trainer.check_val_every_n_epoch == 1):
            clock.now += validation_s
            budget.on_validation_end(trainer, None)
            evaluated.append(trainer.global_step)
        trainer.current_epoch += trainer.is_last_batch
    return rates, evaluated


@pytest.fixture
def clock(monkeypatch):
    found = Clock()
    monkeypatch.setattr(budget_module.time, "monotonic", found.monotonic)
    return found


@settings(deadline=None, max_examples=20)
@given(
    whole_s=st.floats(120, 7200),
    step_s=st.floats(0.05, 1.0),
    slower=st.floats(1.0, 4.0),
    validation=st.floats(0.001, 0.1),
    per_epoch=st.integers(3, 5000),
    at=st.floats(0.0, 1.0),
)
def test_it_ends_on_time_and_annealed_on_a_machine_that_slows_down(whole_s, step_s, slower, validation, per_epoch, at):
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        patch.setattr(budget_module.time, "monotonic", clock.monotonic)
        budget = Budget(whole_s, clock.now)
        slow_from = at * whole_s / step_s
        validation_s = validation * whole_s
        rates, evaluated = run(
            budget, clock, lambda step: step_s * (slower if step > slow_from else 1.0), validation_s, per_epoch
        )
        assert budget.is_spent
        report_s = 6.0 + 0.5 * validation_s
        assert clock.now + report_s - 1000.0 == pytest.approx(whole_s, abs=slower * step_s + 1e-3)
        assert rates[-1] == pytest.approx(0.01)
        assert rates.index(max(rates)) < 0.3 * len(rates)
        peak = rates.index(max(rates))
        assert rates[peak:] == sorted(rates[peak:], reverse=True)
        assert evaluated[-1] == len(rates)
        assert (len(evaluated) - 1) * validation_s <= 0.1 * whole_s + validation_s
        assert len(evaluated) <= 5


def test_the_steps_that_are_asked_for_end_it_annealed_too(clock):
    budget = Budget(1000.0, clock.now)
    rates, _ = run(budget, clock, lambda step: 1.0, 5.0, per_epoch=10, steps=100)
    assert len(rates) == 100
    assert not budget.is_spent
    assert rates[-1] == pytest.approx(0.01, abs=0.001)


def test_any_schedule_of_the_step_follows_the_clock(clock):
    rates, _ = run(Budget(1000.0, clock.now), clock, lambda step: 1.0, 5.0, per_epoch=10, factory=multistep)
    assert set(rates[200:600]) == {1.0}
    assert rates[-1] == pytest.approx(0.01)
    drops = [step for step in range(1, len(rates)) if rates[step] < rates[step - 1]]
    training_s = 1000 - START_S - 5 - 0.5 * 5 - 6
    assert drops == pytest.approx([0.67 * 0.98 * training_s, 0.9 * 0.98 * training_s], rel=0.02)


def test_a_resumed_run_has_what_was_left_and_goes_on_from_its_rate(clock):
    first = Budget(600.0, clock.now)
    schedule = schedule_of(cosine)
    trainer = trainer_of(schedule, per_epoch=1000)
    first.on_train_start(trainer, None)
    schedule.step()
    for step in range(300):  # half of it, and then it is killed
        clock.now += 1.0
        trainer.global_step = step
        first.pace = Pace(1.0, 2.0)
        first.on_train_batch_end(trainer, None, None, None, 0)
    state, rate = first.state_dict(), schedule.get_last_lr()[0]
    clock.now += 5000.0
    begun = clock.now
    second = Budget(600.0, begun)
    second.load_state_dict(state)
    rates, _ = run(second, clock, lambda step: 1.0, 2.0, per_epoch=1000)
    assert clock.now - begun == pytest.approx(300 - 7, abs=2.0)
    assert rates[1] == pytest.approx(rate, abs=0.02)
    assert rates[-1] == pytest.approx(0.01)


def test_a_budget_that_evaluation_alone_would_use_up_says_so_and_trains_half_of_it(clock, caplog):
    run(Budget(60.0, clock.now), clock, lambda step: 0.1, 300.0, per_epoch=100)
    assert "The evaluation and the report will take about 456 s of the 53 s that are left" in caplog.text
    assert clock.now - 1000.0 == pytest.approx(7 + 53 / 2 + 300, abs=0.2)


def test_a_schedule_that_cannot_follow_a_clock_is_refused():
    trainer = trainer_of(StepLR(torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0), 3), per_epoch=10)
    with pytest.raises(ConfigError, match="no LambdaLR"):
        Budget(60.0, 0.0).on_train_start(trainer, None)


@pytest.mark.parametrize(
    ("typed", "seconds"),
    [
        ("budget=90s", 90),
        ("budget=1h30min", 5400),
        ("trainer.max_time=00:01:30:05", 5405),
        ("trainer.max_time={minutes:3}", 180),
    ],
)
def test_a_budget_takes_the_place_of_the_epochs(typed, seconds):
    cfg = compose("train", ["data.root=x", "experiment=nuclei", typed])
    assert cfg.trainer.max_epochs == -1
    found = build_budget(cfg, 0.0, 0.0)
    assert found is not None
    assert found.seconds == seconds


@pytest.mark.parametrize(("span", "seconds"), [("20min", 1200), ("1.5h", 5400), ("2d", 172_800), ("2d3h", 183_600)])
def test_a_span_in_seconds(span, seconds):
    assert seconds_of(span) == seconds


@pytest.mark.parametrize("typed", ["budget=90s", "trainer.max_time=00:01:30:05"])
def test_epochs_typed_beside_a_budget_stay(typed):
    cfg = compose("train", ["data.root=x", "experiment=nuclei", typed, "trainer.max_epochs=3"])
    assert cfg.trainer.max_epochs == 3


@pytest.fixture(scope="module")
def without():
    return compose("train", ["data.root=x"])


@pytest.mark.parametrize("word", ["20", "20 minutes", "1w", "-5min", "min", "true"])
def test_what_is_no_time_is_refused(without, word):
    with pytest.raises(ConfigError, match="budget"):
        check_values(plain(without) | {"budget": word}, "train")


def test_neither_none_nor_two_budgets_make_one(without):
    assert build_budget(without, 0.0, 0.0) is None
    both = without.copy()
    both.budget, both.trainer.max_time = "20min", "00:00:20:00"
    with pytest.raises(ConfigError, match="Give one of them"):
        build_budget(both, 0.0, 0.0)
