"""What ``torch.compile`` makes of a model's parts, in place; names of parameters stay what they are."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from finemask.model.mask_rcnn import MaskRCNN

_CUDA_GRAPHS, _OF_ONE_SIZE = "triton.cudagraphs", "triton.cudagraph_skip_dynamic_graphs"


def compile_parts(
    model: "MaskRCNN", mode: str = "default", *, heads: bool, backend: str | Callable[..., Any] = "inductor"
) -> None:
    """Compiles the backbone with its pyramid, and the heads; it happens when each is first called.

    A part is compiled for the shape that it sees first. At the first other one it is compiled again, for any, and then
    no more, but for a single RoI: batches differ in shape by multiples of 32 px, and RoIs in number.
    What is between the parts (suppression, matching, sampling, pooling, losses) is not compiled.

    Args:
        model: in any mode. A part from outside is compiled as far as it can be.
        mode: of ``torch.compile``. Where it records CUDA graphs, heads have one as long as their RoIs do not change in
            number: a graph is of one size, and recording as many as there are sizes would fill the GPU's memory.
        heads: the RPN's, and the heads and predictors of boxes and masks as well. Not on a CPU, where
            ``finemask.model.devices.cpu`` has convolutions that are quicker than those of a compiled graph.
        backend: of ``torch.compile``; ``mode`` is for ``inductor``.
    """
    if backend != "inductor":
        options: dict[str, Any] = {"backend": backend}
        of_rows = options
    else:
        options = {"mode": mode}
        of_mode = torch._inductor.list_mode_options(mode)
        of_rows = {"options": of_mode | {_OF_ONE_SIZE: True}} if of_mode.get(_CUDA_GRAPHS) else options
    model.backbone.compile(**options)
    if heads:
        model.rpn.get_submodule("head").compile(**options)
        for part in _of_rows(model):
            _compile_but_for_none(part, of_rows)


def _compile_but_for_none(part: nn.Module, options: dict[str, Any]) -> None:
    """Without any RoI a part is called as it is.

    torch 2.15 takes the gradient of a convolution of nothing for channels-last, as its weights are, and it is not.
    """
    part.compile(**options)
    compiled: Any = part._compiled_call_impl

    def call(rows: Tensor, *inputs: Any) -> Any:
        return compiled(rows, *inputs) if len(rows) else part._call_impl(rows, *inputs)

    part._compiled_call_impl = call


def _of_rows(model: "MaskRCNN") -> list[nn.Module]:
    """What sees RoIs, one a row. Later stages and experts of a box predictor have copies of the box head."""
    heads = model.roi_heads
    copies = [part for part in heads.box_predictor.modules() if type(part) is type(heads.box_head)]
    return [heads.box_head, heads.box_predictor, *copies, heads.mask_head, heads.mask_predictor]
