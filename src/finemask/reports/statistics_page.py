"""The page of ``finemask data stats``."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from markupsafe import Markup

from finemask.coco.index import CocoIndex
from finemask.datatools.stats.dataset_summary import objects_per_image
from finemask.datatools.stats.image_stats import OpenedImages, thumbnail
from finemask.datatools.stats.input_resolution import ModelSettings
from finemask.datatools.stats.object_stats import Objects
from finemask.datatools.stats.training_advice import Advice, images_beside
from finemask.ops.wording import percent, plural
from finemask.pages.instance_pictures import WHOLE_PX, data_uri
from finemask.pages.shell import page, templates
from finemask.reports.statistics_figures import image_figures, object_figures

EYEBROW = "finemask data stats"
"""In every page of this verb, so that nobody else's is written over."""

_UNREADABLE_SHOWN = 5
_SECTIONS = (  # id in the page, name of the link, and the value without which there is no such section
    ("training", "Training", ""),
    ("numbers", "Numbers", ""),
    ("problems", "Problems", "problems"),
    ("objects", "Objects", "object_figures"),
    ("classes", "Classes", "classes"),
    ("images", "Images", ""),
    ("examples", "Worth a look", "gallery"),
)


def stats_page(
    index: CocoIndex,
    objects: Objects,
    opened: OpenedImages | None,
    summary: dict[str, Any],
    settings: ModelSettings,
    advice: Sequence[Advice],
    command: str,
) -> str:
    """Renders the page.

    Args:
        index: the file.
        objects: measured on it.
        opened: measured on its images; None where they were not opened, which the page says.
        summary: of all that.
        settings: the model that the advice is for.
        advice: what it means.
        command: the line that does what is worth changing.
    """
    rows = sorted(summary["classes"], key=lambda row: -row["objects"])
    values = {
        "tiles": _tiles(summary),
        "problems": problems(summary),
        "object_figures": object_figures(index, objects, settings),
        "classes": [row for row in rows if row["objects"]],
        "absent": [row["name"] for row in rows if not row["objects"]],
        "most_objects": max([row["objects"] for row in rows] + [1]),
        "images_note": images_note(summary),
        "image_figures": image_figures(index, opened),
        "gallery": _gallery(index, objects, summary) if opened is not None else [],
        "advice": advice,
        "model": settings.name,
        "command": command,
    }
    counts = summary["counts"]
    return page(
        _title(Path(summary["annotations"])),
        Markup(templates(__package__).get_template("statistics.html.j2").render(values)),
        eyebrow=EYEBROW,
        lead=f"{plural(counts['objects'], 'object')} of {plural(counts['classes'], 'class', 'classes')} in "
        f"{plural(counts['images'], 'image')}.",
        sections=[(id_, label) for id_, label, key in _SECTIONS if not key or values[key]],
        footer={
            "Annotations": summary["annotations"],
            "SHA-256": summary["fingerprint"],
            "Images": "not opened" if opened is None else str(index.images_dir),
            "Model": f"{settings.name}, shorter side {settings.min_size} px, longer at most {settings.max_size} px",
        },
    )


def _title(annotations: Path) -> str:
    """The file with the dataset it belongs to, since every dataset has a ``train.json``."""
    folder = annotations.absolute().parent
    dataset = folder.parent.name if folder.name == "annotations" else folder.name
    return f"{dataset}: {annotations.name}" if dataset else annotations.name


def images_note(summary: dict[str, Any]) -> str:
    """What was done with the image files."""
    images = summary["images"]
    if images is None:
        typed = shlex.quote(f"images={images_beside(Path(summary['annotations'])) or 'DIR'}")
        return (
            "The images were not opened, so brightness, sharpness and the real sizes are not measured. "
            f"Add {typed} for them."
        )
    kinds = ", ".join(f"{number:,} {kind}" for kind, number in images["kinds"].items())
    total = summary["counts"]["images"]
    of = "all" if images["measured"] + len(images["unreadable"]) == total else f"of {total:,}, spread evenly"
    values = images["values"]
    wide = f" Values of more than 8 bits: {values['min']:,g} to {values['max']:,g}." if values else ""
    return f"Measured on {plural(images['measured'], 'image')} ({of}): {kinds or 'none could be read'}.{wide}"


def problems(summary: dict[str, Any]) -> list[str]:
    """What ``finemask data check`` should be asked about, in sentences."""
    counts, found = summary["counts"], []
    if number := counts["annotations_without_pixels"]:
        found.append(f"{plural(number, 'annotation')} without a pixel, left out here and in training.")
    if number := summary["object_size"]["below_2_px_in_training"]:
        found.append(f"{plural(number, 'object')} below 2 px in training.")
    unreadable = summary["images"]["unreadable"] if summary["images"] else []
    if unreadable:
        shown = "; ".join(f"{entry['file_name']}: {entry['why']}" for entry in unreadable[:_UNREADABLE_SHOWN])
        more = ", …" if len(unreadable) > _UNREADABLE_SHOWN else ""
        found.append(f"{plural(len(unreadable), 'image')} cannot be used. {shown}{more}")
    if found:
        found.append(f"Ask: finemask data check {shlex.quote('annotations=' + summary['annotations'])}")
    return found


def _tiles(summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Heading, value and explanation of each of the numbers on top."""
    counts, per_image, image = summary["counts"], summary["objects_per_image"], summary["image_size_px"]
    training, touching = summary["object_size"]["training_px"], summary["occlusion"]["touch_another"]
    small = training["coco"]["small"]
    empty, crowds, unused = (
        counts[key] for key in ("images_without_objects", "crowd_regions", "classes_without_objects")
    )
    in_training = "median side" + ("" if small is None else f"; {percent(small)} are small in COCO's sense")
    most = 0 if per_image["max"] is None else int(per_image["max"])
    sizes = "px, all images" if image["distinct"] == 1 else f"median, px; {image['distinct']:,} different sizes"
    return [
        ("Images", f"{counts['images']:,}", f"{empty:,} without objects" if empty else "each with objects"),
        (
            "Objects",
            f"{counts['objects']:,}",
            f"and {plural(crowds, 'crowd region')}" if crowds else "no crowd regions",
        ),
        ("Classes", f"{counts['classes']:,}", f"{unused:,} without objects" if unused else "each with objects"),
        ("Objects in an image", f"{per_image['p50']:.0f}", f"median; at most {most:,}"),
        ("Image size", f"{image['width']['p50']:.0f} × {image['height']['p50']:.0f}", sizes),
        ("Object size", _px(summary["object_size"]["original_px"]["p50"]), "median side in the image as it is"),
        ("In training", _px(training["p50"]), in_training),
        ("Touching", "–" if touching is None else percent(touching), "of the objects touch another one"),
    ]


def _px(value: float | None) -> str:
    return "–" if value is None else f"{value:.0f} px"


def _gallery(index: CocoIndex, objects: Objects, summary: dict[str, Any]) -> list[tuple[str, str, str]]:
    """The first image at the end of each scale: what it is, its name, its picture."""
    images = summary["images"]
    ends = (("Darkest", "darkest"), ("Brightest", "brightest"), ("Least sharp", "least_sharp"))
    chosen = [(title, images[key][0]) for title, key in ends if images[key]]
    fullest = index.file_names[int(objects_per_image(index, objects).argmax())]
    if len(objects) and fullest not in {entry["file_name"] for entry in images["unreadable"]}:
        chosen.append(("Most objects", fullest))
    return [
        (title, name, data_uri(thumbnail(index, index.file_names.index(name), WHOLE_PX), whole=True))
        for title, name in chosen
    ]
