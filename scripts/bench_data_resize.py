"""The resize part of bench_data.py: an image and its box to what the backbone sees, ours and torchvision's in turn."""

import statistics
import time
from typing import Any

import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.model.mask_rcnn import ImageTransform
from finemask.types import Preprocessing

SEEN = Preprocessing(min_size=(320,), max_size=512, image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225))


def measure_resizing(sizes: list[tuple[int, int]], rounds: int) -> dict[str, Any]:
    """Times both ways on batches of four images of each size, prints a table and returns the figures."""
    torch.set_num_threads(1)
    ours = ImageTransform(SEEN).eval()
    theirs = GeneralizedRCNNTransform(SEEN.min_size[0], SEEN.max_size, SEEN.image_mean, SEEN.image_std).eval()
    rows = []
    print(f"{'image':>14}{'finemask ms':>14}{'torchvision ms':>16}{'× faster':>10}")
    for height, width in sizes:
        # as they come from a worker: the colours of a pixel side by side
        images = [torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).permute(2, 0, 1) for _ in range(4)]
        torch.testing.assert_close(
            ours(images)[0].tensors, theirs([image.float() / 255 for image in images])[0].tensors, atol=1e-4, rtol=0
        )
        took: tuple[list[float], list[float]] = ([], [])
        for turn in range(rounds):
            for way in (0, 1) if turn % 2 else (1, 0):
                start = time.process_time()
                ours(images) if way == 0 else theirs([image.float() / 255 for image in images])
                took[way].append((time.process_time() - start) / len(images))
        row = {
            "height": height,
            "width": width,
            "finemask_s": statistics.median(took[0]),
            "torchvision_s": statistics.median(took[1]),
            "ratio": statistics.median(b / a for a, b in zip(*took, strict=True)),
        }
        rows.append(row)
        figures = f"{1e3 * row['finemask_s']:14.1f}{1e3 * row['torchvision_s']:16.1f}{row['ratio']:10.1f}"
        print(f"{f'{width} × {height}':>14}{figures}")
    return {"rounds": rounds, "rows": rows}
