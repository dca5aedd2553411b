"""Mask features to mask logits; one file a variant."""
