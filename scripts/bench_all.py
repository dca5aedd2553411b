"""Runs every benchmark and writes docs/performance.md from what they found: the one command behind that page.

python scripts/bench_all.py                      # about an hour and a half on two cores; keep the machine quiet
python scripts/bench_all.py --only predict data  # measures these again, takes the rest from the last time
python scripts/bench_all.py --only               # writes the page anew from what is there
"""

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

from finemask.bench.timing import Comparison, read, seconds

HERE = Path(__file__).resolve().parent
PAGE = HERE.parent / "docs" / "performance.md"
FIGURES = HERE.parent / "docs" / "performance"
COMMANDS = {
    "train": ("bench_train.py",),
    "predict": ("bench_predict.py",),
    "eval": ("bench_eval.py",),
    "data": ("bench_data.py", "pipeline"),
    "resize": ("bench_data.py", "resize"),
    "load": ("bench_data.py", "load"),
    "gpu": ("bench_gpu.py",),
}
_ON_A_GPU = {"gpu"}
_NOT_VERSIONS = {"processor", "cores", "platform", "python"}
TITLES = {
    "train": "Training",
    "predict": "Prediction",
    "eval": "Evaluation",
    "data": "Samples",
    "resize": "Images to the size that the model sees",
    "load": "Opening annotations",
    "gpu": "On a GPU",
}
INTRODUCTION = """# Performance

Every table is ours beside the customary way on the same work, in turn, in one run. `python scripts/bench_all.py` writes
this page from the JSON files in `docs/performance/`. *Agreement* says how far the outcomes differ: a quick wrong answer
is not counted. A ratio below its goal is marked. (Masks are pasted at whole pixels, as torchvision pastes them: a box
that ends within rounding of one moves its mask by a pixel, which is much of a small mask of random weights.)

What is behind the figures: RoIAlign as one sparse matrix product on CPUs (`model/devices/cpu/roi_align.py`), wide
3 × 3 convolutions with a third of the multiplications on CPUs (`model/devices/cpu/winograd.py`), steps on a GPU whose
shapes do not depend on the data (`model/devices/gpu/fixed_step.py`), masks of the asked class only
(`model/mask_predictor/fcn.py`), the region proposal network for a batch at once, with gradients only where an anchor
was sampled (`model/rpn.py`), channels-last weights, mask targets straight from label maps (`ops/mask_ops.py`),
images resized from the pixels that take part (`model/devices/resizing.py`), annotations in packed arrays
(`coco/packing.py`), all polygons of an image rasterised at once (`coco/polygon_runs.py`),
masks pasted and run-length encoded inside their boxes (`ops/mask_ops.py`), and COCO's matching for all images,
thresholds and sizes at once (`evaluation/numbers/match_table.py`), checked against pycocotools
(`pycocotools_reference.py`).
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", nargs="*", choices=COMMANDS, help="measure these; take the rest from the last time")
    arguments = parser.parse_args()
    FIGURES.mkdir(exist_ok=True)
    everything = [name for name in COMMANDS if name not in _ON_A_GPU or shutil.which("nvidia-smi")]
    for name in everything if arguments.only is None else arguments.only:
        script, *words = COMMANDS[name]
        subprocess.run([sys.executable, HERE / script, *words, "--json", FIGURES / f"{name}.json"], check=True)
    PAGE.write_text(page(), encoding="utf-8", newline="\n")
    print(f"wrote {PAGE}")
    return 0


def page() -> str:
    """The text of docs/performance.md."""
    parts = [INTRODUCTION]
    for name, command in COMMANDS.items():
        path = FIGURES / f"{name}.json"
        if not path.exists():
            continue
        machine, rows = read(path)
        parts += [f"## {TITLES[name]}\n", f"`python scripts/{' '.join(command)}`\n", table(rows), _machine(machine)]
    return "\n".join(parts)


def table(rows: list[Comparison]) -> str:
    """A Markdown table."""
    lines = [
        "| work | against | theirs | ours | × faster | goal | agreement, memory |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        told = "; ".join(filter(None, (row.agreement, row.memory)))
        figures = (seconds(row.baseline_s), seconds(row.finemask_s), _ratio(row), row.goal_told)
        lines.append(f"| {row.work} | {row.baseline} | {' | '.join(figures)} | {told} |")
    return "\n".join(lines) + "\n"


def _ratio(row: Comparison) -> str:
    if not row.goal:
        return f"{row.ratio:.2f}"
    return f"**{row.ratio:.2f}**" if row.ratio >= row.goal else f"{row.ratio:.2f} (missed)"


def _machine(machine: dict[str, object]) -> str:
    versions = ", ".join(f"{name} {value}" for name, value in machine.items() if name not in _NOT_VERSIONS)
    return f"{machine['processor']}, {machine['cores']} cores; Python {machine['python']}, {versions}.\n"


if __name__ == "__main__":
    sys.exit(main())
