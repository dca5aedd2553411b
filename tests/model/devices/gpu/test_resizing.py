"""Images of several sizes brought to one batch, against one image after another."""

import torch
from model_cases import random_scene

from finemask.model.devices.gpu.resizing import resize_batch
from finemask.model.mask_rcnn import ImageTransform
from finemask.types import Preprocessing


def test_pixels_are_those_of_each_image_alone():
    kept = Preprocessing(min_size=(64,), max_size=120, image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.25, 0.3))
    transform = ImageTransform(kept).eval()
    sizes = ((50, 70), (64, 64), (90, 130), (200, 31))
    images = [random_scene(height, width, 1, seed)[0] for seed, (height, width) in enumerate(sizes)]
    batch, _ = transform(images)
    shape = tuple(batch.tensors.shape[-2:])
    found = resize_batch(images, batch.image_sizes, transform._mean, transform._scale, shape)
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert torch.allclose(found, batch.tensors, atol=2e-5)
