"""Logits by angle."""

import math

import torch

from finemask.model.box_predictor.linear import CosineBoxPredictor


def test_logits_are_cosines_times_the_scale():
    predictor = CosineBoxPredictor(2, 3, scale=10.0)
    predictor.cls_score.weight.data = torch.tensor([[3.0, 0.0], [0.0, 0.2], [-5.0, -5.0]])
    logits, deltas = predictor(torch.tensor([[2.0, 2.0], [0.0, 7.0]]))
    half = 10 / math.sqrt(2)
    assert torch.allclose(logits, torch.tensor([[half, half, -10.0], [0.0, 10.0, -half]]), atol=1e-5)
    assert deltas.shape == (2, 12)


def test_lengths_do_not_matter_and_a_feature_of_zeros_is_no_trouble():
    torch.manual_seed(0)
    predictor, features = CosineBoxPredictor(5, 4), torch.randn(6, 5)
    expected, _ = predictor(features)
    predictor.cls_score.weight.data *= torch.tensor([[0.1], [1.0], [7.0], [100.0]])
    found, _ = predictor(features * torch.rand(6, 1) * 50)
    assert torch.allclose(found, expected, atol=1e-4)
    none = torch.zeros(1, 5, requires_grad=True)
    logits, _ = predictor(none)
    logits.sum().backward()
    assert not logits.any()
    assert none.grad.isfinite().all()


def test_half_precision_does_not_round_the_angle():
    torch.manual_seed(0)
    predictor, features = CosineBoxPredictor(64, 4), torch.randn(6, 64) * 300  # whose squares overflow float16
    expected, _ = predictor(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits, _ = predictor(features)
    assert torch.equal(logits, expected)
