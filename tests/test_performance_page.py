"""docs/performance.md is what scripts/bench_all.py makes of the figures kept beside it, and nothing else."""

import importlib.util
import json
import re
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def bench_all():
    spec = importlib.util.spec_from_file_location("bench_all", SCRIPTS / "bench_all.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_page_is_made_from_the_kept_figures(bench_all):
    assert bench_all.PAGE.read_text(encoding="utf-8") == bench_all.page()


def test_a_ratio_below_its_goal_is_marked(bench_all, tmp_path, monkeypatch):
    row = {"baseline": "theirs", "baseline_s": 2.0, "finemask_s": 1.0, "agreement": "identical", "memory": ""}
    rows = [row | {"work": "slow", "ratio": 2.0, "goal": 3}, row | {"work": "quick", "ratio": 2.0, "goal": 1.5}]
    content = {"machine": {"processor": "P", "cores": 2, "python": "3.11", "torch": "2"}, "comparisons": rows}
    (tmp_path / "train.json").write_text(json.dumps(content))
    monkeypatch.setattr(bench_all, "FIGURES", tmp_path)
    page = bench_all.page()
    assert "| slow | theirs | 2.00 s | 1.00 s | 2.00 (missed) | 3 | identical |" in page
    assert "| quick | theirs | 2.00 s | 1.00 s | **2.00** | 1.5 | identical |" in page
    assert "P, 2 cores; Python 3.11, torch 2." in page


def test_every_command_of_the_page_is_a_script(bench_all):
    for script, *_ in bench_all.COMMANDS.values():
        assert (SCRIPTS / script).is_file()


def test_every_file_that_the_page_names_is_there(bench_all):
    package = SCRIPTS.parent / "src" / "finemask"
    named = re.findall(r"`(\w+/[\w/]+\.py)`", bench_all.INTRODUCTION)
    assert len(named) >= 8
    assert [name for name in named if not (package / name).is_file()] == []
