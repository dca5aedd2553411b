"""What benchmarks keep and show."""

import io

from rich.console import Console

from finemask.bench.timing import Comparison, machine, read, seconds, show, write

ROW = Comparison("work of a kind", "torchvision", 2.0, 0.5, 4.0, goal=3, agreement="identical")


def test_what_is_written_is_read_again(tmp_path):
    write(tmp_path / "found.json", [ROW, ROW])
    on, rows = read(tmp_path / "found.json")
    assert rows == [ROW, ROW]
    assert on["cores"] == machine()["cores"]
    assert {"processor", "python", "torch", "torchvision"} <= on.keys()


def test_a_table_has_both_durations_and_the_ratio():
    console = Console(file=io.StringIO(), width=160)
    show([ROW], console)
    shown = " ".join(console.file.getvalue().split())
    assert "work of a kind torchvision 2.00 s 500 ms 4.00 3 identical" in shown


def test_durations_are_spelled_for_people():
    assert [seconds(value) for value in (12.0, 1.0, 0.25, 0.00123)] == ["12.00 s", "1.00 s", "250 ms", "1.23 ms"]
