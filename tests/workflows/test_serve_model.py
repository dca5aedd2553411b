"""What a server is told by its configuration."""

from pathlib import Path

from finemask.workflows.serve_model import model_name


def test_a_model_is_called_as_its_run_or_as_its_file(tmp_path: Path) -> None:
    run = tmp_path / "runs/bottles/2026-11-30_09-32-44"
    run.mkdir(parents=True)
    (run / "model.safetensors").touch()
    for named in (
        run / "model.safetensors",
        run,
        run.parent,
        run.parent / "latest",
        str(run.parent / "latest/model.safetensors"),
    ):
        assert model_name(named) == "bottles"
    (run.parent / "latest").symlink_to(run.name)
    assert model_name(run.parent / "latest/model.safetensors") == "bottles"
    assert model_name(tmp_path / "cells.onnx") == "cells.onnx"
    assert model_name("model.safetensors") == "model.safetensors"
