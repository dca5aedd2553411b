"""The table of a plan on terminals of any width: every word of it is there."""

import io

import pytest
from rich.console import Console

from finemask.planning.plan_tables import plan_table

RECORD = {
    "set": ["model.min_size=512", "model.sampler.batch_size_per_image=160"],
    "why": "a quarter of the images hold 33 objects or more; 96 regions leave 24 for objects",
    "kept": False,
    "source": "a quarter are positives (Ren et al. 2015)",
    "instead": ["model.min_size=320", "model.sampler.batch_size_per_image=96"],
}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_nothing_is_cropped(width) -> None:
    out = io.StringIO()
    Console(file=out, width=width).print(plan_table([RECORD], with_sources=True))
    lines = out.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    assert all(line[-1] in "┓┩┃│┤┘" for line in lines[1:])
    cells = [line.split("│")[1:3] for line in lines if line.startswith("│")]
    left, right = (" ".join(" ".join(column).split()) for column in zip(*cells, strict=True))
    assert left == " ".join(RECORD["set"])
    assert right == f"{RECORD['why']} rule: {RECORD['source']} instead of 320, 96"
