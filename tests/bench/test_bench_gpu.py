"""scripts/bench_gpu.py works on the day that there is a GPU: all of it runs on a CPU, at small sizes."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parents[2] / "scripts"


@pytest.fixture
def bench_gpu(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    spec = importlib.util.spec_from_file_location("bench_gpu", SCRIPTS / "bench_gpu.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "bench_gpu", module)
    spec.loader.exec_module(module)
    return module


def test_every_measurement_runs(bench_gpu, tmp_path):
    path = tmp_path / "gpu.json"
    assert bench_gpu.main(["--dry", "--seconds", "100000", "--json", str(path)]) == 0
    content = json.loads(path.read_text())
    measured = content["details"]
    assert not [name for name, found in measured.items() if "failed" in found or "skipped" in found]
    assert measured["placement"]["largest_difference"]["fixed"] < 1e-4
    assert [row["work"][:13] for row in content["comparisons"]] == ["training step"] * 2
    assert measured["roofline, batch 1"]["teraflop_a_step"] > 0


def test_what_fails_is_noted_and_the_rest_goes_on(bench_gpu, tmp_path):
    record = bench_gpu.Record(tmp_path / "gpu.json", seconds=60)
    assert record.take("bad", lambda: 1 / 0) is None
    assert record.take("good", lambda: {"seconds": 1.0}) == {"seconds": 1.0}
    late = bench_gpu.Record(tmp_path / "gpu.json", seconds=-1)
    late.take("late", lambda: 1 / 0)
    assert late.measurements == {"late": {"skipped": "no time left"}}
    assert "ZeroDivisionError" in record.measurements["bad"]["failed"]
