"""Workflows on a dataset: statistics, preview, suspects, and the check before a training."""
