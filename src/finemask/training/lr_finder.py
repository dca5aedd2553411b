"""The learning rate by trial: it rises step by step on training batches, until the loss rises with it.

Smith 2017, "Cyclical Learning Rates for Training Neural Networks" (arXiv 1506.01186), section 3.3. The rates of all
parameter groups rise together, from a hundredth of their own to a hundred times as much. The weights are put back to
the bit, and so is everything random: the training that follows is one that nobody tried anything on.

What is looked for is the largest rate that does no harm. By the rule of thumb given there, after Bengio 2012 (arXiv
1206.5533), the best rate is usually within a factor of two of it, and a third or a quarter is where to begin; here a
quarter, since a rise is seen some steps late. Where the loss falls most steeply, which others take, says little of a
model that is fine-tuned: new classes are learned in the first steps, at any rate.
"""

import copy
import math
import random
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter1d
from torch.nn.utils import clip_grad_norm_

from finemask.model.pretrained.transfer import set_train_mode
from finemask.training.batch_parts import Batch
from finemask.training.module import MaskRCNNModule

LEAST, MOST = 1e-2, 1e2  # of the configured rate
_MEMORY = 0.9  # of the mean by which it is seen that the loss has gone, from step to step
_WIDTH = 0.04  # of the smoothing, as a part of all steps: to both sides, or the rise would seem to come later
_DIVERGED = 3.0  # times the least mean
_LEAST_STEPS = 10
_LEAST_LOSS = 1e-6  # that has a logarithm; a detector's is far above
_FALL = 0.05  # of the first loss: less is no fall
_RISE = 0.1  # of the least loss: less is no rise, but noise
_PART = 4  # of the largest rate that does no harm


@dataclass(frozen=True)
class RateTrial:
    """What the rising rate did; S steps.

    Args:
        rates: float64 [S], of the heads.
        losses: float64 [S], the sum of the losses of each step's batch.
        smoothed: float64 [S], the same without the noise of single batches.
        largest: rate from which on the smoothed loss lies a tenth above its least, or the last that was tried; None:
            the loss did not fall.
    """

    rates: NDArray[np.float64]
    losses: NDArray[np.float64]
    smoothed: NDArray[np.float64]
    largest: float | None

    @property
    def suggestion(self) -> float | None:
        """A good rate; None: the loss did not fall."""
        return None if self.largest is None else self.largest / _PART

    @property
    def ends_early(self) -> bool:
        """Whether the loss had not risen yet when there were no more rates."""
        return bool(self.largest == self.rates[-1])


def try_rates(
    module: MaskRCNNModule,
    batches: Iterable[Batch],
    *,
    lr: float,
    steps: int = 100,
    clip: float | None = None,
    precision: Callable[[], AbstractContextManager[object]] = nullcontext,
) -> RateTrial:
    """Trains some steps with a rising rate, on the device that the module is on, and undoes them.

    Args:
        module: that is to be trained.
        batches: images uint8 [3, H, W] and targets, on the module's device.
        lr: the configured rate, in the middle of what is tried.
        steps: at most; it ends early where the loss has gone three times above its least.
        clip: norm that gradients are cut to; None: none.
        precision: what the losses are computed in: makes an autocast.
    """
    model = module.model
    kept = {name: value.detach().clone() for name, value in model.state_dict().items()}
    modes = {name: part.training for name, part in model.named_modules()}
    state = _RandomState()
    optimizer, _ = module.build_optimizer(steps)
    own = [float(group["initial_lr"]) for group in optimizer.param_groups]
    trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    factors = np.geomspace(LEAST, MOST, steps)
    losses: list[float] = []
    means: list[float] = []
    mean = 0.0
    set_train_mode(model)
    try:
        for step, (images, targets) in zip(range(steps), batches, strict=False):
            for group, rate in zip(optimizer.param_groups, own, strict=True):
                group["lr"] = rate * factors[step]
            torch.manual_seed(step)
            with precision():
                total = torch.stack(list(model(images, targets).values())).sum()
            loss = float(total.detach())
            if not math.isfinite(loss):
                break
            mean = _MEMORY * mean + (1 - _MEMORY) * loss
            losses.append(loss)
            means.append(mean / (1 - _MEMORY ** (step + 1)))
            if step >= _LEAST_STEPS and means[-1] > _DIVERGED * min(means):
                break
            optimizer.zero_grad(set_to_none=True)
            total.backward()
            if clip:
                clip_grad_norm_(trained, clip)
            optimizer.step()
    finally:
        model.load_state_dict(kept)
        for name, part in model.named_modules():
            part.training = modes[name]
        for parameter in trained:
            parameter.grad = None
        state.restore()
    rates = lr * factors[: len(losses)]
    logarithms = np.log(np.maximum(losses, _LEAST_LOSS))  # or a loss that has gone would be seen far before it goes
    smoothed = np.exp(gaussian_filter1d(logarithms, _WIDTH * steps, mode="nearest"))
    return RateTrial(rates, np.array(losses), smoothed, largest_rate(rates, smoothed))


def largest_rate(rates: NDArray[np.float64], smoothed: NDArray[np.float64]) -> float | None:
    """Up to which rate a loss does not rise; between two rates, on a logarithmic scale.

    Args:
        rates: float64 [S], rising.
        smoothed: float64 [S], the loss at each.

    Returns:
        None where it fell by less than a twentieth.
    """
    if len(smoothed) < 2:
        return None
    lowest = int(np.argmin(smoothed))
    highest = float(smoothed[: lowest + 1].max())
    if highest - smoothed[lowest] < _FALL * highest:
        return None
    limit = (1 + _RISE) * float(smoothed[lowest])
    last = int(np.flatnonzero(smoothed <= limit)[-1])
    if last == len(rates) - 1:
        return float(rates[last])
    share = (limit - smoothed[last]) / (smoothed[last + 1] - smoothed[last])
    low, high = np.log(rates[last]), np.log(rates[last + 1])
    return float(np.exp(low + share * (high - low)))


class _RandomState:
    """Everything random, as it is."""

    def __init__(self) -> None:
        self._torch = torch.get_rng_state()
        self._cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
        self._numpy = copy.deepcopy(np.random.get_state())
        self._python = random.getstate()

    def restore(self) -> None:
        """As it was."""
        torch.set_rng_state(self._torch)
        if self._cuda:
            torch.cuda.set_rng_state_all(self._cuda)
        np.random.set_state(self._numpy)
        random.setstate(self._python)
