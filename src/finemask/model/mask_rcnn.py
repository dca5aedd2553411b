"""Mask R-CNN: uint8 images in, losses or detections in the images' own pixels out."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.transform import resize_boxes
from torchvision.ops import clip_boxes_to_image

from finemask.errors import ConfigError
from finemask.model.devices.gpu.crossing import send
from finemask.model.devices.gpu.fixed_step import fixed_detection, fixed_detections, fixed_losses, fixed_training
from finemask.model.devices.resizing import looks_at_few, resize_batch, shrink
from finemask.model.roi_heads import CriterionRoIHeads
from finemask.ops.images.clahe import clahe
from finemask.types import Detections, Preprocessing, Target

_SIZE_DIVISIBLE = 32  # the coarsest stride of the pyramid's body


def preprocessing_from(config: Mapping[str, Any]) -> Preprocessing:
    """The preprocessing that a ``model`` configuration describes.

    Raises:
        ConfigError: sizes or normalisation of the wrong kind.
    """
    sizes = config["min_size"]
    sizes = tuple(int(size) for size in (sizes if isinstance(sizes, list | tuple) else [sizes]))
    mean, std = (tuple(float(value) for value in config[key]) for key in ("image_mean", "image_std"))
    if not sizes or min(sizes) < 32 or int(config["max_size"]) < max(sizes):
        raise ConfigError(
            f"min_size {list(sizes)} and max_size {config['max_size']} px do not fit",
            where="model",
            remedy="Sizes are at least 32 px, and max_size is at least the largest min_size.",
        )
    if len(mean) != 3 or len(std) != 3 or min(std) <= 0:
        raise ConfigError("image_mean and image_std are three numbers each, on the 0..1 scale", where="model")
    contrast = float(config.get("clahe", 0.0))
    if not 0 <= contrast < math.inf:
        raise ConfigError(f"clahe is {contrast}", where="model", remedy="It is 0 for none, or a clip limit such as 2.")
    return Preprocessing(
        min_size=sizes,
        max_size=int(config["max_size"]),
        image_mean=(mean[0], mean[1], mean[2]),
        image_std=(std[0], std[1], std[2]),
        clahe=contrast,
    )


class ImageTransform(nn.Module):
    """uint8 images to one normalised, resized, padded batch; targets along with them.

    The result is that of torchvision's ``GeneralizedRCNNTransform`` to rounding: normalised, bilinear to the size that
    brings the shorter side to ``min_size`` unless the longer would pass ``max_size``; label maps by nearest neighbour.

    Args:
        preprocessing: sizes and normalisation.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        super().__init__()
        self.preprocessing = preprocessing
        mean = 255.0 * torch.tensor(preprocessing.image_mean)
        scale = 1.0 / (255.0 * torch.tensor(preprocessing.image_std))
        # Not persistent: they are configuration, and torchvision's state_dict has no such keys.
        self.register_buffer("_mean", mean[:, None, None], persistent=False)
        self.register_buffer("_scale", scale[:, None, None], persistent=False)

    def forward(
        self, images: Sequence[Tensor], targets: Sequence[Target] | None = None
    ) -> tuple[ImageList, list[Target] | None]:
        """Images uint8 [3, H, W] and their targets to a padded float batch and resized targets."""
        sizes = [self.resized_size((image.shape[-2], image.shape[-1])) for image in images]
        height = math.ceil(max(size[0] for size in sizes) / _SIZE_DIVISIBLE) * _SIZE_DIVISIBLE
        width = math.ceil(max(size[1] for size in sizes) / _SIZE_DIVISIBLE) * _SIZE_DIVISIBLE
        resized = None if targets is None else [_resize_target(t, s) for t, s in zip(targets, sizes, strict=True)]
        assert isinstance(self._mean, Tensor)
        assert isinstance(self._scale, Tensor)
        alike = len({image.shape for image in images}) == 1 and len(set(sizes)) == 1
        on_cpu = self._mean.device.type == "cpu"
        if not alike and not on_cpu and not self.preprocessing.clahe:
            _refuse_all_but_uint8(images)
            return ImageList(resize_batch(images, sizes, self._mean, self._scale, (height, width)), sizes), resized
        batch = self._mean.new_zeros(len(images), 3, height, width)
        batch = batch.contiguous(memory_format=torch.channels_last)
        if alike and not on_cpu:  # one operation for all
            stacked = send(torch.stack(list(images)), batch.device)
            self._resize_and_normalise(stacked, batch[..., : sizes[0][0], : sizes[0][1]])
        else:  # a stack of photographs is larger than a processor's caches
            for slot, image, size in zip(batch.split(1), images, sizes, strict=True):
                self._resize_and_normalise(image[None], slot[..., : size[0], : size[1]])
        return ImageList(batch, sizes), resized

    def resized_size(self, image_size_hw: tuple[int, int]) -> tuple[int, int]:
        """Height and width an image is brought to; in training the shorter side is drawn from ``min_size``."""
        options = self.preprocessing.min_size
        shorter = options[-1]
        if self.training and len(options) > 1:
            shorter = options[int(torch.randint(len(options), (1,)))]
        scale = min(shorter / min(image_size_hw), self.preprocessing.max_size / max(image_size_hw))
        return max(1, math.floor(image_size_hw[0] * scale)), max(1, math.floor(image_size_hw[1] * scale))

    def postprocess(
        self,
        detections: list[dict[str, Tensor]],
        sizes: Sequence[tuple[int, int]],
        original_sizes: Sequence[tuple[int, int]],
    ) -> list[Detections]:
        """Boxes back to the pixels of the images as they were given; masks stay M × M."""
        return [
            Detections(
                # clipped again: scaling rounds, and an edge at the image's may end up a hair beyond it
                boxes=clip_boxes_to_image(resize_boxes(found["boxes"], size, original), original),
                labels=found["labels"],
                scores=found["scores"],
                mask_probs=found["mask_probs"],
                image_size_hw=original,
            )
            for found, size, original in zip(detections, sizes, original_sizes, strict=True)
        ]

    def _resize_and_normalise(self, images: Tensor, out: Tensor) -> None:
        """uint8 [B, 3, H, W] into float [B, 3, h, w]."""
        assert isinstance(self._mean, Tensor)
        assert isinstance(self._scale, Tensor)
        _refuse_all_but_uint8([images])
        images = images.to(self._mean.device, non_blocking=True)
        if self.preprocessing.clahe:
            images = clahe(images, self.preprocessing.clahe)
        size = (out.shape[-2], out.shape[-1])
        if looks_at_few(images.shape, size):
            pixels = shrink(images, size)
        else:
            pixels = images.to(self._mean.dtype)
            if pixels.shape[-2:] != size:
                pixels = interpolate(pixels, size=size, mode="bilinear", align_corners=False)
        # Normalised last: both are linear, and there are fewer pixels now.
        torch.sub(pixels, self._mean, out=out)
        out *= self._scale


def _refuse_all_but_uint8(images: Sequence[Tensor]) -> None:
    for image in images:
        if image.dtype != torch.uint8:
            raise TypeError(f"images are uint8 RGB, 0..255; the model normalises them itself (got {image.dtype})")


def _resize_target(target: Target, size: tuple[int, int]) -> Target:
    layers = target["layers"]
    original = (layers.shape[-2], layers.shape[-1])
    if original == size:
        return target
    return Target(
        boxes=resize_boxes(target["boxes"], original, size),
        labels=target["labels"],
        layers=interpolate(layers[None], size=size, mode="nearest")[0],
        slots=target["slots"],
        image_id=target["image_id"],
    )


class MaskRCNN(nn.Module):
    """Mask R-CNN (He et al. 2017, arXiv 1703.06870) from its four parts, with torchvision's parameter names.

    Args:
        transform: images and targets to a batch.
        backbone: batch to feature maps.
        rpn: see ``finemask.types.ProposalNetwork``.
        roi_heads: proposals to losses or detections.

    Attributes:
        config: the resolved configuration that ``build_model`` made it from; empty otherwise.
        fixed_shapes: whether steps have shapes that do not depend on the data, where the parts can (see
            ``finemask.model.devices.gpu``); ``None``: anywhere but on a CPU.
    """

    fixed_shapes: bool | None = None

    def __init__(
        self,
        transform: ImageTransform,
        backbone: nn.Module,
        rpn: nn.Module,
        roi_heads: CriterionRoIHeads,
    ) -> None:
        super().__init__()
        self.transform = transform
        self.backbone = backbone
        self.rpn = rpn
        self.roi_heads = roi_heads
        self.config: dict[str, Any] = {}

    @property
    def preprocessing(self) -> Preprocessing:
        """What the model does to an image before the backbone."""
        return self.transform.preprocessing

    @property
    def num_classes(self) -> int:
        """K + 1."""
        return self.roi_heads.num_classes

    def forward(self, images: Sequence[Tensor], targets: Sequence[Target] | None = None) -> Any:
        """Losses by name in training; one ``Detections`` an image in evaluation.

        Args:
            images: uint8 RGB [3, H, W] each, any sizes.
            targets: one an image; needed in training only.

        Returns:
            ``dict[str, Tensor]`` of scalars in training (``loss_classifier``, ``loss_box_reg``, ``loss_mask``,
            ``loss_objectness``, ``loss_rpn_box_reg``), ``list[Detections]`` in evaluation.

        Raises:
            ValueError: training without targets.
            TypeError: images that are not uint8.
        """
        if self.training:
            if targets is None:
                raise ValueError("training needs targets")
            return self.losses(images, targets)
        return self.detect(images)

    def losses(self, images: Sequence[Tensor], targets: Sequence[Target]) -> dict[str, Tensor]:
        """The losses of a batch by name: five, and those that parts add; the model must be in training mode."""
        if self._has_fixed_shapes() and fixed_training(self):
            return fixed_losses(self, images, targets)
        batch, resized = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        proposals, rpn_losses = self.rpn(batch, features, resized)
        _, roi_losses = self.roi_heads(features, proposals, batch.image_sizes, resized)
        return {**roi_losses, **rpn_losses}

    def rows_of(self, loss: str) -> int:
        """Of how many anchors, RoIs or masks a loss of the last batch is the mean; 1 where a part does not say.

        Args:
            loss: its name.
        """
        if loss in ("loss_objectness", "loss_rpn_box_reg"):
            return int(getattr(self.rpn, "rows", 1))
        return self.roi_heads.mask_rows if loss.startswith("loss_mask") else self.roi_heads.rows

    def detect(self, images: Sequence[Tensor], least_scores: Sequence[float] | None = None) -> list[Detections]:
        """Detections of each image, in that image's own pixels; the model must be in evaluation mode.

        Each image goes through the model by itself, in its own padding, so that what is found in it depends on nothing
        else: not on the batch it came in, and not on the order of files. Images of several sizes in one batch would
        see more or less padding beside them; even those of one size are not equal to the bit, because libraries
        choose algorithms by the number of images. Whatever runs several at once has to keep this.

        Args:
            images: as of ``forward``.
            least_scores: of label 1, 2, …: what scores less is not wanted. It is left out where it takes no part in
                what becomes of the others, and so no mask is made for it; elsewhere it is there all the same.
        """
        return [found for image in images for found in self._detect([image], least_scores)]

    def detect_together(
        self, images: Sequence[Tensor], least_scores: Sequence[float] | None = None
    ) -> list[Detections]:
        """As ``detect``, with images that are padded to one shape in one batch: what fills a GPU.

        What is found in an image is what ``detect`` finds but for rounding, which may depend on the number of images; a
        score that moves by 1e-7 is enough to swap two detections.
        """
        groups: dict[tuple[int, ...], list[int]] = {}
        for number, image in enumerate(images):
            height, width = self.transform.resized_size((image.shape[-2], image.shape[-1]))
            groups.setdefault((-(-height // _SIZE_DIVISIBLE), -(-width // _SIZE_DIVISIBLE)), []).append(number)
        found: dict[int, Detections] = {}
        for numbers in groups.values():
            found |= zip(numbers, self._detect([images[number] for number in numbers], least_scores), strict=True)
        return [found[number] for number in range(len(images))]

    def _has_fixed_shapes(self) -> bool:
        if self.fixed_shapes is not None:
            return self.fixed_shapes
        return next(self.backbone.parameters()).device.type != "cpu"

    def _detect(self, images: Sequence[Tensor], least_scores: Sequence[float] | None = None) -> list[Detections]:
        """As ``detect``, of one padded batch."""
        if self._has_fixed_shapes() and fixed_detection(self):
            return fixed_detections(self, images, least_scores)
        original = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, _ = self.transform(images)
        features = self.backbone(batch.tensors)
        proposals, _ = self.rpn(batch, features)
        found = self.roi_heads.detections(features, proposals, batch.image_sizes, least_scores)
        return self.transform.postprocess(found, batch.image_sizes, original)

    def use_channels_last(self) -> "MaskRCNN":
        """Convolution weights in channels-last order: the faster layout on CPUs and on tensor cores."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
        return self
