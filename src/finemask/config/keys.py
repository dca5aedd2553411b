"""What every key of every verb takes, in the language of ``finemask.config.kinds``.

``finemask.config.part_keys`` has the keys of the parts that a ``_target_`` names. They stand here together, since a
key's kind is the same wherever it is set: typed, in an experiment, in an own file or in a run's ``config.yaml``.
``!`` at the end: the key must be there. A test asks for an entry for every shipped key.
"""

from collections.abc import Mapping

Table = Mapping[str, str]

_DEVICE = "device!"
_SEED = "0..4294967295!"
_TRUST = "text | [text]*!"
_SUPPRESSION = "null | nms | class_agnostic | soft_linear | soft_gaussian | mask | mask_agnostic!"
_DETECTION: Table = {
    "suppression": _SUPPRESSION,
    "nms_thresh": "null | 0.0..1.0!",
    "detections_per_img": "null | 1..!",
    "tta": "null | flip | 32..8192 | [flip | 32..8192]!",
    "refine": "null | sobel!",
}
_SPLITS: Table = {
    "root": "null | path!",
    "train": "null | path!",
    "val": "null | path!",
    "test": "null | path!",
    "images": "path!",
    "image": "keys",
}
# Of the verbs that hold detections, a model's or a file's, against annotations.
_SCORING: Table = {
    "data": "keys!",
    "split": "train | val | test!",
    **dict.fromkeys(("predictions", "annotations", "images"), "null | path!"),
    "output": "path!",
    "device": _DEVICE,
    "trust": _TRUST,
    "batch_size": "1..!",
    "num_workers": "auto | 1..1024!",
}
_IMAGE: Table = {
    "page": "null | 0..!",
    "range": "null | auto | full | image | [number]2!",
    "channels": "null | 0.. | [0..]1 | [0..]3!",
}
_TRAIN: Table = {
    "name": "text!",
    "output": "path!",
    "seed": _SEED,
    "prepare": "null | keys!",
    "resume": "null | auto | path!",
    "monitor": "text!",
    "mode": "max | min!",
    "max_detections": "auto | 1..!",
    "threshold": "auto | 0.0..1.0!",
    "backend": "fast | pycocotools!",
    "learning_curve": "null | [>0.0..1.0]!",
    "compile": "null | default | reduce-overhead | max-autotune!",
    "run_dir": "null | path!",
    **dict.fromkeys(("data", "augment", "model", "transfer", "optimizer", "scheduler", "trainer"), "keys!"),
    **dict.fromkeys(("callbacks", "logger"), "keys!"),
    "preset": "keys",
}

# Of each verb, by the section that the keys stand in; "" is the top.
VERBS: dict[str, dict[str, Table]] = {
    "train": {"": _TRAIN},
    "evaluate": {
        "": {
            **_SCORING,
            "model": "null | path!",
            "iou_types": "auto | bbox | segm | [bbox | segm | boundary]!",
            "max_detections": "auto | 1..!",
            "threshold": "auto | model | 0.0..1.0!",
            "operating_iou": ">0.0..1.0!",
            "backend": "fast | pycocotools!",
            **_DETECTION,
        },
        "data": _SPLITS,
    },
    "compare": {
        "": {
            "a": "path!",
            "b": "path!",
            "annotations": "null | path!",
            "images": "null | path!",
            "split": "val | test!",
            "output": "path!",
            "iou_types": "auto | bbox | segm | [bbox | segm]!",
            "max_detections": "auto | 1..!",
            "examples": "0..!",
        }
    },
    "predict": {
        "": {
            "model": "path!",
            "source": "path | [path]!",
            "annotations": "null | path!",
            "image": "keys!",
            "output": "path!",
            "save": "path | [path]!",
            "threshold": "auto | best_f1 | precision_90 | recall_90 | 0.0..1.0 | scores!",
            "color_by": "instance | class!",
            "batch_size": "1..!",
            "device": _DEVICE,
            "trust": _TRUST,
            **_DETECTION,
        }
    },
    "info": {"": {"model": "path!", "json": "flag!"}},
    "doctor": {"": {"json": "flag!"}},
    "config": {
        "": {
            "action": "text!",
            "name": "null | text!",
            "destination": "null | path!",
            "config_dir": "null | path!",
        }
    },
    "benchmark": {
        "": {
            "work": "[data | train | predict | evaluate]!",
            "images": "1..!",
            "height": "32..16384!",
            "width": "32..16384!",
            "objects": "1..!",
            "batch_size": "1..!",
            "rounds": "1..!",
            "device": _DEVICE,
            "precision": "auto | 32-true | bf16-mixed | 16-mixed!",
            "output": "null | path!",
            "seed": _SEED,
            "augment": "keys!",
            "model": "keys!",
        }
    },
    "data check": {
        "": {
            "annotations": "path | [path]!",
            "images": "null | path | [null | path]!",
            "fix": "null | path | [path]!",
            "suspects": "null | path!",
            "report": "null | path!",
            "strict": "flag!",
            "remove": "flag!",
            "crowds": "keep | objects | all!",
            "boxes": "keep | rectangle | drop!",
            "image": "keys!",
            "open_images": "flag!",
            "min_size": "32..16384!",
            "max_size": "32..16384!",
            "detection_cap": "auto | 1..!",
        }
    },
    "data convert": {
        "": {
            "source": "path!",
            "output": "path!",
            "format": "auto | coco | yolo | voc | labelme | cvat | via | mask_png!",
            "to": "coco | yolo | labelme | mask_png!",
            "images": "link | copy | none!",
            "boxes": "keep | rectangle | drop!",
            "crowds": "keep | objects | all!",
            "remove": "flag!",
            "tolerance_px": "0.0..100.0!",
            "image_root": "null | path!",
            "classes": "null | text | [text]!",
            "attribute": "null | text!",
            "mask_values": "auto | instance | class_instance!",
        }
    },
    "data preview": {
        "": {
            **_TRAIN,
            "output": "path!",
            "n": "1..!",
            "split": "train | val | test!",
            "epoch": "0..!",
            "color_by": "auto | instance | class!",
        }
    },
    "data split": {
        "": {
            "annotations": "path!",
            "output": "path!",
            "images": "null | path!",
            "fractions": "[>0.0..1.0]!",
            "folds": "null | 2..!",
            "group_by": "text | [text]!",
            "stratify": "flag!",
            "seed": _SEED,
        }
    },
    "data stats": {
        "": {
            "annotations": "path!",
            "images": "null | path!",
            "output": "path!",
            "image": "keys!",
            "sample": "null | 1..!",
            "model": "keys!",
        }
    },
    "data suspects": {
        "": {
            **_SCORING,
            "model": "null | path | [path]!",
            "min_score": "0.0..1.0!",
            "max_suspects": "1..!",
        },
        "data": _SPLITS,
    },
    "data synth": {
        "": {
            "output": "path!",
            "images": "2..!",
            "size": "64..4096!",
            "seed": _SEED,
            "val_fraction": "0.0..1.0!",
        }
    },
    "data tile": {
        "": {
            "annotations": "path | [path]!",
            "images": "path | [path]!",
            "output": "path!",
            "size": "16..65535!",
            "image": "keys!",
            "overlap": "0.0..0.9!",
            "min_visible": "0.0..1.0!",
            "slivers": "ignore | drop!",
            "empty_tiles": "keep | drop | 0.0..1.0!",
            "format": "auto | png | jpg!",
            "quality": "1..100!",
            "reader": "auto | pillow | vips!",
            "seed": _SEED,
        }
    },
}

# Sections that are the same in every verb that has them.
CHANNELS = "1..16384"
SHARE = "0.0..1.0"
SECTIONS: dict[str, Table] = {
    "image": _IMAGE,
    "data.image": _IMAGE,
    "preset": {"name": "text", "batch_size": "1.."},
    "model": {
        "name": "text!",
        "preset": "null | text",
        "weights": "path!",
        "class_transfer": "auto | none | keys",
        "min_size": "32..16384 | [32..16384]!",
        "max_size": "32..16384!",
        "clahe": "0.0..1000.0",
        "image_mean": "[0.0..1.0]3!",
        "image_std": "[>0.0..10.0]3!",
        **dict.fromkeys(("backbone", "anchors", "rpn", "box_head", "mask_head", "roi_heads"), "keys!"),
        **dict.fromkeys(("box_predictor", "mask_predictor", "box_loss", "mask_loss", "sampler"), "keys!"),
        "class_loss": "keys",
        "suppression": "keys",
    },
    "model.rpn": {
        "conv_depth": "1..16!",
        **dict.fromkeys(("pre_nms_top_n_train", "pre_nms_top_n_test"), "1..1000000!"),
        **dict.fromkeys(("post_nms_top_n_train", "post_nms_top_n_test"), "1..1000000!"),
        **dict.fromkeys(("nms_thresh", "fg_iou_thresh", "bg_iou_thresh"), f"{SHARE}!"),
        "batch_size_per_image": "1..1000000!",
        "positive_fraction": f"{SHARE}!",
        "score_thresh": f"{SHARE}!",
    },
    "model.roi_heads": {
        "sampling_ratio": "1..16!",
        "canonical_scale": ">0.0..16384.0",
        **dict.fromkeys(("fg_iou_thresh", "bg_iou_thresh", "score_thresh", "nms_thresh"), f"{SHARE}!"),
        "bbox_reg_weights": "[>0.0..]4!",
        "detections_per_img": "auto | 1..1000000!",
    },
    "transfer": {
        "trainable_stages": "0..5!",
        "freeze": "[pattern]*",
        "unfreeze": "[0.0..]*",
        "backbone_lr_scale": "0.0..",
        "layer_decay": ">0.0..1.0",
    },
    "callbacks": {
        "learning_rate": "null | keys",
        "pictures": "null | keys",
        "early_stopping": "null | keys",
    },
    "logger": {"csv": "null | keys", "tensorboard": "null | keys"},
}
