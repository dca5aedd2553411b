"""Rules of the plan about sizes: of the images in training, and of the anchors on them."""

import math

from finemask.datatools.stats.input_resolution import tile_side
from finemask.ops.wording import percent
from finemask.planning.decision import Decision, Settings
from finemask.planning.fingerprint import Fingerprint

# Four cells of the finest feature map, whose stride is 4: Feature Pyramid Networks, Lin et al. 2017.
_LEAST_PX = 16
# Enlarging shows nothing that is not there; twice is what torchvision's 800 px do to many of COCO's photographs.
_MOST_ENLARGED = 2.0
_MOST_COSTLY = 2.0  # times the model's usual size: beyond, another model is meant
_SIZES_SMALL = (256, 320, 416, 512)  # of a model for laptops: each step costs 1.5 times as much
_SIZES = (320, 416, 512, 640, 800)  # up to torchvision's own
# Share of the objects that an anchor of the default sizes overlaps by half; YOLOv5's autoanchor asks for as much.
_COVERED = 0.9

_SIZE_SOURCE = "four cells of the finest map, stride 4 (FPN, Lin et al. 2017)"
_ANCHOR_SOURCE = "as YOLOv5's autoanchor; fitted like data stats does"


def image_size(data: Fingerprint, now: Settings) -> Decision | None:
    """Names the size at which nine of ten objects are large enough to be seen; shrinks where that enlarges images.

    A larger one is not taken: on facade_night 512 px had 0.092 mask AP after 15 minutes of a core, 320 px 0.120; and
    0.062 against 0.086 after five (docs/results.md).
    """
    min_size, max_size = now["model.min_size"], now["model.max_size"]
    if not data.objects or not isinstance(min_size, int) or not isinstance(max_size, int):
        return None
    small, half = (data.object_px(percentile, min_size, max_size) for percentile in (10, 50))
    best, limit = _best_size(data, now, min_size, max_size)
    if now.is_given("model.min_size"):
        if small >= _LEAST_PX or best == min_size:
            return None
        why = (
            f"kept as typed; at {min_size} px half of your objects are under {half:.0f} px and a tenth under "
            f"{small:.0f} px; {best} px would show more"
        )
        return Decision((("model.min_size", min_size),), why, _SIZE_SOURCE, kept=True)
    reached = data.object_px(10, best, limit)
    if best == min_size:
        if reached >= _LEAST_PX:
            return None
        why = f"a tenth of the objects are under {reached:.0f} px, and a larger size would show nothing new"
        return Decision((("model.min_size", best),), why + _tiling(data, best), _SIZE_SOURCE, kept=True)
    changes = (("model.min_size", best), *(() if limit == max_size else (("model.max_size", limit),)))
    if best < min_size:
        why = f"the images' own shorter side is {data.shorter_px:,.0f} px: {min_size} px would only enlarge them"
        return Decision(changes, why, "enlarging shows nothing new")
    typed = " ".join(f"{key}={value}" for key, value in changes)
    why = (
        f"a tenth of the objects are under {small:.0f} px; at {best} px they would be under {reached:.0f} px, but each "
        f"step takes {(best / min_size) ** 2:.1f} times as long, which did not pay in 15 minutes of a core: type "
        f"{typed} for a long training"
    )
    why += "" if reached >= _LEAST_PX else _tiling(data, best)
    return Decision((("model.min_size", min_size),), why, _SIZE_SOURCE, kept=True)


def _best_size(data: Fingerprint, now: Settings, present: int, present_limit: int) -> tuple[int, int]:
    """The least size that is enough, from the present one upwards, with its bound of the longer side.

    The largest that makes sense where none is enough; a smaller one where the present one enlarges images too much.
    """
    ratio = present_limit / present
    most = math.inf if now.is_given("model.min_size") else _MOST_COSTLY * present

    def limit(size: int) -> int:
        return present_limit if size == present or now.is_given("model.max_size") else _longer(size, data, ratio)

    candidates = {present, *(_SIZES_SMALL if now.is_small else _SIZES)}
    sizes = [size for size in sorted(candidates) if size <= most]
    sizes = [size for size in sizes if data.enlarged_by(size, limit(size)) <= _MOST_ENLARGED]
    sizes = sizes or [max(64, int(_MOST_ENLARGED * data.shorter_px // 32) * 32)]
    enough = (size for size in sizes if size >= present and data.object_px(10, size, limit(size)) >= _LEAST_PX)
    best = next(enough, sizes[-1])
    return best, limit(best)


def _longer(size: int, data: Fingerprint, ratio: float) -> int:
    """A bound of the longer side that leaves nearly all images whole, as far as the model's own ratio, or 2.5, goes."""
    return math.ceil(size * max(ratio, min(data.elongation, 2.5)) / 32) * 32


def _tiling(data: Fingerprint, size: int) -> str:
    """What to do where no size is enough, and images are larger than that."""
    longest = data.object_px(95)
    side = tile_side(data.object_px(10), longest, data.longer_px, size)
    if side is None:
        return ""
    return f". Tiles show more: finemask data tile size={side}, and tile=auto in prediction"


def anchors(data: Fingerprint, now: Settings) -> Decision | None:
    """Anchors fitted to the boxes where the usual ones miss too many, and no RPN has learned them."""
    spec, size, limit = now["model.anchors"], now["model.min_size"], now["model.max_size"]
    ours = isinstance(spec, dict) and str(spec.get("_target_")) == "finemask.model.rpn.fpn_anchors"
    chosen = now.option("model/anchors")
    if not data.objects or not ours or isinstance(size, list) or chosen is None or spec.get("fit") == "auto":
        return None
    if now.brings_rpn and not now.is_given("model/anchors"):
        return None
    sizes, ratios = spec["sizes"], spec["aspect_ratios"]
    covered = data.anchor_coverage(size, limit, sizes, ratios)
    fitted = data.fitted_anchors(size, limit, sizes, ratios) if covered < _COVERED else (sizes, ratios)
    gained = data.anchor_coverage(size, limit, *fitted)
    if gained <= covered:  # the fit leaves what it cannot clearly better
        return None
    why = (
        f"{percent(covered)} of the objects have an anchor that overlaps them by half; of fitted ones {percent(gained)}"
    )
    if now.is_given("model/anchors"):
        return Decision((("model/anchors", chosen),), f"kept as typed; {why}", _ANCHOR_SOURCE, kept=True)
    return Decision((("model/anchors", "auto"),), why, _ANCHOR_SOURCE)
