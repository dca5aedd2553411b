"""The whole model: images in, losses or detections out."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from finemask.model.roi_heads import CriterionRoIHeads
from finemask.model.transform import ImageTransform
from finemask.types import Detections, Preprocessing, Target


class MaskRCNN(nn.Module):
    """Mask R-CNN (He et al. 2017, arXiv 1703.06870) from its four parts, with torchvision's parameter names.

    Args:
        transform: images and targets to a batch.
        backbone: batch to feature maps.
        rpn: see ``finemask.types.ProposalNetwork``.
        roi_heads: proposals to losses or detections.

    Attributes:
        config: the resolved configuration that ``build_model`` made it from; empty otherwise.
    """

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
        batch, resized = self.transform(images, targets)
        features = self.backbone(batch.tensors)
        proposals, rpn_losses = self.rpn(batch, features, resized)
        _, roi_losses = self.roi_heads(features, proposals, batch.image_sizes, resized)
        return {**roi_losses, **rpn_losses}

    def detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """Detections of each image, in that image's own pixels; the model must be in evaluation mode.

        Each image goes through the model by itself, in its own padding, so that what is found in it depends on nothing
        else: not on the batch it came in, and not on the order of files. Images of several sizes in one batch would
        see more or less padding beside them; even those of one size are not equal to the bit, because libraries
        choose algorithms by the number of images. Whatever runs several at once has to keep this.
        """
        return [found for image in images for found in self._detect([image])]

    def _detect(self, images: Sequence[Tensor]) -> list[Detections]:
        """As ``detect``, of one padded batch."""
        original = [(image.shape[-2], image.shape[-1]) for image in images]
        batch, _ = self.transform(images)
        features = self.backbone(batch.tensors)
        proposals, _ = self.rpn(batch, features)
        found, _ = self.roi_heads(features, proposals, batch.image_sizes)
        return self.transform.postprocess(found, batch.image_sizes, original)

    def compile_backbone(self, **options: Any) -> "MaskRCNN":
        """Compiles what is static, the backbone with its pyramid; parameter names stay what they are.

        Boxes and RoIs differ in number from image to image, and would be compiled anew for each. On a CPU there is
        nothing to gain (docs/performance.md).

        Args:
            options: of ``torch.compile``, such as ``mode="reduce-overhead"`` (CUDA graphs).
        """
        self.backbone.compile(**options)
        return self

    def use_channels_last(self) -> "MaskRCNN":
        """Convolution weights in channels-last order: the faster layout on CPUs and on tensor cores."""
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                module.to(memory_format=torch.channels_last)
        return self
