"""How ``data tile`` cuts."""

from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

from finemask.datatools.tile.images import Reader
from finemask.errors import ConfigError

Slivers: TypeAlias = Literal["ignore", "drop"]
TileFormat: TypeAlias = Literal["auto", "png", "jpg"]


@dataclass(frozen=True, slots=True)
class TileSettings:
    """How to cut.

    Args:
        size: side of the tiles, px.
        overlap: share of a tile that it has in common with the next, 0..0.9.
        min_visible: a part with fewer than this share of the pixels of the instance's greatest part is a sliver.
        slivers: ``ignore``: kept as crowd regions, neither trained on nor counted as missed or as false alarms;
            ``drop``: left out.
        empty_tiles: training tiles without instances: ``keep``, ``drop``, or the fraction of them to keep.
        format: of the pictures; ``auto``: jpg for JPEG sources, otherwise png.
        quality: of JPEGs, 1..100.
        reader: see ``open_image``.
        seed: of the choice of empty tiles.

    Raises:
        ConfigError: a value out of range.
    """

    size: int = 1024
    overlap: float = 0.2
    min_visible: float = 0.2
    slivers: Slivers = "ignore"
    empty_tiles: float | Literal["keep", "drop"] = "keep"
    format: TileFormat = "auto"
    quality: int = 95
    reader: Reader = "auto"
    seed: int = 0

    def __post_init__(self) -> None:
        kept = self.empty_tiles
        ranges = {
            "size": (_is_number(self.size, 16, 2**15, whole=True), "a whole number of px, at least 16"),
            "overlap": (_is_number(self.overlap, 0, 0.9), "a share of the tile from 0 to 0.9"),
            "min_visible": (_is_number(self.min_visible, 0, 1), "a fraction from 0 to 1"),
            "slivers": (self.slivers in get_args(Slivers), "ignore or drop"),
            "empty_tiles": (kept in ("keep", "drop") or _is_number(kept, 0, 1), "keep, drop or a fraction from 0 to 1"),
            "format": (self.format in get_args(TileFormat), "auto, png or jpg"),
            "quality": (_is_number(self.quality, 1, 100, whole=True), "a whole number from 1 to 100"),
            "reader": (self.reader in get_args(Reader), "auto, pillow or vips"),
            "seed": (_is_number(self.seed, 0, 2**63, whole=True), "a whole number, at least 0"),
        }
        for key, (fits, wanted) in ranges.items():
            if not fits:
                raise ConfigError(f"{key}={getattr(self, key)} cannot be used", remedy=f"Give {wanted}.")


def _is_number(value: object, low: float, high: float, *, whole: bool = False) -> bool:
    kinds = (int,) if whole else (int, float)
    return isinstance(value, kinds) and not isinstance(value, bool) and low <= value <= high
