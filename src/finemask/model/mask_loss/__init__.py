"""Losses of the mask head; one file a variant."""
