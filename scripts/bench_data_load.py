"""The loading part of bench_data.py: a synthetic COCO file, and processes that open it."""

import json
import multiprocessing
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

MIB = 2**20


def measure_loading(folder: Path, images: int, annotations: int, workers: int) -> dict[str, Any]:
    """Opens the file three ways, each in a process of its own, prints a table and returns the figures."""
    file = folder / f"synthetic_{images}_{annotations}.json"
    if not file.exists():
        print(f"writing {file} …", flush=True)
        write_synthetic_coco(file, folder / "images", images, annotations)
    cache = folder / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    rows: dict[str, Any] = {}
    for name, way, forked in (
        ("finemask, cold", "finemask", 0),
        ("finemask, cached", "finemask", workers),
        ("finemask, no cache", "finemask-no-cache", 0),
        ("pycocotools COCO()", "pycocotools", workers),
    ):
        print(f"{name} …", flush=True)
        command = [sys.executable, __file__, way, str(file), str(folder / "images"), str(cache), str(forked)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        rows[name] = json.loads(done.stdout)
    size = file.stat().st_size / MIB
    cached = sum(path.stat().st_size for path in cache.iterdir()) / MIB
    print(f"\n{images:,} images, {annotations:,} annotations, {size:.0f} MiB of JSON, {cached:.0f} MiB of cache\n")
    columns = ("open_s", "open_cpu_s", "peak_mib", "imports_mib", "worker_uss_mib", "worker_grown_mib", "worker_s")
    print(f"{'':20}" + "".join(f"{column:>18}" for column in columns))
    for name, row in rows.items():
        print(f"{name:20}" + "".join(f"{row[column]:18.2f}" if column in row else f"{'':18}" for column in columns))
    print(
        "\nopen: seconds until the file is open, on the clock and of the processor;"
        "\npeak: greatest resident memory until the file is open, imports: resident before it was begun;"
        f"\nworker_uss: private memory of each of {workers} forked workers after it rasterised every mask,"
        "\nworker_grown: by how much that is more than when it began; worker_s: how long it took."
    )
    return {"images": images, "annotations": annotations, "json_mib": size, "cache_mib": cached, "ways": rows}


def write_synthetic_coco(file: Path, images_dir: Path, images: int, annotations: int) -> None:
    """A file like instances_train2017.json: as large, keyed alike, annotations in no order of images.

    The images are empty files: nothing here opens them.
    """
    rng = random.Random(0)
    outlines = [_outline(rng) for _ in range(5000)]
    images_dir.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8") as out:
        out.write('{"info": {"description": "synthetic"}, "licenses": [], "images": [')
        for i in range(images):
            name = f"{i:012d}.jpg"
            (images_dir / name).touch()
            entry = {
                "license": 3,
                "file_name": name,
                "coco_url": f"http://images.cocodataset.org/train2017/{name}",
                "height": 480,
                "width": 640,
                "date_captured": "2013-11-14 11:18:45",
                "flickr_url": f"http://farm9.staticflickr.com/8186/{i:010d}_e3ebbd1e39_z.jpg",
                "id": i,
            }
            out.write((", " if i else "") + json.dumps(entry))
        out.write('], "annotations": [')
        for i in range(annotations):
            segmentation, bbox, area = rng.choice(outlines)
            numbers = f'"iscrowd": 0, "image_id": {rng.randrange(images)}, "category_id": {rng.randint(1, 80)}'
            out.write(
                f'{", " if i else ""}{{"segmentation": {segmentation}, "area": {area}, {numbers}, '
                f'"bbox": {bbox}, "id": {i + 1}}}'
            )
        categories = [{"id": k, "name": f"thing {k}", "supercategory": "thing"} for k in range(1, 81)]
        out.write('], "categories": ' + json.dumps(categories) + "}")


def _outline(rng: random.Random) -> tuple[str, str, float]:
    """A star-shaped polygon of about as many corners as COCO's (26 on average), as JSON; its box; its area."""
    import math

    corners = max(3, round(rng.lognormvariate(2.97, 0.65)))
    radius = min(110.0, rng.lognormvariate(3.3, 0.9))
    x, y = rng.uniform(radius, 640 - radius), rng.uniform(radius, 480 - radius)
    points = []
    for k in range(corners):
        angle, r = 2 * math.pi * k / corners, radius * rng.uniform(0.6, 1)
        points += [round(x + r * math.cos(angle), 2), round(y + r * math.sin(angle), 2)]
    x0, x1, y0, y1 = min(points[::2]), max(points[::2]), min(points[1::2]), max(points[1::2])
    box = [x0, y0, round(x1 - x0, 2), round(y1 - y0, 2)]
    return json.dumps([points]), json.dumps(box), round(2.0 * radius**2, 4)


def open_and_pass(way: str, file: Path, images_dir: Path, cache: Path, workers: int) -> dict[str, float]:
    """Runs in its own process: opens the file, and forks workers that look at all of it."""
    open_file, everything = _ways(way, file, images_dir, cache)
    imports = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # what importing took at its peak is not counted
    start, start_cpu = time.perf_counter(), time.process_time()
    opened = open_file()
    seconds, cpu_seconds = time.perf_counter() - start, time.process_time() - start_cpu
    figures = {"open_s": seconds, "open_cpu_s": cpu_seconds, "peak_mib": _status("VmHWM"), "imports_mib": imports}
    return figures if workers == 0 else figures | _pass_in_workers(opened, everything, workers)


def _pass_in_workers(opened: Any, everything: Callable[[Any], Iterator[Any]], workers: int) -> dict[str, float]:
    fork = multiprocessing.get_context("fork")
    answers = fork.SimpleQueue()
    begin, end = fork.Barrier(workers), fork.Barrier(workers)

    def work() -> None:
        before = _private()
        begin.wait()
        start = time.perf_counter()
        for _ in everything(opened):
            pass
        seconds = time.perf_counter() - start
        end.wait()  # pages that two share are private to the one that is left
        answers.put((before, _private(), seconds))
        end.wait()

    processes = [fork.Process(target=work) for _ in range(workers)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
        if process.exitcode:
            raise SystemExit(f"a worker failed with {process.exitcode}")
    before, after, took = zip(*(answers.get() for _ in processes), strict=True)
    return {
        "worker_uss_mib": max(after),
        "worker_grown_mib": max(b - a for a, b in zip(before, after, strict=True)),
        "worker_s": max(took),
    }


def _ways(
    way: str, file: Path, images_dir: Path, cache: Path
) -> tuple[Callable[[], Any], Callable[[Any], Iterator[Any]]]:
    """How to open a file, and how to rasterise all that was opened, one image after another."""
    if way == "pycocotools":
        from pycocotools.coco import COCO

        def open_coco() -> Any:
            sys.stdout = sys.stderr  # it prints
            return COCO(str(file))

        def all_of_coco(api: Any) -> Iterator[Any]:
            for image in api.getImgIds():
                yield [api.annToRLE(annotation) for annotation in api.loadAnns(api.getAnnIds(imgIds=image))]

        return open_coco, all_of_coco
    from finemask.coco.index import CocoIndex

    def all_of_index(index: Any) -> Iterator[Any]:
        for i in range(len(index)):
            instances = index.instances(i)
            yield instances.runs(np.arange(len(instances)))  # as training does

    folder = None if way == "finemask-no-cache" else cache
    return lambda: CocoIndex.read(file, images_dir, cache=folder), all_of_index


def _status(key: str) -> float:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:")) / 1024


def _private() -> float:
    """Memory that this process alone has, MiB."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith(("Private_Clean:", "Private_Dirty:"))) / 1024


if __name__ == "__main__":
    way, file, images_dir, cache, workers = sys.argv[1:]
    os.environ["OMP_NUM_THREADS"] = "1"
    found = open_and_pass(way, Path(file), Path(images_dir), Path(cache), int(workers))
    sys.__stdout__.write(json.dumps(found) + "\n")  # type: ignore[union-attr]
