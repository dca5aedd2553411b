"""Rules of the plan about learning: batch, rate, and for how long."""

import math
from typing import Any

from finemask.ops.wording import plural
from finemask.planning.decision import Decision, Settings
from finemask.planning.fingerprint import Fingerprint

# A batch holds at most this share of the training images: nnU-Net, Isensee et al. 2021, Nature Methods 18.
_BATCH_SHARE = 0.05
_LEAST_BATCH, _MOST_BATCH_GPU = 2, 8
# Steps rather than epochs: BiT's hyper-rule, Kolesnikov et al. 2020; how many: docs/results.md.
_STEPS, _LEAST_EPOCHS, _MOST_EPOCHS = 1_500, 12, 150
_EVALUATIONS = 20  # before the last, at most

_LINEAR = "linear in the batch: Goyal et al. 2017"
_ROOT = "root of the batch for Adam: Malladi et al. 2022"


def batch(data: Fingerprint, now: Settings) -> Decision | None:
    """A batch that is a small share of the images."""
    given = now.is_given("data.batch_size", "preset", "model.preset")
    if given or not now.is_small or not isinstance(now["data.batch_size"], int) or not data.images:
        return None
    present = int(now["data.batch_size"])
    most = _MOST_BATCH_GPU if now.machine.gpus else present
    best = max(_LEAST_BATCH, min(most, round(_BATCH_SHARE * data.images)))
    if best == present:
        return None
    why = f"of {plural(data.images, 'training image')}: at most {_BATCH_SHARE:.0%} of them in a step, 2 to {most}"
    return Decision((("data.batch_size", best),), why, "nnU-Net (Isensee et al. 2021)")


def rate(data: Fingerprint, now: Settings) -> Decision | None:
    """The learning rate follows a batch that is not the preset's."""
    usual, lr = now["preset.batch_size"], now["optimizer.lr"]
    if not usual or not isinstance(lr, int | float) or now.is_given("optimizer", "preset", "model.preset"):
        return None
    optimizer = str(now["optimizer._target_"])
    times = now.images_a_step / usual
    is_adam = optimizer.endswith(("Adam", "AdamW"))
    if times == 1 or not (is_adam or optimizer.endswith("SGD")):
        return None
    best = float(f"{lr * (math.sqrt(times) if is_adam else times):.3g}")
    why = f"{lr:g} is for {plural(usual, 'image')} a step, and here it is {now.images_a_step}"
    return Decision((("optimizer.lr", best),), why, _ROOT if is_adam else _LINEAR)


def length(data: Fingerprint, now: Settings) -> Decision | None:
    """So many epochs as make a number of steps, where no time is given; and evaluations that take little.

    A large model is given more on a GPU alone.
    """
    timed = now["budget"] is not None or now["trainer.max_time"] is not None
    given = now.is_given("trainer.max_epochs", "trainer.max_steps")
    epochs, every = now["trainer.max_epochs"], now["trainer.check_val_every_n_epoch"]
    if timed or now["data.batch_size"] is None or not data.images:
        return None
    if not (now.is_small or now.machine.gpus):  # a large model on a CPU: each step takes seconds
        return None
    steps = -(-data.images // now.images_a_step)
    changes: list[tuple[str, Any]] = []
    why = f"kept at {epochs} epochs"
    if not given:
        epochs = min(_MOST_EPOCHS, max(_LEAST_EPOCHS, round(_STEPS / steps)))
        why = f"{steps * epochs:,} steps of {plural(now.images_a_step, 'image')}"
        wanted = round(_STEPS / steps)
        why += f"; {_STEPS:,} are wanted" if wanted == epochs else f"; {_STEPS:,} would be {plural(wanted, 'epoch')}"
        if epochs != now["trainer.max_epochs"]:
            changes.append(("trainer.max_epochs", epochs))
    if isinstance(epochs, int) and epochs > _EVALUATIONS and not now.is_given("trainer.check_val_every_n_epoch"):
        rarely = math.ceil(epochs / _EVALUATIONS)
        if every == 1:
            changes.append(("trainer.check_val_every_n_epoch", rarely))
            why += f"; evaluated {epochs // rarely} times"
    return Decision(tuple(changes), why, "steps, not epochs: BiT (Kolesnikov et al. 2020)") if changes else None
