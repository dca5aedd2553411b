"""Measures training beside torchvision's own modules and reference loop, in turn, in one run.

    python scripts/bench_train.py step roi_align classes --json bench_train.json
    python scripts/bench_train.py                     # everything, about forty minutes on two cores

``step``: forward, backward and optimiser of resnet50_fpn with the same weights, images, proposals and draws.
``classes``: what 80 classes cost. ``compile``: what ``compile=default`` gains. ``roi_align``: the pooling alone.
``loop``: an epoch from files to checkpoint and its evaluation, against torchvision's reference loop. ``overhead``:
Lightning and our own code around a step. ``light``: images a second of ``model=light``.
"""

import argparse
import sys
from pathlib import Path

from bench_train_loop import measure_light, measure_loop, measure_overhead
from bench_train_step import measure_classes, measure_compile, measure_roi_align, measure_step

from finemask.bench.timing import Comparison, show, write

WORK = ("step", "classes", "compile", "roi_align", "loop", "overhead", "light")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("work", nargs="*", help=f"any of {', '.join(WORK)}; all if none is named")
    parser.add_argument("--rounds", type=int, default=5, help="of each measurement; medians are reported")
    parser.add_argument("--images", type=int, default=32, help="of the loop's epoch")
    parser.add_argument("--json", "--output", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    unknown = set(arguments.work) - set(WORK)
    if unknown:
        parser.error(f"there is no {', '.join(sorted(unknown))}; choose from {', '.join(WORK)}")
    found: list[Comparison] = []
    for work in arguments.work or WORK:
        found += measure(work, arguments.rounds, arguments.images)
        show(found)
        if arguments.json is not None:
            write(arguments.json, found)
    return 0


def measure(work: str, rounds: int, images: int) -> list[Comparison]:
    if work == "step":
        return [measure_step(256, 2, 8, rounds, goal=1.9), measure_step(512, 2, 8, max(1, rounds // 2), goal=1.5)]
    if work == "classes":
        return [measure_classes(256, 2, 8, rounds)]
    if work == "compile":
        return [measure_compile(256, 2, 8, rounds)]
    if work == "roi_align":
        return [measure_roi_align(1024, 7, 256, rounds, goal=8), measure_roi_align(128, 14, 256, rounds, goal=8)]
    if work == "loop":
        return [measure_loop(images, max(1, rounds // 3))]
    if work == "overhead":
        return [measure_overhead(rounds)]
    return [measure_light(rounds)]


if __name__ == "__main__":
    sys.exit(main())
