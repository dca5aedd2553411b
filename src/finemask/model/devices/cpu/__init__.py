"""What a CPU computes another way than torchvision, with the same values: RoIAlign and wide convolutions.

The RPN's gradients at sampled anchors only, in ``finemask.model.rpn``, are as good on a GPU and are not switched here.
"""

from torch import nn
from torchvision.ops import MultiScaleRoIAlign

from finemask.model.devices.cpu.roi_align import PyramidRoIAlign
from finemask.model.devices.cpu.winograd import WinogradConv2d, winograd_fits


def keep_for_prediction(model: nn.Module) -> None:
    """Lets a model that is not trained on keep what follows from its weights alone, instead of making it each time."""
    for module in model.modules():
        if isinstance(module, WinogradConv2d):
            module.keeps_mixing = True


def use_cpu_kernels(module: nn.Module) -> None:
    """Replaces whatever in a module is quicker another way on a CPU; elsewhere the replacements are torchvision's.

    Parameters stay the same objects under the same names, and no random number is drawn.
    """
    for name, child in module.named_children():
        if type(child) is MultiScaleRoIAlign:
            scale, level = child.canonical_scale, child.canonical_level
            aligned = (child.featmap_names, child.output_size, child.sampling_ratio)
            setattr(module, name, PyramidRoIAlign(*aligned, canonical_scale=scale, canonical_level=level))
        elif type(child) is nn.Conv2d and winograd_fits(child):
            quicker = WinogradConv2d(child.in_channels, child.out_channels, 3, padding=1, device="meta")
            quicker.weight, quicker.bias = child.weight, child.bias
            setattr(module, name, quicker)
        else:
            use_cpu_kernels(child)
