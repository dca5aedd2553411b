"""What an error tells a person."""

import pytest

from finemask.errors import did_you_mean, nearest


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("trainer.max_epoch", "trainer.max_epochs"),
        ("epochs", "trainer.max_epochs"),
        ("lr", "optimizer.lr"),
        ("schedule", None),
        ("root", "data.root"),
        ("qqqq", None),
    ],
)
def test_nearest(word: str, meant: str | None) -> None:
    assert nearest(word, ["trainer.max_epochs", "optimizer.lr", "data.root", "data", "seed"]) == meant


def test_a_guess_stands_before_the_rest_of_a_remedy() -> None:
    assert did_you_mean("modle", ["model", "data"], "{}=light") == "Did you mean model=light? "
    assert did_you_mean("qqqq", ["model", "data"]) == ""
