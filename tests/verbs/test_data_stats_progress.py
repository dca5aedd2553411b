"""Where nobody watches, few lines; on a terminal, a bar that goes away."""

import io

import pytest
from rich.console import Console

from finemask.verbs import data_stats_progress
from finemask.verbs.data_stats_progress import counting


@pytest.mark.parametrize(("total", "lines"), [(20, 0), (1000, 5)])
def test_a_log_gets_a_few_lines_of_long_work(capsys, total, lines):
    with counting("measuring", total) as advance:
        for _ in range(total):
            advance()
    shown = capsys.readouterr().err.splitlines()
    assert len(shown) == lines
    if lines:
        assert shown[0] == "measuring: 200 of 1000 images"
        assert shown[-1] == "measuring: 1000 of 1000 images"


def test_a_terminal_gets_a_bar(monkeypatch):
    screen = io.StringIO()
    monkeypatch.setattr(
        data_stats_progress, "Console", lambda **_: Console(file=screen, force_terminal=True, width=100)
    )
    with counting("measuring", 4) as advance:
        for _ in range(4):
            advance()
    assert "measuring" in screen.getvalue()
    assert "4/4" in screen.getvalue()
