"""Measures loading annotations and making samples, beside pycocotools and albumentations in the same run.

    python scripts/bench_data.py load --json bench_load.json
    python scripts/bench_data.py pipeline --json bench_pipeline.json

``load`` writes a synthetic COCO file of train2017's size (118,000 images, 860,000 polygons, 450 MB), opens it in
fresh processes, and reads every mask in two forked workers. ``pipeline`` turns drawn images and their annotations
into augmented samples, ours and the customary way in turn. Each prints a table and writes JSON.
"""

import argparse
import json
import platform
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import Any


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
    pipeline.add_argument("--rounds", type=int, default=5)
    for command in (load, pipeline):
        command.add_argument("--json", "--output", dest="output", type=Path, help="JSON file")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench_data-") as temporary:
        if arguments.work == "load":
            from bench_data_load import measure_loading

            folder = arguments.folder or Path(temporary)
            found = measure_loading(folder, arguments.images, arguments.annotations, arguments.workers)
        else:
            from bench_data_pipeline import measure_pipeline

            found = measure_pipeline(Path(temporary), arguments.images, arguments.instances, arguments.rounds)
    if arguments.output is not None:
        arguments.output.write_text(json.dumps({"machine": machine(), **found}, indent=1) + "\n", encoding="utf-8")
    return 0


def machine() -> dict[str, Any]:
    """What the figures were measured with."""
    packages = ("finemask", "torch", "numpy", "pycocotools", "albumentations", "opencv-python-headless", "pillow")
    found = {"python": platform.python_version(), "platform": platform.platform(), "processor": processor()}
    return found | {name: version(name) for name in packages}


def processor() -> str:
    """The name of the CPU, where the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


if __name__ == "__main__":
    sys.exit(main())
