"""Measures a COCO evaluation of boxes and masks, ours beside pycocotools, in the same run.

    python scripts/bench_eval.py --json bench_eval.json
    python scripts/bench_eval.py --images 500 --rounds 5

The data are synthetic: 80 classes, 7.2 objects and 100 detections an image, as RLE. pycocotools does what its own
documentation says: ``COCO()`` of the file, ``loadRes``, then ``COCOeval`` for each kind with its summary. Both times
begin with the ground truth and the results in memory, as after an epoch; ours ends with the content of
``metrics.json``. Reading the files (and, ours, checking every entry) is timed beside it. Peak memory is that of a
process of its own for each, which reads its input as well: we read an image's detections at a time, as they come from
a model.
"""

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench_eval_work import CONTENDERS, measure, write_dataset

from finemask.bench.timing import Comparison, write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, help="keep the synthetic dataset here; default: a temporary folder")
    parser.add_argument("--json", type=Path, help="file for the figures")
    parser.add_argument("--alone", choices=CONTENDERS, help=argparse.SUPPRESS)  # one contender, one process
    arguments = parser.parse_args()
    if arguments.alone:
        print(json.dumps(measure(arguments.alone, arguments.folder)))
        return 0
    with tempfile.TemporaryDirectory(prefix="bench_eval-") as temporary:
        folder = arguments.folder or Path(temporary)
        write_dataset(folder, arguments.images)
        rounds = [_round(folder, number) for number in range(arguments.rounds)]
    found = _summary(rounds)
    _show(found, arguments.images)
    if arguments.json is not None:
        write(arguments.json, _comparisons(found, arguments.images), details={"rounds": rounds, **found})
    return 0


def _round(folder: Path, number: int) -> dict[str, Any]:
    """Both, in an order that turns from round to round, each in a process of its own."""
    names = list(CONTENDERS) if number % 2 == 0 else list(CONTENDERS)[::-1]
    command = [sys.executable, __file__, "--folder", str(folder), "--alone"]
    found = {}
    for name in names:
        done = subprocess.run([*command, name], stdout=subprocess.PIPE, check=True)
        found[name] = json.loads(done.stdout)
        print(f"round {number + 1}: {name} {found[name]['seconds']:.2f} s", flush=True)
    return found


def _summary(rounds: list[dict[str, Any]]) -> dict[str, Any]:
    from statistics import median

    def middle(name: str, key: str) -> float:
        return median(found[name][key] for found in rounds)

    def ratio(key: str, baseline: str = "seconds") -> float:
        return median(found["pycocotools"][baseline] / found["finemask"][key] for found in rounds)

    pairs = [
        (found["pycocotools"]["numbers"][position], found["finemask"]["numbers"][position])
        for found in rounds
        for position in range(24)
    ]
    return {
        **{f"{name}_s": middle(name, "seconds") for name in CONTENDERS},
        "finemask_later_s": middle("finemask", "later_seconds"),
        **{f"{name}_loading_s": middle(name, "loading_seconds") for name in CONTENDERS},
        "ratio_loading": ratio("loading_seconds", "loading_seconds"),
        "ratio": ratio("seconds"),
        "ratio_later": ratio("later_seconds"),
        "ratio_of_processor_time": ratio("processor_seconds", "processor_seconds"),
        **{f"{name}_mb": middle(name, "peak_mb") for name in CONTENDERS},
        "memory_ratio": ratio("peak_mb", "peak_mb"),
        "largest_difference": max(abs(a - b) for a, b in pairs),
        "identical": sum(a == b for a, b in pairs) // len(rounds),
    }


def _comparisons(found: dict[str, Any], images: int) -> list[Comparison]:
    memory = f"peak memory {found['finemask_mb']:.0f} MB, theirs {found['pycocotools_mb']:.0f} MB"
    agreement = f"{found['identical']} of 24 numbers identical, the others within {found['largest_difference']:.1g}"
    evaluations = [
        Comparison(
            work=f"COCO evaluation of {images:,} images, bbox + segm, {100 * images:,} detections, {which}",
            baseline="pycocotools",
            baseline_s=found["pycocotools_s"],
            finemask_s=found[ours],
            ratio=found[ratio],
            goal=80,
            agreement=agreement,
            memory=memory,
        )
        for which, ours, ratio in (
            ("the first of a run, with its cross-check", "finemask_s", "ratio"),
            ("later ones", "finemask_later_s", "ratio_later"),
        )
    ]
    reading = Comparison(
        work="reading the annotations and the results from their files, which no evaluation in training does",
        baseline="COCO(), loadRes",
        baseline_s=found["pycocotools_loading_s"],
        finemask_s=found["finemask_loading_s"],
        ratio=found["ratio_loading"],
        goal=0,
        agreement="every entry checked, theirs none",
    )
    return [*evaluations, reading]


def _show(found: dict[str, Any], images: int) -> None:
    print(f"\n{images} images, bbox + segm, medians of interleaved rounds\n")
    print(f"{'':>14}{'seconds':>10}{'peak MB':>10}")
    for name in CONTENDERS:
        print(f"{name:>14}{found[f'{name}_s']:10.2f}{found[f'{name}_mb']:10.0f}")
    print(
        f"\n× {found['ratio']:.1f} faster at a run's first evaluation, which is checked against pycocotools; "
        f"× {found['ratio_later']:.1f} from the second on ({found['finemask_later_s']:.2f} s).\n"
        f"× {found['ratio_of_processor_time']:.1f} less processor time, 1/{found['memory_ratio']:.1f} of the memory.\n"
        f"{found['identical']} of 24 numbers are the same to the bit, "
        f"the largest difference is {found['largest_difference']:.1e}.\n"
        f"Not in these times: reading the files, {found['pycocotools_loading_s']:.1f} s theirs, "
        f"{found['finemask_loading_s']:.1f} s ours with a check of every entry."
    )


if __name__ == "__main__":
    sys.exit(main())
