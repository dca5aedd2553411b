"""``finemask data preview``: what is on disk, and exactly what the model will see of it."""

from pathlib import Path

import torch
from omegaconf import DictConfig

from finemask.config import plain
from finemask.model.mask_rcnn import ImageTransform, preprocessing_from
from finemask.ops.terminal import Progress
from finemask.ops.wording import plural, word
from finemask.workflows.build_trainer import build_datamodule, prepare_data
from finemask.workflows.data.preview_sheets import Pair, make_pair, open_split, sheets_before, write_sheets


def main(cfg: DictConfig) -> int:
    """Runs the verb: keys as in ``configs/data_preview.yaml``, and those of ``configs/train.yaml``.

    Raises:
        DataError: the dataset cannot be read, or the output holds pictures of something else.
    """
    output = Path(cfg.output)
    old = sheets_before(output)
    prepare_data(cfg)
    dataset, items = open_split(build_datamodule(cfg), cfg.split, cfg.n, cfg.epoch)
    index = dataset.index
    transform = ImageTransform(preprocessing_from(plain(cfg.model)))
    transform.train(cfg.split == "train")
    by_class = cfg.color_by == "class" or (cfg.color_by == "auto" and len(index.categories) > 1)
    pairs: list[Pair] = []
    with Progress("drawing", len(items), "images") as progress, torch.random.fork_rng(devices=[]):
        torch.manual_seed(cfg.seed)  # of the image size, where it is drawn from several
        for item in items:
            pairs.append(make_pair(dataset, item, transform, by_class))
            progress.advance()
    for path in old:
        path.unlink()
    written = write_sheets(output, pairs, index, cfg, by_class)
    are = f"{word(len(pairs), 'it is', 'they are')} on disk, and as the model sees {word(len(pairs), 'it', 'them')}"
    print(f"{plural(len(pairs), 'image')} of {cfg.split}: as {are} in epoch {cfg.epoch}")
    print(f"wrote {', '.join(map(str, written))}")
    return 0
