"""Predicting images, videos and URLs into files; with the ids of an annotation file, where one is given."""

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from finemask.config import verb_options
from finemask.errors import DataError
from finemask.inference.cutting import checked_tile
from finemask.inference.drift import Drift, DriftWatch
from finemask.inference.exported_model import ExportedModel
from finemask.inference.instances import Instances
from finemask.inference.outputs.tracks import Tracker
from finemask.inference.outputs.video_file import VideoFiles
from finemask.inference.outputs.writers import open_writers
from finemask.inference.predictor import Predictor, load
from finemask.inference.scale import ScaleWatch
from finemask.inference.score_limits import score_limits
from finemask.inference.sources import Unread, list_items
from finemask.machine.hardware import cores
from finemask.model_file import find_model_file
from finemask.model_header import header_to_json
from finemask.ops.files.documents import sha256_of
from finemask.ops.terminal import Progress
from finemask.ops.wording import plural
from finemask.workflows.written.annotation_ids import FileLabels, read_annotation_ids
from finemask.workflows.written.journal import Entry
from finemask.workflows.written.ledger import Ledger
from finemask.workflows.written.one_image import ImageWriting, set_up
from finemask.workflows.written.ray_actor import Seen
from finemask.workflows.written.ray_workers import RayWorkers
from finemask.workflows.written.writing import Writing, Written, gathered_names

_LINES = 20  # images of which each has a line where there is no terminal
_MOST_THREADS = 8  # that read, and that write
_WITHOUT_EFFECT = {  # on what is written for an image
    *("model", "source", "output", "batch_size", "device", "trust", "skip_existing", "allow_private_urls"),
    *("engine", "ray"),
}


@dataclass(slots=True)
class Predicted:
    """Counts, failures and files of a prediction.

    Args:
        sources: how many files, videos and URLs there were.
        images: that were predicted; each frame of a video is one.
        empty: of them without instances.
        instances: found, by class.
        duplicates: instances on top of a better one.
        failures: sources that could not be read, or not in full.
        paths: of the files written.
        seconds: taken, reading and writing included.
        warning: that objects are of sizes which the model was not trained on; None: they are not.
        unlike: that images do not look like the training images; None: they do, or it is not known.
        without_picture: names of the images that were too large to be held in memory: overlays show them shrunk, and
            there are no crops.
        without_id: names of the images that ``annotations`` does not have.
        kept: of the images, those that an earlier run had done.
        changed: settings that were others in the earlier run, so that nothing of it was kept.
    """

    sources: int
    images: int = 0
    empty: int = 0
    instances: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    failures: list[DataError] = field(default_factory=list)
    paths: list[Path] = field(default_factory=list)
    seconds: float = 0.0
    warning: str | None = None
    unlike: str | None = None
    without_picture: list[str] = field(default_factory=list)
    without_id: Sequence[str] = ()
    kept: int = 0
    changed: Sequence[str] = ()

    def count(self, entry: Entry) -> None:
        """Adds what became of an image."""
        if not entry.reason:
            self.images += 1
            self.empty += not entry.instances
            self.instances.update(entry.instances)
            self.duplicates += entry.duplicates
            if not entry.has_picture:
                self.without_picture.append(entry.image)


def predict(
    model: str | Path,
    source: str | Path | Sequence[str | Path],
    output: str | Path = "runs/predict",
    overrides: Sequence[str] = (),
) -> Predicted:
    """What ``finemask predict`` does: ``predict("model.safetensors", "photos/", "found", ["save=[overlay,csv]"])``.

    ``finemask.load`` gives a model whose ``predict`` returns instances instead of writing files.

    Args:
        model: a model file or a run.
        source: an image, folder, glob, video, text file of paths or URL, or several.
        output: folder to write to.
        overrides: as on the command line: ``["threshold=0.7", "device=cuda"]``.

    Raises:
        FinemaskError: settings or a model file that cannot be used.
    """
    given = {"model": model, "source": source, "output": output}
    return predict_images(verb_options("predict", given, overrides))


def predict_images(options: Mapping[str, Any]) -> Predicted:
    """Predicts and writes. However it ends, what was found so far is written.

    Args:
        options: as in ``configs/predict.yaml``.

    Raises:
        FinemaskError: settings or a model file that cannot be used.
    """
    save = [options["save"]] if isinstance(options["save"], str) else options["save"]
    output = Path(options["output"])
    labels = None if options["annotations"] is None else FileLabels(Path(options["annotations"]))
    opened = open_writers(save, output, color_by=options["color_by"], labels=labels)
    writers = dict(zip(dict.fromkeys(save), opened, strict=True))
    video = writers.pop("video", None)  # takes its frames in order, so no threads write it
    assert isinstance(video, VideoFiles | None)
    items = list_items(options["source"])
    ledger = Ledger(output, save)
    names, videos = {item.name for item in items}, tuple(item.frames for item in items if item.is_video)
    ledger.check(lambda image: image in names or image.startswith(videos))
    by_ray = options["engine"] == "ray"
    predictor = load(options["model"], "cpu" if by_ray else options["device"], options["trust"])
    set_up(predictor, options, threads=min(cores(), _MOST_THREADS))
    ids = None
    if options["annotations"] is not None:
        ids = read_annotation_ids(Path(options["annotations"]), items, predictor.categories)
        items = ids.items
        assert labels is not None
        labels.image_ids = ids.image_ids
    done = Predicted(len(items), without_id=() if ids is None else ids.missing)
    categories = predictor.categories if ids is None else ids.categories
    write = ImageWriting.of(output, writers, predictor, options, None if ids is None else categories)
    score_limits(predictor.header, options["threshold"])  # what cannot be is refused before anything is written
    checked_tile(options["tile"], options["overlap"])
    with ExitStack() as stack:
        workers = RayWorkers(items, options, ids) if by_ray else None
        if workers is not None:
            stack.callback(workers.close)
        output.mkdir(parents=True, exist_ok=True)  # a bad path shows now, not after the work
        done.changed = ledger.open(
            settings_of(options, predictor), gathered_names(writers.values()), go_on=options["skip_existing"]
        )
        stack.enter_context(closing(ledger.journal))
        writing = Writing(items, ledger, write, go_on=options["skip_existing"], threads=min(cores(), _MOST_THREADS))
        done.kept = writing.kept
        watch, drift_watch = predictor.watch_scale(), DriftWatch(predictor.header)
        start = time.perf_counter()
        try:
            shown = None if video is None else lambda frame: video.add(write.prepare(frame))
            _predict(predictor, writing, watch, drift_watch, done, options, shown, workers)
        finally:
            done.seconds = time.perf_counter() - start
            for entry in writing.entries():
                done.count(entry)
            paths = writing.gather(categories, None if ids is None else ids.image_ids) if done.images else []
            paths += [] if video is None else video.finish(categories)
            done.paths = [path for path in [*paths, *writing.write_manifest()] if path.exists()]
    done.warning, done.unlike = watch.in_words(), drift_watch.in_words()
    return done


def _predict(
    predictor: Predictor,
    writing: Writing,
    watch: ScaleWatch,
    drift_watch: DriftWatch,
    done: Predicted,
    options: Mapping[str, Any],
    shown: Callable[[Instances], Any] | None,
    workers: RayWorkers | None,
) -> None:
    """Predicts on what is to be done, and has it written; ``shown`` takes each image in order before it is.

    Workers, where there are any, do both elsewhere.
    """
    total = sum(item.count(predictor.opening) for item in writing.to_do)
    with Progress("predicting", total, "images") as progress:
        if done.changed:
            progress.say(
                f"All images are predicted again: {', '.join(done.changed)} "
                f"{'is' if len(done.changed) == 1 else 'are'} not as in the earlier run."
            )
        elif done.kept:
            progress.say(f"{plural(done.kept, 'image')} of an earlier run {'is' if done.kept == 1 else 'are'} kept.")

        def noted(entry: Entry, error: DataError | None) -> None:
            if error is not None:
                done.failures.append(error)
                progress.say(f"skipped {error}")
            progress.advance(line=_summary(entry) if error is None and total <= _LINES else "")

        def warn(name: str, drift: Drift) -> None:
            if drift.value > 1 and total <= _LINES:
                progress.say(f"{name} is unlike the training images, drift {drift.value:.1f}: {drift.words}")

        def by_workers(answers: Iterable[Seen | Unread]) -> Iterator[Written | Unread]:
            for answer in answers:
                if isinstance(answer, Unread):
                    yield answer
                    continue
                watch.note(answer.shrunk)
                drift_watch.note(answer.written.name, answer.drift)
                if answer.drift is not None:
                    warn(answer.written.name, answer.drift)
                yield answer.written

        if workers is not None:
            with closing(workers.answers(writing.to_do, writing.begin)) as seen:
                writing.write_all(by_workers(seen), noted)
            return
        answers = predictor.answers(
            writing.to_do,
            options["threshold"],
            options["batch_size"],
            options["tile"],
            options["overlap"],
            lambda tiles, of: progress.within(f"tile {tiles:,} of {of:,}"),
        )

        def watched() -> Iterator[Instances | Unread]:
            tracker = Tracker()
            for answer in answers:
                if isinstance(answer, Unread):
                    yield answer
                    continue
                if answer.is_whole:
                    watch.add(answer.instances)
                found = answer.instances
                if (drift := drift_watch.add(found.name, found.image)) is not None:
                    found = replace(found, drift=drift.value)
                    warn(found.name, drift)
                followed = tracker.follow(found)
                if shown is not None and followed.image is not None:
                    shown(followed)
                yield followed

        with closing(answers):
            writing.write_all(watched(), noted)


def settings_of(options: Mapping[str, Any], predictor: Predictor) -> dict[str, Any]:
    """All that decides what is written for an image: with other settings, results of an earlier run do not count."""
    chosen = {key: value for key, value in options.items() if key not in _WITHOUT_EFFECT}
    header = json.dumps(header_to_json(predictor.header), sort_keys=True, default=str).encode()
    file = sha256_of(find_model_file(options["model"])) if isinstance(predictor.model, ExportedModel) else ""
    if options["annotations"] is not None:
        chosen["annotations"] = sha256_of(Path(options["annotations"]))
    model = hashlib.sha256(header + file.encode()).hexdigest()
    return chosen | {"model": model, "version of finemask": version("finemask")}


def _summary(entry: Entry) -> str:
    counts = Counter(entry.instances).most_common()
    return f"{entry.image}: " + (", ".join(f"{count:,} {name}" for name, count in counts) or "nothing found")
