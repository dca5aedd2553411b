"""Mask features to mask logits."""
