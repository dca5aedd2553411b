"""All rules in their order: what the data and the machine ask for, one decision after another."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from finemask.config.given import Given
from finemask.planning.decision import Decision, Settings
from finemask.planning.fingerprint import Fingerprint, Machine
from finemask.planning.learning_rules import batch, length, norm, rate
from finemask.planning.showing_rules import augmentation, rare_classes
from finemask.planning.size_rules import anchors, image_size

Rule = Callable[[Fingerprint, Settings], Decision | None]
RULES: tuple[Rule, ...] = (
    image_size,
    anchors,  # at that size
    batch,
    norm,  # of that batch
    rate,
    length,  # in steps of it
    augmentation,
    rare_classes,
)
"""Each sees what those before it have decided."""


def make_plan(
    data: Fingerprint, machine: Machine, values: Mapping[str, Any], given: Given, rules: tuple[Rule, ...] = RULES
) -> list[Decision]:
    """Decides what people left open.

    Args:
        data: that is trained on.
        machine: that trains.
        values: the configuration of ``train`` without a plan, plain.
        given: what people said of it; the plan keeps to that.
        rules: in their order.
    """
    now = Settings(values, given, machine)
    decisions = []
    for rule in rules:
        if (decision := rule(data, now)) is not None:
            now.decide(decision)
            keys = () if decision.kept else (key for key, _ in decision.changes)
            decisions.append(replace(decision, instead=now.without_plan(keys)))
    return decisions
