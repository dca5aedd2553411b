"""Pretrained weights read from files, what of them fits a model, and a report of it."""

import json
import logging
import pickle
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor, nn

from finemask.errors import WeightsError
from finemask.model.box_predictor.box_branch import weight_seeds
from finemask.model.pretrained.class_rows import Classes, ClassRows, carry_class_rows
from finemask.model.pretrained.published_weights import OBJECTS, PUBLISHED, coco_names, published_weights
from finemask.model_hub import download, hub_address
from finemask.ops.files.run_folders import MODEL_FILE, find_in_run

log = logging.getLogger(__name__)

# What trainers nest a state_dict under: averaged weights, which are those that were measured, and the others.
_AVERAGED = ("ema", "ema_state_dict", "state_dict_ema", "model_ema", "ema_model", "ema_weights")
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "module", "shadow")
_OUTER = ("module.", "model.", "net.")  # what trainers put in front of every name
_STRIP = ("", "encoder.", "features.", "backbone.", "backbone.body.", "backbone.features.")
_ADD = ("", "backbone.", "backbone.body.")
_WANTED = "Wanted: a state_dict saved with torch.save, a .safetensors file or a Lightning checkpoint."
_REFUSED = re.compile(r"GLOBAL ([\w.]+)")  # torch names so what it does not unpickle
_LEAST_SHARE_OF_BODY = 0.75  # of the backbone's numbers; below that a file is of another architecture


@dataclass(frozen=True)
class LoadReport:
    """What came of loading weights into a model.

    Args:
        source: what was loaded.
        loaded: names of the model's tensors that were filled.
        reinitialised: names of those that were not, each with its shape and the shape found in the file, if any.
        skipped: names in the file that the model has no place for, with shapes.
        share_of_body: share of the backbone body's numbers that were filled, 0..1.
        seeds: those of the loaded that the file lacks and that begin as copies of a plain part, with its name.
        class_rows: which class took which rows; ``None`` where the weights have no heads or nobody asked.
    """

    source: str
    loaded: list[str]
    reinitialised: list[tuple[str, tuple[int, ...], tuple[int, ...] | None]]
    skipped: list[tuple[str, tuple[int, ...]]]
    share_of_body: float
    seeds: Mapping[str, str] = field(default_factory=dict)
    class_rows: ClassRows | None = None


def load_weights(model: nn.Module, config: Mapping[str, Any], class_names: Sequence[str] = ()) -> LoadReport | None:
    """Loads what ``model.weights`` names into a freshly built model.

    Args:
        model: as ``build_model`` gives it; changed in place.
        config: the resolved group ``model``; ``weights`` is a word of ``published_weights``, ``none`` or a path, and
            ``class_transfer`` says how classes of the weights become classes of the model.
        class_names: of the model's classes, in order; without them rows of classes are taken in order.

    Returns:
        The report, or ``None`` for ``none``.

    Raises:
        WeightsError: the weights cannot be had, cannot be read, or are of another architecture.
        ConfigError: ``class_transfer`` names classes that are not there.
    """
    weights = str(config["weights"])
    if weights == "none":
        return None
    if weights == "objects":
        source, (tensors, in_file) = "objects of many kinds, shipped with finemask", read_weights(OBJECTS)
    elif weights in PUBLISHED:
        source, tensors, in_file = published_weights(config)
    else:
        source, (tensors, in_file) = weights, read_weights(Path(weights))
    wish = config.get("class_transfer", "auto") or "none"
    classes = Classes(class_names, in_file, wish, coco_names()) if class_names else None
    return fit_state_dict(model, tensors, source, classes)


def read_weights(path: Path) -> tuple[dict[str, Tensor], list[str] | None]:
    """What a ``.safetensors``, ``.pth``, ``.pt`` or Lightning ``.ckpt`` file holds, without unpickling code.

    Returns:
        Tensors by name, and the names of the classes in order where the file tells, as finemask's own do.

    Raises:
        WeightsError: no such file, or it holds something else.
    """
    address = hub_address(path)
    path = find_in_run(path, MODEL_FILE) if address is None else download(address, MODEL_FILE)
    if not path.is_file():
        raise WeightsError(
            "no such file", where=path, remedy="model.weights is auto, coco, imagenet, objects, none or a file."
        )
    if path.suffix == ".safetensors":
        try:
            tensors: dict[str, Tensor] = load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            raise WeightsError(
                f"not a file of weights that can be read ({reason})", where=path, remedy=_WANTED
            ) from error
        return tensors, _names_in_header(path)
    found = read_torch_file(path)
    names = found.get("class_names") if isinstance(found, dict) else None
    tensors, averaged = _unwrapped(found)
    if not tensors:
        raise WeightsError("the file holds no tensors", where=path, remedy=_WANTED)
    if averaged is not None:
        log.info("%s: its averaged weights are taken, those under '%s'", path, averaged)
    return tensors, [str(name) for name in names] if isinstance(names, list) else None


def read_torch_file(path: Path) -> Any:
    """What ``torch.save`` wrote, tensors and plain values only: nothing in it is executed.

    Raises:
        WeightsError: it is cut short, holds other objects, or is no such file.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise  # it cannot be opened
        with path.open("rb") as file:
            beginning = file.read(2)
        is_zip = beginning == b"PK"  # as torch.save writes
        refused = _REFUSED.search(str(error))
        if refused or (is_zip and isinstance(error, pickle.UnpicklingError)):
            named = f" ({refused[1]})" if refused else ""
            raise WeightsError(
                f"it holds Python objects{named}, which may run code when loaded: it cannot be read safely",
                where=path,
                remedy="Where it was made, save the weights alone: torch.save(model.state_dict(), FILE).",
            ) from error
        what = ": it is empty" if not beginning else " any more: it is cut short or damaged" if is_zip else ""
        raise WeightsError(f"not a file of weights{what}", where=path, remedy=_WANTED) from error


def _unwrapped(found: Any) -> tuple[dict[str, Tensor], str | None]:
    """The tensors inside what trainers wrap around them, and the name of the averaged ones where it is those."""
    if not isinstance(found, dict):
        return {}, None
    for key in (*_AVERAGED, *_WRAPPERS):
        tensors, averaged = _unwrapped(found.get(key))
        if any(tensor.ndim for tensor in tensors.values()):
            return tensors, key if key in _AVERAGED else averaged
    return {name: value for name, value in found.items() if isinstance(value, Tensor)}, None


def _names_in_header(path: Path) -> list[str] | None:
    """The categories of a finemask model file; ``None`` of any other safetensors file."""
    with safe_open(path, framework="pt") as file:
        text = (file.metadata() or {}).get("finemask")
    try:
        return None if text is None else [category["name"] for category in json.loads(text)["categories"]]
    except (ValueError, KeyError, TypeError):
        return None


def fit_state_dict(
    model: nn.Module, state_dict: Mapping[str, Tensor], source: str, classes: Classes | None = None
) -> LoadReport:
    """Copies every tensor whose name and shape fit, under whichever prefix most of them do.

    Args:
        model: changed in place.
        state_dict: tensors by name.
        source: what the report calls them.
        classes: names of the classes on both sides; without them tensors with rows a class fit if their shapes do.

    Raises:
        WeightsError: less than three quarters of the backbone's numbers would be filled.
        ConfigError: ``model.class_transfer`` names classes that are not there.
    """
    wanted = {name: tensor for name, tensor in model.state_dict().items() if _counts(name)}
    named = {_modern_name(name): tensor for name, tensor in state_dict.items() if _counts(name)}
    while prefix := next((outer for outer in _OUTER if named and all(name.startswith(outer) for name in named)), None):
        named = {name.removeprefix(prefix): tensor for name, tensor in named.items()}
    candidates = [
        {add + name.removeprefix(strip): tensor for name, tensor in named.items()} for strip in _STRIP for add in _ADD
    ]
    best = max(candidates, key=lambda renamed: sum(t.numel() for t in _fitting(renamed, wanted).values()))
    # before the rows: a part that begins as a copy of a plain one has its classes in the same places
    seeds = {name: plain for name, plain in weight_seeds(model).items() if name not in best and plain in best}
    best |= {name: best[plain] for name, plain in seeds.items()}
    shapes = {name: tuple(tensor.shape) for name, tensor in best.items()}
    best, class_rows = (best, None) if classes is None else carry_class_rows(best, wanted, classes)
    fitting = _fitting(best, wanted)
    body = {name: tensor.numel() for name, tensor in wanted.items() if name.startswith("backbone.body.")}
    share = sum(size for name, size in body.items() if name in fitting) / max(1, sum(body.values()))
    if share < _LEAST_SHARE_OF_BODY:
        raise WeightsError(
            f"only {share:.0%} of the backbone's weights are in it: the file has names like "
            f"{_examples([*state_dict])}, the model's backbone like "
            + _examples([name.removeprefix("backbone.body.") for name in body]),
            where=source,
            remedy="These weights belong to another architecture, or to another key naming of the same one.",
        )
    model.load_state_dict(fitting, strict=False)
    return LoadReport(
        source=source,
        loaded=sorted(fitting),
        reinitialised=[
            (name, tuple(tensor.shape), shapes.get(name)) for name, tensor in wanted.items() if name not in fitting
        ],
        skipped=[(name, tuple(tensor.shape)) for name, tensor in best.items() if name not in wanted],
        share_of_body=share,
        seeds={name: plain for name, plain in seeds.items() if name in fitting},
        class_rows=class_rows,
    )


def _counts(name: str) -> bool:
    return not name.endswith(("num_batches_tracked", "n_averaged"))  # the latter counts what torch has averaged


def _fitting(renamed: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in renamed.items() if name in wanted and wanted[name].shape == tensor.shape}


def _modern_name(name: str) -> str:
    """Torchvision renamed parameters of its detection heads since it published their weights."""
    name = name.removeprefix("_orig_mod.")
    name = re.sub(r"(rpn\.head\.conv)\.(weight|bias)$", r"\1.0.0.\2", name)
    name = re.sub(r"(fpn\.(?:inner|layer)_blocks\.\d+)\.(weight|bias)$", r"\1.0.\2", name)
    return re.sub(r"(mask_head)\.mask_fcn(\d+)\.(weight|bias)$", lambda m: f"{m[1]}.{int(m[2]) - 1}.0.{m[3]}", name)


def _examples(names: Sequence[str]) -> str:
    return ", ".join(names[:: max(1, len(names) // 3)][:3])
