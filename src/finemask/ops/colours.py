"""Colours of instances: any number that differ to the eye, hues of OKLCH a golden-ratio step apart; and of verdicts."""

from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Colour = tuple[int, int, int]  # sRGB, 0..255

GOLDEN = 0.6180339887498949  # successive multiples, taken modulo 1, fall into the widest gap left
FIRST_HUE = 0.72  # a blue
LIGHTNESS = (0.74, 0.66, 0.82)  # neighbours in number differ in lightness too; all show on black and on white
CHROMA = 0.19

# What became of an object or a detection. Chosen together: each two are told apart with any kind of colour vision, and
# each stands out from white and from a dark page by a contrast of at least 3.
VERDICTS: dict[str, Colour] = {
    "found": (16, 167, 134),
    "missed": (64, 82, 252),
    "false": (254, 88, 16),
    "wrong-class": (164, 59, 161),
}
ONE_OF_TWO: Colour = (190, 132, 0)  # found by one of two models, beside what both found or missed
NO_VERDICT: Colour = (128, 136, 150)  # neither right nor wrong


def colours(keys: Iterable[int]) -> list[Colour]:
    """One colour a key; equal keys give equal colours, on every machine and in every version of a picture."""
    return [_colour(int(key)) for key in keys]


def verdict_css() -> str:
    """The same for a page: ``var(--found)``, ``var(--missed)``, …, in light and dark alike, as in its pictures."""
    shown = VERDICTS | {"one-of-two": ONE_OF_TWO}
    return ":root { " + " ".join(f"--{name}: #{bytes(colour).hex()};" for name, colour in shown.items()) + " }\n"


def text_colour(plate: Colour) -> Colour:
    """Near-black or white, whichever has the higher contrast (WCAG) on a plate of that colour."""
    luminance = relative_luminance(plate)
    return (255, 255, 255) if 1.05 / (luminance + 0.05) > (luminance + 0.05) / 0.056 else (16, 16, 16)


def relative_luminance(colour: Colour) -> float:
    """Relative luminance 0..1 of an sRGB colour, as WCAG 2 defines it."""
    value = np.asarray(colour) / 255
    linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
    return float(linear @ np.array([0.2126, 0.7152, 0.0722]))


def _colour(key: int) -> Colour:
    hue = 2 * np.pi * ((FIRST_HUE + key * GOLDEN) % 1)
    lightness = LIGHTNESS[key % len(LIGHTNESS)]
    chroma = CHROMA
    rgb = _oklch_to_linear_rgb(lightness, chroma, hue)
    while rgb.min() < 0 or rgb.max() > 1:  # less colourful until a screen can show it; hue and lightness stay
        chroma *= 0.96
        rgb = _oklch_to_linear_rgb(lightness, chroma, hue)
    encoded = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    red, green, blue = (round(float(channel) * 255) for channel in encoded)
    return red, green, blue


def _oklch_to_linear_rgb(lightness: float, chroma: float, hue: float) -> NDArray[np.float64]:
    """Björn Ottosson's OKLab matrices, https://bottosson.github.io/posts/oklab/ (public domain)."""
    a, b = chroma * np.cos(hue), chroma * np.sin(hue)
    cones = np.array(
        [
            lightness + 0.3963377774 * a + 0.2158037573 * b,
            lightness - 0.1055613458 * a - 0.0638541728 * b,
            lightness - 0.0894841775 * a - 1.2914855480 * b,
        ]
    )
    to_rgb = np.array(
        [
            [4.0767416621, -3.3077115913, 0.2309699292],
            [-1.2684380046, 2.6097574011, -0.3413193965],
            [-0.0041960863, -0.7034186147, 1.7076147010],
        ]
    )
    return np.asarray(to_rgb @ cones**3)
