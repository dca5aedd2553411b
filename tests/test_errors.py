"""What an error tells a person."""

import pickle

import pytest

from finemask import errors
from finemask.errors import DataError, FinemaskError, MissingExtraError, UndecidedImageError, did_you_mean, nearest


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


@pytest.mark.parametrize(
    "error",
    [
        DataError("what", where="where", remedy="Do it."),
        UndecidedImageError("what", choice="page", example="1", where="a.tif", otherwise=", or 2"),
        MissingExtraError("ray", "ray", needed_for="engine=ray"),
        *(getattr(errors, name)("what") for name in ("FinemaskError", "ConfigError", "WeightsError", "ModelFileError")),
    ],
    ids=lambda error: type(error).__name__,
)
def test_an_error_of_another_process_is_the_same(error: FinemaskError) -> None:
    sent = pickle.loads(pickle.dumps(error))
    assert (type(sent), str(sent), sent.args, vars(sent)) == (type(error), str(error), error.args, vars(error))
