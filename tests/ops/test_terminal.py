"""Tables and lines; where nobody watches, few of them; on a terminal, a bar that goes away."""

import io

import numpy as np
import pytest
from rich.console import Console
from rich.text import Text

from finemask.ops import terminal
from finemask.ops.terminal import Progress, facts_table, say, table


def printed(thing, width=40, **options):
    file = io.StringIO()
    Console(file=file, width=width, **options).print(thing)
    return [line.rstrip() for line in file.getvalue().splitlines() if line.strip(" ─")]


def test_words_stand_left_and_numbers_right():
    lines = printed(table(("class", "objects", "AP"), [("cat", 1489, 0.4123), ("[b]dog", np.int64(7), None)]))
    assert lines == ["  class    objects      AP", "  cat        1,489   0.412", "  [b]dog         7       –"]


def test_columns_of_words_are_named():
    lines = printed(table(("id", "[b]"), [("3", "cat"), ("1200", "dog")], words=("[b]",)))
    assert lines == ["    id   [b]", "     3   cat", "  1200   dog"]
    assert printed(table(("a", "b"), [("xx", "yy")], words=())) == ["   a    b", "  xx   yy"]


@pytest.mark.parametrize(("overflow", "expected"), [("ellipsis", ["  abcdef…"]), ("fold", ["  abcdefg", "  hij"])])
def test_a_word_wider_than_its_column(overflow, expected):
    assert printed(table(("name",), [("abcdefghij",)], overflow=overflow), width=11)[1:] == expected


def test_title_and_styled_cell():
    lines = printed(table(("n",), [(Text("7", style="bold"),)], title="What"), force_terminal=True, no_color=True)
    assert "What" in lines[0]
    assert not lines[0].startswith(" ")
    assert "\x1b[1m7" in lines[-1]


def test_facts():
    assert printed(facts_table([("[b]a", "3 [px]"), ("name", "x" * 50)]), width=20) == [
        "[b]a  3 [px]",
        *(["name  xxxxxxxxxxxx"] + ["      xxxxxxxxxxxx"] * 3 + ["      xx"]),
    ]


def test_a_line_is_printed_as_it_is():
    file = io.StringIO()
    say(Console(file=file, width=10, force_terminal=True), "wrote /data/[red]/12/" + "x" * 20)
    assert file.getvalue() == "wrote /data/[red]/12/" + "x" * 20 + "\n"


@pytest.fixture
def seconds(monkeypatch):
    """A clock that stands still until it is moved: ``seconds[0]``."""
    now = [100.0]
    monkeypatch.setattr(terminal.time, "monotonic", lambda: now[0])
    return now


@pytest.fixture
def screen(monkeypatch):
    """A terminal, and what was written on it."""
    written = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    return written


@pytest.mark.parametrize("total", [20, None, 3])  # right, unknown, wrong
def test_quick_work_leaves_no_line(capsys, total):
    with Progress("measuring", total, "images") as shown:
        for _ in range(20):
            shown.advance()
    assert list(Progress("reading").track("abc", "reading labels")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_a_log_gets_a_line_now_and_then(capsys, seconds):
    with Progress("measuring", 4000, "images") as shown:
        for _ in range(40):  # 100 images and 4 s at a time: over 10 s are gone for the first time after 300 images
            seconds[0] += 4
            shown.advance(100)
    assert capsys.readouterr().err.splitlines()[:2] == [
        "measuring: 300 of 4,000 images, 25.0 images/s, 148 s left",
        "measuring: 600 of 4,000 images, 25.0 images/s, 136 s left",
    ]


def test_what_is_done_of_the_next_one_is_shown_and_not_counted(capsys, seconds, monkeypatch):
    with Progress("predicting", 3, "images") as shown:
        shown.advance()
        for tile in range(1, 4):
            seconds[0] += 6
            shown.within(f"tile {tile} of 4")
    assert capsys.readouterr().err.splitlines() == ["predicting: 1 of 3 images, 0.1 images/s, 24 s left; tile 2 of 4"]
    written = io.StringIO()
    monkeypatch.setattr(terminal, "Console", lambda **_: Console(file=written, force_terminal=True, width=100))
    with Progress("predicting", 3, "images") as shown:
        seconds[0] += 1
        shown.within("tile 1 of 4")
    assert "predicting, tile 1 of 4" in written.getvalue()


def test_a_total_that_is_off_promises_nothing(capsys, seconds):
    for total in (None, 3):
        shown = Progress("cutting", total, "tiles")
        seconds[0] += 16
        shown.advance(5)
    assert capsys.readouterr().err.splitlines() == ["cutting: 5 tiles", "cutting: 5 tiles"]


def test_each_step_has_its_own_name_and_its_own_clock(capsys, seconds):
    with Progress("checking") as shown:
        shown.update(0, None, "masks")
        seconds[0] += 1000
        for done in range(3):
            shown.update(done, 4, "decoding")
            seconds[0] += 16
    assert capsys.readouterr().err.splitlines() == [
        "decoding: 0",
        "decoding: 1 of 4, 48 s left",
        "decoding: 2 of 4, 32 s left",
    ]


def test_every_line_that_the_work_itself_brings_is_logged(capsys):
    with Progress("predicting", 2, "images") as shown:
        shown.say("skipped [b].png")
        shown.advance()
        shown.advance(line="a[0].png: 1 cell")
        shown.advance(line="one more than a video said")
    assert capsys.readouterr().err.splitlines() == [
        "skipped [b].png",
        "[2/2] a[0].png: 1 cell",
        "[3/3] one more than a video said",
    ]


def test_a_terminal_gets_a_bar_and_no_lines(screen):
    with Progress("measuring [a]", 4, "images") as shown:
        for _ in range(4):
            shown.advance(line="found")
    assert "measuring [a]" in screen.getvalue()
    assert "4/4" in screen.getvalue()
    assert "images/s" in screen.getvalue()
    assert "found" not in screen.getvalue()


def test_a_step_of_unknown_length_does_not_inherit_the_last_ones(screen):
    with Progress("checking") as shown:
        assert list(shown.track("abc", "decoding")) == ["a", "b", "c"]
        (task,) = shown._bar.tasks
        assert (task.description, task.completed, task.total) == ("decoding", 3, 3)
        shown.update(0, None, "boxes")
        (task,) = shown._bar.tasks
        assert (task.description, task.completed, task.total) == ("boxes", 0, None)
