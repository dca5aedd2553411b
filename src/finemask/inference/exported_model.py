"""Exported files as models, with the answers of the model they were made of: ONNX in ONNX Runtime, and OpenVINO."""

import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from finemask.errors import MissingExtraError, ModelFileError
from finemask.model.suppression import ClassAgnosticNMS
from finemask.model_file import HEADER_KEY, find_model_file, load_model_file
from finemask.model_header import ModelHeader, header_from_json
from finemask.types import Detections, Preprocessing

_OUTPUTS = ("boxes", "labels", "scores", "masks")


class ExportedModel(nn.Module, ABC):
    """An exported file in the place of a model: uint8 images [3, H, W] to ``Detections``.

    Args:
        header: of the model file it was made of.

    Attributes:
        score_thresh: what scores no more is left out; None: as the file says.
    """

    def __init__(self, header: ModelHeader) -> None:
        super().__init__()
        self.header = header
        self.score_thresh: float | None = None

    @property
    def preprocessing(self) -> Preprocessing:
        """What the file does to an image before the backbone."""
        return self.header.preprocessing

    @property
    def is_across_classes(self) -> bool:
        """Whether its suppression compares detections of different classes."""
        target = self.header.model.get("suppression", {}).get("_target_", "")
        return str(target).endswith(f".{ClassAgnosticNMS.__name__}")

    @abstractmethod
    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """An image uint8 [H, W, 3] to boxes, labels, scores and mask probabilities."""

    def forward(self, images: Sequence[Tensor]) -> list[Detections]:
        """One ``Detections`` an image, in that image's own pixels.

        Args:
            images: uint8 RGB [3, H, W] each, any sizes.

        Raises:
            TypeError: images that are not uint8.
        """
        found = []
        for image in images:
            if image.dtype != torch.uint8:
                raise TypeError(f"images are uint8 RGB, 0..255 (got {image.dtype})")
            pixels = np.ascontiguousarray(image.permute(1, 2, 0).cpu().numpy())
            boxes, labels, scores, masks = (torch.from_numpy(np.array(part)) for part in self.run(pixels))
            found.append(
                Detections(
                    boxes=boxes,
                    labels=labels.long(),
                    scores=scores,
                    mask_probs=masks,
                    image_size_hw=(image.shape[-2], image.shape[-1]),
                )
            )
        return found


class OnnxModel(ExportedModel):
    """A file that ``finemask export format=onnx`` wrote, run by ONNX Runtime.

    Args:
        path: of the file.
        threads: of the CPU; torch's own number by default.

    Raises:
        MissingExtraError: ONNX Runtime is not installed.
        ModelFileError: the file is missing, damaged or not finemask's.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import onnxruntime
        except ImportError as error:
            raise MissingExtraError("onnxruntime", "onnx", needed_for=f"running {path.name}") from error
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3  # errors only: its warnings are about its own optimisations
        wanted = ("CUDAExecutionProvider", "CPUExecutionProvider")
        providers = [name for name in wanted if name in onnxruntime.get_available_providers()]
        try:
            session = onnxruntime.InferenceSession(os.fspath(path), options, providers=providers)
        except Exception as error:  # its errors have no common parent that it documents
            raise unreadable(path, error) from error
        super().__init__(_header(path, session.get_modelmeta().custom_metadata_map))
        self._session = session

    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See ``ExportedModel``."""
        given = {} if self.score_thresh is None else {"score_thresh": np.array(self.score_thresh, dtype=np.float32)}
        found: Sequence[NDArray[Any]] = self._session.run(list(_OUTPUTS), {"image": image} | given)
        return found


class OpenVinoModel(ExportedModel):
    """A file that ``finemask export format=openvino`` wrote, run by OpenVINO on the CPU, in float32.

    Args:
        path: of the .xml, beside which the .bin of the same name holds the weights.
        threads: of the CPU; torch's own number by default.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        ModelFileError: a file is missing, damaged or not finemask's.
    """

    def __init__(self, path: Path, threads: int | None = None) -> None:
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("openvino", "openvino", needed_for=f"running {path.name}") from error
        weights = path.with_suffix(".bin")
        if not weights.is_file():
            raise ModelFileError(
                f"its weights are not beside it: {weights.name} is missing",
                where=path,
                remedy="Both files belong together: copy both.",
            )
        settings = {
            "INFERENCE_PRECISION_HINT": "f32",  # where a CPU has bfloat16, it is the default, and scores differ
            "INFERENCE_NUM_THREADS": threads or torch.get_num_threads(),
            "PERFORMANCE_HINT": "LATENCY",
        }
        try:
            core = openvino.Core()
            content = core.read_model(path)
            own = content.get_rt_info()
            text = str(own[HEADER_KEY].value) if HEADER_KEY in own else ""
            header = _header(path, {HEADER_KEY: text})
            compiled = core.compile_model(content, "CPU", settings)
        except ModelFileError:
            raise
        except Exception as error:  # its errors have no common parent that it documents
            raise unreadable(path, error) from error
        super().__init__(header)
        self._compiled = compiled
        self._own_thresh = float(header.model["roi_heads"]["score_thresh"])
        self._busy = Lock()

    def run(self, image: NDArray[np.uint8]) -> Sequence[NDArray[Any]]:
        """See ``ExportedModel``."""
        thresh = self._own_thresh if self.score_thresh is None else self.score_thresh
        with self._busy:  # what it compiled answers one thread at a time
            found = self._compiled({"image": image, "score_thresh": np.array(thresh, dtype=np.float32)})
        return [found[name] for name in _OUTPUTS]


def load_exported(path: Path) -> ExportedModel:
    """The model of an exported file, by its suffix.

    Raises:
        MissingExtraError: what runs it is not installed.
        ModelFileError: the file is missing, damaged or not finemask's.
    """
    if not path.is_file():
        raise ModelFileError("no such file", where=path, remedy="finemask export writes it.")
    return _OF_SUFFIX[path.suffix.lower()](path)


_OF_SUFFIX: dict[str, Callable[[Path], ExportedModel]] = {".onnx": OnnxModel, ".xml": OpenVinoModel}
_OF_TORCH = {  # exported files that finemask does not open
    ".pt2": ("torch runs what such a file says", "torch.export.load(FILE) opens one that you trust"),
    ".torchscript": ("torch runs what such a file says", "torch.jit.load(FILE) opens one that you trust"),
    ".pth": (
        "these are weights alone, which do not say what they find",
        "the Python file beside them loads them in torchvision; finemask train model.weights=FILE starts from them",
    ),
}


def is_exported(path: Path | str) -> bool:
    """Whether the suffix is that of an exported file which stands for a model file."""
    return Path(path).suffix.lower() in _OF_SUFFIX


def exported_parts(path: Path) -> list[Path]:
    """The files that an exported file consists of."""
    return [path, path.with_suffix(".bin")] if path.suffix.lower() == ".xml" else [path]


def open_model(path: Path | str, trust: str | Collection[str] = ()) -> tuple[nn.Module, ModelHeader]:
    """The model of a model file or of an exported file, in evaluation mode on the CPU, and its header.

    Args:
        path: a model file or a run, see ``find_model_file``; or a file of ``finemask export``, .onnx or .xml.
        trust: see ``load_model_file``.

    Raises:
        MissingExtraError: what runs an exported file is not installed.
        ModelFileError: the file is missing, foreign or damaged, or of a format that holds code.
    """
    path = find_model_file(path)
    if is_exported(path):
        exported = load_exported(path)
        return exported, exported.header
    if (suffix := path.suffix.lower()) in _OF_TORCH:
        why, remedy = _OF_TORCH[suffix]
        raise ModelFileError(
            f"finemask does not open it: {why}",
            where=path,
            remedy=f"Give the model file that it was made of, or its ONNX or OpenVINO file; {remedy}.",
        )
    return load_model_file(path, trust)


def unreadable(path: Path, error: Exception) -> ModelFileError:
    """What to raise where a runtime cannot open a file."""
    text = next(iter(str(error).strip().splitlines()), "")[:200]
    return ModelFileError(
        f"it cannot be opened ({type(error).__name__}: {text})", where=path, remedy="Export the model file again."
    )


def _header(path: Path, metadata: Mapping[str, str]) -> ModelHeader:
    try:
        return header_from_json(json.loads(metadata[HEADER_KEY]))
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        raise ModelFileError(
            "finemask did not write this file, or its metadata is damaged: it does not say which classes it finds",
            where=path,
            remedy="Export the model file again with finemask export.",
        ) from error
