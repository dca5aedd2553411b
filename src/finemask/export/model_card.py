"""A model card: what a model finds, how well, where it must not be trusted; made of the model file's own header."""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import prod
from pathlib import Path
from typing import Any

from safetensors import safe_open

from finemask.model_header import ModelHeader, TrainingSizes
from finemask.ops.wording import names, percent, plural

_FEW = 20  # labelled objects, under which a class's numbers say little
_LEAST_SLICE = 5  # objects, from which a slice is worth a line
_SHORTFALL = 0.2  # of recall, from which a slice is
_CONFUSIONS = 5
_HUB_TAGS = ("instance-segmentation", "object-detection", "mask-rcnn", "finemask")


def write_card(
    header: ModelHeader,
    file: Path,
    *,
    name: str,
    address: str | None,
    license: str | None,
    preview: str | None,
) -> str:
    """The text of a README.md, with the metadata block that the Hugging Face Hub reads.

    Args:
        header: of the model file.
        file: the model file.
        name: of the model.
        address: ``hf://OWNER/NAME`` where it is to be found; None: only as a file.
        license: SPDX identifier of the licence that the model is given under, where there is one.
        preview: name of a picture beside the card, if there is one.
    """
    blocks = [
        _front_matter(header, name, license),
        f"# {name}",
        _what_it_is(header),
        *([f"![What the model finds in a few images]({preview})"] if preview else []),
        *_use(header, address, file.name),
        *_how_well(header),
        *_limits(header),
        *_made_of(header, license, file),
    ]
    return "\n\n".join(blocks) + "\n"


def architecture(config: Mapping[str, Any]) -> str:
    """The parts that a configuration names: ``tiny: mobilenet_fpn (mobilenet_v2), two_mlp, …``."""
    parts = []
    for key in ("backbone", "rpn", "box_head", "box_predictor", "mask_head", "mask_predictor"):
        part = config.get(key)
        if not isinstance(part, Mapping) or "_target_" not in part:
            continue
        text = str(part["_target_"]).rpartition(".")[2]
        parts.append(f"{text} ({part['name']})" if "name" in part else text)
    name = config.get("name")
    listed = ", ".join(parts) or "not described"
    return f"{name}: {listed}" if name else listed


def count_numbers(path: Path) -> int:
    """How many numbers the tensors of a file hold, read off its table alone."""
    with safe_open(path, "numpy") as file:
        return sum(prod(file.get_slice(name).get_shape()) for name in file.keys())  # noqa: SIM118 (it is no dict)


def sizes_rows(sizes: TrainingSizes) -> list[tuple[str, str]]:
    """How large the training images and their objects were, in words."""
    smallest, middle, largest = sizes.images_px
    least, median, most = (f"{side:,.0f}" for side in sizes.objects_px)
    seen_least, seen_median, seen_most = (f"{side:,.0f}" for side in sizes.objects_seen_px)
    objects = f"nine of ten measure {least} to {most} px, median {median}"
    return [
        ("training images", f"longer side {smallest:,} to {largest:,} px, median {middle:,}"),
        ("training objects", f"{objects}; as resized {seen_least} to {seen_most} px, median {seen_median}"),
    ]


def _front_matter(header: ModelHeader, name: str, license: str | None) -> str:
    """YAML between two lines of dashes; JSON is YAML, and its texts need no thought about quotes."""
    metrics = header.metrics
    listed = [
        {"type": f"{kind}_{key}", "name": f"{word} {key}", "value": numbers[key]}
        for kind, word in (("segm", "mask"), ("bbox", "box"))
        for key in ("AP", "AP50", "AP75")
        if isinstance(numbers := metrics.get(kind), Mapping) and numbers.get(key) is not None
    ]
    entries: dict[str, Any] = {
        "library_name": "finemask",
        "pipeline_tag": "image-segmentation",
        "tags": list(_HUB_TAGS),
    }
    if license is not None:
        entries["license"] = license
    if listed:
        dataset = {"type": "validation-split", "name": f"validation images ({_judged_on(metrics)})"}
        task = {"type": "image-segmentation", "name": "Instance segmentation"}
        entries["model-index"] = [{"name": name, "results": [{"task": task, "dataset": dataset, "metrics": listed}]}]
    lines = (f"{key}: {json.dumps(value, ensure_ascii=False)}" for key, value in entries.items())
    return "\n".join(["---", *lines, "---"])


def _what_it_is(header: ModelHeader) -> str:
    made_with = header.versions.get("finemask", "?")
    classes = names([f"`{category.name}`" for category in header.categories], most=12)
    return (
        f"Finds {classes} in images and outlines each object with a mask. A Mask R-CNN ({architecture(header.model)}), "
        f"fine-tuned with finemask {made_with}."
    )


def _use(header: ModelHeader, address: str | None, file: str) -> Iterator[str]:
    place, extra = (file, "finemask") if address is None else (address, '"finemask[hub]"')
    yield "## How to use it"
    yield f"```bash\npip install {extra}\nfinemask predict model={place} source=photos/ output=found\n```"
    lines = (
        "import finemask",
        f'model = finemask.load("{place}")',
        'instances = model.predict("photo.jpg")  # .masks, .boxes, .class_names, .scores, .draw(), .to_coco()',
    )
    yield "\n".join(["```python", *lines, "```"])
    sides = ", ".join(str(side) for side in header.preprocessing.min_size)
    yield (
        f"It resizes and normalises by itself: give it images as they are. The model sees a shorter side of {sides} "
        f"px, a longer one of at most {header.preprocessing.max_size} px."
    )


def _how_well(header: ModelHeader) -> Iterator[str]:
    yield "## How well it works"
    metrics = header.metrics
    if not isinstance(metrics.get("segm"), Mapping):
        yield "The model file holds no measurement. Measure it on labelled images of yours: `finemask evaluate`."
        return
    interval = metrics.get("confidence_interval") or {}
    bounds = f"; in brackets the {percent(interval['level'])} interval" if interval else ""
    yield (
        f"Measured on {_judged_on(metrics)} that it was not trained on{bounds}. AP is COCO's, averaged over IoU 0.50 "
        "to 0.95; AP50 and AP75 are at one IoU."
    )
    rows = [
        [word, *(_between(metrics[kind].get(key), interval.get(kind, {}).get(key)) for key in ("AP", "AP50", "AP75"))]
        for kind, word in (("segm", "masks"), ("bbox", "boxes"))
        if isinstance(metrics.get(kind), Mapping)
    ]
    yield _table(["", "AP", "AP50", "AP75"], rows)
    point = metrics.get("operating_point") or {}
    if point.get("precision") is not None and point.get("recall") is not None:
        of_point = interval.get("operating_point", {})
        right = _between(point["precision"], of_point.get("precision"), percent)
        found = _between(point["recall"], of_point.get("recall"), percent)
        yield (
            f"Over all classes at the threshold {point['threshold']:.2f}: {right} of what it reports is right, and it "
            f"finds {found} of the objects. The best weights and the thresholds were chosen on these same images, so "
            "expect a little less on others."
        )
    per_class = metrics.get("per_class") or {}
    rows = [
        [
            category.name,
            f"{header.threshold_of(category.name):.2f}",
            _between(of.get("segm_AP"), interval.get("per_class", {}).get(category.name, {}).get("segm_AP")),
            _share(of.get("precision")),
            _share(of.get("recall")),
            f"{of.get('ground_truths', 0):,}",
        ]
        for category in header.categories
        if (of := per_class.get(category.name, {})) is not None
    ]
    yield _table(["class", "threshold", "mask AP", "precision", "recall", "labelled objects"], rows)


def _limits(header: ModelHeader) -> Iterator[str]:
    yield "## Where not to trust it"
    lines = ["It knows the classes above and nothing else; other things that look alike may be taken for them."]
    sizes = header.training_sizes
    if sizes is not None:
        smallest, _, largest = sizes.images_px
        least, _, most = (f"{side:,.0f}" for side in sizes.objects_px)
        between = f"of {largest:,} px" if smallest == largest else f"of {smallest:,} to {largest:,} px"
        lines.append(
            f"It learned from images {between} (longer side), in which nine of ten objects measured {least} to {most} "
            "px. Objects that are much smaller or larger than that, as the resized image shows them, are likely to be "
            "missed; `tile=auto` cuts larger images."
        )
    lines += _weak_places(header)
    lines.append(
        "Nothing is known of images from other cameras, places or times than those of the validation images. Label a "
        "few dozen of your own and measure it on them before you rely on it: `finemask evaluate`."
    )
    yield "\n".join(f"- {line}" for line in lines)


def _weak_places(header: ModelHeader) -> Iterator[str]:
    """What the measurements say against the model: few objects, slices that it misses, classes it confuses."""
    metrics = header.metrics
    per_class = metrics.get("per_class") or {}
    counts = {name: of.get("ground_truths", 0) for name, of in per_class.items()}
    few = [f"`{name}` ({count:,})" for name, count in counts.items() if count < _FEW]
    if few:
        yield f"Fewer than {_FEW} labelled objects were there to measure {names(few)}: these numbers are rough."
    recall = (metrics.get("operating_point") or {}).get("recall")
    for of in metrics.get("slices") or ():
        weak = recall is not None and of.get("recall") is not None and of["recall"] < recall - _SHORTFALL
        if weak and of["ground_truths"] >= _LEAST_SLICE:
            where = {"size": "objects of", "crowding": "objects that stand", "image": "images with"}.get(of["kind"], "")
            text = f"{where} {of['name']}".strip()
            yield f"It finds {percent(of['recall'])} of the objects in this group: {text} ({of['ground_truths']:,})."
    confusion = metrics.get("confusion") or {}
    labels = confusion.get("names", [])
    pairs = [
        (count, labels[row], labels[column])
        for row, counted in enumerate(confusion.get("counts", []))
        for column, count in enumerate(counted)
        if row != column and count and "background" not in (labels[row], labels[column])
    ]
    for count, truth, taken_for in sorted(pairs, key=lambda pair: -pair[0])[:_CONFUSIONS]:
        yield f"It took {plural(count, 'object')} labelled `{truth}` for `{taken_for}`."


def _made_of(header: ModelHeader, license: str | None, file: Path) -> Iterator[str]:
    yield "## What it was made of"
    given = f"`{license}`" if license else "none was stated; without one, ask before you use it"
    held_out = [f"Held out: part {header.held_out} of the training images, which it has not seen."]
    lines = [
        f"Training data: annotations with the fingerprint `{header.data_fingerprint}`. The images are not in here."
        if header.data_fingerprint
        else "Training data: not recorded.",
        *(held_out if header.held_out else []),
        *(f"{name[:1].upper()}{name[1:]}: {note}." for name, note in header.licenses.items()),
        f"Licence of this model: {given}.",
        f"Made with {', '.join(f'{name} {version}' for name, version in header.versions.items())}.",
        f"`{file.name}`: {count_numbers(file) / 1e6:.1f} million numbers, {file.stat().st_size / 2**20:.1f} MiB, "
        f"SHA-256 of the weights `{header.sha256}`. It is a safetensors file: nothing in it is executed.",
    ]
    yield "\n".join(f"- {line}" for line in lines)


def _judged_on(metrics: Mapping[str, Any]) -> str:
    images, objects = metrics.get("images") or 0, metrics.get("ground_truths") or 0
    return f"{plural(images, 'image')} with {plural(objects, 'labelled object')}"


def _between(value: float | None, bounds: Sequence[float] | None, shown: Any = None) -> str:
    show = shown or (lambda number: f"{number:.2f}")
    if value is None:
        return "–"
    return f"{show(value)} ({show(bounds[0])} to {show(bounds[1])})" if bounds else str(show(value))


def _share(value: float | None) -> str:
    return "–" if value is None else percent(value)


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [headings, ["---"] * len(headings), *rows]
    return "\n".join("| " + " | ".join(_cell(text) for text in line) + " |" for line in lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
