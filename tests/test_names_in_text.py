"""Modules, functions and files that pages and docstrings name are there; the page of the rooms follows the layers."""

import re
from importlib import import_module
from itertools import pairwise
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = [REPOSITORY / "CONTRIBUTING.md", REPOSITORY / "README.md", *sorted((REPOSITORY / "docs").rglob("*.md"))]
SOURCES = sorted((REPOSITORY / "src").rglob("*.py"))
TELLS_OF_THE_PAST = {"moved_targets.py", "CHANGELOG.md"}
DOTTED = re.compile(r"(?<![\w./-])finemask(?:\.[A-Za-z_]\w*)+")
FILES = re.compile(r"(?<![\w/.])(?:src/finemask|finemask|configs|tests|docs)/[\w/.-]*\.(?:py|yaml|md|css|html|ipynb)\b")
ROOMS = REPOSITORY / "docs" / "through_the_rooms.md"


def is_there(dotted: str) -> bool:
    """Whether a module, or something in one, goes by that name."""
    words = dotted.split(".")
    for length in range(len(words), 0, -1):
        try:
            found = import_module(".".join(words[:length]))
        except ModuleNotFoundError:
            continue
        for name in words[length:]:
            if not hasattr(found, name):
                return name in getattr(found, "__dataclass_fields__", {}) or name in getattr(
                    found, "__annotations__", {}
                )
            found = getattr(found, name)
        return True
    return False


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(REPOSITORY).as_posix())
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert [name for name in sorted(set(DOTTED.findall(text))) if not is_there(name)] == []
    files = [file for file in FILES.findall(text) if "NAME" not in file]
    if page.name == "own_parts.md":  # whose configs/ are the reader's
        files = [file for file in files if not file.startswith("configs/")]
    named = [REPOSITORY / ("src" if file.startswith("finemask/") else "") / file for file in files]
    assert [file for file in named if not file.is_file()] == []


def test_what_docstrings_name_is_there() -> None:
    text = "\n".join(path.read_text(encoding="utf-8") for path in SOURCES if path.name not in TELLS_OF_THE_PAST)
    named = set(re.findall(r"``(finemask(?:\.[A-Za-z_]\w*)+)``", text))
    assert len(named) > 20
    assert [name for name in sorted(named) if not is_there(name)] == []


def journeys() -> list[list[tuple[str, list[str]]]]:
    """Each journey as its rooms in order, with the dotted names of the steps in each."""
    _, *parts = re.split(r"^## ", ROOMS.read_text(encoding="utf-8"), flags=re.MULTILINE)
    found = []
    for part in parts:
        rooms = re.split(r"^### `(\w+)/`.*$", part, flags=re.MULTILINE)[1:]
        found.append([(room, re.findall(r"^\| (?:→ )?`([\w.]+)`", text, re.M)) for room, text in pairs(rooms)])
    return found


def pairs(items: list[str]) -> list[tuple[str, str]]:
    return list(zip(items[::2], items[1::2], strict=True))


def test_the_journeys_enter_each_room_once_and_go_with_the_layers() -> None:
    assert [len(journey) for journey in journeys()] == [4, 3]
    for journey in journeys():
        rooms = [room for room, _ in journey]
        assert len(set(rooms)) == len(rooms)
        for room, steps in journey:
            assert steps, room
            assert {step.split(".")[1] for step in steps} <= {room, "ops"}
        for before, behind in pairwise(rooms):
            sources = (REPOSITORY / "src" / "finemask" / before).rglob("*.py")
            upward = re.compile(rf"^ *(?:from|import) finemask\.{behind}\b", re.MULTILINE)
            assert [path for path in sources if upward.search(path.read_text(encoding="utf-8"))] == []


def test_the_rules_above_can_fail() -> None:
    assert is_there("finemask.model.build.build_model")
    assert not is_there("finemask.model.build.nothing")
    assert not is_there("finemask.nowhere.nothing")
