"""Samples of a batch: how many of each kind, that nothing is preferred, and that keys decide."""

import torch

from finemask.model.devices.gpu.draws import draw_balanced, draws_batches
from finemask.model.samplers import RandomSampler

KINDS = torch.tensor([[1, 0, -1, 2, 0, 0, 1, -1], [0, 0, -1, -1, -1, 0, 0, 0], [-1] * 8])


def drawn_of(drawn, image):
    rows = drawn.rows[image][drawn.is_drawn[image]].tolist()
    return rows[: int(drawn.num_positives[image])], rows[int(drawn.num_positives[image]) :]


def test_positives_come_first_up_to_their_share_and_background_fills_up():
    drawn = draw_balanced(KINDS, 4, 0.5)
    assert drawn.num_positives.tolist() == [2, 0, 0]
    assert drawn.num_drawn.tolist() == [4, 4, 0]
    for image in range(3):
        positives, background = drawn_of(drawn, image)
        assert (KINDS[image][positives] > 0).all()
        assert (KINDS[image][background] == 0).all()
        assert len({*positives, *background}) == drawn.num_drawn[image]


def test_few_positives_leave_their_places_to_background():
    drawn = draw_balanced(KINDS, 6, 1.0)
    assert [len(part) for part in drawn_of(drawn, 0)] == [3, 3]
    assert [len(part) for part in drawn_of(draw_balanced(KINDS, 100, 0.25), 0)] == [3, 3]


def test_all_are_drawn_alike():
    torch.manual_seed(0)
    drawn = draw_balanced(torch.zeros(4000, 5, dtype=torch.int64), 2, 0.5)
    shares = torch.bincount(drawn.rows.flatten(), minlength=5) / 8000
    assert torch.allclose(shares, torch.full((5,), 0.2), atol=0.02)


def test_the_largest_keys_are_drawn():
    keys = torch.arange(8.0).expand(3, -1)
    assert drawn_of(draw_balanced(KINDS, 3, 0.4, keys), 0) == ([6], [5, 4])


def test_a_sampler_that_replaces_one_way_replaces_both():
    class Own(RandomSampler):
        def __call__(self, labels, hardness):
            return super().__call__(labels, hardness)

    assert draws_batches(RandomSampler())
    assert not draws_batches(Own())
    assert not draws_batches(lambda labels, hardness: [])
