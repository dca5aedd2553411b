"""Describing a dataset: what is in it, how it looks at training resolution, and what follows for training."""
