"""``finemask export``: a model file for other runtimes, with the proof that it finds the same."""

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.export.agreement import BOX_PX, MASK_SHARE, SCORE
from finemask.ops.terminal import say, table
from finemask.ops.wording import percent, plural
from finemask.workflows.export_model import Exported, export_model


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/export.yaml``.

    Raises:
        FinemaskError: the model cannot be exported, or the exported file does not agree with it.
    """
    show(Console(), export_model(plain(cfg)))
    return 0


def show(console: Console, done: Exported) -> None:
    """Prints how far both agree, how fast they are, and the paths."""
    certificate = done.certificate
    worst, found = certificate.worst(), certificate.counted()
    rows = [
        ("edges of boxes", f"{worst['box_px']:.1e} px", f"{BOX_PX:g} px"),
        ("scores", f"{worst['score']:.1e}", f"{SCORE:g}"),
        ("pixels of masks", percent(worst["mask_share"]), percent(MASK_SHARE)),
    ]
    console.print(table(("compared with the model", "largest difference", "allowed"), rows))
    sizes = len({one.size_hw for one in certificate.agreements})
    compared = plural(len(certificate.agreements), "comparison")
    matched = plural(sum(one.matched for one in certificate.agreements), "detection")
    say(
        console,
        f"{matched} in {compared}, {sizes} sizes of image; "
        f"{found['none']:,} with none found, {found['one']:,} with one, {found['many']:,} with more",
    )
    if cut := sum(one.at_the_cut for one in certificate.agreements):
        say(console, f"{plural(cut, 'detection')} in one only, with the very score below which nothing is reported")
    if ties := sum(one.at_a_tie for one in certificate.agreements):
        say(
            console,
            f"{plural(ties, 'detection')} in one only, from proposals of equal objectness: in the model, too, they "
            "come and go with its last digits",
        )
    if pixel := sum(one.at_a_pixel for one in certificate.agreements):
        say(
            console,
            f"{plural(pixel, 'detection')} with a box that is the model's within 0.05 px, but rounds to another whole "
            "pixel: masks were compared in the model's box",
        )
    if done.rounding is not None:
        rounding = done.rounding
        say(
            console,
            f"{rounding.precision}: {percent(rounding.found_alike)} of the detections above score "
            f"{rounding.threshold:.2f} are found by both, on {plural(rounding.images, 'image')}; half of their scores "
            f"differ by {rounding.score:.3f} or more, of their edges by {rounding.box_px:.1f} px",
        )
    if certificate.average_precision:
        model, exported = (certificate.average_precision[name] for name in ("model", "exported"))
        console.print(
            table(("on the split", "model", "exported file"), [(key, model[key], exported[key]) for key in model])
        )
    times = certificate.latency_ms if done.rounding is None else done.rounding.latency_ms
    say(
        console,
        f"an image takes {times['exported']:,.0f} ms, in the model {times['model']:,.0f} ms (median, "
        f"{plural(certificate.threads, 'thread')} of the CPU)",
    )
    say(console, f"wrote {done.path} ({done.megabytes:,.1f} MiB)")
    for path in done.beside:
        say(console, f"wrote {path}")
    say(console, f"wrote {done.parity}")
    if done.note:
        say(console, done.note)
