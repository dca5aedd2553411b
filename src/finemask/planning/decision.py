"""A decision of the plan, and what is known when one is made: what was typed, and what has been decided before."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from finemask.config import arguments
from finemask.config.given import Given
from finemask.planning.fingerprint import Machine


@dataclass(frozen=True)
class Decision:
    """One decision.

    Args:
        changes: keys and groups with their values: ``(("model.min_size", 512), ("model.max_size", 832))``.
        why: a sentence with the numbers that it rests on.
        source: of the rule: a paper, a peer, or a table of ours.
        kept: nothing is changed, and ``why`` says what that costs: somebody typed the keys, or there is nothing better.
        instead: what the keys are without the plan, as it is typed.
    """

    changes: tuple[tuple[str, Any], ...]
    why: str
    source: str
    kept: bool = False
    instead: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """As they are typed: ``model.min_size=512``, ``augment=topdown``, ``model.anchors=auto``."""
        return _words(dict(self.changes))

    def as_record(self) -> dict[str, Any]:
        """What a run's ``config.yaml`` and its checkpoints keep of it."""
        return {
            "set": self.words(),
            "why": self.why,
            "source": self.source,
            "kept": self.kept,
            "instead": list(self.instead),
        }


def _words(values: Mapping[str, Any]) -> list[str]:
    return [f"{key.replace('/', '.')}={_word(value)}" for key, value in values.items()]


def _word(value: Any) -> str:
    """A value as it is typed; the name of an option needs no quotes."""
    if value is None or (isinstance(value, str) and value.isidentifier()):
        return "null" if value is None else str(value)
    return arguments({"": value})[0].removeprefix("=")


class Settings:
    """What a training would have: what people gave, what files say, and what has been decided so far.

    Args:
        values: the composed configuration of ``train``, plain.
        given: what people said of it.
        machine: that trains.
    """

    def __init__(self, values: Mapping[str, Any], given: Given, machine: Machine) -> None:
        self._values, self._given, self.machine = values, given, machine
        self._decided: dict[str, Any] = {}

    def __getitem__(self, key: str) -> Any:
        """The value of a key, such as ``model.min_size``; None: there is none."""
        if key in self._decided:
            return self._decided[key]
        node: Any = self._values
        for name in key.split("."):
            node = node.get(name) if isinstance(node, Mapping) else None
        return node

    def option(self, group: str) -> str | None:
        """The option of a group, such as ``model/anchors``; None where it has none, or is not there to be chosen."""
        chosen = self._decided.get(group, self._given.choices.get(group))
        return None if chosen is None else str(chosen)

    def without_plan(self, keys: Iterable[str]) -> tuple[str, ...]:
        """What keys and groups are if nothing is decided, as it is typed."""
        untouched = Settings(self._values, self._given, self.machine)
        return tuple(_words({key: untouched.option(key) or untouched[key] for key in keys}))

    def is_given(self, *names: str) -> bool:
        """Whether people gave one of these keys or groups, or a key of such a group."""
        return any(name in self._given.groups or self._given.has(name.replace("/", ".")) for name in names)

    def decide(self, decision: Decision) -> None:
        """Later rules see it."""
        if not decision.kept:
            self._decided.update(decision.changes)

    @property
    def is_small(self) -> bool:
        """Whether the model is one for laptops, which comes with weights of ImageNet at most."""
        return bool(self["model.preset"] == "light" and self["model.weights"] != "coco")

    @property
    def brings_rpn(self) -> bool:
        """Whether the weights may hold an RPN, which has learned the anchors that are there.

        It was measured with finemask's own: on nuclei, fitted anchors lost 0.017 mask AP beside it (docs/results.md).
        Weights of a backbone alone, in torchvision's ``.pth`` as well, leave the RPN to be learned with any anchors.
        """
        weights = self["model.weights"]
        return bool(weights not in (None, "none", "imagenet") and not str(weights).endswith(".pth"))

    @property
    def images_a_step(self) -> int:
        """Images whose gradients make one step, on all devices together."""
        devices = self["trainer.devices"]
        if isinstance(devices, list):
            devices = len(devices)
        elif not isinstance(devices, int):
            devices = int(devices) if str(devices).isdigit() else max(1, self.machine.gpus)
        count = max(1, self.machine.gpus) if devices == -1 else max(1, devices)
        nodes, accumulated = (self[f"trainer.{key}"] or 1 for key in ("num_nodes", "accumulate_grad_batches"))
        batch = self["data.batch_size"]
        if not isinstance(batch, int):  # auto: what is learned stays that of the preset
            batch = self["preset.batch_size"] or 1
        return int(batch * count * nodes * accumulated)
