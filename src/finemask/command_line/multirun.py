"""``--multirun``: one run for each combination of values, one after another, each in a process of its own.

A fresh process a run gives back all memory, and a run that dies takes no other with it.
"""

import json
import shlex
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from omegaconf import DictConfig
from rich.console import Console

from finemask.command_line.launchers import JobQueue, split_launcher
from finemask.config import compose, expand_sweeps, search_path
from finemask.errors import ConfigError
from finemask.machine.processes import launched
from finemask.ops.terminal import table


def run_all(
    verb: str,
    overrides: Sequence[str],
    config_dir: str | None,
    config_name: str | None,
    check: Callable[[DictConfig], None],
) -> int:
    """Runs every combination, and ends with a table of what each came to.

    All configurations are composed and checked before the first run starts: what can never work costs nothing.

    Args:
        verb: as typed.
        overrides: with sweeps, in Hydra's grammar.
        config_dir: as ``--config-dir``.
        config_name: as ``--config-name``.
        check: what a single run is checked by before it starts.

    Returns:
        0 when all ended well, else the exit code of the first that did not.

    Raises:
        ConfigError: a combination that can never work, or a launcher or sweeper of Hydra's.
    """
    if (together := launched()) is not None:
        raise ConfigError(
            f"--multirun starts its runs itself, and {together.by} has started {together.processes} processes",
            remedy=f"Give {together.by} one run at a time.",
        )
    for override in overrides:
        if override.lstrip("+").startswith(("hydra/sweeper", "hydra.sweeper")):
            raise ConfigError(
                f"{override}: sweepers of Hydra are not supported",
                remedy="--multirun tries all combinations of key=a,b; finemask sweep chooses by what came before.",
            )
    launcher, overrides = split_launcher(overrides, config_dir)
    runs = expand_sweeps(overrides, search_path(config_dir))
    configurations = [compose(verb, run, config_dir=config_dir, config_name=config_name) for run in runs]
    for cfg in configurations:
        check(cfg)
    flags = [f"--config-dir={config_dir}"] if config_dir else []
    flags += [f"--config-name={config_name}"] if config_name else []
    commands = [[sys.executable, "-m", "finemask", *verb.split(), *flags, *run] for run in runs]
    if launcher is not None:
        clock = time.time()
        ended = JobQueue(launcher).run(commands)
        done = [
            _run_of(_varying(run, runs), code, seconds, _written_by(command, clock, cfg.get("output")))
            for run, command, cfg, (code, seconds) in zip(runs, commands, configurations, ended, strict=True)
        ]
        _show(done, len(runs))
        return next((abs(run.code) for run in done if run.code != 0), 0)
    done = []
    for number, (run, cfg) in enumerate(zip(runs, configurations, strict=True), 1):
        words = _varying(run, runs)
        print(f"== run {number} of {len(runs)}: {shlex.join(words)}", flush=True)
        start, clock = time.monotonic(), time.time()
        code = run_to_the_end(commands[number - 1])
        folder = _written_since(clock, cfg.get("output"))
        done.append(_run_of(words, code, time.monotonic() - start, folder))
        if code in (130, -signal.SIGINT, -signal.SIGTERM):
            _show(done, len(runs))
            raise KeyboardInterrupt
    _show(done, len(runs))
    return next((abs(run.code) for run in done if run.code != 0), 0)


class _Run(NamedTuple):
    words: list[str]  # in which it differs from others
    code: int
    seconds: float
    folder: Path | None  # with its metrics.json
    ap: float | None


def _written_since(clock: float, output: Any) -> Path | None:
    """The folder below ``output`` whose ``metrics.json`` was written last, since a moment; None if there is none."""
    if not isinstance(output, str):
        return None
    found = [path for depth in ("", "*/*/") for path in Path(output).glob(f"{depth}metrics.json")]
    new = [path for path in found if path.stat().st_mtime >= clock - 1 and "latest" not in path.parts]
    return max(new, key=lambda path: path.stat().st_mtime).parent if new else None


def _written_by(command: Sequence[str], clock: float, output: Any) -> Path | None:
    """The folder of the run whose record names the command, of several that run at the same time."""
    if not isinstance(output, str):
        return None
    for record in sorted(Path(output).glob("*/*/environment.json"), reverse=True):
        if record.stat().st_mtime >= clock - 1 and "latest" not in record.parts:
            typed = json.loads(record.read_text(encoding="utf-8")).get("command", [])
            if typed[1:] == list(command[3:]) and record.with_name("metrics.json").is_file():
                return record.parent
    return None


def _run_of(words: list[str], code: int, seconds: float, folder: Path | None) -> _Run:
    return _Run(words, code, seconds, folder, None if folder is None else _ap_of(folder))


def _ap_of(folder: Path) -> float | None:
    """AP of masks, of boxes where there are none."""
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    numbers = metrics.get("segm") or metrics.get("bbox") or {}
    ap: float | None = numbers.get("AP")
    return ap


def _show(done: Sequence[_Run], planned: int) -> None:
    console = Console(highlight=False)
    rest = "" if len(done) == planned else f" of {planned}"
    print(f"== {len(done)}{rest} runs")
    has_ap = any(run.ap is not None for run in done)
    rows = (
        (
            "ok" if run.code == 0 else f"exit {run.code}",
            f"{run.seconds:,.1f}",
            *[_number(run.ap)] * has_ap,
            shlex.join(run.words) + ("" if run.folder is None else f"\n{run.folder}"),
        )
        for run in done
    )
    console.print(table(["", "seconds"] + ["AP"] * has_ap + ["run"], rows, words=("", "run"), overflow="fold"))
    by_seed: dict[str, list[float]] = {}
    for run in done:
        if run.ap is not None:
            others = [word for word in run.words if not word.startswith("seed=")]
            by_seed.setdefault(shlex.join(others) or "all runs", []).append(run.ap)
    if not any(word.startswith("seed=") for run in done for word in run.words):
        return
    seeds = (
        (name, len(aps), statistics.fmean(aps), statistics.stdev(aps) if len(aps) > 1 else "n/a")
        for name, aps in by_seed.items()
    )
    console.print(table(("AP over seeds", "runs", "mean", "deviation"), seeds))


def _number(value: float | None) -> str:
    return "n/a" if value is None else f"{value:.3f}"


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


def _varying(run: Sequence[str], runs: Sequence[Sequence[str]]) -> list[str]:
    """The overrides in which this run differs from some other; all of a run that is alone."""
    told = [text for position, text in enumerate(run) if any(other[position] != text for other in runs)]
    return told or list(run)
