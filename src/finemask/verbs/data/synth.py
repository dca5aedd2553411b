"""``finemask data synth``: draws a COCO dataset of overlapping shapes."""

import shlex
from pathlib import Path

from omegaconf import DictConfig

from finemask.data.shapes import draw_shapes
from finemask.ops.wording import plural


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_synth.yaml``.

    Raises:
        ConfigError: a value out of range.
        DataError: the folder holds annotations of something else.
    """
    output = draw_shapes(
        Path(cfg.output), images=cfg.images, size=cfg.size, seed=cfg.seed, val_fraction=cfg.val_fraction
    )
    print(f"{plural(cfg.images, 'image')} of {cfg.size} × {cfg.size} px and the annotations are in {output}")
    print(f"Train on them: finemask train {shlex.quote(f'data.root={output}')}")
    return 0
