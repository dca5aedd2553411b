"""Batches: every image once, alike in shape, shared between ranks; packed into one buffer and taken apart again."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from lightning_fabric.utilities import move_data_to_device
from model_cases import random_scene
from pretend_device import PretendDevice

from finemask.data.batches import AspectRatioBatchSampler, BatchLoader, PackedBatch, ShardBatchSampler


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
    pinned = PackedBatch.pack(samples).pin_memory()
    assert pinned.buffer.is_pinned()
    assert_same(pinned, samples)
    images, targets = pinned.to("cuda")
    assert_same(([image.cpu() for image in images], [on_host(target) for target in targets]), samples)


def test_lightning_takes_a_packed_batch_apart_on_its_device():
    samples = samples_of([(30, 31, 3), (22, 22, 0)])
    packed = PackedBatch.pack(samples)
    assert_same(move_data_to_device(packed, torch.device("cpu")), samples)
    images, targets = packed
    assert (len(packed), len(images), len(targets)) == (2, 2, 2)
    assert torch.equal(packed[0][1], samples[1][0])
    assert PackedBatch.pack([]).to("meta") == ([], [])  # of several processes one may have no image left


def on_host(target):
    return {name: value.cpu() if isinstance(value, torch.Tensor) else value for name, value in target.items()}


def test_a_packed_batch_reaches_a_device_in_one_block():
    samples = samples_of([(30, 31, 3), (22, 22, 0)])
    packed = PackedBatch.pack(samples)
    with PretendDevice() as device:
        pinned = packed.pin_memory()
        images, targets = pinned.to("cuda")
        operations, waits = device.operations, dict(device.waits)
        found = ([image.cpu() for image in images], [on_host(target) for target in targets])
    assert all(image.is_cuda for image in images)
    assert waits == {}
    assert operations < 8  # as many for two images as for any number
    assert_same(found, samples)


ratios = st.lists(st.floats(0.2, 5), min_size=1, max_size=60)


def indices(batches):
    return [i for batch in batches for _, i, _ in batch]


@settings(max_examples=200, deadline=None)
@given(ratios, st.integers(1, 9), st.integers(1, 4), st.integers(0, 3), st.integers(0, 5))
def test_every_image_once_over_all_ranks(aspect_ratios, batch_size, world_size, seed, epoch):
    shards = []
    for rank in range(world_size):
        sampler = AspectRatioBatchSampler(aspect_ratios, batch_size, seed=seed, rank=rank, world_size=world_size)
        sampler.set_epoch(epoch)
        shards.append(list(sampler))
        assert len(shards[-1]) == len(sampler)
    assert len({len(shard) for shard in shards}) == 1
    batches = [batch for shard in shards for batch in shard]
    sizes = {len(batch) for batch in batches}
    assert min(sizes) >= 1
    assert max(sizes) <= batch_size
    assert max(sizes) - min(sizes) <= 1
    assert {e for batch in batches for e, _, _ in batch} == {epoch}
    seen = sorted(indices(batches))
    if len(aspect_ratios) >= len(batches):
        assert seen == list(range(len(aspect_ratios)))
        assert {r for batch in batches for _, _, r in batch} == {0}
    else:
        assert set(seen) == set(range(len(aspect_ratios)))


@settings(max_examples=100, deadline=None)
@given(ratios, st.integers(1, 5), st.integers(2, 4), st.integers(0, 3))
def test_all_ranks_together_have_the_batches_of_a_single_process(aspect_ratios, batch_size, world_size, epoch):
    aspect_ratios = aspect_ratios * world_size  # with fewer images than ranks some come again

    def batches(size, **process):
        sampler = AspectRatioBatchSampler(aspect_ratios, size, seed=3, **process)
        sampler.set_epoch(epoch)
        return list(sampler)

    alone = batches(batch_size * world_size)
    shards = [batches(batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    together = [[item for batch in step for item in batch] for step in zip(*shards, strict=True)]
    if len(aspect_ratios) >= len(alone) * world_size:
        assert together == alone


def test_batches_hold_one_shape_but_for_the_seams():
    aspect_ratios = np.array([0.5, 1.0, 2.0]).repeat(20)[np.random.default_rng(0).permutation(60)]
    sampler = AspectRatioBatchSampler(aspect_ratios, 4)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        mixed = [batch for batch in sampler if len({aspect_ratios[i] for _, i, _ in batch}) > 1]
        assert len(mixed) <= 2


def test_order_depends_on_seed_and_epoch_alone():
    def order(seed, epoch):
        sampler = AspectRatioBatchSampler([1.0] * 50, 4, seed=seed)
        sampler.set_epoch(epoch)
        return indices(sampler)

    assert order(1, 2) == order(1, 2)
    assert len({tuple(order(seed, epoch)) for seed in range(3) for epoch in range(3)}) == 9
    first = AspectRatioBatchSampler([1.0] * 50, 4)
    assert indices(first) == indices(first)
    companions = {tuple(sorted(i for _, i, _ in batch)) for batch in first}
    first.set_epoch(1)
    assert companions != {tuple(sorted(i for _, i, _ in batch)) for batch in first}  # not only the order of batches


def test_the_epoch_is_fixed_when_iteration_begins():
    sampler = AspectRatioBatchSampler([1.0] * 8, 2)
    iterator = iter(sampler)
    batches = [next(iterator)]
    sampler.set_epoch(7)
    batches.extend(iterator)
    assert {epoch for batch in batches for epoch, _, _ in batch} == {0}


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.just(0.0), st.just(1.0), st.floats(0, 4)), min_size=1, max_size=40).filter(any),
    st.integers(1, 6),
    st.integers(1, 3),
    st.integers(0, 3),
)
def test_images_come_as_often_as_their_weights_say(weights, batch_size, world_size, seed):
    aspect_ratios = [1.0 + k % 3 for k in range(len(weights))]
    lengths = set()
    for epoch in range(3):
        items, sizes = [], set()
        for rank in range(world_size):
            sampler = AspectRatioBatchSampler(
                aspect_ratios, batch_size, weights=weights, seed=seed, rank=rank, world_size=world_size
            )
            sampler.set_epoch(epoch)
            batches = list(sampler)
            assert len(batches) == len(sampler)
            sizes |= {len(batch) for batch in batches}
            items += [item for batch in batches for item in batch]
        lengths.add(len(sampler))
        assert 1 <= min(sizes) <= max(sizes) <= batch_size
        assert max(sizes) - min(sizes) <= 1
        if sum(weights) > len(sampler) * world_size:  # otherwise some come again so that no batch is empty
            assert abs(len(items) - sum(weights)) < 1
            assert len(set(items)) == len(items)
            for i, weight in enumerate(weights):
                repetitions = sorted(r for _, k, r in items if k == i)
                assert repetitions == list(range(len(repetitions)))
                assert np.floor(weight - 1e-9) <= len(repetitions) <= np.ceil(weight + 1e-9)
        assert all(weights[i] > 0 for _, i, _ in items)
    assert len(lengths) == 1


def test_weights_are_met_on_average():
    weights = np.array([1, 1.3, 0.25, 2.5, 0, 1, 1.05, 0.7] * 5)
    sampler = AspectRatioBatchSampler([1.0] * 40, 4, weights=weights)
    counts, companions = np.zeros(40), 0
    for epoch in range(250):
        sampler.set_epoch(epoch)
        batches = list(sampler)
        counts += np.bincount(indices(batches), minlength=40)
        companions += sum(len({i for _, i, _ in batch}) < len(batch) for batch in batches)
    np.testing.assert_allclose(counts / 250, weights, atol=0.12)
    assert abs(counts.sum() / 250 - weights.sum()) < 0.1
    assert companions / 250 < 3  # repetitions are spread out, not put side by side


def test_weights_of_one_change_nothing():
    plain = AspectRatioBatchSampler([1.0, 2.0] * 20, 4, seed=5)
    assert list(plain) == list(AspectRatioBatchSampler([1.0, 2.0] * 20, 4, seed=5, weights=np.ones(40)))


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 40), st.integers(1, 6), st.integers(1, 5))
def test_shards_hold_each_image_exactly_once(num_images, batch_size, world_size):
    shards = [ShardBatchSampler(num_images, batch_size, rank=rank, world_size=world_size) for rank in range(world_size)]
    seen = [i for shard in shards for batch in shard for i in batch]
    assert sorted(seen) == list(range(num_images))
    assert len(seen) == num_images
    for shard in shards:
        batches = list(shard)
        assert len(batches) == len(shard)
        assert all(1 <= len(batch) <= batch_size for batch in batches) or batches == [[]]
        assert bool(batches) == bool(num_images), "each rank has something to take part in"
    assert list(ShardBatchSampler(5, 2)) == [[0, 1], [2, 3], [4]]
