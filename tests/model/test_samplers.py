"""Hard examples by hand."""

import torch
from part_cases import build_parts, second_stage_input, second_stage_losses

from finemask.model.samplers import OHEMSampler


def test_the_hardest_of_each_kind_are_chosen():
    labels = torch.tensor([0, 1, 2, 0, -1, 0, 1, 0])
    losses = torch.tensor([0.1, 0.9, 0.2, 0.8, 5.0, 0.3, 0.5, 0.2])
    sampler = OHEMSampler(batch_size_per_image=4, positive_fraction=0.5)
    (chosen,) = sampler([labels], lambda: [losses])
    assert chosen.tolist() == [1, 3, 5, 6]
    (few,) = OHEMSampler(batch_size_per_image=4, positive_fraction=0.25)([labels], lambda: [losses])
    assert few.tolist() == [1, 3, 5, 7]


def test_hardness_is_the_cross_entropy_of_every_candidate():
    seen = []

    class Looking(OHEMSampler):
        def __call__(self, labels, hardness):
            seen.append((labels, hardness()))
            return super().__call__(labels, hardness)

    model = build_parts()
    model.roi_heads.fg_bg_sampler = Looking(1000, 1.0)
    linear = model.roi_heads.box_predictor.cls_score
    linear.weight.data.zero_()
    linear.bias.data = torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
    second_stage_losses(model, second_stage_input((3, 0), 12))
    ((labels, losses),) = seen
    assert [len(of_image) for of_image in losses] == [15, 12]  # ground-truth boxes are candidates too
    expected = -torch.tensor([0.5, 0.2, 0.2, 0.1]).log()
    for of_image, its_losses in zip(labels, losses, strict=True):
        assert not its_losses.requires_grad
        assert torch.allclose(its_losses, expected[of_image])
