"""Contrast-limited adaptive histogram equalisation (CLAHE) on tensors."""

import torch
from torch import Tensor
from torch.nn.functional import pad

_LEVELS = 256
_LUMA = (0.299, 0.587, 0.114)  # of red, green and blue: ITU-R BT.601


def clahe(images: Tensor, clip_limit: float, tiles: int = 8) -> Tensor:
    """Equalises the brightness of each image tile by tile and leaves its colours.

    Zuiderveld 1994, "Contrast Limited Adaptive Histogram Equalization" (Graphics Gems IV), with the rules of OpenCV's
    ``createCLAHE``, on the luma of BT.601; red, green and blue change by what the luma changes. On whichever device the
    images are, so that training, prediction and an exported model do the same.

    Args:
        images: uint8 [B, 3, H, W], RGB.
        clip_limit: bound on the contrast, in multiples of a flat histogram; above 0, 2 to 4 is usual.
        tiles: along each side.

    Returns:
        uint8 [B, 3, H, W].
    """
    weights = torch.tensor(_LUMA, device=images.device)[:, None, None]
    pixels = images.float()
    luma = (pixels * weights).sum(dim=1).round().to(torch.uint8)
    change = equalise(luma, clip_limit, tiles).float() - luma.float()
    return (pixels + change[:, None]).clamp(0, 255).to(torch.uint8)


def equalise(grey: Tensor, clip_limit: float, tiles: int = 8) -> Tensor:
    """The same for grey images, uint8 [B, H, W]."""
    batch, height, width = grey.shape
    padded = _padded(grey, tiles)
    tile_hw = padded.shape[1] // tiles, padded.shape[2] // tiles
    tables = _tables(padded, clip_limit, tiles, tile_hw)
    *rows, row_weight = _neighbours(height, tile_hw[0], tiles, grey.device)
    *columns, column_weight = _neighbours(width, tile_hw[1], tiles, grey.device)
    image, values = torch.arange(batch, device=grey.device)[:, None, None], grey.long()
    mixed = []
    for row in rows:
        left, right = (tables[image, row[:, None], column, values] for column in columns)
        mixed.append(left * (1 - column_weight) + right * column_weight)
    found = mixed[0] * (1 - row_weight[:, None]) + mixed[1] * row_weight[:, None]
    return found.round().clamp(0, _LEVELS - 1).to(torch.uint8)


def _padded(grey: Tensor, tiles: int) -> Tensor:
    """Mirrored at the lower and right edge until all tiles are of one size, uint8 [B, H', W'].

    As OpenCV does it, which adds a pixel a tile to a side that needs none if the other side needs some. What is too
    small to be mirrored is repeated.
    """
    height, width = grey.shape[-2:]
    if height % tiles == 0 and width % tiles == 0:
        return grey
    down, right = tiles - height % tiles, tiles - width % tiles
    mode = "reflect" if down < height and right < width else "replicate"
    return pad(grey[:, None].float(), (0, right, 0, down), mode=mode)[:, 0].to(torch.uint8)


def _tables(padded: Tensor, clip_limit: float, tiles: int, tile_hw: tuple[int, int]) -> Tensor:
    """What each grey level becomes in each tile, float [B, tiles, tiles, 256]."""
    batch, (height, width) = len(padded), tile_hw
    area = height * width
    by_tile = padded.reshape(batch, tiles, height, tiles, width).transpose(2, 3).reshape(-1, area).long()
    first = _LEVELS * torch.arange(len(by_tile), device=padded.device)[:, None]
    counts = torch.bincount((by_tile + first).flatten(), minlength=_LEVELS * len(by_tile)).reshape(-1, _LEVELS)
    limit = max(int(clip_limit * area / _LEVELS), 1)
    excess = (counts - limit).clamp(min=0).sum(dim=1, keepdim=True)
    counts = counts.clamp(max=limit) + excess // _LEVELS
    # What is left after every level got its share goes to levels at equal distances.
    rest = excess % _LEVELS
    level = torch.arange(_LEVELS, device=padded.device)
    step = (_LEVELS // rest.clamp(min=1)).clamp(min=1)
    counts += (level % step == 0) & (level // step < rest)
    scale = torch.tensor((_LEVELS - 1) / area, dtype=torch.float32)
    tables = (counts.cumsum(dim=1).float() * scale).round().clamp(max=_LEVELS - 1)
    return tables.reshape(batch, tiles, tiles, _LEVELS)


def _neighbours(length: int, tile: int, tiles: int, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """For each pixel along a side: the tiles on either side of it, int64, and the weight of the second."""
    place = torch.arange(length, device=device) * (1.0 / tile) - 0.5
    before = place.floor()
    return before.clamp(min=0).long(), (before + 1).clamp(max=tiles - 1).long(), place - before
