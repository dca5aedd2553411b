"""A scale bar below a picture, and lengths as they are typed and printed: ``0.65um``, ``200 m``."""

import math
import re

from PIL import Image, ImageDraw, ImageFont

from finemask.errors import ConfigError
from finemask.ops.drawing import font_size

_METRES = {"nm": 1e-9, "um": 1e-6, "µm": 1e-6, "μm": 1e-6, "mm": 1e-3, "cm": 1e-2, "m": 1.0, "km": 1e3}
_PRINTED = ("km", "m", "mm", "µm", "nm")
_LENGTH = re.compile(r"([0-9]*\.?[0-9]+(?:e-?[0-9]+)?)\s*([a-zµμ]+)", re.IGNORECASE)
_SHARE = 0.25  # of the picture's width, at most
_ROUND = (5, 2, 1)


def parse_length(text: str, key: str) -> float:
    """A length in metres: ``0.65um``, ``30 cm``.

    Args:
        text: as it is typed.
        key: what it is for, for the message.

    Raises:
        ConfigError: it is none.
    """
    found = _LENGTH.fullmatch(text.strip())
    unit = found[2] if found is not None else ""
    if found is None or unit not in _METRES or not 0 < float(found[1]) < math.inf:
        raise ConfigError(f"{key}={text}", remedy="It is a length above 0 such as 0.65um, 2mm or 0.3m.")
    return float(found[1]) * _METRES[unit]


def bar_length(width_m: float) -> tuple[float, str]:
    """The longest round length that is at most a quarter of a width: metres, and as it is printed."""
    most = width_m * _SHARE
    power = 10.0 ** math.floor(math.log10(most) + 1e-9)
    length = next(number for number in _ROUND if number * power <= most * (1 + 1e-9)) * power
    unit = next((name for name in _PRINTED if length >= _METRES[name] * (1 - 1e-9)), _PRINTED[-1])
    return length, f"{length / _METRES[unit]:.10g} {unit}"


def with_scale_bar(picture: Image.Image, pixel_m: float) -> Image.Image:
    """The picture with a strip below it that has a scale bar; its own pixels stay as they are.

    Args:
        picture: RGB.
        pixel_m: side of one of its pixels, m.
    """
    length_m, text = bar_length(picture.width * pixel_m)
    size = font_size(picture.height, picture.width)
    font, pad = ImageFont.load_default(size), max(2, size // 3)
    shown = Image.new("RGB", (picture.width, picture.height + size + 2 * pad), "white")
    shown.paste(picture, (0, 0))
    draw = ImageDraw.Draw(shown)
    length, line = max(1, round(length_m / pixel_m)), max(2, size // 5)
    middle = picture.height + pad + size // 2
    draw.rectangle((pad, middle - line // 2, pad + length - 1, middle - line // 2 + line - 1), fill=(16, 16, 16))
    draw.text((pad + length + pad, middle), text, font=font, fill=(16, 16, 16), anchor="lm")
    return shown
