"""Fixtures of the inference tests."""

from inference_fixtures import predictor, three_instances, tiny_model_file

__all__ = ["predictor", "three_instances", "tiny_model_file"]
