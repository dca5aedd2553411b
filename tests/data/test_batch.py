"""Packing a batch into one buffer and taking it apart again."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from model_cases import random_scene

from finemask.data.batches import BatchLoader, PackedBatch


def samples_of(shapes):
    return [random_scene(h, w, count, seed=i, image_id=10 + i)[:2] for i, (h, w, count) in enumerate(shapes)]


def assert_same(batch, samples):
    for (image, target), unpacked, found in zip(samples, *batch, strict=True):
        assert torch.equal(image, unpacked)
        assert found.keys() == target.keys()
        assert found["image_id"] == target["image_id"]
        for key in ("boxes", "labels", "layers", "slots"):
            assert found[key].dtype == target[key].dtype
            assert torch.equal(found[key], target[key])


@given(st.lists(st.tuples(st.integers(20, 40), st.integers(20, 40), st.integers(0, 6)), min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_nothing_is_lost_or_changed(shapes):
    samples = samples_of(shapes)
    assert_same(PackedBatch.pack(samples).unpack(), samples)


@given(st.data())
@settings(max_examples=40, deadline=None)
def test_label_maps_of_any_pixels_come_back(data):
    ((image, target),) = samples_of([(24, 21, 2)])
    number = data.draw(st.integers(1, 3))
    values = data.draw(st.lists(st.sampled_from([0, 0, 0, 1, 254, 255]), min_size=60, max_size=60))
    target["layers"] = torch.tensor(values, dtype=torch.uint8).repeat_interleave(number).reshape(number, 10, 6)
    assert_same(PackedBatch.pack([(image, target)]).unpack(), [(image, target)])


def test_a_batch_is_one_block_of_memory_little_larger_than_its_images():
    samples = samples_of([(330, 210, 2), (200, 370, 0)])
    packed = PackedBatch.pack(samples)
    images, targets = packed.unpack()
    start, end = packed.buffer.data_ptr(), packed.buffer.data_ptr() + packed.buffer.nbytes
    for tensor in (*images, targets[0]["labels"], targets[0]["boxes"]):
        assert start <= tensor.data_ptr() < end
    pixels = sum(image.nbytes for image in images)
    assert pixels < packed.buffer.nbytes < 1.1 * pixels


def test_workers_hand_over_the_same_batches():
    samples = samples_of([(30, 31, 3), (28, 40, 1), (22, 22, 0)])
    for workers in (0, 1):
        loader = BatchLoader(samples, batch_size=2, num_workers=workers, collate_fn=PackedBatch.pack)
        first, second = loader
        assert_same(first, samples[:2])
        assert_same(second, samples[2:])


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="page-locked memory needs a GPU")
def test_a_pinned_batch_is_pinned_and_the_same():
    samples = samples_of([(30, 31, 3), (22, 22, 0)])
    images, targets = PackedBatch.pack(samples).pin_memory().unpack()
    assert_same((images, targets), samples)
    assert all(image.is_pinned() for image in images)
    assert all(target["layers"].is_pinned() for target in targets)
