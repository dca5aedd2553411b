"""Losses of several processes: together the mean over everything that all of them sampled.

DDP averages gradients over processes. Each loss is a mean over the anchors, RoIs or masks of its own process, and a
mean of means is not the mean: a process whose images show three objects would have its masks count as much as one with
thirty, and one without any would halve the other's. Weighted by its share of all rows, each process contributes what
its images contribute to the doubled batch of a single one.
"""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, distributed, nn


def shared_losses(
    losses: Mapping[str, Tensor], rows: Mapping[str, int], processes: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum of this process's losses, weighted so that the mean over processes is the loss of all rows together.

    One message between the processes, whatever the number of losses; all of them have to take part.

    Args:
        losses: scalars by name, means over ``rows``.
        rows: of each loss, on this process; 0 is fine.
        processes: W, in the default group.

    Returns:
        ``total``, whose gradient is this process's part, W times its share, and whose value is that of all processes;
        and the losses of all processes by name, without a gradient. NaN on one process is NaN on all.
    """
    values = torch.stack(list(losses.values()))
    counts = torch.tensor([rows[name] for name in losses], dtype=torch.float64, device=values.device)
    message = torch.stack([counts, counts * values.detach().double()])
    distributed.all_reduce(message)
    of_all = message[0].clamp(min=1)
    weights = (counts * processes / of_all).to(values.dtype)
    means = (message[1] / of_all).to(values.dtype)
    part = (weights * values).sum()
    return part + (means.sum() - part.detach()), dict(zip(losses, means, strict=True))


def nothing_to_learn(model: nn.Module) -> Tensor:
    """A loss of 0 that reaches every parameter: what a process contributes to a step that all of them skip."""
    return torch.stack([p.flatten()[0] for p in model.parameters() if p.requires_grad]).sum() * 0.0


def told_by_all(what: Any, processes: int) -> list[Any]:
    """Something plain of every process, in their order."""
    answers: list[Any] = [None] * processes
    distributed.all_gather_object(answers, what)
    return answers
