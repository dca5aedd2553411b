"""A training opens each annotation file once: what the data module read is what validation is measured against."""

import sys
from collections import Counter
from pathlib import Path

import pytest

import finemask
from finemask.data.shapes import draw_shapes

TINY = [
    "model=tiny",
    "model.backbone.channels=[8,8,8,8]",
    "model.backbone.out_channels=8",
    "model.box_head.representation_size=16",
    "model.mask_head.channels=[8]",
    "trainer.max_epochs=1",
    "data.num_workers=0",
]

opened: Counter[str] = Counter()
sys.addaudithook(lambda event, args: opened.update([str(args[0])]) if event == "open" else None)


@pytest.mark.parametrize(("check", "plan", "times"), [(False, "none", 1), (True, "none", 2), (False, "auto", 2)])
def test_annotation_files_are_opened_by_the_data_module_and_by_the_check_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check: bool, plan: str, times: int
) -> None:
    root = draw_shapes(tmp_path / "shapes", images=8, size=64, seed=1)
    opened.clear()
    monkeypatch.chdir(tmp_path)
    finemask.train(root, [*TINY, f"data.check={str(check).lower()}", f"plan={plan}"])
    files = {Path(name).name: count for name, count in opened.items() if str(root / "annotations") in name}
    assert files == {"train.json": times, "val.json": times if check else 1}, "the plan looks at the training file"
