"""Pretrains model=light on objects of every kind: the weights that finemask ships, made anew.

    npm pack @lobehub/fluent-emoji-3d@1.1.0 && tar xzf lobehub-fluent-emoji-3d-1.1.0.tgz
    python scripts/pretrain_light.py FIRST --datasets DIR DIR … --cutouts package/assets --minutes 42
    python scripts/pretrain_light.py OUTPUT --datasets DIR DIR … --cutouts package/assets --minutes 45 \
        --weights FIRST/objects.safetensors --backbone-lr 0.2 --seed 1

What it learns from is drawn first: scenes in which objects, cut out of labelled datasets and of a folder of pictures
with transparency, lie before one another, turned, recoloured, touching, alone or by the dozen, on photographs whose own
objects stay labelled or on textures. The training images of the datasets come in as they are; what validates and
tests them stays unseen. Images whose licence asks for the same licence, or forbids commerce, are left out.

The backbone stays ImageNet's while the heads are new, and then learns slowly. The box branch tells some 180 kinds
apart, so that what distinguishes things is not forgotten: trained on one class alone, localisation errors on a dataset
of four kinds of bottles fell to a quarter, and confusions rose by half. Deltas and masks are the same for every kind
(``TiedRows``). What is shipped has one class, object, from which each class of whoever fine-tunes starts.

To see what the weights are worth on a dataset, leave it out of --datasets: docs/light_weights.md does.
"""

import argparse
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pycocotools.mask as mask_utils
import pytorch_lightning as pl
import torch
from numpy.typing import NDArray
from pycocotools.coco import COCO

import finemask
from finemask.model_file import read_header, save_model_file
from finemask.model_header import ModelHeader
from finemask.types import Category

Picture = NDArray[np.uint8]  # BGR [h, w, 3], or BGRA [h, w, 4] of a cut-out
Mask = NDArray[np.bool_]  # [h, w]
Thing = tuple[Mask, str]  # what is in sight of an object, and its kind
Cutout = tuple[Picture, str]

LEAST_AREA = 16  # px of an object in a scene; what little of a hidden one is in sight is not worth learning
MOST_PER_DATASET = 500  # cut-outs
LARGEST_CUTOUT = 256  # px
LARGEST_PHOTO = 640  # px: at twice the size that light sees, nothing is lost
ROW = 32  # emoji that stand together in Unicode's table and count as one kind: faces, mammals, fruit, vehicles, …


@dataclass(frozen=True)
class Photo:
    """A labelled image of a dataset, read when it is needed."""

    path: Path
    annotations: list[dict]
    coco: COCO
    dataset: str

    def read(self) -> tuple[Picture, list[Thing]]:
        """The picture and its objects, at most ``LARGEST_PHOTO`` px."""
        picture = cv2.imread(str(self.path))
        masks = [self.coco.annToMask(annotation) for annotation in self.annotations]
        factor = LARGEST_PHOTO / max(picture.shape[:2])
        if factor < 1:
            picture = cv2.resize(picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
            size = picture.shape[1::-1]
            masks = [cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) for mask in masks]
        kinds = [self.coco.cats[annotation["category_id"]]["name"] for annotation in self.annotations]
        return picture, [(mask > 0, f"{self.dataset}: {kind}") for mask, kind in zip(masks, kinds, strict=True)]


def photos_of(root: Path) -> list[Photo]:
    """The training images of a dataset, without those whose licence restricts what is made of them."""
    coco = COCO(root / "annotations" / "train.json")
    licences = {each["id"]: str(each.get("name", "")) for each in coco.dataset.get("licenses", [])}
    photos = []
    for number, image in sorted(coco.imgs.items()):
        licence = licences.get(image.get("license"), "")
        if "Share" not in licence and "NonCommercial" not in licence:
            annotations = [each for each in coco.imgToAnns[number] if not each.get("iscrowd")]
            photos.append(Photo(root / "images" / image["file_name"], annotations, coco, root.name))
    return photos


def cutouts_of_photos(photos: list[Photo], rng: np.random.Generator) -> list[Cutout]:
    """Objects of a dataset that lie wholly inside their images, six of an image at most."""
    found: list[Cutout] = []
    for index in rng.permutation(len(photos)):
        picture, things = photos[index].read()
        height, width = picture.shape[:2]
        for mask, kind in [things[k] for k in rng.permutation(len(things))[:6]]:
            rows, columns = np.nonzero(mask.any(axis=1))[0], np.nonzero(mask.any(axis=0))[0]
            if mask.sum() < 300 or not (rows[0] and columns[0] and rows[-1] < height - 1 and columns[-1] < width - 1):
                continue
            window = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
            cutout = np.dstack([picture[window], mask[window].astype(np.uint8) * 255])
            factor = min(1.0, LARGEST_CUTOUT / max(cutout.shape[:2]))
            found.append((cv2.resize(cutout, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA), kind))
        if len(found) >= MOST_PER_DATASET:
            break
    return found


def cutouts_of_folder(folder: Path) -> list[Cutout]:
    """Emoji with transparency, cropped to what is opaque; of those in several tones of skin, the first.

    A file is named after its code points, as in ``1f34e.webp``; its kind is the row that it stands in.
    """
    found = []
    for path in sorted(folder.glob("*.webp")):
        picture = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
        if "-1f3f" not in path.name and picture is not None and picture.ndim == 3 and picture.shape[2] == 4:
            row = int(path.stem.partition("-")[0], 16) // ROW
            found.append((cropped(picture), f"emoji: {row * ROW:x}"))
    return [(picture, kind) for picture, kind in found if picture is not None]


def cropped(cutout: Picture) -> Picture | None:
    """A cut-out without its transparent margin; None where nothing is left."""
    rows, columns = np.nonzero(cutout[..., 3] > 127)
    if len(rows) < LEAST_AREA:
        return None
    return np.ascontiguousarray(cutout[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1])


def texture(height: int, width: int, rng: np.random.Generator) -> NDArray[np.floating]:
    """Smooth noise of four scales around a colour, [h, w, 3] on the scale 0 to 255."""
    total = np.zeros((height, width, 3), np.float32)
    channels = 3 if rng.random() < 0.5 else 1
    strength = rng.uniform(0, 60)
    for cells in (3, 6, 14, 40):
        grid = rng.normal(0, 1, (max(2, cells * height // width + 1), cells + 1, channels)).astype(np.float32)
        smooth = cv2.resize(grid, (width, height), interpolation=cv2.INTER_CUBIC).reshape(height, width, channels)
        total += smooth * strength / np.sqrt(cells / 3) * rng.uniform(0.3, 1)
    return np.clip(total + rng.uniform(20, 235, 3), 0, 255)


def silhouette(rng: np.random.Generator) -> Cutout:
    """A cut-out that nobody photographed: a rounded blob, a rectangle or a polygon, with a texture and a shade."""
    kind = str(rng.choice(["blob", "rectangle", "polygon"], p=[0.5, 0.3, 0.2]))
    if kind == "blob":
        angle = np.linspace(0, 2 * np.pi, 72, endpoint=False)
        radius = 1 + sum(rng.normal(0, 0.22 / k) * np.cos(k * angle + rng.uniform(0, 6.3)) for k in range(2, 7))
        points = np.stack([np.cos(angle) * radius, np.sin(angle) * radius * rng.uniform(0.35, 1)], axis=1)
    elif kind == "rectangle":
        half = rng.uniform(0.3, 1)
        points = np.array([[-1, -half], [1, -half], [1, half], [-1, half]]) + rng.normal(0, 0.03, (4, 2))
    else:
        angle = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(3, 9)))
        points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * rng.uniform(0.5, 1, (len(angle), 1))
    points = (points - points.min(axis=0)) * (126 / np.ptp(points, axis=0).max()) + 1
    width, height = np.ceil(points.max(axis=0)).astype(int) + 2
    outline = np.round(points).astype(np.int32)
    opaque = cv2.fillPoly(np.zeros((height, width), np.uint8), [outline], 255)
    colour = texture(height, width, rng)
    if rng.random() < 0.5:  # lit from somewhere
        y, x = np.mgrid[:height, :width]
        distance = np.hypot(x / width - rng.uniform(0.3, 0.7), y / height - rng.uniform(0.3, 0.7))
        colour = colour * (1.25 - distance[..., None] * rng.uniform(0.2, 1.2))
    if rng.random() < 0.3:
        colour = cv2.polylines(
            np.ascontiguousarray(colour), [outline], True, rng.uniform(0, 255, 3), int(rng.integers(1, 8))
        )
    return np.dstack([np.clip(colour, 0, 255).astype(np.uint8), opaque]), f"silhouette: {kind}"


def recoloured(cutout: Picture, rng: np.random.Generator) -> Picture:
    """A cut-out in grey, in other hues, or with a texture laid over; lighter or darker."""
    colour, chance = cutout[..., :3].astype(np.float32), rng.random()
    if chance < 0.15:
        colour = colour.mean(axis=2, keepdims=True).repeat(3, axis=2)
    elif chance < 0.45:
        hsv = cv2.cvtColor(cutout[..., :3], cv2.COLOR_BGR2HSV).astype(np.float32)
        hsv[..., 0] = (hsv[..., 0] + rng.uniform(0, 180)) % 180
        hsv[..., 1] = np.clip(hsv[..., 1] * rng.uniform(0.2, 1.2), 0, 255)
        colour = cv2.cvtColor(hsv.astype(np.uint8), cv2.COLOR_HSV2BGR).astype(np.float32)
    elif chance < 0.55:
        colour = 0.5 * colour + 0.5 * texture(*colour.shape[:2], rng)
    colour = colour * rng.uniform(0.6, 1.25) + rng.uniform(-25, 25)
    return np.dstack([np.clip(colour, 0, 255).astype(np.uint8), cutout[..., 3]])


def placed(cutout: Picture, side: float, degrees: float, rng: np.random.Generator) -> Picture | None:
    """A cut-out of this longer side, mirrored or not, a little stretched, turned."""
    if rng.random() < 0.5:
        cutout = np.ascontiguousarray(cutout[:, ::-1])
    factor, stretch = side / max(cutout.shape[:2]), np.exp(rng.normal(0, 0.12))
    size = max(3, int(cutout.shape[1] * factor * stretch)), max(3, int(cutout.shape[0] * factor / stretch))
    cutout = cv2.resize(cutout, size, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR)
    if degrees:
        height, width = cutout.shape[:2]
        diagonal = int(np.hypot(height, width)) + 2
        turn = cv2.getRotationMatrix2D((width / 2, height / 2), degrees, 1)
        turn[:, 2] += (diagonal - width) / 2, (diagonal - height) / 2
        cutout = cv2.warpAffine(cutout, turn, (diagonal, diagonal))
    return cropped(cutout)


def background(photos: list[Photo], rng: np.random.Generator) -> tuple[NDArray[np.floating], list[Thing]]:
    """A crop of a photograph with the objects in it, or a texture without any."""
    height, width = (int(side) for side in rng.integers(288, 449, 2))
    if rng.random() >= 0.55:
        canvas = texture(height, width, rng)
        if rng.random() < 0.3:  # plain
            canvas[:] = rng.uniform(0, 255, 3 if rng.random() < 0.5 else 1)
        return canvas, []
    chosen = rng.choice(sorted({photo.dataset for photo in photos}))  # each as often, however many photographs it has
    of_dataset = [photo for photo in photos if photo.dataset == chosen]
    picture, things = of_dataset[rng.integers(len(of_dataset))].read()
    factor = max(height / picture.shape[0], width / picture.shape[1]) * rng.uniform(1, 2)
    picture = cv2.resize(
        picture, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    top = int(rng.integers(0, max(1, picture.shape[0] - height + 1)))
    left = int(rng.integers(0, max(1, picture.shape[1] - width + 1)))
    window = np.s_[top : top + height, left : left + width]
    size = picture.shape[1::-1]
    whole = [cv2.resize(mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST) > 0 for mask, _ in things]
    kinds = [kind for _, kind in things]
    return picture[window].astype(np.float32), [(mask[window], kind) for mask, kind in zip(whole, kinds, strict=True)]


def scene(cutouts: list[Cutout], photos: list[Photo], rng: np.random.Generator) -> tuple[Picture, list[Thing]]:
    """A picture and the visible part of each object in it: a few large ones, some, or dozens of small ones."""
    canvas, things = background(photos, rng)
    height, width = canvas.shape[:2]
    count, least, most = [
        (rng.integers(1, 7), 50, 260),
        (rng.integers(4, 16), 24, 130),
        (rng.integers(12, 61), 10, 48),
    ][rng.choice(3, p=[0.35, 0.35, 0.3])]
    count = min(count, 12) if things else count
    sides = np.exp(rng.uniform(np.log(least), np.log(most), count))
    chosen = [silhouette(rng) if rng.random() < 0.25 else cutouts[rng.integers(len(cutouts))] for _ in range(count)]
    if rng.random() < 0.5:  # a few kinds of one size, as fruit, cells and windows are
        kinds = [cutouts[rng.integers(len(cutouts))] for _ in range(rng.integers(1, 4))]
        chosen = [kinds[rng.integers(len(kinds))] for _ in range(count)]
        sides = np.clip(sides[0] * np.exp(rng.normal(0, 0.25, count)), 8, 300)
    together, centre, spread = rng.random() < 0.3, rng.uniform(0.25, 0.75, 2), rng.uniform(0.1, 0.25)
    upright = rng.random() < 0.4
    for (cutout, kind), side in zip(chosen, sides, strict=True):
        cutout = recoloured(cutout, rng) if rng.random() < 0.6 else cutout
        part = placed(cutout, float(side), 0.0 if upright else float(rng.uniform(0, 360)), rng)
        if part is not None:
            y, x = rng.normal(centre, spread) if together else rng.uniform(0, 1, 2)
            corner = int(y * height - part.shape[0] / 2), int(x * width - part.shape[1] / 2)
            canvas, things = pasted(canvas, things, (part, kind), corner, rng)
    return photographed(canvas, rng), things


def pasted(
    canvas: NDArray[np.floating], things: list[Thing], cutout: Cutout, corner: tuple[int, int], rng: np.random.Generator
) -> tuple[NDArray[np.floating], list[Thing]]:
    """The scene with one object more, in front of the others, which lose the pixels behind it."""
    part, kind = cutout
    (height, width), (top, left) = canvas.shape[:2], corner
    rows = slice(max(top, 0), min(top + part.shape[0], height))
    columns = slice(max(left, 0), min(left + part.shape[1], width))
    if rows.start >= rows.stop or columns.start >= columns.stop:  # it fell outside
        return canvas, things
    part = part[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]
    solid = part[..., 3] > 127
    if solid.sum() < LEAST_AREA:
        return canvas, things
    alpha = part[..., 3].astype(np.float32) / 255
    if rng.random() < 0.3:  # a soft edge
        alpha = cv2.GaussianBlur(alpha, (0, 0), rng.uniform(0.4, 1.2))
    window, alpha = np.s_[rows, columns], alpha[..., None]
    canvas[window] = canvas[window] * (1 - alpha) + part[..., :3] * alpha
    things = [(mask.copy(), behind) for mask, behind in things]
    for mask, _ in things:
        mask[window] &= ~solid
    own = np.zeros((height, width), np.bool_)
    own[window] = solid
    return canvas, [*things, (own, kind)]


def photographed(canvas: NDArray[np.floating], rng: np.random.Generator) -> Picture:
    """Blur, noise, and now and then no colour or a negative."""
    if rng.random() < 0.3:
        canvas = cv2.GaussianBlur(canvas, (0, 0), rng.uniform(0.3, 1.0))
    if rng.random() < 0.4:
        channels = 3 if rng.random() < 0.5 else 1
        canvas = canvas + rng.normal(0, rng.uniform(1, 10), (*canvas.shape[:2], channels))
    if rng.random() < 0.12:
        canvas = canvas.mean(axis=2, keepdims=True).repeat(3, axis=2)
    if rng.random() < 0.1:
        canvas = 255 - canvas
    return np.clip(canvas, 0, 255).astype(np.uint8)


def write_dataset(
    root: Path, name: str, kinds: list[str], drawn: Iterator[tuple[Picture, list[Thing]]], seed: int
) -> None:
    """A COCO file of pictures and their objects, and the pictures as JPEGs of many qualities."""
    rng = np.random.default_rng(seed)
    categories = {kind: number for number, kind in enumerate(kinds, start=1)}
    images, annotations = [], []
    (root / "images").mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for number, (picture, things) in enumerate(drawn, start=1):
        file = f"{name}_{number:06}.jpg"
        cv2.imwrite(str(root / "images" / file), picture, [cv2.IMWRITE_JPEG_QUALITY, int(rng.integers(70, 96))])
        images.append({"id": number, "file_name": file, "width": picture.shape[1], "height": picture.shape[0]})
        for mask, kind in things:
            if (area := int(mask.sum())) >= LEAST_AREA:
                rle = mask_utils.encode(np.asfortranarray(mask.astype(np.uint8)))
                box = mask_utils.toBbox(rle).tolist()
                rle["counts"] = rle["counts"].decode()
                own = {"id": len(annotations) + 1, "image_id": number, "category_id": categories[kind], "iscrowd": 0}
                annotations.append({**own, "area": area, "bbox": box, "segmentation": rle})
    listed = [{"id": number, "name": kind} for kind, number in categories.items()]
    document = {"images": images, "annotations": annotations, "categories": listed}
    (root / "annotations" / f"{name}.json").write_text(json.dumps(document))
    print(f"{name}: {len(images)} pictures, {len(annotations)} objects of {len(kinds)} kinds", flush=True)


class TiedRows(pl.Callback):
    """Box deltas and masks that are the same for every class: their rows begin alike and take the same steps."""

    rows = (("roi_heads.box_predictor.bbox_pred", 4), ("roi_heads.mask_predictor.mask_fcn_logits", 1))

    def on_fit_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Gives every class the first one's rows."""
        for parameter, each in self._parameters(pl_module):
            with torch.no_grad():
                of_class = parameter.view(-1, each, *parameter.shape[1:])
                of_class[1:] = of_class[1]

    def on_before_optimizer_step(
        self, trainer: pl.Trainer, pl_module: pl.LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Gives every class the sum of all their gradients."""
        for parameter, each in self._parameters(pl_module):
            if parameter.grad is not None:
                of_class = parameter.grad.view(-1, each, *parameter.shape[1:])
                of_class[1:] = of_class[1:].sum(dim=0)

    def _parameters(self, module: pl.LightningModule) -> Iterator[tuple[torch.nn.Parameter, int]]:
        for name, each in self.rows:
            layer = module.get_submodule(f"model.{name}")
            yield from ((parameter, each) for parameter in layer.parameters())


def shipped(source: Path, target: Path) -> None:
    """A model file of one class, in half precision; whoever loads it computes in single precision again.

    The one class has the rows that all share, and of the scores the mean. What was measured on scenes of many kinds is
    left out: it says nothing about *object*.
    """
    from safetensors.torch import load_file

    tensors = load_file(source)
    for layer, each in (
        ("box_predictor.cls_score", 1),
        ("box_predictor.bbox_pred", 4),
        ("mask_predictor.mask_fcn_logits", 1),
    ):
        for name in (f"roi_heads.{layer}.weight", f"roi_heads.{layer}.bias"):
            of_class = tensors[name].view(-1, each, *tensors[name].shape[1:])
            tensors[name] = torch.cat([of_class[0], of_class[1:].mean(dim=0)])
    trained = read_header(source)
    header = ModelHeader(
        {**trained.model, "weights": "imagenet"},
        [Category(1, "object")],
        trained.preprocessing,
        data_fingerprint=trained.data_fingerprint,
        versions=trained.versions,
        licenses={"data": "CC0, CC BY 4.0 and MIT; docs/light_weights.md names them"},
    )
    save_model_file(target, {k: t.half() if t.is_floating_point() else t for k, t in tensors.items()}, header)
    print(f"{target}: {target.stat().st_size / 1e6:.1f} MB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("output", type=Path)
    parser.add_argument("--datasets", type=Path, nargs="+", required=True, help="COCO datasets: images/, annotations/")
    parser.add_argument("--cutouts", type=Path, required=True, help="folder of .webp pictures with transparency")
    parser.add_argument("--scenes", type=int, default=6000)
    parser.add_argument("--minutes", type=int, default=90, help="of training; one core makes 900 steps of 4 in 20")
    parser.add_argument("--weights", default="imagenet", help="to start from: imagenet or a file")
    parser.add_argument(
        "--backbone-lr", type=float, default=0.0, help="for the backbone, of the heads' rate; 0: frozen"
    )
    parser.add_argument("--seed", type=int, default=0)
    a = parser.parse_args()
    rng = np.random.default_rng(a.seed)
    data = a.output / "data"
    photos, cutouts = [], cutouts_of_folder(a.cutouts)
    for root in a.datasets:
        of_dataset = photos_of(root)
        photos += of_dataset
        cutouts += cutouts_of_photos(of_dataset, rng)
    print(f"{len(photos)} photographs, {len(cutouts)} cut-outs", flush=True)

    of_photos = [f"{p.dataset}: {kind['name']}" for p in photos for kind in p.coco.cats.values()]
    of_silhouettes = [f"silhouette: {kind}" for kind in ("blob", "rectangle", "polygon")]
    kinds = sorted({*of_photos, *of_silhouettes, *(kind for _, kind in cutouts)})
    scenes = (scene(cutouts, photos, rng) for _ in itertools.count())
    drawn = itertools.chain((photo.read() for photo in photos), itertools.islice(scenes, a.scenes))
    write_dataset(data, "train", kinds, drawn, a.seed)
    write_dataset(data, "val", kinds, itertools.islice(scenes, 60), a.seed)
    trained = ["transfer=full", f"transfer.backbone_lr_scale={a.backbone_lr}"] if a.backbone_lr else ["transfer=heads"]
    recipe = ["model=light", "plan=none", *trained, "augment=flip", "optimizer.lr=0.0007"]
    run = finemask.train(
        data,
        [
            *recipe,
            f"model.weights={a.weights}",
            f"budget={a.minutes}min",
            "data.check=false",
            "data.allow_missing_categories=true",
            "+callbacks.tied._target_=pretrain_light.TiedRows",
            "trainer.check_val_every_n_epoch=100",
            f"output={a.output / 'runs'}",
            f"seed={a.seed}",
        ],
    )
    if run is not None:
        shipped(run.model_path, a.output / "objects.safetensors")


if __name__ == "__main__":
    main()
