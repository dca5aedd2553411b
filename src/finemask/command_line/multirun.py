"""``--multirun``: one run for each combination of values, one after another, each in a process of its own.

A fresh process a run gives back all memory, and a run that dies takes no other with it.
"""

import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

from finemask.config import compose, expand_sweeps, search_path


def run_all(verb: str, overrides: Sequence[str], config_dir: str | None, config_name: str | None) -> int:
    """Runs every combination and prints a summary.

    All configurations are composed before the first run starts, so that a misspelt value costs nothing.

    Args:
        verb: as typed.
        overrides: with sweeps, in Hydra's grammar.
        config_dir: as ``--config-dir``.
        config_name: as ``--config-name``.

    Returns:
        0 when all ended well, else the exit code of the first that did not.
    """
    runs = expand_sweeps(overrides, search_path(config_dir))
    for run in runs:
        compose(verb, run, config_dir=config_dir, config_name=config_name)
    flags = [f"--config-dir={config_dir}"] if config_dir else []
    flags += [f"--config-name={config_name}"] if config_name else []
    varying = [_varying(run, runs) for run in runs]
    outcomes: list[tuple[int, float]] = []
    for number, run in enumerate(runs, 1):
        print(f"== run {number} of {len(runs)}: {varying[number - 1]}", flush=True)
        start = time.monotonic()
        code = run_to_the_end([sys.executable, "-m", "finemask", *verb.split(), *flags, *run])
        outcomes.append((code, time.monotonic() - start))
        if code in (130, -signal.SIGINT, -signal.SIGTERM):
            raise KeyboardInterrupt
    print(f"== {len(runs)} runs")
    for text, (code, seconds) in zip(varying, outcomes, strict=True):
        print(f"  {'ok' if code == 0 else f'exit {code}':<9}{seconds:8.1f} s  {text}")
    return next((abs(code) for code, _ in outcomes if code != 0), 0)


def run_to_the_end(command: Sequence[str]) -> int:
    """Runs a command and waits until it has ended by itself, even when interrupted.

    Ctrl-C reaches the whole group of processes: the run saves what it has, and must not be killed meanwhile,
    as ``subprocess.run`` would. SIGTERM comes to us alone and is passed on.

    Returns:
        The exit code, negative when a signal ended the process.
    """
    process = subprocess.Popen(command)
    before = signal.signal(signal.SIGTERM, lambda number, frame: process.terminate())
    try:
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                continue
    finally:
        signal.signal(signal.SIGTERM, before)


def _varying(run: Sequence[str], runs: Sequence[Sequence[str]]) -> str:
    """The overrides in which this run differs from some other."""
    told = [text for position, text in enumerate(run) if any(other[position] != text for other in runs)]
    return shlex.join(told or run)
