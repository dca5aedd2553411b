"""``finemask predict``: images, folders, videos, URLs in; overlays, COCO JSON, masks and tables out."""

import sys
from collections.abc import Sequence

from omegaconf import DictConfig
from rich.console import Console

from finemask.config import plain
from finemask.errors import INTERRUPTED, DataError
from finemask.machine.processes import termination_as_interruption
from finemask.ops.images.window_reader import LARGE_PX
from finemask.ops.terminal import say, table
from finemask.ops.wording import percent, plural
from finemask.workflows.predict_images import Predicted, predict_images

_LISTED = 20  # failures named in the closing error; all were reported as they happened
_NAMED = 3  # images without an id


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/predict.yaml``.

    Raises:
        FinemaskError: settings or a model file that cannot be used; or, after everything else is done, files
            that could not be read.
    """
    try:
        with termination_as_interruption():
            done = predict_images(plain(cfg))
    except KeyboardInterrupt:
        print("interrupted; what is done is written, and manifest.jsonl says what that is", file=sys.stderr)
        return INTERRUPTED
    show(Console(), done)
    for warning in (done.warning, done.unlike):
        if warning is not None:
            say(Console(stderr=True), f"warning: {warning}")
    if done.without_id:
        first = ", ".join(done.without_id[:_NAMED]) + (", …" if len(done.without_id) > _NAMED else "")
        many = f"{len(done.without_id):,} of the images ({first})"
        print(f"not in {cfg.annotations}, so left out of predictions.json: {many}")
    if done.without_picture:
        first = ", ".join(done.without_picture[:_NAMED]) + (", …" if len(done.without_picture) > _NAMED else "")
        gone = "crops and side_by_side"
        print(f"over {LARGE_PX // 10**6} megapixels, read in pieces, so shrunk in overlays, not in {gone}: {first}")
    if done.failures:
        raise unreadable(done.failures, done.sources)
    return 0


def show(console: Console, done: Predicted) -> None:
    """Prints how much was found, how fast, and the paths."""
    if not done.images:
        return
    rows = done.instances.most_common()
    if len(rows) != 1:
        rows.append(("all", done.instances.total()))
    console.print(table(("class", "instances"), rows))
    if done.duplicates:
        share = done.duplicates / done.instances.total()
        say(
            console,
            f"{plural(done.duplicates, 'instance')} ({percent(share)}) on top of a better one, with most of the same "
            "pixels; suppression=mask_agnostic drops such",
        )
    without = f", {done.empty:,} of them without instances" if done.empty else ""
    new = done.images - done.kept
    kept = f"; {done.kept:,} of an earlier run" if done.kept else ""
    pace = f"; {done.seconds / new * 1000:,.0f} ms an image, reading and writing included" if new else ""
    say(console, f"{plural(done.images, 'image')}{without}{kept}{pace}")
    for path in done.paths:
        say(console, f"wrote {path}")


def unreadable(failures: Sequence[DataError], total: int) -> DataError:
    """The closing error: what was skipped, and why."""
    listed = "; ".join(f"{error.where}: {error.what}" if error.where else error.what for error in failures[:_LISTED])
    more = f"; and {len(failures) - _LISTED:,} more, reported above" if len(failures) > _LISTED else ""
    many = f"{len(failures):,} of {plural(total, 'source')}"
    return DataError(f"{many} could not be read, or not in full: {listed}{more}")
