"""Peak memory and time of ``finemask data tile`` on one large image with many instances, drawn here.

python scripts/bench_tile.py --side 30000 --readers pillow vips --formats jpg tif
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

INSTANCES = 20_000
POINTS = 24


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--side", type=int, default=30_000, help="px of the square image")
    parser.add_argument("--size", type=int, default=1024, help="px of the tiles")
    parser.add_argument("--readers", nargs="+", default=["pillow", "vips"])
    parser.add_argument("--formats", nargs="+", default=["jpg", "tif"])
    parser.add_argument("--folder", type=Path, default=None, help="where to work; default: a temporary folder")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.folder) as name:
        folder = Path(name)
        for suffix in args.formats:
            # Drawn by another process, so that its memory does not count.
            draw = [
                sys.executable,
                "-c",
                f"import bench_tile; bench_tile.draw({str(folder)!r}, {args.side}, {suffix!r})",
            ]
            subprocess.run(draw, check=True, cwd=Path(__file__).parent)
            annotate(folder, args.side, suffix)
            for reader in args.readers:
                measure(folder, args.size, suffix, reader)
    print(f"RGB pixels of the image alone: {3 * args.side**2 / 2**30:.2f} GiB")


def draw(folder: str, side: int, suffix: str) -> None:
    """A noisy picture of [side, side], saved with the compression that such files usually have."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize((1024, 1024), 3)
    noisy = np.asarray(coarse).astype(np.int16) + rng.integers(-6, 7, (1024, 1024, 3))
    patch = Image.fromarray(noisy.clip(0, 255).astype(np.uint8))
    Image.MAX_IMAGE_PIXELS = None
    image = Image.new("RGB", (side, side))
    for y in range(0, side, 1024):
        for x in range(0, side, 1024):
            image.paste(patch.rotate(90 * ((x + y) // 1024 % 4)), (x, y))
    options = {"compression": "tiff_adobe_deflate"} if suffix == "tif" else {"quality": 90} if suffix == "jpg" else {}
    image.save(Path(folder) / f"large.{suffix}", **options)


def annotate(folder: Path, side: int, suffix: str) -> None:
    """Round polygons of 10 to 200 px everywhere."""
    rng = np.random.default_rng(1)
    angles = np.linspace(0, 2 * np.pi, POINTS, endpoint=False)
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    radii, centres = rng.uniform(5, 100, INSTANCES), rng.uniform(0, side, (INSTANCES, 2))
    annotations = [
        {"id": k, "image_id": 1, "category_id": 1, "segmentation": [(c + r * circle).round(1).ravel().tolist()]}
        for k, (r, c) in enumerate(zip(radii, centres, strict=True), start=1)
    ]
    images = [{"id": 1, "file_name": f"large.{suffix}", "width": side, "height": side}]
    document = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "disc"}]}
    (folder / "train.json").write_text(json.dumps(document))


def measure(folder: Path, size: int, suffix: str, reader: str) -> None:
    """Runs the verb in a process of its own and prints what it took."""
    keys = [f"annotations={folder / 'train.json'}", f"images={folder}", f"output={folder / reader / suffix}"]
    keys += [f"size={size}", f"reader={reader}", "format=jpg"]
    start = time.perf_counter()
    code = "import resource, sys; from finemask.cli import main; code = main(sys.argv[1:]); "
    code += "print('peak', resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(code)"
    run = subprocess.run(
        [sys.executable, "-c", code, "data", "tile", *keys], capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - start
    if run.returncode:
        print(f"{suffix} {reader}: {run.stderr.strip().splitlines()[-1]}", flush=True)
        return
    peak_kib = int(run.stdout.split()[-1]) / (1024 if sys.platform == "darwin" else 1)
    tiles = len(json.loads((folder / reader / suffix / "annotations" / "train.json").read_text())["images"])
    print(f"{suffix} {reader}: {tiles} tiles, peak {peak_kib / 2**20:.2f} GiB, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    main()
