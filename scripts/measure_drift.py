"""How many images of each dataset a model of each dataset would call unlike its training images.

    python scripts/measure_drift.py DATASET DATASET …

A dataset is a folder with images/ and annotations/train.json and val.json. Rows are trained on, columns looked at: the
images of val, which the looks of train do not hold.
"""

import sys
import time
from pathlib import Path

from finemask.coco.index import CocoIndex
from finemask.ops.images.image_look import LooksOfASet, look_of
from finemask.training.save_model import training_looks


def main(folders: list[Path]) -> None:
    """Prints the table."""
    known: dict[str, LooksOfASet | None] = {}
    seen = {}
    for folder in folders:
        train, val = (
            CocoIndex.read(folder / f"annotations/{split}.json", folder / "images") for split in ("train", "val")
        )
        start = time.process_time()
        known[folder.name] = training_looks(train)
        print(f"{folder.name}: {len(train)} training images, {time.process_time() - start:.1f} s")
        seen[folder.name] = [look_of(val.read_image(i)) for i in range(len(val))]
    print(f"\n| trained on | {' | '.join(f'{name} ({len(looks)})' for name, looks in seen.items())} |")
    print("|---|" + "---|" * len(seen))
    for name, looks in known.items():
        if looks is None:
            print(f"| {name} | {' | '.join('–' for _ in seen)} |")
            continue
        cells = []
        for others in seen.values():
            drifts = sorted(looks.drift(look) for look in others)
            cells.append(f"{sum(drift > 1 for drift in drifts) / len(drifts):.0%} ({drifts[len(drifts) // 2]:.2f})")
        print(f"| {name} | {' | '.join(cells)} |")


if __name__ == "__main__":
    main([Path(word) for word in sys.argv[1:]])
