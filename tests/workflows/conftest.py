"""Fixtures of the workflows' tests."""

from inference_fixtures import tiny_model_file

__all__ = ["tiny_model_file"]
