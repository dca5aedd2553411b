"""Numbers and plurals are written one way, and in one place."""

import re
from pathlib import Path

import pytest

import finemask
from finemask.ops.wording import listed, names, percent, plural, word

PACKAGE = Path(finemask.__file__).parent
TEXTS = sorted(path for kind in ("*.py", "*.j2") for path in PACKAGE.rglob(kind) if path.name != "wording.py")


def test_words() -> None:
    assert listed([8.0, 0.5]) == "[8,0.5]"
    assert [percent(value) for value in (0, 0.0123, 0.5, 0.995, 1)] == ["0 %", "1.2 %", "50 %", "99.5 %", "100 %"]
    assert plural(1, "class", "classes") == "1 class"
    assert plural(1489, "class", "classes") == "1,489 classes"
    assert plural(0, "tie") == "0 ties"
    assert (word(1, "is", "are"), word(0, "is", "are"), word(2, "tie")) == ("is", "are", "ties")
    assert plural(1234567, "object") == "1,234,567 objects"
    assert names(list("abc"), 2) == "a, b and 1 more"
    assert names(list("ab"), 2) == "a, b"


HAND_MADE = re.compile(
    r"\b(?!http)[a-z]{3,}\((?:s|es)\)(?: [a-z]|[\"'])"  # image(s) found
    r"|\b(?:else|if [^{}\n]+ else) ['\"](?:s|es)['\"]"  # {'' if n == 1 else 's'}
    r"|['\"]class['\"] if "
    r"|\bNARROW NO-BREAK SPACE|\u202f"  # 1 489
)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_no_plural_and_no_separator_is_made_by_hand(path: Path) -> None:
    assert HAND_MADE.findall(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text", ['f"{n} image(s) found"', "f\"{n} point{'' if n == 1 else 's'}\"", '"\\N{NARROW NO-BREAK SPACE}"']
)
def test_the_rule_above_can_fail(text: str) -> None:
    assert HAND_MADE.search(text)
