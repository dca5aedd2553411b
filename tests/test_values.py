"""What keys take: the language, and every key of every verb with what it cannot take."""

import math

import pytest

from finemask.config import compose
from finemask.config.kinds import check_values, describe_kind, is_of_kind, kind_of
from finemask.errors import ConfigError

NAN, INF = math.nan, math.inf


@pytest.mark.parametrize(
    ("kind", "words", "right", "wrong"),
    [
        ("1..", "a whole number of at least 1", [1, 7], [0, -1, 1.5, "1", True, None, NAN, [], {}, 2**40]),
        ("0..255", "a whole number from 0 to 255", [0, 255], [256, -1, 3.0]),
        ("0.0..1.0", "a number from 0 to 1", [0, 1, 0.5], [-0.1, 1.01, NAN, INF, False, "0.5", None]),
        (">0.0..", "a number above 0", [1e-9, 5], [0, 0.0, -1, INF, 10**400]),
        (">0.0..1.0", "a number above 0 and at most 1", [1, 0.1], [0, 1.1]),
        ("-1 | 1..", "-1 or a whole number of at least 1", [-1, 1], [0, -2, -1.0]),
        ("null | auto | 0.0..1.0", "null, auto or a number from 0 to 1", [None, "auto", 0], ["Auto", "", 2]),
        ("flag", "true or false", [True, False], [0, 1, "true", None]),
        ("path", "a path", ["a/b", 2024], ["", "  ", None, True, 1.5, [], {}, "a\0b"]),
        ("pattern", "a regular expression", ["a.*", ""], ["[", "(", None, 3]),
        ("device", "auto, cpu, cuda, cuda:1 or mps", ["auto", "cpu", "cuda:0", "mps"], ["meta", "gpu", "cuda:", 0]),
        ("duration", "DAYS:HOURS:MINUTES:SECONDS, as in 00:02:30:00", ["00:12:00:00"], ["12h", 3, "1:2"]),
        ("[1..]", "a list, of one or more, each a whole number of at least 1", [[1], [1, 2]], [[], 1, [0], [None]]),
        ("[text]*", "a list, of text", [[], ["a"]], [["a", None], "a"]),
        ("[>0.0..]3", "a list, 3 times a number above 0", [[1, 2, 0.5]], [[1, 2], [1, 2, 0], [1, 2, 3, 4]]),
        ("path | [null | path]", "a path or a list, of one or more, each null or a path", ["a", [None, "b"]], [None]),
        ("[[0.0..]2]", "a list, of one or more, each a list, 2 times a number of at least 0", [[[0, 1]]], [[0, 1]]),
        ("keys", "a section with keys of its own", [{}, {"a": 1}], [None, 1, []]),
    ],
)
def test_a_kind_takes_what_it_says(kind: str, words: str, right: list[object], wrong: list[object]) -> None:
    assert [value for value in right if not is_of_kind(kind, value)] == []
    assert [value for value in wrong if is_of_kind(kind, value)] == []
    assert describe_kind(kind) == words
    assert is_of_kind(f"{kind}!", right[0])


def test_a_value_is_refused_by_its_key_whatever_brought_it() -> None:
    part = {"_target_": "finemask.model.mask_loss.edge.EdgeMaskLoss", "edge_weight": "much"}
    with pytest.raises(ConfigError, match=r"^mine\.mask_loss\.edge_weight cannot be 'much'\. It is a number from 0 to"):
        check_values({"mine": {"mask_loss": part}}, "nothing")


def test_a_part_of_somebody_else_takes_what_it_likes() -> None:
    part = {"_target_": "mine.EdgeMaskLoss", "edge_weight": "much"}
    check_values({"mask_loss": part}, "nothing")
    assert kind_of({"mask_loss": part}, "nothing", "mask_loss.edge_weight") is None


def test_a_key_that_must_be_there() -> None:
    with pytest.raises(ConfigError, match=r"^the key json is missing\. It is true or false\. It cannot be left out\.$"):
        check_values({}, "doctor")


def test_a_folder_may_be_called_by_a_number() -> None:
    cfg = compose("predict", ["model=1", "source=[2,a]", "output=2024", "batch_size=2", "tta=[flip,320]"])
    assert (cfg.model, cfg.source, cfg.output, cfg.batch_size) == ("1", ["2", "a"], "2024", 2)
    assert cfg.tta == ["flip", 320]
