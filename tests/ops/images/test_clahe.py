"""Equalised images, against OpenCV's."""

import cv2
import numpy as np
import pytest
import torch

from finemask.ops.images.clahe import clahe, equalise


def grey_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Light falls off from corner to corner; small structure in it."""
    rng = np.random.default_rng(seed)
    light = np.linspace(30, 150, height)[:, None] + np.linspace(0, 60, width)
    detail = cv2.GaussianBlur(rng.normal(0, 60, (height, width)), (0, 0), 2)
    return np.clip(light + detail, 0, 255).astype(np.uint8)


def opencv(image: np.ndarray, clip_limit: float, tiles: int) -> np.ndarray:
    return cv2.createCLAHE(clip_limit, (tiles, tiles)).apply(image)


@pytest.mark.parametrize("size", [(64, 96), (61, 96), (64, 90), (75, 83), (9, 200), (128, 128)])
@pytest.mark.parametrize(("clip_limit", "tiles"), [(2.0, 8), (4.0, 4), (40.0, 8), (0.5, 8)])
def test_grey_images_are_opencvs(size, clip_limit, tiles):
    image = grey_image(*size)
    found = equalise(torch.from_numpy(image)[None], clip_limit, tiles)[0].numpy().astype(int)
    difference = np.abs(found - opencv(image, clip_limit, tiles))
    assert difference.max() <= 1  # where float32 rounds a half to either side
    assert (difference > 0).mean() < 0.002


def test_colours_are_kept_and_the_luma_is_opencvs():
    rng = np.random.default_rng(1)
    image = np.clip(grey_image(70, 90)[..., None] + rng.integers(-12, 12, (1, 1, 3)), 20, 200).astype(np.uint8)
    found = clahe(torch.from_numpy(image).permute(2, 0, 1)[None], 2.0)[0].permute(1, 2, 0).numpy()
    assert found.dtype == np.uint8
    luma = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb)
    luma[..., 0] = opencv(luma[..., 0], 2.0, 8)
    expected = cv2.cvtColor(luma, cv2.COLOR_YCrCb2RGB)
    clear = ((expected > 0) & (expected < 255)).all(axis=2)
    assert clear.mean() > 0.8
    assert np.abs(found.astype(int) - expected)[clear].max() <= 2


def test_a_batch_is_its_images_and_odd_sizes_are_no_error():
    images = torch.from_numpy(np.stack([grey_image(40, 50, seed) for seed in range(3)]))[:, None].repeat(1, 3, 1, 1)
    together = clahe(images, 3.0)
    assert torch.equal(together, torch.cat([clahe(image[None], 3.0) for image in images]))
    for size in ((1, 1), (3, 40), (8, 8), (7, 9)):
        assert clahe(torch.full((1, 3, *size), 90, dtype=torch.uint8), 2.0).shape == (1, 3, *size)
