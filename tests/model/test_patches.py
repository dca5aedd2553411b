"""Patches around chosen locations, against plain indexing and against torch's own unfolding."""

import pytest
import torch
from torch.nn import functional

from finemask.model.rpn import patches_at


def pyramid(batch: int = 2, channels: int = 3):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, h, w, generator=generator) for h, w in ((6, 5), (3, 3), (1, 2))]


@pytest.mark.parametrize("radius", [0, 1, 2])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_patches_are_what_unfold_cuts_out(radius, layout):
    levels = [level.contiguous(memory_format=layout) for level in pyramid()]
    batch, channels, side = 2, 3, 2 * radius + 1
    per_level = [functional.unfold(level, side, padding=radius).mT.unflatten(2, (channels, -1)) for level in levels]
    expected = torch.cat(per_level, dim=1).flatten(0, 1).mT.unflatten(1, (side, side))  # [B · S, k, k, C]
    locations = torch.randperm(len(expected), generator=torch.Generator().manual_seed(1))
    patches, inside = patches_at(levels, locations, radius)
    assert patches.shape == (batch * (30 + 9 + 2), side, side, channels)
    assert torch.equal(patches * inside[..., None], expected[locations])


def test_the_same_location_twice_counts_twice():
    levels = [level.requires_grad_() for level in pyramid()]
    patches, inside = patches_at(levels, torch.tensor([7, 7, 41]), radius=1)
    (patches * inside[..., None]).sum().backward()
    wanted = torch.zeros(2, 3, 6, 5)
    wanted[0, :, 0:3, 1:4] = 2  # 7 is row 1, column 2 of the first image
    wanted[1, :, 0:2, 0:2] = 1  # 41 is the corner of the second
    assert torch.equal(levels[0].grad, wanted)
    assert not levels[1].grad.any()


def test_no_location_gives_no_patch():
    patches, inside = patches_at(pyramid(), torch.zeros(0, dtype=torch.int64), radius=1)
    assert patches.shape == (0, 3, 3, 3)
    assert inside.shape == (0, 3, 3)
