"""``finemask plan``."""

import shlex
from pathlib import Path

from omegaconf import DictConfig
from rich.console import Console

from finemask.config.composing import Asked
from finemask.ops.terminal import say
from finemask.planning.plan_tables import in_words, plan_table
from finemask.workflows.data.plan_training import write_plan


def main(cfg: DictConfig, asked: Asked) -> int:
    """Reads the data and the machine, prints what it decides and why, and writes it as an experiment file."""
    path = Path(cfg.output)
    planned, command = write_plan(asked.as_verb("train", without="output"), path)
    console = Console(highlight=False)
    for line in in_words(planned.data, planned.machine):
        say(console, line)
    if planned.decisions:
        records = (decision.as_record() for decision in planned.decisions)
        console.print(plan_table(records, with_sources=True))
    else:
        say(console, "Nothing to change: the settings suit these data.")
    print(f"wrote {path}. To overrule a line, type its key. To train with it:")
    print(f"  {shlex.join(command)}")
    return 0
