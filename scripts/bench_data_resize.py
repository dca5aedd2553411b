"""The resize part of bench_data.py: images to what the backbone sees, ours and torchvision's in turn."""

import time

import torch
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.bench.timing import Comparison, interleave
from finemask.model.mask_rcnn import ImageTransform
from finemask.types import Preprocessing

SEEN = Preprocessing(min_size=(320,), max_size=512, image_mean=(0.485, 0.456, 0.406), image_std=(0.229, 0.224, 0.225))


def measure_resizing(height: int, rounds: int) -> Comparison:
    """Times both ways on a batch of four images, a third wider than high, by one thread's processor seconds."""
    torch.set_num_threads(1)
    width = height * 4 // 3
    # as they come from a worker: the colours of a pixel side by side
    images = [torch.randint(0, 256, (height, width, 3), dtype=torch.uint8).permute(2, 0, 1) for _ in range(4)]
    ours = ImageTransform(SEEN).eval()
    reference = GeneralizedRCNNTransform(SEEN.min_size[0], SEEN.max_size, SEEN.image_mean, SEEN.image_std).eval()

    def theirs() -> torch.Tensor:
        return reference([image.float() / 255 for image in images])[0].tensors

    torch.testing.assert_close(ours(images)[0].tensors, theirs(), atol=1e-4, rtol=0)
    timing = interleave({"theirs": theirs, "finemask": lambda: ours(images)}, rounds, clock=time.process_time)
    work = f"four images of {width} × {height} px to 320 px"
    goal = 1.2 if height < 1000 else 3
    return Comparison.of_timing(timing, work, goal, "values within 1e-4", baseline="torchvision's transform")
