"""The script that compares parts: its arithmetic on made-up numbers, and that nothing is done twice."""

import importlib.util
import json
import math
import sys
from pathlib import Path

import pytest
from scipy import stats

from finemask.config import compose, config_dir
from finemask.config.config_files import group_options

SCRIPTS = Path(__file__).parent.parent / "scripts"
FOREVER = float("inf")


@pytest.fixture(scope="module")
def script():
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(SCRIPTS)
        spec = importlib.util.spec_from_file_location("compare_parts", SCRIPTS / "compare_parts.py")
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        patch.setitem(sys.modules, "compare_parts", module)
        spec.loader.exec_module(module)
        yield module


@pytest.fixture
def kit(script):
    return sys.modules["compare_parts_table"]


def results(kit, **by_variant):
    return [
        kit.Result(name, seed, value - 0.1, value, value + 0.1, None if name.startswith("tta") else 100.0 + seed)
        for name, values in by_variant.items()
        for seed, value in enumerate(values)
    ]


PLAIN, BETTER, SAME, WORSE = [0.30, 0.32, 0.31], [0.40, 0.41, 0.42], [0.33, 0.30, 0.33], [0.20, 0.23, 0.20]


def test_means_spreads_and_verdicts(kit):
    rows = kit.rows_of(results(kit, plain=PLAIN, a=BETTER, b=SAME, tta_c=WORSE), ["plain", "a", "b", "tta_c", "d"])
    assert [row.variant for row in rows] == ["plain", "a", "b", "tta_c"]
    assert [row.segm.verdict for row in rows] == [
        "",
        "**gain**",
        "within the spread",
        "loss",
    ]
    assert rows[1].segm.mean == pytest.approx(0.41)
    assert rows[1].segm.spread == pytest.approx(0.01)
    assert [rows[1].segm.difference, rows[1].bbox.difference] == pytest.approx([0.10, 0.10])
    assert [rows[1].recall.mean, rows[1].recall.difference] == pytest.approx([0.51, 0.10])
    assert [row.step_ms for row in rows] == [100.0, 100.0, 100.0, None]
    for row, values in zip(rows[1:], (BETTER, SAME, WORSE), strict=True):
        significant = stats.ttest_rel(values, PLAIN).pvalue < 0.05
        assert (row.segm.verdict != "within the spread") == significant


def test_the_bound_by_hand(kit):
    (_, row) = kit.rows_of(results(kit, plain=[0.1, 0.3, 0.2], a=[0.2, 0.6, 0.4]), ["plain", "a"])
    # seed by seed 0.1, 0.3, 0.2: standard deviation 0.1; Student's t, 2 degrees of freedom, 97.5 %
    assert row.segm.bound == pytest.approx(4.302653 * 0.1 / math.sqrt(3))
    assert row.segm.verdict == "within the spread"


def test_only_seeds_that_both_have_are_compared(kit):
    found = results(kit, plain=PLAIN, a=BETTER[:1])
    (_, row) = kit.rows_of(found, ["plain", "a"])
    assert (row.seeds, row.segm.difference) == (1, pytest.approx(0.10))
    assert row.segm.verdict == "one seed: nothing can be said"
    assert kit.rows_of([r for r in found if r.variant == "a"], ["plain", "a"]) == []


def test_the_table(kit):
    text = kit.table(kit.rows_of(results(kit, plain=PLAIN, tta_c=WORSE), ["plain", "tta_c"]))
    assert "| plain | 3 | 0.310 ± 0.010 | | | 0.210 ± 0.010 | | | 0.410 ± 0.010 | | | 100 |" in text
    assert "| tta_c | 3 | 0.210 ± 0.017 | -0.100 (chance: 0.025) | loss |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_section_replaces_itself(kit):
    begin, end = kit.markers("cells")
    once = kit.put_section("# Results\n\ntext\n", "## Parts\n", "cells")
    assert once == f"# Results\n\ntext\n\n{begin}\n## Parts\n{end}\n"
    later = kit.put_section(once + "\n## After\n", "## Other\n", "cells")
    assert later == f"# Results\n\ntext\n\n{begin}\n## Other\n{end}\n\n## After\n"
    assert kit.put_section(later, "## Fruit\n", "fruit").startswith(later)
    with pytest.raises(SystemExit):
        kit.put_section(f"{begin}\n", "## Parts\n", "cells")


def test_no_machine_path_is_shown(kit):
    words = ["data.root=/home/me/nuclei", "data.train=annotations/a.json", "model.weights=/w/x.pth", "a=[1,2]"]
    shown = ["data.root=nuclei", "data.train=annotations/a.json", "model.weights=x.pth", "a=[1,2]"]
    assert kit.shown_words(words) == shown


class Stub:
    """Stands for finemask: writes what a run leaves, or fails, and remembers what it was asked."""

    def __init__(self, fails: str = "") -> None:
        self.asked: list[str] = []
        self.fails = fails

    def __call__(self, words, log):
        said = dict(word.split("=", 1) for word in words[1:])
        self.asked.append(log.parent.relative_to(log.parents[2]).as_posix())
        if self.fails and self.fails in self.asked[-1]:
            return 2
        folder = log.parent
        if words[0] == "train":
            folder = folder / "latest"
            folder.mkdir(exist_ok=True)
            (folder / "config.yaml").write_text("data: {batch_size: 4}\n")
            (folder / "metrics.csv").write_text("step,train/images_per_s\n1,\n2,40\n3,20\n4,8\n")
            (folder / "model.safetensors").write_text("")
        else:
            assert Path(said["model"]).is_file()
        recall = {"AR100": 0.75} if words[0] == "train" else {"AR100": 0.7, "AR": 0.75}
        (folder / "metrics.json").write_text(json.dumps({"bbox": {"AP": 0.25, **recall}, "segm": {"AP": 0.5}}))
        return 0


def jobs(script, tmp_path, chosen=("giou", "tta: flip"), words=("data.root=d", "augment=flip"), steps=10):
    return script.jobs_for(chosen, words, steps, range(2), tmp_path)


def test_what_is_finished_is_not_done_again(script, kit, tmp_path):
    first = Stub(fails="giou/seed1")
    failed = script.run_all(jobs(script, tmp_path), first, 2, FOREVER)
    assert [(job.variant, job.seed) for job in failed] == [("giou", 1)]
    assert sorted(first.asked) == sorted(
        f"{name}/seed{seed}" for name in ("plain", "giou", "tta_flip") for seed in (0, 1)
    )
    second = Stub()
    assert script.run_all(jobs(script, tmp_path), second, 1, FOREVER) == []
    assert second.asked == ["giou/seed1"]
    found = script.read_results(jobs(script, tmp_path))
    assert len(found) == 6
    assert found[0] == kit.Result("plain", 0, 0.25, 0.5, 0.75, 200.0)
    assert found[2] == kit.Result("tta: flip", 0, 0.25, 0.5, 0.75, None)


def test_a_run_that_died_after_its_metrics_is_done_again(script, tmp_path):
    todo = jobs(script, tmp_path, chosen=())
    latest = todo[0].folder / "latest"
    latest.mkdir(parents=True)
    (latest / "metrics.json").write_text("{}")
    stub = Stub()
    script.run_all(todo, stub, 1, FOREVER)
    assert stub.asked == ["plain/seed0", "plain/seed1"]


def test_other_settings_do_not_mix(script, tmp_path):
    script.run_all(jobs(script, tmp_path), Stub(), 1, FOREVER)
    with pytest.raises(SystemExit, match=r"trainer\.max_steps=10, trainer\.max_steps=20.*--output"):
        script.run_all(jobs(script, tmp_path, steps=20), Stub(), 1, FOREVER)


def test_no_run_begins_after_the_end(script, tmp_path):
    stub = Stub()
    assert script.run_all(jobs(script, tmp_path), stub, 1, 0.0) == []
    assert stub.asked == []
    assert script.read_results(jobs(script, tmp_path)) == []


def test_seeds_take_turns_and_plain_is_always_there(script, tmp_path):
    order = [(job.variant, job.seed) for job in jobs(script, tmp_path)]
    assert order == [(name, seed) for seed in (0, 1) for name in ("plain", "giou", "tta: flip")]
    assert {job.variant for job in jobs(script, tmp_path, chosen=())} == {"plain"}


def test_the_commands_are_ones_that_finemask_takes(script, tmp_path):
    everything = [*script.TRAINED, *script.AFTERWARDS]
    words = ("data.root=d", "data.val=annotations/v.json", "experiment=nuclei", "model.weights=none")
    for job in script.jobs_for(everything, words, 10, [0], tmp_path):
        groups = [word for word in script.TRAINED.get(job.variant, ()) if word.startswith("model/")]
        for group, _, option in (word.partition("=") for word in groups):
            assert option in group_options(group, [config_dir()])
        names = [word for word in job.words if word.startswith("name=")]
        assert not set("".join(names)) & set(", :")  # hydra reads them as lists
        if not groups:  # composing takes a second
            assert compose(job.words[0], job.words[1:]).data.val == "annotations/v.json"


def test_figures_become_a_section(script, kit):
    content = {
        "machine": {"processor": "P", "cores": 2, "python": "3.11", "torch": "2", "torchvision": "0"},
        "words": ["data.root=DIR", "experiment=nuclei"],
        "steps": 100,
        "results": [script.vars_of(result) for result in results(kit, plain=PLAIN, giou=BETTER)],
    }
    assert script.results_in(json.loads(json.dumps(content))) == results(kit, plain=PLAIN, giou=BETTER)
    section = kit.page(content, ["plain", "giou"], "cells")
    assert "| giou | 3 | 0.410 ± 0.010 | +0.100 (chance: 0.025) | **gain** |" in section
    assert "python scripts/compare_parts.py data.root=DIR experiment=nuclei --steps 100 --write" in section
    assert "of 3 comparisons 0 or\nso are" in section
