"""Forms in which labels come, and what check, ``fix=``, convert and train make of each: the table of the guide.

A ``Form`` spoils a ``Scene``: it writes some labels, or images, as some tool does. Add one to ``FORMS``, then
``python tests/helpers/forms.py > docs/guide/forms.md``; ``tests/integration/test_forms.py`` holds the page to it.
"""

import json
import re
import shlex
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from forms_of_images import FILE_NAMES, IMAGES
from forms_of_labels import ANNOTATIONS, SEGMENTATIONS
from forms_writing import Form
from scenes import Scene, clean_scene

from finemask.coco.index import CocoIndex
from finemask.coco.segmentation import read_outlines
from finemask.datatools.check.problems import CheckSettings, Dataset, Severity
from finemask.datatools.check.repair import repair, write_repaired
from finemask.datatools.check.run_rules import check_before_training, findings_of, load_document
from finemask.datatools.convert.conversion import convert
from finemask.datatools.convert.source_files import ReadOptions
from finemask.errors import DataError
from finemask.ops.images.image_reading import ImageReading
from finemask.ops.rle import mask_to_rle, rle_to_mask

FORMS: dict[str, tuple[Form, ...]] = {
    "Segmentations": SEGMENTATIONS,
    "Annotations": ANNOTATIONS,
    "File names": FILE_NAMES,
    "Images": IMAGES,
}

NUM_IMAGES = 3


@dataclass(frozen=True)
class Labels:
    """What a file holds: labels with the pixels of their masks, labels that are boxes, and which are crowds.

    Args:
        masks: (image file, class, counts) of every mask.
        crowds: those of them that are crowds.
        boxes: labels without a segmentation.
        unsound: labels with one that is no mask.
    """

    masks: Counter
    crowds: Counter
    boxes: int
    unsound: int

    @property
    def count(self) -> int:
        return self.masks.total() + self.boxes + self.unsound


@dataclass(frozen=True)
class Outcome:
    """What became of one form.

    Args:
        concerned: labels that the form wrote otherwise.
        before: the clean file's labels.
        rules: rules that found errors or warnings, with their severities.
        fixed: labels of the repaired file.
        removed: lines of its log that say that a label was removed.
        left: rules that still find errors in it.
        converted: labels of the converted file; None: the conversion was refused.
        counted: labels that the conversion says it left out.
        refusal: what the conversion said when it refused.
        refused: rules for which training refuses the file.
        reader: why the reader of training refuses the file when nobody has checked it; empty if it takes it.
        learned: masks that it then reads.
        learned_fixed: those of the repaired file; None where errors are left in it.
        learned_chosen: masks that are read when the form's choice is typed.
    """

    concerned: int
    before: Labels
    rules: dict[str, Severity]
    fixed: Labels
    removed: int
    left: list[str]
    converted: Labels | None
    counted: int
    refusal: str
    refused: list[str]
    reader: str
    learned: Counter
    learned_fixed: Counter | None
    learned_chosen: Counter


def clean(root: Path) -> Scene:
    """Three images, each with a polygon, a compressed and an uncompressed RLE, and a crowd."""
    scene = clean_scene(root)
    scene.train["images"] = scene.train["images"][:NUM_IMAGES]
    scene.train["annotations"] = [a for a in scene.train["annotations"] if a["image_id"] <= NUM_IMAGES]
    scene.write()
    return scene


def outcome(form: Form, root: Path) -> Outcome:
    """Runs a form through every verb."""
    scene = clean(root / "set")
    train = scene.paths[0]
    before, entries = labels_of(train), json.loads(train.read_text())["annotations"]
    pictures = {path.name: path.read_bytes() for path in sorted(scene.images_dir.iterdir())}
    form.spoil(scene)
    scene.write()
    found, repaired = _checked(form, scene)
    fixed = root / "fixed" / "train.json"
    write_repaired(repaired, [fixed])
    left = sorted({rule.name for rule, _ in repaired.left if rule.severity is Severity.ERROR})
    converted, counted, refusal = _converted(form, scene, root / "converted")
    problems = check_before_training(train, None, scene.images_dir)
    reader, learned = _read(train, scene)
    return Outcome(
        concerned=form.sound or _concerned(scene, entries, pictures),
        before=before,
        rules={rule.name: rule.severity for rule, _ in found if not rule.harmless_here or form.harmless_too},
        fixed=labels_of(fixed),
        removed=sum(change.loses_annotation for change in repaired.changes),
        left=left,
        converted=converted,
        counted=counted,
        refusal=refusal,
        refused=sorted({problem.rule for problem in problems if problem.severity is Severity.ERROR}),
        reader=reader,
        learned=learned,
        learned_fixed=None if left else _read(fixed, scene)[1],
        learned_chosen=_read(train, scene, form.chosen)[1] if form.chosen else Counter(),
    )


def _checked(form: Form, scene: Scene):
    settings = CheckSettings(**form.asked)
    dataset = Dataset((load_document(scene.paths[0], scene.images_dir),), settings)
    found = list(findings_of(dataset))
    return found, repair(dataset, found)


def _converted(form: Form, scene: Scene, output: Path) -> tuple[Labels | None, int, str]:
    boxes = form.asked.get("boxes", "keep")
    options = ReadOptions(**{key: value for key, value in form.asked.items() if key != "boxes"})
    alone = output.with_name("alone")  # train alone: the scene has a val, which is sound
    shutil.copytree(scene.root, alone, ignore=shutil.ignore_patterns("val*"))
    try:
        done = convert(alone, output, format="coco", boxes=boxes, options=options, preview=False)
    except DataError as error:
        assert not output.exists(), "a refused conversion writes nothing"
        return None, 0, error.what
    found = labels_of(output / "annotations" / "train.json")
    left_out = [line.partition(": ")[2] for line in done.notes.lines() if line.startswith("annotations left out")]
    counted = sum(int(count.partition(" ")[0].replace(",", "")) for count in left_out)
    return found, counted, ""


def _read(train: Path, scene: Scene, chosen: str = "") -> tuple[str, Counter]:
    key, _, value = chosen.partition("=")
    reading = ImageReading.of({key: json.loads(value)} if chosen else None)
    try:
        index = CocoIndex.read(train, scene.images_dir, reading=reading)
        for i in range(len(index)):
            index.read_image(i)
    except DataError as error:
        return str(error), Counter()
    learned: Counter = Counter()
    for i, name in enumerate(index.file_names):
        instances = index.instances(i)
        for k in range(len(instances)):
            if not instances.iscrowd[k]:
                crop, x0, y0 = instances.crop(k)
                category = index.categories[int(instances.labels[k]) - 1].name
                learned[name, category, x0, y0, crop.tobytes(), crop.shape] += 1
    return "", learned


def labels_of(path: Path) -> Labels:
    """The labels of an annotation file, by a reading that takes anything; masks by COCO's pixels."""
    raw = json.loads(path.read_text())
    images = {image["id"]: image for image in raw["images"]}
    names = {category["id"]: category["name"] for category in raw["categories"]}
    masks, crowds, boxes, unsound = Counter(), Counter(), 0, 0
    for annotation in raw["annotations"]:
        image, segmentation = images.get(annotation.get("image_id")), annotation.get("segmentation")
        if image is None or not isinstance(image.get("height"), int):
            unsound += 1
            continue
        if not segmentation:
            boxes += 1
            continue
        (outline,) = read_outlines([(segmentation, image["height"], image["width"])])
        if outline.rle is None:
            unsound += 1
            continue
        key = (
            re.search(r"train_\d+", image["file_name"].lower()).group(),
            names.get(annotation["category_id"]),
            mask_to_rle(rle_to_mask(outline.rle))["counts"],
        )
        masks[key] += 1
        crowds[key] += annotation.get("iscrowd") in (1, True)
    return Labels(masks, +crowds, boxes, unsound)


def _concerned(scene: Scene, entries: list[dict], pictures: dict[str, bytes]) -> int:
    """Labels that differ from those before, or that lie on an image that does."""
    now = {path.name: path.read_bytes() for path in scene.images_dir.iterdir() if path.is_file()}
    changed = {name for name in pictures if now.get(name) != pictures[name]}
    plain = {f"train_{number}.png" for number in range(1, NUM_IMAGES + 1)}
    spoilt = {number for number in range(1, NUM_IMAGES + 1) if f"train_{number}.png" in changed}
    for number, image in enumerate(scene.train["images"], start=1):
        if image.get("file_name") not in plain or image.get("id") != number:
            spoilt.add(number)
    after = scene.train["annotations"]
    return sum(
        not a["iscrowd"] and (json.dumps(a) != json.dumps(b) or a["image_id"] in spoilt)
        for a, b in zip(entries, after, strict=True)
    )


def row(form: Form, found: Outcome) -> str:
    """A line of the table."""
    cells = [form.what, form.who, _check_cell(found), _fix_cell(found), _convert_cell(found), _train_cell(form, found)]
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _check_cell(found: Outcome) -> str:
    ordered = sorted(found.rules.items(), key=lambda item: (item[1] is not Severity.ERROR, item[0]))
    return "; ".join(f"{severity} `{name}`" for name, severity in ordered) or "no fault"


def _kept(found: Outcome, labels: Labels) -> str:
    """What became of the labels concerned, of which there are some."""
    total = found.concerned
    same = total - (found.before.masks - labels.masks).total()
    altered = (labels.masks - found.before.masks).total()
    lost = found.before.count - labels.count
    crowds = (labels.crowds - found.before.crowds).total()
    parts = [
        f"{same} of {total} kept" if same > 0 else "",
        f"{altered} of {total} kept with other pixels" if altered else "",
        f"{labels.boxes} of {total} kept as boxes without a mask" if labels.boxes else "",
        f"{labels.unsound} of {total} left as they are" if labels.unsound else "",
        f"{lost} of {total} left out, counted" if lost else "",
        "crowds" if crowds else "",
    ]
    return ", ".join(part for part in parts if part)


def _fix_cell(found: Outcome) -> str:
    if found.left:
        return f"{_kept(found, found.fixed)}: " + ", ".join(f"`{name}`" for name in found.left)
    return _kept(found, found.fixed)


def _convert_cell(found: Outcome) -> str:
    return "refused" if found.converted is None else _kept(found, found.converted)


def _train_cell(form: Form, found: Outcome) -> str:
    if found.refused:
        after = "" if found.left else f"; after `fix=` learns {_learned(found, found.fixed)}"
        return f"refused{after}"
    if found.reader:
        return (
            f"stops at the first; with {_typed(form.chosen)} learns {found.learned_chosen.total()} of {found.concerned}"
        )
    return f"learns {_learned(found, found.fixed)}"


def _typed(chosen: str) -> str:
    return f"`{shlex.quote(f'data.image.{chosen}')}`"


def _learned(found: Outcome, labels: Labels) -> str:
    crowds = (labels.crowds - found.before.crowds).total()
    lost = found.before.count - labels.count + labels.boxes + labels.unsound + crowds
    return f"{found.concerned - lost} of {found.concerned}"


def page(tables: dict[str, Iterable[tuple[Form, Outcome]]]) -> str:
    """The guide's page."""
    lines = [INTRODUCTION]
    for heading, rows in tables.items():
        lines += [
            f"## {heading}",
            "",
            "| form | written by | check | `fix=` | convert | train |",
            "|---|---|---|---|---|---|",
        ]
        lines += [row(form, found) for form, found in rows]
        lines.append("")
    return "\n".join(lines)


def run_all(forms: dict[str, tuple[Form, ...]], root: Path) -> dict[str, list[tuple[Form, Outcome]]]:
    """Every form with its outcome."""
    return {
        heading: [(form, outcome(form, root / f"{heading}_{k}")) for k, form in enumerate(group)]
        for heading, group in forms.items()
    }


INTRODUCTION = """# Forms of labels, and what becomes of them

Labelling tools and converters write segmentations, annotations and images in more ways than COCO's own. Each row is one
way; the columns say what `data check` finds, what becomes of the labels that `fix=` repairs, that `data convert`
converts, and that `train` is started on. `fix=` and `convert` make the same repairs, `train` refuses what `check` calls
an error, by the same rule. **No label is lost without being counted.**

The file tried has 9 labels and a crowd on 3 images; the numbers are of the labels that are written in the form, some or
all of a class. *Left to a person* is what has no single right repair, or would take the last label of an image or a
class; `remove=true` takes out that too. This page is written by the tests (`tests/helpers/forms.py`), which run every
row through all four.
"""


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        sys.stdout.write(page(run_all(FORMS, Path(folder))))
