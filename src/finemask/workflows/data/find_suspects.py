"""Labels that a model's detections contradict: run over a split or read from a results file, compared and listed."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from finemask.coco.index import CocoIndex
from finemask.data.image_sampling import checked_part, held_out
from finemask.datatools.suspects.compared_images import ComparedImage, compare_images
from finemask.datatools.suspects.label_faults import Suspect, find_suspects
from finemask.datatools.suspects.suspects_list import listing, refuse_to_lose
from finemask.errors import ConfigError, DataError
from finemask.model_header import ModelHeader
from finemask.ops.files.atomic_files import write_json, write_text
from finemask.ops.terminal import Progress
from finemask.ops.wording import plural, word
from finemask.pages.shell import refuse_foreign_page
from finemask.reports.suspects_page import EYEBROW, draw_suspects, suspects_page
from finemask.types import CocoResult

_DOUBTFUL_RECALL = 0.7  # of a model that misses more, the list says more about the model than about the labels
_KNOWN_BY_HEART = (
    "The model was trained on these very labels, and what it learned by heart it does not contradict. Models that have "
    "not seen what they judge find more, wrong classes above all: train two with data.held_out=1/2 and 2/2, and give "
    "both: 'model=[A,B]'."
)


@dataclass(frozen=True)
class LabelsAndDetections:
    """Labels, and what was detected on their images.

    Args:
        index: the labels.
        results: the detections, with masks; ids are those of the index's file.
        facts: for the list: what the detections come from.
        footer: for the page: the same, for people.
        notes: what to know before the list is believed.
    """

    index: CocoIndex
    results: Sequence[CocoResult]
    facts: dict[str, Any]
    footer: dict[str, str]
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class FoundSuspects:
    """What was found and written.

    Args:
        content: of ``suspects.json``.
        notes: sentences to read before it is believed.
        list_path: where ``suspects.json`` is.
        page_path: where the page is.
        unread: names of images that could not be read, so that their entries have no picture.
        command: applies what a person accepts; None where nothing is suspected.
    """

    content: dict[str, Any]
    notes: list[str]
    list_path: Path
    page_path: Path
    unread: list[str]
    command: str | None


def write_suspects(options: Mapping[str, Any]) -> FoundSuspects:
    """Compares labels with detections; writes ``suspects.json`` and the page to look at them.

    Args:
        options: keys as in ``configs/data_suspects.yaml``.

    Raises:
        ConfigError: keys that contradict one another, or a value out of range.
        DataError: a file that cannot be used, or one that would be overwritten.
    """
    if (options["model"] is None) == (options["predictions"] is None):
        raise ConfigError(
            "give either model= or predictions=" + ("" if options["model"] is None else ", not both at once"),
            remedy="finemask data suspects --help shows an example of each.",
        )
    list_path, page_path = (Path(options["output"]) / name for name in ("suspects.json", "index.html"))
    refuse_foreign_page(page_path, EYEBROW)
    refuse_to_lose(list_path)
    source = _of_models(options) if options["model"] is not None else _of_results(options)
    index, annotations = source.index, source.index.annotations_path
    with Progress("comparing", len(index), "images") as progress:
        images = []
        for image in compare_images(index, source.results):
            images.append(image)
            progress.advance()
    found = find_suspects(images, options["min_score"])
    suspects = found[: options["max_suspects"]]
    left_out, agreement = len(found) - len(suspects), _agreement(images)
    notes = [*source.notes, *_lines(agreement, left_out, several=isinstance(source.facts.get("model"), list))]
    content = listing(suspects, index, {**source.facts, "agreement": agreement, "left_out": left_out})
    views, unread = _pictures(index, suspects)
    write_json(list_path, content)
    title = f"{annotations.name}: suspects"
    write_text(page_path, suspects_page(content, views, title, notes, source.footer))
    fixed = annotations.with_name(f"{annotations.stem}_fixed.json")
    words = [f"annotations={annotations}", f"suspects={list_path}", f"fix={fixed}"]
    command = f"finemask data check {shlex.join(words)}" if suspects else None
    return FoundSuspects(content, notes, list_path, page_path, unread, command)


def _of_results(options: Mapping[str, Any]) -> LabelsAndDetections:
    """Detections from a COCO results file.

    Raises:
        ConfigError: ``annotations`` or ``images`` is missing.
        DataError: a file that cannot be used, or detections without masks.
    """
    from finemask.evaluation.ground_truth import ground_truth_of
    from finemask.evaluation.image_ids import with_ids_of
    from finemask.evaluation.results import check_results, read_results

    predictions = Path(options["predictions"])
    annotations, images_dir = _given_paths(options, "predictions")
    index = CocoIndex.read(annotations, images_dir)
    found = read_results(predictions)
    for number, entry in enumerate(found):
        if isinstance(entry, dict) and not entry.get("segmentation"):
            raise DataError(
                f"entry {number} has no segmentation, and labels are compared by their masks",
                where=predictions,
                remedy="Give results with masks.",
            )
    truth = ground_truth_of(index.columns, str(annotations))
    results = check_results(with_ids_of(truth, found, predictions), truth, ("bbox", "segm"), source=predictions)
    facts = {"predictions": str(predictions)}
    return LabelsAndDetections(index, results, facts, {"Labels": str(annotations), "Detections": str(predictions)})


def _of_models(options: Mapping[str, Any]) -> LabelsAndDetections:
    """What a model file finds in a split or in any annotation file; or several, each where it has not been trained.

    Raises:
        FinemaskError: settings that contradict each other, or files that cannot be used.
    """
    is_split = options["annotations"] is None and options["images"] is None
    if is_split and options["data"]["root"] is None:
        raise ConfigError(
            "model= needs data.root=, or annotations= and images=",
            remedy="Say where the labels are that it is to judge.",
        )
    # Only this route needs torch's models.
    from finemask.evaluation.evaluator import CocoEvaluator
    from finemask.evaluation.ground_truth import ground_truth_of
    from finemask.inference.exported_model import is_exported, open_model
    from finemask.inference.predictor import choose_device
    from finemask.model_file import find_model_file, read_header
    from finemask.workflows.detect_split import detect_split, split_paths

    paths = split_paths(options["data"], options["split"]) if is_split else _given_paths(options, "model")
    annotations, images_dir = paths
    device = choose_device(options["device"])
    files = [
        find_model_file(file)
        for file in ([options["model"]] if isinstance(options["model"], str) else options["model"])
    ]
    headers = [open_model(file)[1] if is_exported(file) else read_header(file) for file in files]
    reading = headers[0].reading
    index = CocoIndex.read(annotations, images_dir, categories=headers[0].categories, reading=reading)
    judged = _images_to_judge(files, headers, index)
    collected = CocoEvaluator(ground_truth_of(index.columns, str(annotations)), index.category_ids)
    for file, positions in zip(files, judged, strict=True):
        model, _ = open_model(file, options["trust"])
        detect_split(
            model, index, collected, device, options["batch_size"], options["num_workers"], positions=positions
        )
    facts = {
        "model": str(files[0]) if len(files) == 1 else [str(file) for file in files],
        "model_sha256": headers[0].sha256 if len(files) == 1 else [header.sha256 for header in headers],
        "split": options["split"] if is_split else None,
    }
    shown = [
        f"{file} (SHA-256 of the weights {header.sha256[:12]}…)" for file, header in zip(files, headers, strict=True)
    ]
    footer = {"Labels": str(annotations), "Model" if len(files) == 1 else "Models": ", ".join(shown)}
    has_seen_them = len(files) == 1 and headers[0].data_fingerprint == index.fingerprint
    return LabelsAndDetections(index, collected.results, facts, footer, (_KNOWN_BY_HEART,) if has_seen_them else ())


def _images_to_judge(files: Sequence[Path], headers: Sequence[ModelHeader], index: CocoIndex) -> list[list[int] | None]:
    """Positions of the images for each model, None for all; of several models, those it was not trained on.

    Raises:
        ConfigError: several models of which one has seen all images, or which do not add up to all of them.
        DataError: they were trained on other annotations, or on other classes than the first one.
    """
    if len(files) == 1:
        return [None]
    for file, header in zip(files, headers, strict=True):
        if not header.held_out:
            raise ConfigError(
                f"{file} was trained without data.held_out, so there is no part of the images for it to judge alone",
                remedy="Give one model, or several that were trained each without a part: data.held_out=1/2 and 2/2.",
            )
        if header.data_fingerprint != index.fingerprint:
            raise DataError(
                f"was not trained on {index.annotations_path}, or that file was changed since",
                where=file,
                remedy="What it has not seen is only known for the very file that it was trained on: train again.",
            )
    parts = sorted(checked_part(header.held_out) for header in headers)
    number = parts[0][1]
    if parts != [(k + 1, number) for k in range(number)]:
        given = ", ".join(header.held_out for header in headers)
        raise ConfigError(
            f"the models were trained without the parts {given}, which together are not all images, each once",
            remedy=f"Give {number} models: one for each of {', '.join(f'{k + 1}/{number}' for k in range(number))}.",
        )
    return [np.flatnonzero(held_out(index.image_ids, header.held_out)).tolist() for header in headers]


def _given_paths(options: Mapping[str, Any], key_of_detections: str) -> tuple[Path, Path]:
    """Annotation file and folder of images that were named one by one."""
    for key, what in (("annotations", "the COCO file with the labels"), ("images", "the folder of the images")):
        if options[key] is None:
            raise ConfigError(f"{key_of_detections}= needs {key}=", remedy=f"Give {what}.")
    if options["data"]["root"] is not None:
        raise ConfigError(
            "annotations= and data.root= both say where the labels are",
            remedy="Give data.root= with split=, or annotations= with images=.",
        )
    return Path(options["annotations"]), Path(options["images"])


def _agreement(images: Sequence[ComparedImage]) -> dict[str, Any]:
    """How far model and labels agree at all, at IoU 0.25: a mask drawn badly is found nevertheless."""
    labels = sum(len(image.label_ids) for image in images)
    found = sum(int((image.matches >= 0).sum()) for image in images)
    return {"labels": labels, "found": found, "recall": found / labels if labels else None}


def _lines(agreement: Mapping[str, Any], left_out: int, several: bool) -> list[str]:
    labels, found, recall = (agreement[key] for key in ("labels", "found", "recall"))
    who = "The models find" if several else "The model finds"
    lines = [f"{who} {found:,} of the {plural(labels, 'label')}, with the class {word(labels, 'it has', 'they have')}."]
    if recall is not None and recall < _DOUBTFUL_RECALL:
        lines.append(
            "That is little: many labels are contradicted because they were not learned. Take the list for what it is, "
            "or train longer first."
        )
    if left_out:
        lines.append(
            f"{plural(left_out, 'less sure suspect is', 'less sure suspects are')} left out: raise max_suspects to see "
            "more."
        )
    return lines


def _pictures(index: CocoIndex, suspects: Sequence[Suspect]) -> tuple[list[list[tuple[str, str]] | None], list[str]]:
    """Pictures of each suspect, and the names of images that could not be read."""
    by_image: dict[int, list[int]] = {}
    for k, suspect in enumerate(suspects):
        by_image.setdefault(suspect.image.position, []).append(k)
    pairs: list[list[tuple[str, str]] | None] = [None] * len(suspects)
    unread = []
    with Progress("drawing", len(by_image), "images") as progress:
        for image, numbers in by_image.items():
            try:
                drawn = draw_suspects(index, [suspects[k] for k in numbers])
            except DataError:
                unread.append(index.columns.file_names[image])
            else:
                for k, pair in zip(numbers, drawn, strict=True):
                    pairs[k] = pair
            progress.advance()
    return pairs, unread
