"""How an image file that is more than one 8-bit picture becomes one: which page, which range, which channels.

8-bit grey and colour need no such choice. Of anything else a wrong guess would be silent: 10 bits of a camera in a
16-bit file come out black, the second page of a stack is never seen, five channels have no red. So where the file does
not say what is meant, it is refused in words, with the key to type; the choice is stored in the model file.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from finemask.errors import ConfigError, UndecidedImageError

ValueRange: TypeAlias = Literal["auto", "full", "image"] | tuple[float, float]

_BLACK = 16  # of 255: an image without a brighter pixel is taken to be scaled wrongly
_WIDEST = 65535


@dataclass(frozen=True, slots=True)
class ImageReading:
    """What is read from image files; the same in training, evaluation and prediction.

    Args:
        page: of files with several pages or frames, counted from 0; None: the first frame of an animation, and of a
            TIFF file the one page that it must have.
        range: the values of images of more than 8 bits that become 0 and 255: two numbers (what is beyond is cut off);
            ``full``: 0 to 65535, of floats 0 to 1; ``image``: the least and the greatest value of each image, so that
            brightness cannot be compared between images; ``auto``: as ``full``, but an image that would then be black
            is refused.
        channels: which are red, green and blue, counted from 0; a single one is grey. None: as the file says.

    Raises:
        ConfigError: a value that cannot be.
    """

    page: int | None = None
    range: ValueRange = "auto"
    channels: tuple[int, ...] | None = None

    def __post_init__(self) -> None:
        if self.page is not None and not _is_position(self.page):
            raise _refused("page", self.page, "a page, counted from 0, or null")
        if self.range not in ("auto", "full", "image"):
            object.__setattr__(self, "range", _two_numbers(self.range))
        if self.channels is not None:
            chosen = [self.channels] if _is_position(self.channels) else self.channels
            listed = isinstance(chosen, Sequence) and not isinstance(chosen, str)
            if not listed or len(chosen) not in (1, 3) or not all(map(_is_position, chosen)):
                raise _refused("channels", self.channels, "three channels such as [2,1,0], one such as [0], or null")
            object.__setattr__(self, "channels", tuple(chosen))

    @classmethod
    def of(
        cls, options: "Mapping[str, Any] | ImageReading | None", default: "ImageReading | None" = None
    ) -> "ImageReading":
        """From a configuration group ``image``; keys that are null or not there are those of ``default``.

        Raises:
            ConfigError: an unknown key, or a value that cannot be.
        """
        if isinstance(options, ImageReading):
            return options
        default = default or cls()
        given = {str(key): value for key, value in (options or {}).items() if value is not None}
        if unknown := sorted(given.keys() - {"page", "range", "channels"}):
            raise ConfigError(f"image.{unknown[0]} is not known", remedy="There are page, range and channels")
        return cls(
            page=given.get("page", default.page),
            range=given.get("range", default.range),
            channels=given.get("channels", default.channels),
        )

    def to_json(self) -> dict[str, Any]:
        """Plain values; ``of`` makes the same of them."""
        values = self.range if isinstance(self.range, str) else list(self.range)
        return {"page": self.page, "range": values, "channels": None if self.channels is None else list(self.channels)}

    def __str__(self) -> str:
        words = [f"page {self.page}"] if self.page is not None else []
        if not isinstance(self.range, str):
            words.append(f"values {self.range[0]:g} to {self.range[1]:g}")
        elif self.range != "auto":
            words.append("values 0 to 65,535" if self.range == "full" else "values stretched image by image")
        words += [f"channels {', '.join(map(str, self.channels))}"] if self.channels is not None else []
        return "; ".join(words)


AS_THE_FILE_SAYS = ImageReading()


def chosen_channels(
    values: NDArray[Any], reading: ImageReading, name: str, known: Sequence[int] | None = None
) -> NDArray[Any]:
    """The channels that make the picture.

    Args:
        values: [H, W, C], any type.
        reading: which are chosen.
        name: of the file, for errors.
        known: what the file says they are: one or three channels; None: it does not say.

    Returns:
        [H, W, 1] or [H, W, 3].

    Raises:
        UndecidedImageError: the file does not say, and nothing is chosen; or it has no such channel.
    """
    count = values.shape[2]
    wanted = known if reading.channels is None else reading.channels
    example = "[0,1,2]" if count > 2 else "[0]"
    if wanted is None:
        what = f"it has {count} channels of {_kind(values)}, and does not say which are red, green and blue"
        raise UndecidedImageError(what, choice="channels", example=example, where=name)
    if max(wanted) >= count:
        has = "1 channel, number 0" if count == 1 else f"{count} channels, 0 to {count - 1}"
        what = f"it has {has}; channel {max(wanted)} was chosen"
        raise UndecidedImageError(what, choice="channels", example=example, where=name)
    return values if list(wanted) == list(range(count)) else values[:, :, list(wanted)]


def to_uint8(values: NDArray[Any], reading: ImageReading, name: str) -> NDArray[np.uint8]:
    """Scales the values of a picture to 0..255; 8-bit ones are left as they are.

    Args:
        values: [H, W, 1] or [H, W, 3]; integers of any size or floats.
        reading: its range.
        name: of the file, for errors.

    Returns:
        uint8, of the same shape.

    Raises:
        UndecidedImageError: values without a rule: beyond the range, not a number, or all of them nearly black.
    """
    if values.dtype == np.uint8:
        return values
    if not isinstance(reading.range, str):
        return _stretched(values, *reading.range)
    if not values.size:
        return values.astype(np.uint8)
    if reading.range == "image":
        finite = values[np.isfinite(values)]
        return _stretched(values, float(finite.min()), float(finite.max())) if finite.size else _stretched(values, 0, 1)
    low, high = values.min(), values.max()
    floats = values.dtype.kind == "f"
    if not (low >= 0 and high <= (1 if floats else _WIDEST)):  # NaN fails both
        has = "values that are no numbers" if np.isnan(low) else f"these are {low:g} to {high:g}"
        what = f"floating-point values must be 0 to 1; {has}"
        if not floats:
            what = f"{_kind(values)} do not fit 16 bits, 0 to {_WIDEST:,}"
        raise UndecidedImageError(what, choice="range", example=_range_of(values), where=name)
    scaled: NDArray[np.uint8]
    if floats:
        scaled = np.rint(values * 255).astype(np.uint8)
    elif values.shape[2] == 3:
        scaled = (values.astype(np.uint16) >> 8).astype(np.uint8)
    else:
        scaled = ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    if reading.range == "auto" and high > 0 and scaled.max() <= _BLACK:
        bits = "" if floats else f" ({int(high).bit_length()} bits)"
        what = (
            f"its greatest value is {_number(high)}{bits}; read as 0 to {'1' if floats else f'{_WIDEST:,}'} the image "
            f"would be black, {scaled.max()} of 255 at its brightest"
        )
        raise UndecidedImageError(
            what,
            choice="range",
            example=_range_of(values),
            where=name,
            otherwise=", or data.image.range=full if it is as dark as that",
        )
    return scaled


def _stretched(values: NDArray[Any], low: float, high: float) -> NDArray[np.uint8]:
    """Low to 0, high to 255, what is beyond cut off; what is no number becomes 0."""
    exact: type[np.floating[Any]] = np.float32
    if values.dtype.itemsize > 2 and values.dtype != np.float32:
        exact = np.float64
    scaled: NDArray[Any] = np.multiply(np.subtract(values, low, dtype=exact), 255 / ((high - low) or 1))
    cut: NDArray[np.uint8] = np.nan_to_num(np.rint(np.clip(scaled, 0, 255)), nan=0).astype(np.uint8)
    return cut


def _range_of(values: NDArray[Any]) -> str:
    """A range that holds the values: that of their bits where they are counts."""
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "[0,1]"
    low, high = finite.min(), finite.max()
    if values.dtype.kind == "f":
        return f"[{min(low, 0):g},{high:g}]"
    return f"[0,{2 ** int(high).bit_length() - 1}]" if low >= 0 else f"[{low},{high}]"


def _kind(values: NDArray[Any]) -> str:
    """What an array holds, in words: ``16-bit values from 3 to 1,023``."""
    bits = 8 * values.dtype.itemsize
    kind = {"f": f"{bits}-bit floating-point values", "i": f"signed {bits}-bit values"}.get(
        values.dtype.kind, f"{bits}-bit values"
    )
    return f"{kind} from {_number(values.min())} to {_number(values.max())}" if values.size else kind


def _number(value: Any) -> str:
    return f"{value:g}" if np.asarray(value).dtype.kind == "f" else f"{value:,}"


def _is_position(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _two_numbers(value: Any) -> tuple[float, float]:
    numbers = list(value) if isinstance(value, Sequence) and not isinstance(value, str) else []
    sound = len(numbers) == 2 and all(isinstance(n, int | float) and not isinstance(n, bool) for n in numbers)
    if not sound or not -np.inf < numbers[0] < numbers[1] < np.inf:
        raise _refused("range", value, "auto, full, image, or two numbers such as [0,4095], the smaller first")
    return float(numbers[0]), float(numbers[1])


def _refused(key: str, value: Any, wanted: str) -> ConfigError:
    shown = str(list(value)) if isinstance(value, Sequence) and not isinstance(value, str) else repr(value)
    return ConfigError(f"image.{key} is {shown}", remedy=f"It is {wanted}")
