"""Plans of any data: typed keys stay, values are ones that their keys take, what is decided composes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from plan_data import asked, fingerprint

from finemask.config import compose
from finemask.config.kinds import check_values
from finemask.planning.direction import Direction
from finemask.planning.fingerprint import Fingerprint, Machine
from finemask.planning.make_plan import RULES, make_plan

TYPED = {
    "model.min_size": 64,
    "model.max_size": 2000,
    "model/anchors": "default",
    "data.batch_size": 7,
    "preset": "standard",
    "transfer": "heads",
    "model.backbone.norm": "gn",
    "optimizer.lr": 0.01,
    "optimizer": "sgd",
    "budget": "20min",
    "trainer.max_epochs": 3,
    "trainer.max_steps": 9,
    "trainer.check_val_every_n_epoch": 2,
    "augment": "flip",
    "model.rpn.post_nms_top_n_train": 5,
    "model.sampler.batch_size_per_image": 8,
    "model/sampler": "ohem",
    "data.repeat_threshold": 0.5,
    "trainer.accumulate_grad_batches": 4,
    "model.weights": "none",
}


@st.composite
def fingerprints(draw: st.DrawFn) -> Fingerprint:
    images = draw(st.integers(1, 2000))
    classes = draw(st.lists(st.integers(0, images), min_size=1, max_size=5))
    size_hw = draw(st.tuples(st.integers(8, 9000), st.integers(8, 9000)))
    sides = draw(st.lists(st.floats(1, min(size_hw)), min_size=1, max_size=4))
    per_image = draw(st.lists(st.integers(0, 6), min_size=1, max_size=4))
    lean = draw(st.none() | st.floats(0, 1))
    direction = Direction(lean, 0.0, draw(st.floats(0, 1)), draw(st.floats(0, 1)))
    return fingerprint(images, size_hw, sides, per_image, classes, direction)


machines = st.builds(Machine, st.integers(1, 64), st.integers(0, 8), st.floats(1, 140))


@settings(max_examples=60, deadline=None)
@given(fingerprints(), machines, st.sampled_from(["light", "resnet50_fpn", "tiny"]), st.sets(st.sampled_from([*TYPED])))
def test_what_is_typed_stays_and_what_is_decided_can_be(data, machine, model, names) -> None:
    values, said = asked(model, {name: TYPED[name] for name in names})
    plan = make_plan(data, machine, values, said)
    decided = [key for decision in plan if not decision.kept for key, _ in decision.changes]
    assert len(set(decided)) == len(decided), "each key is decided once"
    assert not set(decided) & names
    for decision in plan:
        assert decision.why
        assert decision.source
        assert len(decision.instead) == (0 if decision.kept else len(decision.changes))
        for key, value in decision.changes:
            if decision.kept and key in TYPED and key in names:
                assert value == TYPED[key]
            if not decision.kept and "." in key:
                *sections, last = key.split(".")
                node = values
                for section in sections:
                    node = node[section]
                assert last in node, "there is such a key"
                node[last] = value
    check_values(values, "train")
    again = make_plan(data, machine, *asked(model, {name: TYPED[name] for name in names}))
    assert [one.as_record() for one in again] == [one.as_record() for one in plan]


@pytest.mark.parametrize(("model", "size"), [("light", (300, 400)), ("resnet50_fpn", (60, 2000))])
def test_the_words_of_a_plan_compose(model: str, size: tuple[int, int]) -> None:
    absent = Direction(0.0, 0.0, 0.1, 0.1)
    data = fingerprint(700, size, [4, 6, 9], [1, 200], [700, 3], absent)
    plan = make_plan(data, Machine(4), *asked(model))
    assert len(plan) >= 3
    words = [word for decision in plan if not decision.kept for word in decision.words()]
    cfg = compose("train", [*words, "data.root=d", f"model={model}"])
    decided = {key: value for one in plan if not one.kept for key, value in one.changes if "/" not in key}
    assert {key: OmegaConf.select(cfg, key) for key in decided} == decided
    instead = [word for decision in plan for word in decision.instead]
    assert compose("train", [*instead, "data.root=d", f"model={model}"]) == compose(
        "train", ["data.root=d", f"model={model}"]
    )


def test_a_rule_sees_what_was_decided_before_it() -> None:
    few = fingerprint(12)  # batches of 2, so that the rate falls and an epoch has six steps
    plan = {key: value for one in make_plan(few, Machine(2), *asked()) for key, value in one.changes}
    assert plan["data.batch_size"] == 2
    assert plan["optimizer.lr"] == pytest.approx(0.0005 / np.sqrt(2), rel=1e-2)
    assert plan["trainer.max_epochs"] == 150
    assert make_plan(few, Machine(2), *asked(), rules=()) == []
    assert len(RULES) == len(set(RULES))
