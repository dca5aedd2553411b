"""Words that people bring from Ultralytics, Detectron2, MMDetection, torchvision's scripts and torchgeo.

A table for each verb, since ``weights`` is what training starts from and what prediction loads. It is looked at before
anything is guessed by spelling. docs/guide/coming_from.md shows it to people; tests compose every key that it names.
"""

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

Rows = Mapping[str, str | Sequence[tuple[str, str]]]

# What is typed instead; {} is the value. Where the value decides, the first pattern that fits all of it: {0} is the
# value, {1} the first group. An entry without "=" is a sentence: there is no such key here, and this is why.
_NUMBER_OF_CLASSES = "The classes are those of the annotation file; their number is never typed"
_DEVICE = (
    (r"cpu|mps", "trainer.accelerator={0}"),
    (r"cuda|gpu", "trainer.accelerator=gpu"),
    (r"(?:cuda:)?(\d+)", "trainer.accelerator=gpu trainer.devices=[{1}]"),
    (r"\[?(\d+(?:,\d+)*)\]?", "trainer.accelerator=gpu trainer.devices=[{1}]"),
)
_SWITCHED_PRECISION = (("(?i)true|1", "trainer.precision=auto"), ("(?i)false|0", "trainer.precision=32-true"))
_OUTPUT: Rows = dict.fromkeys(
    ("project", "output_dir", "out_dir", "save_dir", "work_dir", "outdir", "out", "dst", "dest", "destination"),
    "output={}",
)
_TRAIN: Rows = {
    # Ultralytics
    "batch": "data.batch_size={}",
    "batch_size": "data.batch_size={}",
    "bs": "data.batch_size={}",
    "imgsz": "model.min_size={} model.max_size={}",
    "img_size": "model.min_size={} model.max_size={}",
    "image_size": "model.min_size={} model.max_size={}",
    "epochs": "trainer.max_epochs={}",
    "num_epochs": "trainer.max_epochs={}",
    "device": _DEVICE,
    "devices": _DEVICE,
    "gpus": "trainer.accelerator=gpu trainer.devices={}",
    "data": (
        (r".*\.ya?ml", "finemask data convert source={0} format=yolo output=DIR"),
        (r".*\.json", "data.train={0}"),
        (r".+", "data.root={0}"),
    ),
    "model": ((r".*\.(?:pth?|pkl|ckpt|safetensors)", "model.weights={0}"),),
    "lr0": "optimizer.lr={}",
    "lrf": "scheduler.final={}",
    "workers": "data.num_workers={}",
    "num_workers": "data.num_workers={}",
    "pretrained": (
        ("(?i)true|1", "model.weights=coco"),
        ("(?i)false|0", "model.weights=none"),
        (".+", "model.weights={0}"),
    ),
    "weights": "model.weights={}",
    "patience": "callbacks=early_stopping callbacks.early_stopping.patience={}",
    "freeze": "transfer=heads",
    "amp": _SWITCHED_PRECISION,
    "half": _SWITCHED_PRECISION,
    "cos_lr": "scheduler=cosine",
    "mosaic": "augment=mosaic",
    "copy_paste": "augment=copy_paste",
    "fliplr": "augment=flip",
    "max_det": "max_detections={}",
    "fraction": "trainer.limit_train_batches={}",
    "nc": _NUMBER_OF_CLASSES,
    # torchvision's scripts
    "lr": "optimizer.lr={}",
    "learning_rate": "optimizer.lr={}",
    "momentum": "optimizer.momentum={}",
    "weight_decay": "optimizer.weight_decay={}",
    "data_path": "data.root={}",
    "lr_steps": "scheduler=multistep scheduler.milestones=[0.67,0.9]",
    "weights_backbone": "model.weights=imagenet",
    "trainable_backbone_layers": "transfer.trainable_stages={}",
    "print_freq": "trainer.log_every_n_steps={}",
    "num_classes": _NUMBER_OF_CLASSES,
    "test_only": "finemask evaluate model=FILE data.root=DIR output=DIR",
    # Detectron2
    "base_lr": "optimizer.lr={}",
    "ims_per_batch": "data.batch_size={}",
    "max_iter": "trainer.max_steps={}",
    "steps": "scheduler=multistep scheduler.milestones=[0.67,0.9]",
    "datasets.train": "data.train={}",
    "datasets.test": "data.val={}",
    "min_size_train": "model.min_size={}",
    "max_size_train": "model.max_size={}",
    "freeze_at": "transfer=last_stages",
    "model.device": _DEVICE,
    "detections_per_image": "model.roi_heads.detections_per_img={}",
    "score_thresh_test": "model.roi_heads.score_thresh={}",
    "nms_thresh_test": "model.roi_heads.nms_thresh={}",
    "anchor_generator.sizes": "model.anchors.sizes={}",
    "eval_period": "trainer.check_val_every_n_epoch={}",
    "amp.enabled": _SWITCHED_PRECISION,
    # MMDetection
    "load_from": "model.weights={}",
    "data_root": "data.root={}",
    "ann_file": "data.train={}",
    "val_interval": "trainer.check_val_every_n_epoch={}",
    # torchgeo
    "freeze_backbone": "transfer=heads",
    **_OUTPUT,
}
_DETECTS: Rows = {
    "batch": "batch_size={}",
    "weights": "model={}",
    "checkpoint": "model={}",
    "load_from": "model={}",
    "conf": "threshold={}",
    "conf_thres": "threshold={}",
    "confidence": "threshold={}",
    "confidence_threshold": "threshold={}",
    "score_thr": "threshold={}",
    "score_thresh_test": "threshold={}",
    "iou": "nms_thresh={}",
    "iou_thres": "nms_thresh={}",
    "nms_thresh_test": "nms_thresh={}",
    "max_det": "detections_per_img={}",
    "detections_per_image": "detections_per_img={}",
    "agnostic_nms": "suppression=class_agnostic",
    "augment": "tta=flip",
    "half": "Precision is the model's own",
    "imgsz": "Images are resized as the model was trained; 'tta=[320,480]' looks at several sizes",
    "gpu": "device=cuda",
    "gpus": "device=cuda",
    **_OUTPUT,
}
_PREDICT: Rows = {
    **_DETECTS,
    "input": "source={}",
    "inputs": "source={}",
    "images": "source={}",
    "img": "source={}",
    "image": ((r".+", "source={0}"),),  # a section here
    "path": "source={}",
    "save_crop": "save=[overlay,coco,crops]",
    "save_txt": "save=[overlay,coco,csv]",
    "save_json": "save=[overlay,coco]",
    "retina_masks": "Masks always have the image's own resolution",
    "name": "output=runs/{}",
    "show": "Every image gets an overlay in output=DIR",
}
_EVALUATE: Rows = {
    **_DETECTS,
    "data": ((r".+\.json", "annotations={0}"), (r".+", "data.root={0}")),
    "workers": "num_workers={}",
    "data_path": "data.root={}",
    "data_root": "data.root={}",
    "ann": "annotations={}",
    "ann_file": "annotations={}",
    "gt": "annotations={}",
    "results": "predictions={}",
    "dt": "predictions={}",
    "dets": "predictions={}",
    "max_dets": "max_detections={}",
    "conf": "threshold={}",
}
_FILES: Rows = {
    "data": ((r".+\.json", "annotations={0}"), (r".+", "annotations={0}/annotations/train.json images={0}/images")),
    "data.root": ((r".+", "annotations={0}/annotations/train.json images={0}/images"),),
    "ann": "annotations={}",
    "ann_file": "annotations={}",
    "json": "annotations={}",
    "img_dir": "images={}",
    "image_dir": "images={}",
    **_OUTPUT,
}
SYNONYMS: dict[str, Rows] = {
    "train": _TRAIN,
    "data preview": {**_TRAIN, **_OUTPUT},
    "predict": _PREDICT,
    "evaluate": _EVALUATE,
    "info": {"weights": "model={}", "checkpoint": "model={}"},
    "compare": {"gt": "annotations={}", "ann": "annotations={}", **_OUTPUT},
    "benchmark": {"batch": "batch_size={}", "imgsz": "model.min_size={} model.max_size={}", "half": "precision=auto"},
    "data check": {key: row for key, row in _FILES.items() if key not in _OUTPUT},
    "data stats": _FILES,
    "data split": {**_FILES, "ratios": "fractions={}", "split": "fractions={}", "k": "folds={}"},
    "data tile": {**_FILES, "tile_size": "size={}", "slice_height": "size={}", "imgsz": "size={}"},
    "data suspects": {"data": _EVALUATE["data"], "weights": "model={}", "batch": "batch_size={}", **_OUTPUT},
    "data synth": {"n": "images={}", "num_images": "images={}", "imgsz": "size={}", "image_size": "size={}", **_OUTPUT},
    "data convert": {
        "input": "source={}",
        "src": "source={}",
        "data": "source={}",
        "path": "source={}",
        "from": "format={}",
        "target": "to={}",
        "names": "classes={}",
        **_OUTPUT,
    },
}  # fmt: skip
OTHER_VERBS = {
    "val": "evaluate",
    "validate": "evaluate",
    "eval": "evaluate",
    "test": "evaluate",
    "score": "evaluate",
    "detect": "predict",
    "infer": "predict",
    "inference": "predict",
    "fit": "train",
    "finetune": "train",
    "fine-tune": "train",
    "convert": "data convert",
    "check": "data check",
    "split": "data split",
    "stats": "data stats",
    "tile": "data tile",
    "slice": "data tile",
    "preview": "data preview",
    "browse": "data preview",
    "synth": "data synth",
    "suspects": "data suspects",
    "checks": "doctor",
    "env": "doctor",
    "collect_env": "doctor",
    "cfg": "config",
    "copy-cfg": "config",
    "diff": "compare",
    "version": "--version",
}
# Other tools name the task before the verb: yolo segment train …
TASKS = ("segment", "detect", "task=segment", "task=detect")
MISSING_VERBS = {
    "export": "finemask does not write other formats yet. In Python finemask.load(FILE) is the model",
    "serve": "finemask does not serve over HTTP yet. From Python: finemask.load(FILE).predict(IMAGE)",
    "demo": "finemask has no web page of a model yet. finemask predict draws overlays into a folder",
    "tune": "There is no search of settings yet. key=a,b with --multirun trains each combination",
    "sweep": "There is no search of settings yet. key=a,b with --multirun trains each combination",
    "track": "finemask does not track objects through a video. finemask predict takes one, frame by frame",
}


@dataclass(frozen=True, slots=True)
class Meant:
    """What a word of another tool is here.

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


def meant(verb: str, key: str, value: str) -> Meant | None:
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
            return _filled(row, value)
    return None


def _filled(row: str | Sequence[tuple[str, str]], value: str) -> Meant | None:
    if isinstance(row, str):
        if "=" not in row.partition(" ")[0] and not row.startswith("finemask "):
            return Meant(why=row)
        return Meant(tuple(word.replace("{}", value) for word in row.split()))
    for pattern, text in row:
        if found := re.fullmatch(pattern, value):
            return Meant(tuple(word.format(value, *found.groups()) for word in text.split()))
    return None
