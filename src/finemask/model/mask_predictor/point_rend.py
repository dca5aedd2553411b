"""PointRend mask predictor."""

import math
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional

from finemask.model.mask_predictor.fcn import FCNMaskPredictor
from finemask.model.mask_predictor.mask_branch import MaskRois, MaskTargets, PlainMaskBranch
from finemask.ops.mask_ops import cells_at, features_at, points_in_boxes
from finemask.types import MaskLoss


def sample_uncertain_points(logits: Tensor, count: int, oversample: float, importance: float) -> Tensor:
    """Draws points of which a share is chosen for lying where the mask is least certain.

    Args:
        logits: [R, M, M].
        count: P, points a mask.
        oversample: how many times as many are drawn uniformly to choose from.
        importance: share of the points that are the most uncertain of those drawn; the others are uniform.

    Returns:
        [R, P, 2].
    """
    drawn = torch.rand(len(logits), int(oversample * count), 2, device=logits.device, dtype=logits.dtype)
    chosen = int(importance * count)
    most_uncertain = cells_at(logits, drawn).abs().topk(chosen, dim=1, largest=False, sorted=False).indices
    uncertain = drawn.gather(1, most_uncertain[:, :, None].expand(-1, -1, 2))
    uniform = torch.rand(len(logits), count - chosen, 2, device=logits.device, dtype=logits.dtype)
    return torch.cat([uncertain, uniform], dim=1)


def subdivide(logits: Tensor, predict: Callable[[Tensor], Tensor], steps: int, count: int) -> Tensor:
    """Doubles the side of masks step by step and predicts the least certain cells of each step anew.

    Args:
        logits: [R, M, M].
        predict: points [R, P, 2] to logits [R, P].
        steps: s.
        count: cells predicted anew at each step; all of them where there are no more.

    Returns:
        Logits [R, M · 2^s, M · 2^s].
    """
    for _ in range(steps):
        logits = functional.interpolate(logits[:, None], scale_factor=2.0, mode="bilinear", align_corners=False)[:, 0]
        side = logits.shape[-1]
        cells = logits.flatten(1).abs().topk(min(count, side * side), dim=1, largest=False, sorted=False).indices
        row, column = cells.div(side, rounding_mode="floor"), cells % side
        points = (torch.stack([column, row], dim=2).to(logits.dtype) + 0.5) / side
        logits = logits.flatten(1).scatter(1, cells, predict(points).to(logits.dtype)).reshape(-1, side, side)
    return logits


class PointRendMaskPredictor(FCNMaskPredictor):
    """Coarse masks of 28 × 28, refined to 28 · 2^s by a small network on fine features at chosen points.

    Kirillov et al. 2020, "PointRend: Image Segmentation as Rendering" (arXiv 1912.08193), sections 3 and 4. Where this
    differs from the paper: the coarse mask is the plain predictor's (28 × 28, with torchvision's parameter names, so
    that its weights load) instead of a 7 × 7 one; and the point head is given the coarse logit of the RoI's own class
    instead of those of all classes, so that its cost does not grow with them. It begins by repeating the coarse logit.

    Args:
        in_channels: C', channels of the mask head's features.
        num_classes: K + 1.
        pyramid_channels: C, channels of the finest feature map.
        point_channels: width of the point head's layers.
        point_depth: number of its hidden layers.
        train_points: points of each RoI that the loss looks at.
        oversample: k, how many times as many are drawn to choose them from.
        importance: beta, share of them that are the most uncertain of those drawn, 0..1; the others are uniform.
        subdivisions: s, doublings of the side in prediction; 3 gives 224 × 224.
        test_points: points that are predicted anew at each doubling.
        loss_weight: factor of the loss at the points.
        hidden_channels: between upsampling and coarse logits; ``in_channels`` if not given.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        pyramid_channels: int,
        point_channels: int = 256,
        point_depth: int = 3,
        train_points: int = 196,
        oversample: float = 3.0,
        importance: float = 0.75,
        subdivisions: int = 3,
        test_points: int = 784,
        loss_weight: float = 1.0,
        hidden_channels: int | None = None,
    ) -> None:
        super().__init__(in_channels, num_classes, hidden_channels)
        if not (0 <= importance <= 1 <= oversample and train_points >= 1 and subdivisions >= 0):
            raise ValueError("mask_predictor: importance is 0..1, oversample and train_points at least 1")
        self.point_head = PointHead(pyramid_channels, num_classes, point_channels, point_depth)
        self._train_points = train_points
        self._oversample = oversample
        self._importance = importance
        self._subdivisions = subdivisions
        self._test_points = test_points
        self._loss_weight = loss_weight

    def losses(self, rois: MaskRois, truth: MaskTargets, mask_loss: MaskLoss) -> dict[str, Tensor]:
        """``loss_mask``, of the coarse masks, and ``loss_mask_point``; see ``MaskBranch``."""
        coarse = PlainMaskBranch(self).logits(rois)
        points = sample_uncertain_points(coarse.detach(), self._train_points, self._oversample, self._importance)
        of_images = zip(_by_image(rois, coarse), _by_image(rois, points), strict=True)
        found = torch.cat([self._logits_at(rois, number, *parts) for number, parts in enumerate(of_images)])
        losses = functional.binary_cross_entropy_with_logits(found, truth.at(points), reduction="none")
        return {
            "loss_mask": mask_loss(coarse, truth.grid(coarse.shape[-1]), rois.labels),
            "loss_mask_point": self._loss_weight * losses.sum() / max(1, losses.numel()),
        }

    def detect(self, rois: MaskRois, scores: Tensor) -> tuple[Tensor, Tensor]:
        """See ``MaskBranch``."""
        coarse = PlainMaskBranch(self).logits(rois)
        fine = [
            self.refined(masks, partial(self._logits_at, rois, number, masks))
            for number, masks in enumerate(_by_image(rois, coarse))
        ]
        return torch.cat(fine).sigmoid(), scores

    def refined(self, coarse: Tensor, predict: Callable[[Tensor], Tensor]) -> Tensor:
        """Coarse logits [R, M, M] to fine ones; ``predict`` as of ``subdivide``."""
        return subdivide(coarse, predict, self._subdivisions, self._test_points)

    def point_logits(self, features: Tensor, coarse: Tensor, labels: Tensor) -> Tensor:
        """Fine features [R, P, C], coarse logits [R, P] and labels int64 [R] to logits float32 [R, P]."""
        logits: Tensor = self.point_head(features, coarse, labels)
        return logits.float()

    def _logits_at(self, rois: MaskRois, number: int, coarse: Tensor, points: Tensor) -> Tensor:
        """Logits at points [R, P, 2] in units of the RoIs of image ``number``, coarse [R, M, M]: float32 [R, P]."""
        finest = next(iter(rois.pyramid.values()))
        height = max(shape[0] for shape in rois.image_shapes)
        scale = 2.0 ** round(math.log2(finest.shape[-2] / height))  # the map is padded, so that the ratio is not exact
        places = points_in_boxes(points, rois.boxes[number]) * scale
        labels = _by_image(rois, rois.labels)[number]
        return self.point_logits(features_at(finest[number], places), cells_at(coarse, points), labels)


class PointHead(nn.Module):
    """A multi-layer perceptron, the same at every point, that sees the coarse logit again at each layer.

    Args:
        in_channels: C, of the fine features.
        num_classes: K + 1.
        channels: of each hidden layer.
        depth: number of hidden layers.
    """

    def __init__(self, in_channels: int, num_classes: int, channels: int, depth: int) -> None:
        super().__init__()
        widths = [in_channels] + [channels] * (depth - 1)
        self.layers = nn.ModuleList(nn.Linear(width + 1, channels) for width in widths)
        self.logits = nn.Linear(channels + 1, num_classes)
        for layer in self.layers:
            assert isinstance(layer, nn.Linear)
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
            nn.init.zeros_(layer.bias)
        nn.init.normal_(self.logits.weight, std=0.001)
        nn.init.zeros_(self.logits.bias)
        with torch.no_grad():
            self.logits.weight[:, -1] = 1.0  # the coarse logit: what is not yet trained changes nothing

    def forward(self, features: Tensor, coarse: Tensor, labels: Tensor) -> Tensor:
        """Features [R, P, C], coarse logits [R, P] and labels int64 [R], 0..K, to logits [R, P] of these classes."""
        coarse = coarse[:, :, None]
        hidden = features
        for layer in self.layers:
            hidden = functional.relu(layer(torch.cat([hidden, coarse.to(hidden.dtype)], dim=2)))
        hidden = torch.cat([hidden, coarse.to(hidden.dtype)], dim=2)
        weight, bias = self.logits.weight[labels], self.logits.bias[labels]
        logits = hidden @ weight[:, :, None].to(hidden.dtype)
        return logits[:, :, 0] + bias[:, None]


def _by_image(rois: MaskRois, of_rois: Tensor) -> tuple[Tensor, ...]:
    """What all images' RoIs have, image by image."""
    split: tuple[Tensor, ...] = of_rois.split([len(of_image) for of_image in rois.boxes])
    return split
