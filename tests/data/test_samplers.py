"""Batches: every image once, alike in shape, the same for the same seed and epoch, shared between ranks."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from finemask.data.samplers import AspectRatioBatchSampler, ShardBatchSampler

ratios = st.lists(st.floats(0.2, 5), min_size=1, max_size=60)


def indices(batches):
    return [i for batch in batches for _, i in batch]


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
    assert {e for batch in batches for e, _ in batch} == {epoch}
    seen = sorted(indices(batches))
    if len(aspect_ratios) >= len(batches):
        assert seen == list(range(len(aspect_ratios)))
    else:
        assert set(seen) == set(range(len(aspect_ratios)))


def test_batches_hold_one_shape_but_for_the_seams():
    aspect_ratios = np.array([0.5, 1.0, 2.0]).repeat(20)[np.random.default_rng(0).permutation(60)]
    sampler = AspectRatioBatchSampler(aspect_ratios, 4)
    for epoch in range(5):
        sampler.set_epoch(epoch)
        mixed = [batch for batch in sampler if len({aspect_ratios[i] for _, i in batch}) > 1]
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
    companions = {tuple(sorted(i for _, i in batch)) for batch in first}
    first.set_epoch(1)
    assert companions != {tuple(sorted(i for _, i in batch)) for batch in first}  # not only the order of batches


def test_the_epoch_is_fixed_when_iteration_begins():
    sampler = AspectRatioBatchSampler([1.0] * 8, 2)
    iterator = iter(sampler)
    batches = [next(iterator)]
    sampler.set_epoch(7)
    batches.extend(iterator)
    assert {epoch for batch in batches for epoch, _ in batch} == {0}


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
        assert all(1 <= len(batch) <= batch_size for batch in batches)
    assert list(ShardBatchSampler(5, 2)) == [[0, 1], [2, 3], [4]]
