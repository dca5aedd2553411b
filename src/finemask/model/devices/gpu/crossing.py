"""What crosses between main memory and a GPU: few blocks, and only where that is asked for.

A number that is read back makes the host wait until the GPU has done all that was queued before it, and a block that
is sent from ordinary memory does so too. So what a step sends lies in page-locked memory and is sent without waiting,
and what it reads is read together.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from finemask.types import Detections


def send(values: NDArray[Any] | Tensor, device: torch.device) -> Tensor:
    """An array or tensor of main memory on the device; the host goes on at once."""
    tensor = torch.from_numpy(np.ascontiguousarray(values)) if isinstance(values, np.ndarray) else values
    if device.type != "cuda" or tensor.device.type != "cpu":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def read(*tensors: Tensor) -> list[NDArray[Any]]:
    """The values of several tensors, in one wait."""
    if tensors[0].device.type == "cpu":
        return [tensor.detach().numpy() for tensor in tensors]
    block = torch.cat([tensor.detach().contiguous().flatten().view(torch.uint8) for tensor in tensors]).cpu()
    parts, start = [], 0
    for tensor in tensors:
        end = start + tensor.numel() * tensor.element_size()
        parts.append(block[start:end].clone().view(tensor.dtype).reshape(tensor.shape).numpy())
        start = end
    return parts


def pad_rows(*columns: Sequence[Tensor], places: int | None = None) -> tuple[list[Tensor], Tensor]:
    """Rows [N, C] of each image side by side.

    Args:
        columns: of each image, any number of rows; the same numbers in each of the lists.
        places: for rows of an image; as many as the fullest has by default.

    Returns:
        [B, places, C] for each list, zeros where there is no row; and where there is one, bool [B, places].
    """
    counts = [len(part) for part in columns[0]]
    total, places = sum(counts), max(1, *counts) if places is None else places
    rows = np.full((len(counts), places), total)  # the last row is that of no row
    for image, (count, end) in enumerate(zip(counts, np.cumsum(counts), strict=True)):
        rows[image, :count] = np.arange(end - count, end)
    chosen = send(rows, columns[0][0].device)
    padded = [torch.cat([*parts, parts[0].new_zeros(1, *parts[0].shape[1:])])[chosen] for parts in columns]
    return padded, chosen < total


def rows_of_images(counts: Sequence[int], device: torch.device) -> Tensor:
    """The number of its image for each row of a batch, int64 [sum of counts]."""
    return send(np.repeat(np.arange(len(counts)), counts), device)


def on_host(found: Sequence[Detections]) -> list[Detections]:
    """Detections of several images in main memory, in one wait for all."""
    if not found or found[0]["boxes"].device.type == "cpu":
        return list(found)
    parts = read(
        torch.cat([of_image["boxes"] for of_image in found]),
        torch.cat([of_image["labels"] for of_image in found]),
        torch.cat([of_image["scores"] for of_image in found]),
        torch.cat([of_image["mask_probs"] for of_image in found]),
    )
    counts = [len(of_image["boxes"]) for of_image in found]
    split = zip(*(torch.from_numpy(part).split(counts) for part in parts), strict=True)
    return [
        Detections(
            boxes=boxes, labels=labels, scores=scores, mask_probs=mask_probs, image_size_hw=of_image["image_size_hw"]
        )
        for of_image, (boxes, labels, scores, mask_probs) in zip(found, split, strict=True)
    ]
