"""Interleaved timing and what is read off it."""

import gc
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Timing:
    """How long each contender took, round by round.

    Args:
        seconds: name of the contender to one duration a round.
    """

    seconds: Mapping[str, list[float]]

    def median(self, name: str) -> float:
        """Median duration of a contender in seconds."""
        return statistics.median(self.seconds[name])

    def ratio(self, baseline: str, name: str) -> float:
        """How many times faster than the baseline: the median of the ratios within a round.

        Within a round the machine was in about the same state for both; between rounds it may not have been.
        """
        pairs = zip(self.seconds[baseline], self.seconds[name], strict=True)
        return statistics.median(slow / quick for slow, quick in pairs)


def interleave(contenders: Mapping[str, Callable[[], object]], rounds: int, warmup: int = 1) -> Timing:
    """Times every contender once a round, in turn, the order reversed from round to round.

    Garbage is collected before each call and not during it, so that nobody pays for another's rubbish.

    Args:
        contenders: name to the work; what it returns is dropped.
        rounds: timed rounds, at least 1.
        warmup: rounds before them that are not timed.

    Raises:
        ValueError: no contender, or no round.
    """
    if not contenders or rounds < 1:
        raise ValueError("there must be a contender and a round")
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for number in range(warmup + rounds):
        for name in names if number % 2 == 0 else names[::-1]:
            taken = _timed(contenders[name])
            if number >= warmup:
                seconds[name].append(taken)
    return Timing(seconds)


def _timed(work: Callable[[], object]) -> float:
    gc.collect()
    gc.disable()
    try:
        start = time.perf_counter()
        work()
        return time.perf_counter() - start
    finally:
        gc.enable()
