"""Rules of the plan about learning: batch, norm, rate, and for how long."""

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

_LIVE_RATE = 2.0  # times the rate for frozen batch norm; four times was too much: docs/results.md
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


def norm(data: Fingerprint, now: Settings) -> Decision | None:
    """Live batch norm where several classes are to be told apart by a small pretrained model.

    Of one class there is nothing to tell apart, and frozen statistics are as good (docs/results.md).
    """
    is_frozen = _is_pretrained(now) and now["model.backbone.norm"] == "auto" and not now.is_given("model.backbone.norm")
    classes, batch_size = int((data.objects_per_class > 0).sum()), now["data.batch_size"]
    is_one_image = isinstance(batch_size, int) and batch_size < _LEAST_BATCH
    if not (now.is_small and is_frozen and now["transfer.trainable_stages"]) or is_one_image or classes < 2:
        return None
    why = (
        f"{classes} classes are told apart sooner by a backbone whose batch norm learns from your images: in five "
        "minutes of a core 0.82 mask AP instead of 0.67 on four kinds of bottles, elsewhere as good"
    )
    return Decision((("model.backbone.norm", "bn"),), why, "batch norm: Ioffe & Szegedy 2015; docs/results.md")


def rate(data: Fingerprint, now: Settings) -> Decision | None:
    """The learning rate follows a batch that is not the preset's, and doubles where batch norm is live."""
    usual, lr = now["preset.batch_size"], now["optimizer.lr"]
    if not usual or not isinstance(lr, int | float) or now.is_given("optimizer", "preset", "model.preset"):
        return None
    optimizer = str(now["optimizer._target_"])
    times = now.images_a_step / usual
    is_adam = optimizer.endswith(("Adam", "AdamW"))
    if not (is_adam or optimizer.endswith("SGD")):
        return None
    is_live = now.is_small and is_adam and _is_pretrained(now) and now["model.backbone.norm"] in ("bn", "sync_bn")
    if times == 1 and not is_live:
        return None
    best = float(f"{lr * (math.sqrt(times) if is_adam else times) * (_LIVE_RATE if is_live else 1):.3g}")
    reasons, sources = [], []
    if is_live:
        reasons.append(
            f"{lr:g} is for frozen batch norm; live, twice that was better: on bottles 0.88 mask AP instead of 0.82"
        )
        sources.append("docs/results.md")
    if times != 1:
        reasons.append(f"{lr:g} is for {plural(usual, 'image')} a step, and here it is {now.images_a_step}")
        sources.append(_ROOT if is_adam else _LINEAR)
    return Decision((("optimizer.lr", best),), "; ".join(reasons), "; ".join(sources))


def _is_pretrained(now: Settings) -> bool:
    return now["model.weights"] not in (None, "none")


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
