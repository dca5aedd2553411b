"""Measures loading annotations and making samples, beside pycocotools, albumentations and torchvision in the same run.

    python scripts/bench_data.py load --json bench_load.json
    python scripts/bench_data.py pipeline --json bench_pipeline.json
    python scripts/bench_data.py resize

``load`` writes a synthetic COCO file of train2017's size (118,000 images, 860,000 polygons, 450 MB), opens it in
fresh processes, and reads every mask in two forked workers. ``pipeline`` turns drawn images and their annotations
into augmented samples, ours and the customary way in turn. ``resize`` brings images to 320 px, ours and torchvision in
turn. Each prints a table and writes JSON.
"""

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

from finemask.bench.timing import Comparison, show, write


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    work = parser.add_subparsers(dest="work", required=True)
    load = work.add_parser("load", help="open an annotation file of train2017's size")
    load.add_argument("--images", type=int, default=118_000)
    load.add_argument("--annotations", type=int, default=860_000)
    load.add_argument("--folder", type=Path, help="keep the synthetic dataset here; default: a temporary folder")
    load.add_argument("--workers", type=int, default=2)
    pipeline = work.add_parser("pipeline", help="make augmented samples")
    pipeline.add_argument("--images", type=int, default=24, help="of each number of instances")
    pipeline.add_argument("--instances", type=int, nargs="+", default=[20, 200])
    pipeline.add_argument("--rounds", type=int, default=9)
    resize = work.add_parser("resize", help="bring images to the size that the model sees")
    resize.add_argument(
        "--sides", type=int, nargs="+", default=[480, 640, 1024, 3000], help="px; the other is 4/3 of it"
    )
    resize.add_argument("--rounds", type=int, default=9)
    for command in (load, pipeline, resize):
        command.add_argument("--json", type=Path, help="file for the figures")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_data-") as temporary:
        if arguments.work == "load":
            from bench_data_load import measure_loading

            folder = arguments.folder or Path(temporary)
            found = measure_loading(folder, arguments.images, arguments.annotations, arguments.workers)
            compared = of_loading(found)
        elif arguments.work == "resize":
            from bench_data_resize import measure_resizing

            compared = [measure_resizing(side, arguments.rounds) for side in arguments.sides]
            found = None
            show(compared)
        else:
            from bench_data_pipeline import measure_pipeline

            found = measure_pipeline(Path(temporary), arguments.images, arguments.instances, arguments.rounds)
            compared = of_pipeline(found)
    if arguments.json is not None:
        write(arguments.json, compared, details=found)
    return 0


def of_pipeline(found: dict[str, Any]) -> list[Comparison]:
    """A row for each number of instances, with and without augmentation."""
    size = f"{found['width']} × {found['height']} px"
    return [
        Comparison(
            work=f"a sample, {size}, {row['instances']} instances, augment={row['augment']}",
            baseline="annToMask + albumentations",
            baseline_s=1 / row["reference_img_s"],
            finemask_s=1 / row["finemask_img_s"],
            ratio=row["ratio"],
            goal=4 if row["instances"] < 100 else 10,
            agreement="masks and labels identical" if row["augment"] == "none" else "",
            memory=f"1/{row['bytes_ratio']:.1f} of the bytes to the trainer",
        )
        for row in found["rows"]
    ]


def of_loading(found: dict[str, Any]) -> list[Comparison]:
    """A row for the first opening, and one for those from the cache."""
    ways, theirs = found["ways"], found["ways"]["pycocotools COCO()"]
    workers = (
        f"a worker that read every mask {ways['finemask, cached']['worker_grown_mib']:.0f} MiB more, "
        f"theirs {theirs['worker_grown_mib']:.0f} MiB"
    )
    return [
        Comparison(
            work=f"opening {found['images']:,} images, {found['annotations']:,} polygons, {which}",
            baseline="pycocotools COCO()",
            baseline_s=theirs["open_s"],
            finemask_s=ways[way]["open_s"],
            ratio=theirs["open_s"] / ways[way]["open_s"],
            goal=goal,
            agreement="",
            memory=f"peak {ways[way]['peak_mib']:.0f} MiB, theirs {theirs['peak_mib']:.0f} MiB; {workers}",
        )
        for which, way, goal in (
            ("the first time", "finemask, cold", 0.5),
            ("from the cache", "finemask, cached", 10),
        )
    ]


if __name__ == "__main__":
    sys.exit(main())
