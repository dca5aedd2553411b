"""Pasting inside the box against torchvision's full-size pasting."""

import subprocess
import sys

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.ops.paste import masks_to_rles
from finemask.ops.rle import mask_to_rle, rle_area
from finemask.ops.rle_crop import rle_to_crop


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    side=st.sampled_from([14, 28, 224]),
    beyond=st.sampled_from([0.0, 5.0, 40.0]),
)
@settings(max_examples=120, deadline=None)
def test_pixel_for_pixel_as_torchvision(seed, height, width, side, beyond):
    generator = torch.Generator().manual_seed(seed)
    corners = torch.rand(8, 2, 2, generator=generator) * torch.tensor([width, height])
    boxes = torch.cat([corners.amin(1) - beyond, corners.amax(1) + beyond], dim=1)
    probs = torch.rand(8, side, side, generator=generator)
    full = paste_masks_in_image(probs[:, None], boxes, (height, width))[:, 0] > 0.5
    expected = [mask_to_rle(mask.numpy()) for mask in full]
    assert masks_to_rles(probs, boxes, (height, width)) == expected


def test_a_box_outside_the_image_is_an_empty_mask():
    boxes = torch.tensor([[-50.0, -50.0, -20.0, -20.0], [200.0, 10.0, 250.0, 60.0]])
    assert [rle_area(rle) for rle in masks_to_rles(torch.ones(2, 28, 28), boxes, (100, 100))] == [0, 0]


def test_no_detections_are_no_masks():
    assert masks_to_rles(torch.zeros(0, 28, 28), torch.zeros(0, 4), (10, 10)) == []


def test_the_threshold_is_the_callers():
    boxes = torch.tensor([[2.0, 2.0, 8.0, 8.0]])
    areas = [
        rle_area(masks_to_rles(torch.full((1, 28, 28), 0.6), boxes, (10, 10), threshold)[0]) for threshold in (0.5, 0.7)
    ]
    assert areas[0] > 0
    assert areas[1] == 0
    assert np.isfinite(areas).all()


def test_boxes_without_width_or_height_as_torchvision():
    boxes = torch.tensor([[5.0, 5.0, 5.0, 9.0], [3.0, 4.0, 9.0, 4.0], [7.5, 7.5, 7.5, 7.5], [0.0, 0.0, 0.4, 0.4]])
    probs = torch.ones(4, 28, 28)
    full = paste_masks_in_image(probs[:, None], boxes, (12, 11))[:, 0] > 0.5
    assert masks_to_rles(probs, boxes, (12, 11)) == [mask_to_rle(mask.numpy()) for mask in full]


def test_low_precision_is_pasted_in_full_precision():
    generator = torch.Generator().manual_seed(0)
    boxes = torch.tensor([[3.3, 4.4, 60.1, 50.2]])
    probs = torch.rand(1, 28, 28, generator=generator).bfloat16()
    before = probs.clone()
    assert masks_to_rles(probs, boxes, (64, 64)) == masks_to_rles(probs.float(), boxes, (64, 64))
    assert torch.equal(probs, before)


def test_a_mask_in_the_far_corner_of_a_huge_picture():
    # 900 million pixels: torchvision would make 3.6 GB of floats of it
    side = 30_000
    near = torch.tensor([[4.0, 6.0, 40.0, 30.0]])
    far = near + (side - 64)
    probs = torch.rand(1, 28, 28, generator=torch.Generator().manual_seed(1))
    crop, x0, y0 = rle_to_crop(masks_to_rles(probs, near, (64, 64))[0])
    crop_far, x0_far, y0_far = rle_to_crop(masks_to_rles(probs, far, (side, side))[0])
    assert np.array_equal(crop, crop_far)
    assert (x0_far - x0, y0_far - y0) == (side - 64, side - 64)


def test_300_masks_of_a_12_megapixel_image_stay_under_200_mb():
    """In a process of its own: the peak of this one has been anywhere."""
    code = """
import resource, torch
from finemask.ops.paste import masks_to_rles

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

probs, corners = torch.rand(300, 28, 28), torch.rand(300, 2) * torch.tensor([3000.0, 2200.0])
boxes = torch.cat([corners, corners + torch.rand(300, 2) * 800 + 8], dim=1)
masks_to_rles(probs[:2], boxes[:2], (3000, 4000))
before = peak()
print(len(masks_to_rles(probs, boxes, (3000, 4000))), peak() - before)
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    number, grown = map(int, found.stdout.split())
    assert number == 300
    assert grown < 200 * 2**20 / (1 if sys.platform == "darwin" else 2**10)  # bytes on macOS, else KiB
