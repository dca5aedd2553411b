"""Dense masks that are hard on whatever packs them."""

import numpy as np
import torch
from hypothesis import strategies as st


def random_masks(seed: int, height: int, width: int, count: int, largest: int) -> torch.Tensor:
    """Overlapping, touching, holed and one-pixel instances."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((count, height, width), dtype=bool)
    for mask in masks:
        h, w = rng.integers(1, min(largest, height) + 1), rng.integers(1, min(largest, width) + 1)
        y, x = rng.integers(0, height - h + 1), rng.integers(0, width - w + 1)
        mask[y : y + h, x : x + w] = rng.random((h, w)) < rng.choice([0.3, 0.7, 1.0])
    return torch.from_numpy(masks)


scenes = st.builds(
    random_masks,
    seed=st.integers(0, 2**32 - 1),
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    count=st.integers(0, 30),
    largest=st.integers(1, 40),
)
