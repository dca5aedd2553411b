"""Words that people bring from Ultralytics, Detectron2, MMDetection, torchvision's scripts and torchgeo.

A table for each verb, since ``weights`` is what training starts from and what prediction loads. It is looked at before
anything is guessed by spelling. docs/guide/coming_from.md shows it to people; tests compose every key that it names.
"""

import re
import shlex
from collections.abc import Collection, Mapping
from dataclasses import dataclass

Row = str | tuple[tuple[str, str], ...]
Rows = Mapping[str, Row]


def _by_word(meanings: Mapping[Row, str]) -> dict[str, Row]:
    """Inverts a table, which is written as what to type here: all the words that stand for it elsewhere."""
    return {word: row for row, words in meanings.items() for word in words.split()}


# What is typed instead; {} is the value. Where the value decides, the first pattern that fits all of it: {0} is the
# value, {1} the first group. An entry without "=" is a sentence: there is no such key here, and this is why.
_DEVICE = (
    (r"cpu|mps", "trainer.accelerator={0}"),
    (r"cuda|gpu", "trainer.accelerator=gpu"),
    (r"(?:cuda:)?(\d+)", "trainer.accelerator=gpu trainer.devices=[{1}]"),
    (r"\[?(\d+(?:,\d+)*)\]?", "trainer.accelerator=gpu trainer.devices=[{1}]"),
)
_DATA_OF_TRAIN = (
    (r".*\.ya?ml", "finemask data convert source={0} format=yolo output=DIR"),
    (r".*\.json", "data.train={0}"),
    (r".+", "data.root={0}"),
)
_PRETRAINED = (
    ("(?i)true|1", "model.weights=coco"),
    ("(?i)false|0", "model.weights=none"),
    (".+", "model.weights={0}"),
)
_FOLDER = (r".+", "annotations={0}/annotations/train.json images={0}/images")
_OUTPUT = _by_word({"output={}": "project output_dir out_dir save_dir work_dir outdir out dst dest destination"})
_TRAIN = _OUTPUT | _by_word(
    {
        "data.batch_size={}": "batch batch_size bs ims_per_batch",
        "data.num_workers={}": "workers num_workers",
        "data.root={}": "data_path data_root",
        "data.train={}": "datasets.train ann_file",
        "data.val={}": "datasets.test",
        _DATA_OF_TRAIN: "data",
        "model.min_size={} model.max_size={}": "imgsz img_size image_size",
        "model.min_size={}": "min_size_train",
        "model.max_size={}": "max_size_train",
        "model.weights={}": "weights load_from",
        ((r".*\.(?:pth?|pkl|ckpt|safetensors)", "model.weights={0}"),): "model",
        _PRETRAINED: "pretrained",
        "model.weights=imagenet": "weights_backbone",
        "model.anchors.sizes={}": "anchor_generator.sizes",
        "model.roi_heads.detections_per_img={}": "detections_per_image",
        "model.roi_heads.score_thresh={}": "score_thresh_test",
        "model.roi_heads.nms_thresh={}": "nms_thresh_test",
        "trainer.max_epochs={}": "epochs num_epochs",
        "trainer.max_steps={}": "max_iter",
        "trainer.check_val_every_n_epoch={}": "eval_period val_interval",
        "trainer.log_every_n_steps={}": "print_freq",
        "trainer.limit_train_batches={}": "fraction",
        "trainer.accelerator=gpu trainer.devices={}": "gpus",
        "recompute_backbone={}": "gradient_checkpointing use_checkpoint with_cp",
        _DEVICE: "device devices model.device",
        (
            ("(?i)true|1", "trainer.precision=auto"),
            ("(?i)false|0", "trainer.precision=32-true"),
        ): "amp half amp.enabled",
        "optimizer.lr={}": "lr0 lr learning_rate base_lr",
        "optimizer.momentum={}": "momentum",
        "optimizer.weight_decay={}": "weight_decay",
        "scheduler=cosine": "cos_lr",
        "scheduler.final={}": "lrf",
        "scheduler=multistep scheduler.milestones=[0.67,0.9]": "lr_steps steps",
        "callbacks=early_stopping callbacks.early_stopping.patience={}": "patience",
        "transfer=heads": "freeze freeze_backbone",
        "transfer=last_stages": "freeze_at",
        "transfer.trainable_stages={}": "trainable_backbone_layers",
        "augment=mosaic": "mosaic",
        "augment=copy_paste": "copy_paste",
        "augment=flip": "fliplr",
        "max_detections={}": "max_det",
        "finemask evaluate model=FILE data.root=DIR output=DIR": "test_only",
        "The classes are those of the annotation file; their number is never typed": "nc num_classes",
    }
)
_DETECTS = _OUTPUT | _by_word(
    {
        "batch_size={}": "batch",
        "model={}": "weights checkpoint load_from",
        "threshold={}": "conf conf_thres confidence confidence_threshold score_thr score_thresh_test",
        "nms_thresh={}": "iou iou_thres nms_thresh_test",
        "detections_per_img={}": "max_det detections_per_image",
        "suppression=class_agnostic": "agnostic_nms",
        "tta=flip": "augment",
        "device=cuda": "gpu gpus",
        "Precision is the model's own": "half",
        "Images are resized as the model was trained; 'tta=[320,480]' looks at several sizes": "imgsz",
    }
)
_PREDICT = _DETECTS | _by_word(
    {
        "source={}": "input inputs images img path",
        ((r".+", "source={0}"),): "image",  # a section here
        "save=[overlay,coco,crops]": "save_crop",
        "save=[overlay,coco,csv]": "save_txt",
        "save=[overlay,coco]": "save_json",
        "output=runs/{}": "name",
        "Masks always have the image's own resolution": "retina_masks",
        "Every image gets an overlay in output=DIR": "show",
    }
)
_EVALUATE = _DETECTS | _by_word(
    {
        ((r".+\.json", "annotations={0}"), (r".+", "data.root={0}")): "data",
        "data.root={}": "data_path data_root",
        "annotations={}": "ann ann_file gt",
        "predictions={}": "results dt dets",
        "max_detections={}": "max_dets",
        "num_workers={}": "workers",
    }
)
_READS = _by_word(
    {
        ((r".+\.json", "annotations={0}"), _FOLDER): "data",
        (_FOLDER,): "data.root",
        "annotations={}": "ann ann_file json",
        "images={}": "img_dir image_dir",
    }
)
_FILES = _READS | _OUTPUT
_SIZES = "model.min_size={} model.max_size={}"
SYNONYMS: dict[str, Rows] = {
    "train": _TRAIN,
    "sweep": _TRAIN | _by_word({"trials={}": "n_trials iterations num_samples", "jobs={}": "n_jobs"}),
    "data preview": _TRAIN,
    "predict": _PREDICT,
    "evaluate": _EVALUATE,
    "info": _by_word({"model={}": "weights checkpoint"}),
    "compare": _OUTPUT | _by_word({"annotations={}": "gt ann"}),
    "benchmark": _by_word({"batch_size={}": "batch", _SIZES: "imgsz", "precision=auto": "half"}),
    "data check": _READS,
    "data stats": _FILES,
    "data split": _FILES | _by_word({"fractions={}": "ratios split", "folds={}": "k"}),
    "data tile": _FILES | _by_word({"size={}": "tile_size slice_height imgsz"}),
    "data suspects": _OUTPUT | _by_word({_EVALUATE["data"]: "data", "model={}": "weights", "batch_size={}": "batch"}),
    "data synth": _OUTPUT | _by_word({"images={}": "n num_images", "size={}": "imgsz image_size"}),
    "data convert": _OUTPUT
    | _by_word({"source={}": "input src data path", "format={}": "from", "to={}": "target", "classes={}": "names"}),
}
VERB_SYNONYMS = _by_word(
    {
        "evaluate": "val validate eval test score",
        "predict": "detect infer inference",
        "train": "fit finetune fine-tune",
        "sweep": "tune search hpo",
        "data convert": "convert",
        "data check": "check",
        "data split": "split",
        "data stats": "stats",
        "data tile": "tile slice",
        "data preview": "preview browse",
        "data synth": "synth",
        "data suspects": "suspects",
        "doctor": "checks env collect_env",
        "config": "cfg copy-cfg",
        "compare": "diff",
        "--version": "version",
    }
)
# Other tools name the task before the verb: yolo segment train …
TASKS = ("segment", "detect", "task=segment", "task=detect")
MISSING_VERBS = {
    "track": "finemask does not track objects through a video. finemask predict takes one, frame by frame",
}


@dataclass(frozen=True, slots=True)
class Translation:
    """What to type here for another tool's word.

    Args:
        words: ``key=value`` ready to type, or a whole command; none where there is nothing to type.
        why: a sentence, where there is nothing to type.
    """

    words: tuple[str, ...] = ()
    why: str = ""

    @property
    def is_command(self) -> bool:
        """Whether it is a whole command line, of another verb."""
        return self.words[:1] == ("finemask",)

    def __str__(self) -> str:
        return self.why or f"Type: {shlex.join(self.words)}"

    def fits(self, known: Collection[str], groups: Collection[str]) -> bool:
        """Whether the keys exist, or come with a group that the words choose."""
        keys = [word.partition("=")[0] for word in self.words]
        chosen = [key for key in keys if key in groups]
        return self.is_command or all(
            key in known or key in groups or any(key.startswith(f"{group}.") for group in chosen) for key in keys
        )


def translate(verb: str, key: str, value: str) -> Translation | None:
    """What to type here for another tool's ``key=value``; None where the table is silent.

    Args:
        verb: as typed, for example ``"train"``.
        key: as typed: ``imgsz``, ``SOLVER.BASE_LR``, ``--data-path``.
        value: as typed.
    """
    table = SYNONYMS.get(verb, {})
    word = key.lstrip("-+").lower().replace("-", "_").replace("/", ".")
    parts = word.split(".")
    for start in range(len(parts)):
        row = table.get(".".join(parts[start:]))
        if row is not None:
            return _translated(row, value)
    return None


def _translated(row: Row, value: str) -> Translation | None:
    if isinstance(row, str):
        if "=" not in row.partition(" ")[0] and not row.startswith("finemask "):
            return Translation(why=row)
        return Translation(tuple(word.replace("{}", value) for word in row.split()))
    for pattern, text in row:
        if found := re.fullmatch(pattern, value):
            return Translation(tuple(word.format(value, *found.groups()) for word in text.split()))
    return None
