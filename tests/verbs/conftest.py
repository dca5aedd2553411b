"""Fixtures of the verbs that predict, inform and evaluate."""

from evaluation_fixtures import write
from inference_fixtures import predictor, tiny_model_file

__all__ = ["predictor", "tiny_model_file", "write"]
