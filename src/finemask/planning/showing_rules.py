"""Rules of the plan about what is shown: how images are changed, and how often those of rare classes come."""

from finemask.ops.wording import names, percent, plural
from finemask.planning.decision import Decision, Settings
from finemask.planning.fingerprint import Fingerprint

# Repeat-factor sampling: LVIS, Gupta et al. 2019. A class that is in so many images, or in half of them, is not rare.
_ENOUGH_IMAGES, _MOST_RARE = 60, 0.5
_LEAST_REPEATED = 1.5  # times an epoch, of the rarest class: less changes little
_TURNED = "topdown"  # all eight rotations and mirror images, mild colour
_MOST_REPEATED = 4.0  # times an epoch, of the rarest class


def augmentation(data: Fingerprint, now: Settings) -> Decision | None:
    """Says where images may be turned, and leaves the file's own augmentation, which was measured best.

    On nuclei ``topdown`` gained nothing in three pairs of trainings, of two and of eight epochs (docs/results.md).
    """
    chosen = now.option("augment")
    if now.is_given("augment") or chosen is None:
        return None
    direction = data.direction
    if not direction.is_absent or chosen == _TURNED:
        return None
    why = (
        f"objects lie in every direction: they stand as often as they lie (lean {direction.lean:.2f}, at most "
        f"{direction.most_lean:.2f}), and are as large below as above. augment={_TURNED} turns the images; "
        "in short trainings that gained nothing: type it for long ones"
    )
    return Decision((("augment", chosen),), why, "nnU-Net mirrors all axes (Isensee et al. 2021)", kept=True)


def rare_classes(data: Fingerprint, now: Settings) -> Decision | None:
    """Names the threshold that shows images of rare classes more often.

    It is not taken: on facade_night no gain could be told from chance (docs/results.md).
    """
    if now.is_given("data.repeat_threshold") or now["data.repeat_threshold"] is not None:
        return None
    shares = data.images_per_class / max(1, data.images)
    enough = min(_MOST_RARE, _ENOUGH_IMAGES / max(1, data.images))
    rare = [k for k, share in enumerate(shares) if 0 < share < enough]
    if not rare or len(rare) == int((shares > 0).sum()):
        return None
    least = min(float(shares[k]) for k in rare)
    threshold = float(f"{min(enough, _MOST_REPEATED**2 * least):.2g}")
    times = (threshold / least) ** 0.5
    if times < _LEAST_REPEATED:
        return None
    rare.sort(key=lambda k: float(shares[k]))
    named = names([data.class_names[k] for k in rare], 3)
    why = (
        f"{plural(len(rare), 'class is', 'classes are')} in under {percent(enough)} of {data.images:,} images "
        f"({named}). data.repeat_threshold={threshold} shows those up to {times:.1f} times as often; where it was "
        "measured, the gain was within chance: type it to try"
    )
    return Decision((("data.repeat_threshold", None),), why, "LVIS (Gupta et al. 2019)", kept=True)
