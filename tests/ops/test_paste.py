"""Pasting inside the box against torchvision's full-size pasting."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection.roi_heads import paste_masks_in_image

from finemask.ops.paste import masks_to_rles
from finemask.ops.rle import mask_to_rle, rle_area


@given(
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(2, 90),
    width=st.integers(2, 90),
    side=st.sampled_from([14, 28]),
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
