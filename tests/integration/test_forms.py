"""Forms in which labels come: check, fix=, convert and train agree on each, and the guide says what they do."""

import re
from pathlib import Path

import pytest
from forms import FORMS, page, run_all

from finemask.datatools.check.problems import Severity
from finemask.datatools.check.run_rules import RULES

FAST = {rule.name for rule in RULES if rule.fast and not rule.harmless_here}
WHERE = [(heading, k) for heading, group in FORMS.items() for k in range(len(group))]
# The reader sees an odd number of numbers before it knows the size of the image, which tells what they are.
SEEN_AS = {"counts of an RLE as a polygon": "polygon-odd"}
NAMES = [form.what for group in FORMS.values() for form in group]


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    return run_all(FORMS, tmp_path_factory.mktemp("forms"))


@pytest.fixture(params=WHERE, ids=NAMES)
def row(request, tables):
    heading, k = request.param
    return tables[heading][k]


@pytest.fixture
def found(row):
    return row[1]


def test_the_guide_says_what_happens(tables):
    guide = Path(__file__).resolve().parents[2] / "docs" / "guide" / "forms.md"
    written = page(tables)
    print(written)
    assert guide.read_text(encoding="utf-8") == written, f"python tests/helpers/forms.py > {guide.name} writes it anew"


def test_there_are_thirty():
    assert len(NAMES) >= 30


def test_training_refuses_what_check_calls_an_error(found):
    errors = {name for name, severity in found.rules.items() if severity is Severity.ERROR}
    assert set(found.refused) == errors & FAST


def test_fix_and_convert_keep_the_same_labels(found):
    if found.converted is None:
        assert found.left
        return
    assert found.converted.masks == found.fixed.masks
    assert found.converted.crowds == found.fixed.crowds
    assert found.converted.boxes == found.fixed.boxes
    assert found.fixed.unsound == 0


def test_no_label_is_lost_without_being_counted(found):
    assert found.removed == found.before.count - found.fixed.count
    if found.converted is not None:
        assert found.counted == found.before.count - found.converted.count


def test_what_is_repaired_is_trained_on(found):
    if found.learned_fixed is not None:
        assert found.learned_fixed.total() == (found.fixed.masks - found.fixed.crowds).total()
        assert found.fixed.boxes == found.fixed.unsound == 0
    else:
        assert found.left


def test_nothing_else_is_learned_where_nobody_has_checked(row):
    """The reader of training refuses by one of the rules that check finds, or reads what the repaired file holds."""
    form, found = row
    if form.chosen:  # of the images, the first of which stops training
        choice = form.chosen.partition("=")[0]
        assert f"data.image.{choice}=" in found.reader
        assert any(name.startswith(f"image-{choice}") for name in found.rules)
    elif found.reader:
        (named,) = re.findall(r"\(([a-z-]+)\)\. To see every fault.*: finemask data check annotations=", found.reader)
        assert named in found.refused or named == SEEN_AS.get(form.what)
    elif not form.asked:
        assert found.learned_fixed is None or found.learned == found.learned_fixed
