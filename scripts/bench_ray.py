"""``engine=ray`` on this machine beside ``engine=local``: images a second with one worker, two, …, and the same files.

    python scripts/bench_ray.py MODEL IMAGES --number 200 --workers 1 2

IMAGES is a folder, of which as many images are taken as ``--number`` says, some of them several times if it has not so
many; one more is broken. Timed is the run without the start of Ray, which is said apart.
"""

import argparse
import os
import shutil
import tempfile
import time
from itertools import cycle, islice
from pathlib import Path

from finemask.machine.hardware import cores
from finemask.workflows.predict_images import predict


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("images", type=Path)
    parser.add_argument("--number", type=int, default=200)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2])
    args = parser.parse_args()
    print(f"{cores()} processors for this process, load {os.getloadavg()[0]:.1f}", flush=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        photos = folder / "photos"
        photos.mkdir()
        files = sorted(file for file in args.images.iterdir() if file.is_file())
        for number, file in enumerate(islice(cycle(files), args.number)):
            shutil.copy(file, photos / f"{number:04}{file.suffix}")
        (photos / "broken.png").write_bytes(b"junk")
        expected = run(args.model, photos, folder / "local", "engine=local", [])
        for workers in args.workers:
            words = ["engine=ray", f"ray.workers={workers}"]
            if run(args.model, photos, folder / f"ray_{workers}", f"ray.workers={workers}", words) != expected:
                raise SystemExit(f"other files with {workers} workers than without Ray")
        print("the files are the same")


def run(model: str, photos: Path, output: Path, name: str, words: list[str]) -> dict[str, bytes]:
    """Predicts, prints how long it took, and gives the files that say what was found."""
    start = time.perf_counter()
    done = predict(model, photos, output, ["save=[coco,csv]", *words])
    rest = time.perf_counter() - start - done.seconds
    print(
        f"{name}: {done.images} images and {len(done.failures)} that cannot be read in {done.seconds:.0f} s, "
        f"{done.images / done.seconds:.2f} images/s; {rest:.0f} s to start and end",
        flush=True,
    )
    return {file.name: file.read_bytes() for file in sorted(output.iterdir()) if file.is_file()}


if __name__ == "__main__":
    main()
