"""Running the rules: on files for ``finemask data check``, and the fast ones before training."""

import shlex
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from finemask.datatools.check.document import Document
from finemask.datatools.check.problems import (
    CheckSettings,
    Dataset,
    Finding,
    Problem,
    Rule,
    Severity,
)
from finemask.datatools.check.removals import without_emptying
from finemask.datatools.check.rules import (
    boxes,
    categories,
    duplicates,
    ids,
    image_files,
    images,
    masks,
    references,
    segmentation,
    structure,
    training_fit,
)
from finemask.errors import DataError
from finemask.ops.json_file import parse_json, read_bytes

RULES: tuple[Rule, ...] = (
    *structure.RULES,
    *ids.RULES,
    *references.RULES,
    *images.RULES,
    *categories.RULES,
    *segmentation.RULES,
    *masks.RULES,
    *boxes.RULES,
    *image_files.RULES,
    *duplicates.RULES,
    *training_fit.RULES,
)
"""Every rule, in the order in which they are asked and repaired: what others build on comes first."""

# Rules that draw conclusions from a file as a whole, and those whose findings make such conclusions worthless.
_CONCLUSIONS = {"categories-differ", *(rule.name for rule in training_fit.RULES)}
_SPOILING = {
    "json-broken",
    "json-not-coco",
    "list-empty",
    "category-id-invalid",
    "category-name-invalid",
    "category-ids-shifted",
    "crowd-only",
}

_WHAT = "a COCO annotation file"
_DEFAULTS = CheckSettings()


def load_document(path: Path, images_dir: Path | None = None) -> Document:
    """Reads an annotation file, whatever is in it.

    Args:
        path: the file.
        images_dir: folder that its file names are relative to; None: found if it lies where it usually does.

    Raises:
        DataError: there is no such file, or it may not be read; or there is no such folder.
    """
    if images_dir is not None and not Path(images_dir).is_dir():
        raise DataError("there is no such folder of images", where=images_dir, remedy="Check images=")
    content = read_bytes(Path(path), _WHAT, "Check annotations=")
    try:
        raw = parse_json(content, path, _WHAT)
    except DataError as error:
        return Document(Path(path), None, images_dir, broken=error.what)
    except ValueError as error:  # a number of more digits than Python converts
        return Document(Path(path), None, images_dir, broken=f"broken JSON: {error}".partition(";")[0])
    document = Document(Path(path), raw, images_dir)
    if images_dir is None and (found := _usual_folder(document)) is not None:
        return Document(Path(path), raw, found)
    return document


def _usual_folder(document: Document) -> Path | None:
    """Where the first image lies: in ``images`` beside the file or up to two folders above, or beside the file."""
    if not document.images:
        return None
    here = document.path.parent
    candidates = (here / "images", here.parent / "images", here.parent.parent / "images", here, here.parent)
    return next((folder for folder in candidates if (folder / document.images[0].file_name).is_file()), None)


def ask(rule: Rule, dataset: Dataset) -> list[Finding]:
    """What one rule finds; findings whose repair would take too much away come without it."""
    settings = dataset.settings
    asked = settings.remove or (rule.name == "mask-missing" and settings.boxes == "drop")
    return without_emptying(list(rule.check(dataset)), dataset, asked=asked)


def findings_of(
    dataset: Dataset, rules: Sequence[Rule] = RULES, started: Callable[[Rule], None] | None = None
) -> Iterator[tuple[Rule, Finding]]:
    """What the rules find, rule by rule.

    Where a file is broken as a whole, rules that draw conclusions from the whole are left out.

    Args:
        dataset: what is checked.
        rules: which ones.
        started: called with each rule before it runs.
    """
    spoilt = False
    for rule in rules:
        if spoilt and rule.name in _CONCLUSIONS:
            continue
        if started is not None:
            started(rule)
        for finding in ask(rule, dataset):
            spoilt = spoilt or rule.name in _SPOILING
            yield rule, finding


def check_before_training(
    train: Path,
    val: Path | None,
    images_dir: Path,
    *,
    min_size: int = _DEFAULTS.min_size,
    max_size: int = _DEFAULTS.max_size,
    detection_cap: int | None = _DEFAULTS.detection_cap,
    anchor_sizes: tuple[float, ...] = _DEFAULTS.anchor_sizes,
    aspect_ratios: tuple[float, ...] = _DEFAULTS.aspect_ratios,
    allow_missing_categories: bool = False,
    largest_bytes: int = 50_000_000,
) -> list[Problem]:
    """The rules that need no image opened and that finemask itself would suffer from; errors first.

    Args:
        train: annotation file of training.
        val: annotation file of validation, if any.
        images_dir: folder that both name their images from.
        min_size: shorter side of the resized image in px.
        max_size: upper bound of its longer side in px.
        detection_cap: most detections an image can have; None: what training makes of ``auto``.
        anchor_sizes: sides in px of the square anchors.
        aspect_ratios: height / width of the anchors.
        allow_missing_categories: whether ``val`` may lack categories of ``train``.
        largest_bytes: with a file larger than this nothing is checked, because it would take minutes and gigabytes;
            the only problem is then a warning that says so.

    Raises:
        DataError: a file is not there, or the folder.
    """
    settings = CheckSettings(min_size, max_size, detection_cap, anchor_sizes, aspect_ratios, allow_missing_categories)
    paths = [train] if val is None else [train, val]
    large = [path for path in paths if path.is_file() and path.stat().st_size > largest_bytes]
    if large:
        return [_not_checked(path) for path in large]
    dataset = Dataset(tuple(load_document(path, images_dir) for path in paths), settings)
    rules = [rule for rule in RULES if rule.fast and not rule.harmless_here]
    return sorted_problems(Problem.of(rule, finding) for rule, finding in findings_of(dataset, rules))


def _not_checked(path: Path) -> Problem:
    message = (
        f"{path.stat().st_size / 1e6:,.0f} MB take too long to check each time; once is enough: "
        f"finemask data check {shlex.quote(f'annotations={path}')}"
    )
    effect = "What is wrong with masks, boxes and areas shows only in the results."
    return Problem("not-checked", Severity.WARNING, message, effect, path, None, None, None, False)


def sorted_problems(problems: Iterator[Problem]) -> list[Problem]:
    """Errors before warnings, otherwise in the order found."""
    return sorted(problems, key=lambda problem: problem.severity is not Severity.ERROR)
