"""Images brought to a batch: those of several sizes against one after another, one against PyTorch and torchvision."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import random_scene
from pretend_device import PretendDevice, to_device
from torch.nn.functional import interpolate
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from finemask.model.devices.resizing import looks_at_few, resize_batch, shrink
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


@settings(deadline=None)
@given(
    original=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    size=st.tuples(st.integers(1, 40), st.integers(1, 40)),
    batch=st.integers(1, 2),
    interleaved=st.booleans(),
)
def test_shrinking_is_bilinear_interpolation(original, size, batch, interleaved):
    images = torch.randint(0, 256, (batch, 3, *original), dtype=torch.uint8)
    if interleaved:
        images = images.contiguous(memory_format=torch.channels_last)
    expected = interpolate(images.double(), size=size, mode="bilinear", align_corners=False)
    torch.testing.assert_close(shrink(images, size).double(), expected, atol=2e-3, rtol=0)


@pytest.mark.parametrize("size", [(240, 250), (320, 320), (900, 1300), (1500, 2500)])
def test_a_photograph_is_seen_as_torchvision_sees_it(size):
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    mean, std = (0.4, 0.5, 0.6), (0.2, 0.25, 0.3)
    kept = Preprocessing(min_size=(320,), max_size=512, image_mean=mean, image_std=std)
    reference = GeneralizedRCNNTransform(320, 512, mean, std).eval()
    expected, _ = reference([image.float() / 255])
    batch, _ = ImageTransform(kept).eval()([image])
    assert looks_at_few(image.shape, batch.image_sizes[0]) == (size[0] > 1000)
    assert batch.image_sizes == expected.image_sizes
    torch.testing.assert_close(batch.tensors, expected.tensors, atol=1e-4, rtol=0)


@pytest.mark.parametrize("sizes", [[(700, 900)] * 2, [(700, 900), (900, 640)]])
def test_large_photographs_are_seen_alike_on_a_device(sizes):
    images = [torch.randint(0, 256, (3, *size), dtype=torch.uint8) for size in sizes]
    kept = Preprocessing(min_size=(96,), max_size=160, image_mean=(0.4, 0.5, 0.6), image_std=(0.2, 0.25, 0.3))
    transform = ImageTransform(kept).eval()
    expected, _ = transform(images)
    with PretendDevice():
        found, _ = transform.to("cuda")(to_device(images))
        torch.testing.assert_close(found.tensors.cpu(), expected.tensors, atol=2e-5, rtol=0)
