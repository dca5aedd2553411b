"""A piece of advice, as it is printed and saved."""

import shlex
from dataclasses import asdict, dataclass
from typing import Any, Literal, TypeAlias

State: TypeAlias = Literal["change", "option", "keep"]
STATES: tuple[State, ...] = ("change", "option", "keep")


@dataclass(frozen=True, slots=True)
class Advice:
    """One consequence for training.

    Args:
        topic: what it is about.
        state: ``change``: do it; ``option``: weigh it up; ``keep``: the setting in use is right.
        text: what was found and what to do, in sentences.
        overrides: to type after ``finemask train``; of ``keep``, those that are in use.
        command: to run first, where there is one.
    """

    topic: str
    state: State
    text: str
    overrides: tuple[str, ...] = ()
    command: str | None = None

    def typed(self) -> str:
        """The overrides as a shell takes them; nothing where all is right as it is."""
        return "" if self.state == "keep" else shlex.join(self.overrides)

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self) | {"overrides": list(self.overrides)}
